/**
 * The byte stream that one MemoryZfs sends and another receives. In the shape of OpenZFS's: per snapshot a begin record with the
 * guids that it leads from and to, the payload, and an end record; after the last one a final record, so that a cut is noticed wherever it falls.
 * Behind each record stands a checksum of everything so far, as OpenZFS has it in the records that follow (`drr_checksum` in sys/zfs_ioctl.h): what was altered
 * never gets as far as the part of a snapshot that is kept for a resume.
 *
 * Layout: magic, then records of one byte kind, four bytes length (big-endian), body, checksum.
 */
import { createHash } from 'node:crypto';
import { parseSnapshotGuid, parseSnapshotName, type SnapshotGuid, type SnapshotName } from '../../core/ids.ts';
import { Refusal } from './refusal.ts';

const MAGIC = Buffer.from('PANDO-MEMORY-ZFS-1\n');
const HEADER_BYTES = 5;
/** Of SHA-256. */
const CHECKSUM_BYTES = 32;
/** Longest record, in bytes. A file of a test's dataset is one; a length above it can only be damage. */
const RECORD_BYTES_MAX = 256 * 1024 * 1024;
/** What a send hands out at once, in bytes: small enough that back-pressure and aborts take hold in mid-file. */
const CHUNK_BYTES = 64 * 1024;

const EMPTY_BODY = Buffer.alloc(0);

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
  /** How many records of the snapshot come no more, since they came before the stream was cut short. */
  readonly skipped: number;
  /** Whether the stream is one of several snapshots. */
  readonly several: boolean;
  /** See `MemorySnapshot.ivset`; those of a raw stream. */
  readonly fromIvset: string | null;
  readonly toIvset: string | null;
}

export type StreamRecord =
  | StreamBegin
  | { readonly kind: 'file'; readonly path: string; readonly text: string }
  | { readonly kind: 'removed'; readonly path: string }
  /** The snapshot is complete. */
  | { readonly kind: 'end' };

/** The bytes of a stream, in chunks of at most {@link CHUNK_BYTES}. Every snapshot's records go from `begin` to `end`. */
export function* encodeStream(records: Iterable<StreamRecord>): Generator<Buffer> {
  const hash = createHash('sha256');
  const frame = (kind: number, body: Buffer): Buffer => {
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt8(kind, 0);
    header.writeUInt32BE(body.length, 1);
    hash.update(header).update(body);
    return Buffer.concat([header, body, hash.copy().digest()]);
  };
  yield MAGIC;
  for (const record of records) {
    const body = record.kind === 'end' ? EMPTY_BODY : Buffer.from(JSON.stringify(record));
    const bytes = frame(KINDS[record.kind], body);
    for (let start = 0; start < bytes.length; start += CHUNK_BYTES) yield bytes.subarray(start, start + CHUNK_BYTES);
  }
  yield frame(KINDS.final, EMPTY_BODY);
}

/**
 * Takes a stream apart as it comes in, in pieces of any size. What follows the final record is passed over, so that whoever sends can finish.
 * Both methods throw a Refusal `ZFS_STREAM_INVALID`: for foreign bytes and a wrong checksum, and for a cut.
 */
export class StreamDecoder {
  readonly #hash = createHash('sha256');
  readonly #bytes = new ByteQueue();
  #isBegun = false;
  /** An end counts when what follows it has come as well, so that a stream without its last byte brings nothing. */
  #hasEnded = false;
  #isOver = false;

  /** The records that are complete with these bytes. */
  *push(bytes: Uint8Array): Generator<StreamRecord> {
    if (this.#isOver) return;
    this.#bytes.add(bytes);
    if (!this.#isBegun) {
      const magic = this.#bytes.take(MAGIC.length);
      if (magic === null) return;
      if (!magic.equals(MAGIC)) throw new Refusal('ZFS_STREAM_INVALID', 'bad magic number');
      this.#isBegun = true;
    }
    while (!this.#isOver) {
      const frame = this.#frame();
      if (frame === null) return;
      yield* this.#read(frame);
    }
  }

  /** No more bytes come. */
  end(): void {
    if (!this.#isOver) throw new Refusal('ZFS_STREAM_INVALID', 'incomplete stream');
  }

  #frame(): Buffer | null {
    const header = this.#bytes.peek(HEADER_BYTES);
    if (header === null) return null;
    const length = header.readUInt32BE(1);
    if (length > RECORD_BYTES_MAX) throw new Refusal('ZFS_STREAM_INVALID', `a record of ${length} bytes`);
    return this.#bytes.take(HEADER_BYTES + length + CHECKSUM_BYTES);
  }

  *#read(frame: Buffer): Generator<StreamRecord> {
    const kind = frame.readUInt8(0);
    const checked = frame.subarray(0, -CHECKSUM_BYTES);
    const body = checked.subarray(HEADER_BYTES);
    this.#hash.update(checked);
    checkDigest(this.#hash.copy().digest(), frame.subarray(-CHECKSUM_BYTES));
    if (this.#hasEnded) yield { kind: 'end' };
    this.#hasEnded = kind === KINDS.end;
    this.#isOver = kind === KINDS.final;
    if (!this.#hasEnded && !this.#isOver) yield parseRecord(body);
  }
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

/** Gives out exact numbers of bytes of what came in pieces of any size; null while there are not as many. */
class ByteQueue {
  #pieces: Uint8Array[] = [];
  #length = 0;

  add(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
  }

  peek(length: number): Buffer | null {
    return this.#length < length ? null : this.#joined().subarray(0, length);
  }

  take(length: number): Buffer | null {
    if (this.#length < length) return null;
    const all = this.#joined();
    this.#pieces = [all.subarray(length)];
    this.#length -= length;
    return all.subarray(0, length);
  }

  #joined(): Buffer {
    const [first] = this.#pieces;
    if (this.#pieces.length === 1 && Buffer.isBuffer(first)) return first;
    const all = Buffer.concat(this.#pieces);
    this.#pieces = [all];
    return all;
  }
}
