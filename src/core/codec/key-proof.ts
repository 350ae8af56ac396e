/**
 * How a node that has had several keys shows that one belongs to it. Its id is the fingerprint of its first key for ever; each key vouches for the one after it, so that whoever knows the id can check the newest without
 * having seen those between.
 *
 * The bytes of a proof: the current public key (32), then for each key before it, newest first, that key (32) and its signature (64) over the key after it. A node that never changed its key has nothing but
 * the key.
 */
import { PandoError } from '../errors.ts';
import { type NodeId, nodeIdOfFingerprint } from '../ids.ts';
import { type Hash, sha256 } from './hash.ts';
import { pack } from './msgpack.ts';

/** An Ed25519 public key as RFC 8032 encodes it. */
export const PUBLIC_KEY_BYTES = 32;
/** An Ed25519 signature (RFC 8032). */
export const SIGNATURE_BYTES = 64;

const VOUCHER_BYTES = PUBLIC_KEY_BYTES + SIGNATURE_BYTES;
/** How often a node can change its key: every head that it signs shows the whole proof. */
export const KEY_CHANGES_MAX = 16;
export const KEY_PROOF_BYTES_MAX = PUBLIC_KEY_BYTES + KEY_CHANGES_MAX * VOUCHER_BYTES;

/** See the head of this file. */
export type KeyProof = Uint8Array;

/** Whether `signature` is the one that the holder of `publicKey` makes for the message. */
export type SignatureCheck = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array) => boolean;

/** The NodeId of an Ed25519 public key: the SHA-256 of its 32 raw bytes. */
export function nodeIdOfPublicKey(publicKey: Uint8Array): NodeId {
  return nodeIdOfFingerprint(sha256(publicKey) satisfies Hash);
}

/** Whether so many bytes can be a proof. */
export function isProofLength(bytes: number): boolean {
  return bytes >= PUBLIC_KEY_BYTES && bytes <= KEY_PROOF_BYTES_MAX && (bytes - PUBLIC_KEY_BYTES) % VOUCHER_BYTES === 0;
}

/** The key that is in use. */
export function currentKey(proof: KeyProof): Uint8Array {
  return proof.subarray(0, PUBLIC_KEY_BYTES);
}

/** The keys of a proof from the first to the current one, each as lower-case hexadecimal. */
export function keysOf(proof: KeyProof): readonly string[] {
  const keys = [currentKey(proof)];
  for (let at = PUBLIC_KEY_BYTES; at < proof.length; at += VOUCHER_BYTES) {
    keys.push(proof.subarray(at, at + PUBLIC_KEY_BYTES));
  }
  return keys.reverse().map((key) => Buffer.from(key).toString('hex'));
}

/** The id of the node whose first key a proof begins with, whether the keys vouch for each other or not. */
function nodeNamedBy(proof: KeyProof): NodeId {
  const first = proof.length === PUBLIC_KEY_BYTES ? 0 : proof.length - VOUCHER_BYTES;
  return nodeIdOfPublicKey(proof.subarray(first, first + PUBLIC_KEY_BYTES));
}

/** What one key signs about the next: for which node, and as its how many-th key. */
function vouchingStatement(node: NodeId, number: number, key: Uint8Array): Uint8Array {
  return pack(['pando key', node, number, key]);
}

/** The node that a proof belongs to, or null for what proves nothing. */
export function nodeOfProof(proof: KeyProof, isSigned: SignatureCheck): NodeId | null {
  if (!isProofLength(proof.length)) return null;
  const node = nodeNamedBy(proof);
  let key = currentKey(proof);
  let number = (proof.length - PUBLIC_KEY_BYTES) / VOUCHER_BYTES + 1;
  for (let at = PUBLIC_KEY_BYTES; at < proof.length; at += VOUCHER_BYTES, number -= 1) {
    const before = proof.subarray(at, at + PUBLIC_KEY_BYTES);
    const signature = proof.subarray(at + PUBLIC_KEY_BYTES, at + VOUCHER_BYTES);
    if (!isSigned(before, vouchingStatement(node, number, key), signature)) return null;
    key = before;
  }
  return node;
}

/** The proof of a new key, vouched for by the one that is in use. Throws `ARGUMENT_INVALID` for one key too many. */
export function succeededBy(
  {
    node,
    keyProof,
    sign,
  }: { readonly node: NodeId; readonly keyProof: KeyProof; readonly sign: (message: Uint8Array) => Uint8Array },
  publicKey: Uint8Array,
): KeyProof {
  const number = keysOf(keyProof).length + 1;
  if (number > KEY_CHANGES_MAX + 1) {
    throw new PandoError(
      'ARGUMENT_INVALID',
      `This node has changed its key ${KEY_CHANGES_MAX} times, which is as often as one can; set up a new node and let peers add that.`,
    );
  }
  const signature = sign(vouchingStatement(node, number, publicKey));
  const rest = keyProof.subarray(PUBLIC_KEY_BYTES);
  return new Uint8Array(Buffer.concat([publicKey, currentKey(keyProof), signature, rest]));
}

/** How keys that a node shows go with those it has shown before: the same, newer ones behind them, or others, among them some that it has replaced. */
export function keysAgainst(known: readonly string[], shown: readonly string[]): 'same' | 'newer' | 'others' {
  if (!known.every((key, index) => shown[index] === key)) return 'others';
  return shown.length > known.length ? 'newer' : 'same';
}
