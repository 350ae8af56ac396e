/**
 * Signatures of a simulated world: a keyed hash instead of Ed25519, which takes a hundred times as long and would be most of what a simulation
 * does. Who does not hold a node's secret still cannot sign for it, and what was altered is refused, which is all that the invariants need. That
 * real signatures do what they should is tested in test/core and test/sync.
 */
import { hash } from 'node:crypto';
import type { Signer } from '../../src/core/codec/chain.ts';
import { nodeIdOfPublicKey, PUBLIC_KEY_BYTES, type SignatureCheck } from '../../src/core/codec/key-proof.ts';
import type { Random } from './random.ts';

export class SimulatedSignatures {
  /** By public key. */
  readonly #secrets = new Map<string, Buffer>();

  createSigner(random: Random): Signer {
    const publicKey = random.bytes(PUBLIC_KEY_BYTES);
    const secret = Buffer.from(random.bytes(PUBLIC_KEY_BYTES));
    this.#secrets.set(Buffer.from(publicKey).toString('latin1'), secret);
    return { node: nodeIdOfPublicKey(publicKey), keyProof: publicKey, sign: (message) => signature(secret, message) };
  }

  readonly isSigned: SignatureCheck = (publicKey, message, shown) => {
    const secret = this.#secrets.get(Buffer.from(publicKey).toString('latin1'));
    return secret !== undefined && signature(secret, message).equals(shown);
  };
}

/** 64 bytes, as an Ed25519 signature has. */
function signature(secret: Buffer, message: Uint8Array): Buffer {
  return Buffer.from(hash('sha512', Buffer.concat([secret, message]), 'binary'), 'latin1');
}
