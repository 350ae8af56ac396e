/**
 * A page: up to 1,000 records of one stream in a row, as one value on disk. One row per event would spend most of a replay on rows.
 *
 * | bytes | what |
 * | --- | --- |
 * | 1 | version of this format: 2 where a signature stands at the end, else 1 |
 * | 8 | seq of the first record |
 * | 4 | number of records |
 * | 4 each | length of each record's event |
 * | 32 | hash of the record before the first |
 * | each record: n, 32 | the event's bytes, the record's hash |
 * | 32, n, 64 | where an append ended: a checksum, and the author's key proof and signature on the head after the last record |
 *
 * Numbers are big-endian. A record's hash is that of the hash before and the event's bytes, which lie one behind the other, so a
 * chain is checked without copying anything. Whatever is altered in front of the signature,
 * some hash does not come out; the checksum is over the last hash, the key proof and the signature.
 */
import { chainHashOfRun, equalHashes, type HeadSignature, hashText } from '../core/codec/chain.ts';
import { HASH_BYTES, type Hash, sha256 } from '../core/codec/hash.ts';
import { SIGNATURE_BYTES } from '../core/codec/key-proof.ts';
import type { PandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import type { LogRecord } from './log.ts';
import { corrupt } from './log-errors.ts';

const PAGE_VERSION = 1;
const SIGNED_PAGE_VERSION = 2;
const HEADER_BYTES = 1 + 8 + 4;
const LENGTH_BYTES = 4;

/** Records in a page: enough that rows cost nothing next to hashing, few enough that a seek into the middle does not either. */
const PAGE_RECORDS_MAX = 1_000;
/** Bytes of events in a page with more than one record. */
const PAGE_EVENT_BYTES_MAX = 1024 * 1024;

export interface Page {
  /** Hash of the record before the first. */
  readonly previous: Hash;
  /** In order, without a gap. */
  readonly records: readonly LogRecord[];
}

/** Divides records, with the hash before the first, into pages as large as the limits allow. */
export function* pagesOf({ previous, records }: Page): Generator<Page> {
  let before = previous;
  let start = 0;
  while (start < records.length) {
    const end = pageEnd(records, start);
    yield { previous: before, records: records.slice(start, end) };
    before = (records[end - 1] as LogRecord).hash;
    start = end;
  }
}

function pageEnd(records: readonly LogRecord[], start: number): number {
  const limit = Math.min(records.length, start + PAGE_RECORDS_MAX);
  let end = start + 1;
  let bytes = (records[start] as LogRecord).bytes.length;
  while (end < limit) {
    bytes += (records[end] as LogRecord).bytes.length;
    if (bytes > PAGE_EVENT_BYTES_MAX) break;
    end += 1;
  }
  return end;
}

/** Seq of a page's first record. */
export function firstSeqOf({ records }: Page): number {
  return (records[0] as LogRecord).seq;
}

export function encodePage(page: Page): Uint8Array {
  const { previous, records } = page;
  const runOffset = HEADER_BYTES + LENGTH_BYTES * records.length;
  const size = records.reduce((sum, { bytes }) => sum + bytes.length + HASH_BYTES, runOffset + HASH_BYTES);
  const signed = signedEnd(records.at(-1) as LogRecord);
  const target = new Uint8Array(size + signed.length);
  const view = new DataView(target.buffer);
  view.setUint8(0, signed.length === 0 ? PAGE_VERSION : SIGNED_PAGE_VERSION);
  view.setBigUint64(1, BigInt(firstSeqOf(page)));
  view.setUint32(9, records.length);
  target.set(previous, runOffset);
  let offset = runOffset + HASH_BYTES;
  records.forEach(({ bytes, hash }, index) => {
    view.setUint32(HEADER_BYTES + LENGTH_BYTES * index, bytes.length);
    target.set(bytes, offset);
    target.set(hash, offset + bytes.length);
    offset += bytes.length + HASH_BYTES;
  });
  target.set(signed, offset);
  return target;
}

/** What stands behind the records: nothing, or the signature on the last of them. */
function signedEnd({ hash, signature: signed }: LogRecord): Uint8Array {
  if (signed === null) return new Uint8Array(0);
  const { keyProof, signature } = signed;
  return Buffer.concat([sha256(Buffer.concat([hash, keyProof, signature])), keyProof, signature]);
}

/**
 * Reads the page of `stream` that begins with `first` and checks its chain from the hash that it states as the one before.
 * Throws `LOG_CORRUPT` (evidence: a LogFault) at the first record that is not what was written. The records share memory with `value`.
 */
export function decodePage(value: Uint8Array, stream: StreamId, first: number): Page {
  const page = Buffer.from(value.buffer, value.byteOffset, value.length);
  const fault = (seq: number, expected: string, found: string): PandoError => corrupt({ stream, seq, expected, found });
  const count = recordCount(page, first, fault);
  const runOffset = HEADER_BYTES + LENGTH_BYTES * count;
  const records: LogRecord[] = [];
  let start = runOffset;
  for (let index = 0; index < count; index += 1) {
    const end = start + HASH_BYTES + page.readUInt32BE(HEADER_BYTES + LENGTH_BYTES * index);
    if (end + HASH_BYTES > page.length) throw fault(first + index, 'a whole event', 'the end of the page');
    const expected = page.toString('latin1', end, end + HASH_BYTES);
    const found = chainHashOfRun(page.subarray(start, end));
    if (found !== expected) throw fault(first + index, hexOf(expected), hexOf(found));
    records.push(new PageRecord(first + index, page, start + HASH_BYTES, end));
    start = end;
  }
  const last = records.at(-1) as PageRecord;
  const rest = page.subarray(start + HASH_BYTES);
  if (page.readUInt8(0) === SIGNED_PAGE_VERSION) last.signature = readSignature(rest, last, fault);
  else if (rest.length !== 0) throw fault(first + count, 'the end of the page', `${rest.length} more bytes`);
  return { previous: page.subarray(runOffset, runOffset + HASH_BYTES), records };
}

function readSignature(
  end: Buffer,
  { seq, hash }: PageRecord,
  fault: (seq: number, expected: string, found: string) => PandoError,
): HeadSignature {
  const stated = end.subarray(0, HASH_BYTES);
  const signed = end.subarray(HASH_BYTES);
  const found = sha256(Buffer.concat([hash, signed]));
  if (signed.length <= SIGNATURE_BYTES || !equalHashes(stated, found)) {
    throw fault(seq, `a signature with checksum ${hashText(stated)}`, hashText(found));
  }
  return { keyProof: signed.subarray(0, -SIGNATURE_BYTES), signature: signed.subarray(-SIGNATURE_BYTES) };
}

/** Checks what stands in front of the records, and gives their number. */
function recordCount(
  page: Buffer,
  seq: number,
  fault: (seq: number, expected: string, found: string) => PandoError,
): number {
  if (page.length < HEADER_BYTES) throw fault(seq, 'a page', `${page.length} bytes`);
  const version = page.readUInt8(0);
  if (version !== PAGE_VERSION && version !== SIGNED_PAGE_VERSION) {
    throw fault(seq, `a page of format ${PAGE_VERSION} or ${SIGNED_PAGE_VERSION}`, `format ${version}`);
  }
  const first = page.readBigUInt64BE(1);
  if (first !== BigInt(seq)) throw fault(seq, `a page from event ${seq} on`, `one from event ${first} on`);
  const count = page.readUInt32BE(9);
  if (count === 0) throw fault(seq, 'at least one event', 'an empty page');
  if (HEADER_BYTES + LENGTH_BYTES * count + HASH_BYTES > page.length)
    throw fault(seq, `${count} events`, 'the end of the page');
  return count;
}

function hexOf(binary: string): string {
  return hashText(Buffer.from(binary, 'latin1'));
}

/** A record in a page. Its views are made when they are asked for: few readers want the hash of every record. */
class PageRecord implements LogRecord {
  readonly seq: number;
  signature: HeadSignature | null = null;
  readonly #page: Buffer;
  readonly #start: number;
  readonly #end: number;

  constructor(seq: number, page: Buffer, start: number, end: number) {
    this.seq = seq;
    this.#page = page;
    this.#start = start;
    this.#end = end;
  }

  get bytes(): Uint8Array {
    return this.#page.subarray(this.#start, this.#end);
  }

  get hash(): Hash {
    return this.#page.subarray(this.#end, this.#end + HASH_BYTES);
  }
}
