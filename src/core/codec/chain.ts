/**
 * The hash chain and the signatures of a stream (design §4): each event's hash covers the one before, the author signs
 * the head, and so a relay can hand on events but cannot forge, drop or reorder them.
 */
import { createPublicKey, hash, verify } from 'node:crypto';
import { PandoError } from '../errors.ts';
import { type NodeId, type StreamId, shortNodeId, splitStreamId } from '../ids.ts';
import { HASH_BYTES, type Hash, sha256 } from './hash.ts';
import { currentKey, type KeyProof, nodeOfProof, type SignatureCheck } from './key-proof.ts';
import { pack } from './msgpack.ts';

/** Signs on behalf of one node; the private key stays behind it. */
export interface Signer {
  readonly node: NodeId;
  /** The key that it signs with, and that this belongs to the node. */
  readonly keyProof: KeyProof;
  sign(message: Uint8Array): Uint8Array;
}

/** How far a stream has come: everything up to `seq` hashes to `hash`. */
export interface Head {
  readonly stream: StreamId;
  /** Grows when a node starts its stream anew after losing part of it (design §4). */
  readonly incarnation: number;
  /** 0 for a stream without events. */
  readonly seq: number;
  readonly hash: Hash;
}

/** What a stream's author vouches for a head with. */
export interface HeadSignature {
  readonly keyProof: KeyProof;
  readonly signature: Uint8Array;
}

/** A head, vouched for by the stream's author. */
export interface SignedHead extends Head, HeadSignature {}

/** A graph's digest at a head, vouched for by the stream's author, so that a relayed checkpoint cannot be altered. */
export interface CheckpointSeal {
  readonly head: Head;
  /** SHA-256 over the checkpoint's chunks, one after the other. */
  readonly digest: Hash;
  readonly keyProof: KeyProof;
  readonly signature: Uint8Array;
}

/**
 * Hash "before the first event": ties a chain to its stream and incarnation, and a later incarnation to the head that it left behind. A node that loses its
 * log twice gives the same number twice, to what began with other checkpoints.
 */
export function genesisHash(stream: StreamId, incarnation: number, before: Hash | null = null): Hash {
  return sha256(pack(['pando stream', stream, incarnation, ...(before === null ? [] : [before])]));
}

const chainBuffers = { bytes: new Uint8Array(4096) };

/** SHA-256 over the hash before and the event's bytes as its author encoded them. */
export function chainHash(previous: Hash, event: Uint8Array): Hash {
  const length = HASH_BYTES + event.length;
  // One scratch buffer for all: hashing is synchronous, and allocating per event halves the speed of a replay.
  if (chainBuffers.bytes.length < length) chainBuffers.bytes = new Uint8Array(2 * length);
  chainBuffers.bytes.set(previous, 0);
  chainBuffers.bytes.set(event, HASH_BYTES);
  return sha256(chainBuffers.bytes.subarray(0, length));
}

/**
 * The same for a hash and an event that lie one behind the other in memory, as a string of 32 characters, one per byte: the quickest way
 * to check a chain that is stored like that.
 */
export function chainHashOfRun(previousAndEvent: Uint8Array): string {
  return hash('sha256', previousAndEvent, 'binary');
}

/** Whether two hashes are the same; both are public, so no constant time is needed. */
export function equalHashes(a: Hash, b: Hash): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Lower-case hexadecimal, as people see hashes. */
export function hashText(value: Hash): string {
  return Buffer.from(value).toString('hex');
}

function headStatement(head: Head): Uint8Array {
  return pack(['pando head', head.stream, head.incarnation, head.seq, head.hash]);
}

function checkpointStatement(head: Head, digest: Hash): Uint8Array {
  return pack(['pando checkpoint', head.stream, head.incarnation, head.seq, head.hash, digest]);
}

/** Signs a head of the signer's own stream. */
export function signHead(head: Head, signer: Signer): SignedHead {
  return { ...head, keyProof: signer.keyProof, signature: signer.sign(headStatement(head)) };
}

/** Signs the digest of a checkpoint: of the signer's own stream, or of its copy of another's. */
export function sealCheckpoint(head: Head, digest: Hash, signer: Signer): CheckpointSeal {
  return { head, digest, keyProof: signer.keyProof, signature: signer.sign(checkpointStatement(head, digest)) };
}

/** DER prefix of a SubjectPublicKeyInfo that holds an Ed25519 key (RFC 8410 §4). */
const ED25519_SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

function authorOf(stream: StreamId): NodeId {
  return splitStreamId(stream).node;
}

/** Ed25519 (RFC 8032). */
export const isEd25519Signature: SignatureCheck = (publicKey, message, signature) => {
  const key = createPublicKey({ key: Buffer.concat([ED25519_SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' });
  return verify(null, message, key, signature);
};

/** What was said, by which stream's author or keeper, and how that is checked. */
interface Statement {
  readonly stream: StreamId;
  readonly message: Uint8Array;
  readonly by: NodeId;
  readonly isSigned: SignatureCheck;
}

function checkSignature(
  { stream, message, by, isSigned }: Statement,
  { keyProof, signature }: { readonly keyProof: KeyProof; readonly signature: Uint8Array },
): void {
  const refuse = (why: string): never => {
    throw new PandoError(
      'LOG_CORRUPT',
      `What stream ${stream} is said to hold is not signed by node ${shortNodeId(by)}: ${why}.`,
      {
        stream,
      },
    );
  };
  const node = nodeOfProof(keyProof, isSigned);
  if (node === null) refuse('the key is none that a node can have');
  if (node !== by) refuse('the key belongs to another node');
  if (!isSigned(currentKey(keyProof), message, signature)) refuse('the signature does not match');
}

/** Throws `LOG_CORRUPT` unless the stream's own node signed the head. */
export function verifyHead(head: SignedHead, isSigned = isEd25519Signature): void {
  const { stream } = head;
  checkSignature({ stream, message: headStatement(head), by: authorOf(stream), isSigned }, head);
}

/**
 * Throws `LOG_CORRUPT` unless node `by` signed the checkpoint's digest: the stream's author, whose word counts anywhere, or the
 * node that keeps the checkpoint, for its own use.
 */
export function verifySeal(
  seal: CheckpointSeal,
  by: NodeId = authorOf(seal.head.stream),
  isSigned = isEd25519Signature,
): void {
  const { stream } = seal.head;
  checkSignature({ stream, message: checkpointStatement(seal.head, seal.digest), by, isSigned }, seal);
}
