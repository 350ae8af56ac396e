/**
 * The byte stream that one MemoryZfs sends and another receives. In the shape of OpenZFS's: per snapshot a begin record with the
 * guids that it leads from and to, the payload, and an end record with a checksum of everything before; after the last
 * one a final record, so that a cut is noticed wherever it falls.
 *
 * Layout: magic, then records of one byte kind, four bytes length (big-endian), body.
 */
import { createHash } from 'node:crypto';
import { parseSnapshotGuid, parseSnapshotName, type SnapshotGuid, type SnapshotName } from '../../core/ids.ts';
import { Refusal } from './refusal.ts';

const MAGIC = Buffer.from('PANDO-MEMORY-ZFS-1\n');
const HEADER_BYTES = 5;
/** Longest record, in bytes. A file of a test's dataset is one; a length above it can only be damage. */
const RECORD_BYTES_MAX = 256 * 1024 * 1024;
/** What a send hands out at once, in bytes: small enough that back-pressure and aborts take hold in mid-file. */
const CHUNK_BYTES = 64 * 1024;

const KINDS = { begin: 1, file: 2, removed: 3, end: 4, final: 5 } as const;

/** The start of one snapshot in a stream. */
export interface StreamBegin {
  readonly kind: 'begin';
  /** The snapshot that this increment builds on, null for a full stream. */
  readonly fromGuid: SnapshotGuid | null;
  readonly toGuid: SnapshotGuid;
  readonly toName: SnapshotName;
  /** Unix time in seconds. */
  readonly creation: number;
  /** The base lies in another dataset (DRR_FLAG_CLONE). */
  readonly clone: boolean;
  /** How it was made (the feature flags of DMU_BACKUP_FEATURE_*), as `writtenFlags` writes it; raw only where the snapshot is encrypted. */
  readonly flags: string;
  /** See `MemorySnapshot.ivset`; those of a raw stream. */
  /** How many records of the snapshot come no more, since they came before the stream was cut short. */
  readonly skipped: number;
  readonly fromIvset: string | null;
  readonly toIvset: string | null;
}

export type StreamRecord =
  | StreamBegin
  | { readonly kind: 'file'; readonly path: string; readonly text: string }
  | { readonly kind: 'removed'; readonly path: string }
  /** The snapshot is complete and its checksum right. */
  | { readonly kind: 'end' };

/** The bytes of a stream, in chunks of at most {@link CHUNK_BYTES}. Every snapshot's records go from `begin` to `end`. */
export function* encodeStream(records: Iterable<StreamRecord>): Generator<Buffer> {
  const hash = createHash('sha256');
  const frame = (kind: number, body: Buffer): Buffer => {
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt8(kind, 0);
    header.writeUInt32BE(body.length, 1);
    const bytes = Buffer.concat([header, body]);
    hash.update(bytes);
    return bytes;
  };
  yield MAGIC;
  for (const record of records) {
    const body = record.kind === 'end' ? hash.copy().digest() : Buffer.from(JSON.stringify(record));
    const bytes = frame(KINDS[record.kind], body);
    for (let start = 0; start < bytes.length; start += CHUNK_BYTES) yield bytes.subarray(start, start + CHUNK_BYTES);
  }
  yield frame(KINDS.final, hash.copy().digest());
}

/**
 * The records of a stream, each once its bytes are complete. Reads on to the end of `source` after the final record, so that
 * whoever feeds it can finish. Throws a Refusal `ZFS_STREAM_INVALID` for foreign bytes, a wrong checksum or a cut.
 */
export async function* decodeStream(source: AsyncIterable<Uint8Array>): AsyncGenerator<StreamRecord> {
  const reader = new ByteReader(source);
  const magic = await reader.take(MAGIC.length);
  if (!magic.equals(MAGIC)) throw new Refusal('ZFS_STREAM_INVALID', 'bad magic number');
  const hash = createHash('sha256');
  let ended = false;
  for (;;) {
    const header = await reader.take(HEADER_BYTES);
    const kind = header.readUInt8(0);
    const length = header.readUInt32BE(1);
    if (length > RECORD_BYTES_MAX) throw new Refusal('ZFS_STREAM_INVALID', `a record of ${length} bytes`);
    const body = await reader.take(length);
    if (kind === KINDS.end || kind === KINDS.final) checkDigest(hash.copy().digest(), body);
    hash.update(header).update(body);
    // An end counts when what follows it has come as well, so that a stream without its last byte brings nothing
    if (ended) yield { kind: 'end' };
    ended = kind === KINDS.end;
    if (kind === KINDS.final) break;
    if (!ended) yield parseRecord(body);
  }
  await reader.drain();
}

function checkDigest(expected: Buffer, found: Buffer): void {
  if (!expected.equals(found)) throw new Refusal('ZFS_STREAM_INVALID', 'checksum mismatch');
}

function parseRecord(body: Buffer): StreamRecord {
  try {
    const record = JSON.parse(body.toString()) as StreamRecord;
    if (record.kind === 'begin') {
      parseSnapshotGuid(record.toGuid);
      parseSnapshotName(record.toName);
    }
    if (!Object.hasOwn(KINDS, record.kind)) throw new Error(`unknown record ${record.kind}`);
    return record;
  } catch (error) {
    throw new Refusal('ZFS_STREAM_INVALID', 'a record cannot be read', { cause: error });
  }
}

/** Takes exact numbers of bytes from chunks of any size. */
class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array[] = [];
  #available = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  async take(length: number): Promise<Buffer> {
    while (this.#available < length) {
      const next = await this.#chunks.next();
      if (next.done === true) throw new Refusal('ZFS_STREAM_INVALID', 'incomplete stream');
      this.#rest.push(next.value);
      this.#available += next.value.length;
    }
    const all =
      this.#rest.length === 1 && this.#rest[0] !== undefined ? Buffer.from(this.#rest[0]) : Buffer.concat(this.#rest);
    this.#rest = [all.subarray(length)];
    this.#available -= length;
    return all.subarray(0, length);
  }

  async drain(): Promise<void> {
    while ((await this.#chunks.next()).done !== true);
  }
}
