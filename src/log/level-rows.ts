/** The small rows of a log, each behind a checksum over its key and content: a row that was altered, torn or moved does not open. */
import { type CheckpointSeal, equalHashes, type Head, hashText, type SignedHead } from '../core/codec/chain.ts';
import { HASH_BYTES, type Hash, sha256 } from '../core/codec/hash.ts';
import { pack, unpackTrusted } from '../core/codec/msgpack.ts';
import type { StreamId } from '../core/ids.ts';
import { corrupt } from './log-errors.ts';

/** How far a stream has come. */
export interface HeadRow {
  readonly head: SignedHead;
  /** Seq of the oldest record that counts; rows of older ones are remains. */
  readonly oldest: number;
}

/** A checkpoint and where its chunks are. */
export interface CheckpointRow {
  readonly seal: CheckpointSeal;
  /** The signed head that it was written at; null in what earlier builds wrote. */
  readonly head: SignedHead | null;
  readonly id: string;
  readonly chunks: number;
}

type HeadTuple = readonly [
  incarnation: number,
  seq: number,
  hash: Hash,
  keyProof: Uint8Array,
  signature: Uint8Array,
  oldest: number,
];
type CheckpointTuple = readonly [
  incarnation: number,
  seq: number,
  hash: Hash,
  digest: Hash,
  keyProof: Uint8Array,
  signature: Uint8Array,
  id: string,
  chunks: number,
  /** Of the head; the last two are missing in what earlier builds wrote. */
  headKeyProof?: Uint8Array,
  headSignature?: Uint8Array,
];

/** Value of a head row; null marks a stream whose removal has begun. */
export function encodeHead(key: string, row: HeadRow | null): Uint8Array {
  if (row === null) return withChecksum(key, null);
  const { incarnation, seq, hash, keyProof, signature } = row.head;
  return withChecksum(key, [incarnation, seq, hash, keyProof, signature, row.oldest] satisfies HeadTuple);
}

/** Throws `LOG_CORRUPT`. */
export function decodeHead(key: string, value: Uint8Array, stream: StreamId): HeadRow | null {
  const tuple = withoutChecksum(key, value, stream, 0) as HeadTuple | null;
  if (tuple === null) return null;
  const [incarnation, seq, hash, keyProof, signature, oldest] = tuple;
  return { head: { stream, incarnation, seq, hash, keyProof, signature }, oldest };
}

export function encodeCheckpointRow(key: string, { seal, head, id, chunks }: CheckpointRow): Uint8Array {
  const { digest, keyProof, signature } = seal;
  const { incarnation, seq, hash } = seal.head;
  const signed = head === null ? ([] as const) : ([head.keyProof, head.signature] as const);
  const tuple: CheckpointTuple = [incarnation, seq, hash, digest, keyProof, signature, id, chunks, ...signed];
  return withChecksum(key, tuple);
}

/** Throws `LOG_CORRUPT`. `place` is the checkpoint's seq as its key tells it. */
export function decodeCheckpointRow(key: string, value: Uint8Array, stream: StreamId, place: number): CheckpointRow {
  const tuple = withoutChecksum(key, value, stream, place) as CheckpointTuple;
  const [incarnation, seq, hash, digest, keyProof, signature, id, chunks, ...signed] = tuple;
  const head = { stream, incarnation, seq, hash };
  return { seal: { head, digest, keyProof, signature }, head: signedHead(head, signed), id, chunks };
}

function signedHead(head: Head, [keyProof, signature]: readonly (Uint8Array | undefined)[]): SignedHead | null {
  return keyProof === undefined || signature === undefined ? null : { ...head, keyProof, signature };
}

function checksum(key: string, content: Uint8Array): Hash {
  return sha256(Buffer.concat([Buffer.from(key), content]));
}

function withChecksum(key: string, content: unknown): Uint8Array {
  const bytes = pack(content);
  return Buffer.concat([checksum(key, bytes), bytes]);
}

function withoutChecksum(key: string, value: Uint8Array, stream: StreamId, seq: number): unknown {
  const stated = value.subarray(0, HASH_BYTES);
  const content = value.subarray(HASH_BYTES);
  const found = checksum(key, content);
  if (equalHashes(stated, found)) return unpackTrusted(content);
  throw corrupt({
    stream,
    seq,
    expected: `a ${key.split('!')[0]} row with checksum ${hashText(stated)}`,
    found: hashText(found),
  });
}
