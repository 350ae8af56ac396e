import { hash } from 'node:crypto';

/** A SHA-256 digest: 32 bytes. */
export type Hash = Uint8Array;
export const HASH_BYTES = 32;

/** SHA-256 of the bytes (FIPS 180-4). */
export function sha256(bytes: Uint8Array): Hash {
  // By way of a string: node:crypto makes one several times faster than a Buffer, and a replay hashes every event.
  return Buffer.from(hash('sha256', bytes, 'binary'), 'latin1');
}
