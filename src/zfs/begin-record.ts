/**
 * The begin of a stream as `zfs send` writes it (dmu_replay_record_t and struct drr_begin, zfs_ioctl.h): records of 312 bytes in the sender's byte order, the first
 * of which says what comes. What `-I`, `-R` or `-p` made is compound: an outer begin, its end, and then the begin of the first snapshot (libzfs_sendrecv.c). Behind
 * the outer begin of what `-R` or `-p` made comes a list of properties, which Pando never sends and `zfs receive` would set.
 */
import type { StreamHead } from './zfs.ts';

const RECORD_BYTES = 312;
/** DMU_BACKUP_MAGIC. */
const MAGIC = 0x2f5bacbacn;
/** drr_type of a begin, and of an end. */
const DRR_BEGIN = 0;
const DRR_END = 5;
/** Where the fields of a begin lie, in bytes. */
const AT = { type: 0, payloadBytes: 4, magic: 8, version: 16, toGuid: 40, fromGuid: 48 } as const;
/** DMU_GET_STREAM_HDRTYPE and its values. */
const HEADER_TYPE_BITS = 2n;
const SUBSTREAM = 1n;
const COMPOUND = 2n;
/** DMU_BACKUP_FEATURE_RAW, among the bits behind the header type. */
const FEATURE_RAW = 1n << 24n;
/** From the begin of a compound stream to the end of that of its first snapshot, in bytes. */
const COMPOUND_BYTES = 3 * RECORD_BYTES;

/** What the first bytes come to: the begin, how many bytes it takes to tell, that it brings properties, or that this is no stream. */
export type Beginning =
  | { readonly kind: 'begin'; readonly head: StreamHead }
  | { readonly kind: 'more'; readonly bytes: number }
  | { readonly kind: 'properties' }
  | { readonly kind: 'none' };

/** Reads the begin of a stream. `bytes` are its first ones, as many as there are yet. */
export function readBeginning(bytes: Buffer): Beginning {
  if (bytes.length < RECORD_BYTES) return { kind: 'more', bytes: RECORD_BYTES };
  const first = beginAt(bytes, 0);
  if (first === undefined) return { kind: 'none' };
  if (first.headerType === SUBSTREAM) return { kind: 'begin', head: first.head };
  if (first.headerType !== COMPOUND) return { kind: 'none' };
  if (first.payloadBytes > 0) return { kind: 'properties' };
  if (bytes.length < COMPOUND_BYTES) return { kind: 'more', bytes: COMPOUND_BYTES };
  const second = beginAt(bytes, 2 * RECORD_BYTES);
  const isEnded = new Fields(bytes, RECORD_BYTES, first.isLittle).u32(AT.type) === DRR_END;
  const isWhole = isEnded && second?.headerType === SUBSTREAM;
  return isWhole ? { kind: 'begin', head: { ...second.head, several: true } } : { kind: 'none' };
}

interface Begin {
  readonly head: StreamHead;
  readonly isLittle: boolean;
  readonly headerType: bigint;
  readonly payloadBytes: number;
}

function beginAt(bytes: Buffer, start: number): Begin | undefined {
  const fields = [true, false]
    .map((isLittle) => new Fields(bytes, start, isLittle))
    .find((one) => one.u32(AT.type) === DRR_BEGIN && one.u64(AT.magic) === MAGIC);
  if (fields === undefined) return undefined;
  const version = fields.u64(AT.version);
  const fromGuid = fields.u64(AT.fromGuid);
  return {
    isLittle: fields.isLittle,
    headerType: version & ((1n << HEADER_TYPE_BITS) - 1n),
    payloadBytes: fields.u32(AT.payloadBytes),
    head: {
      toGuid: fields.u64(AT.toGuid).toString(),
      fromGuid: fromGuid === 0n ? null : fromGuid.toString(),
      several: false,
      raw: ((version >> HEADER_TYPE_BITS) & FEATURE_RAW) !== 0n,
    },
  };
}

/** Numbers of a record in the byte order of whoever wrote it. */
class Fields {
  readonly isLittle: boolean;
  readonly #bytes: Buffer;
  readonly #start: number;

  constructor(bytes: Buffer, start: number, isLittle: boolean) {
    this.#bytes = bytes;
    this.#start = start;
    this.isLittle = isLittle;
  }

  u32(offset: number): number {
    const at = this.#start + offset;
    return this.isLittle ? this.#bytes.readUInt32LE(at) : this.#bytes.readUInt32BE(at);
  }

  u64(offset: number): bigint {
    const at = this.#start + offset;
    return this.isLittle ? this.#bytes.readBigUInt64LE(at) : this.#bytes.readBigUInt64BE(at);
  }
}
