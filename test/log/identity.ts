import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import type { Signer } from '../../src/core/codec/chain.ts';
import { nodeIdOfPublicKey } from '../../src/core/codec/key-proof.ts';

/** DER prefix of a PKCS #8 Ed25519 private key (RFC 8410 §7). */
const ED25519_PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const ED25519_SPKI_PREFIX_BYTES = 12;

/** A node identity for tests, the same for the same number. */
export function signerOf(number: number): Signer {
  const seed = Buffer.alloc(32, number);
  const privateKey = createPrivateKey({
    key: Buffer.concat([ED25519_PKCS8_PREFIX, seed]),
    format: 'der',
    type: 'pkcs8',
  });
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const publicKey = new Uint8Array(spki.subarray(ED25519_SPKI_PREFIX_BYTES));
  return {
    node: nodeIdOfPublicKey(publicKey),
    keyProof: publicKey,
    sign: (message) => new Uint8Array(sign(null, message, privateKey)),
  };
}
