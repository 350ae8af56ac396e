/**
 * A page: up to 1,000 records of one stream in a row, as one value on disk. One row per event would spend most of a replay on rows.
 *
 * | bytes | what |
 * | --- | --- |
 * | 1 | version of this format |
 * | 8 | seq of the first record |
 * | 4 | number of records |
 * | 32 | hash of the record before the first |
 * | each record: 4, 32, n | length n, hash, the event's bytes |
 *
 * Numbers are big-endian. Nothing checks a page but the chain itself: whatever is altered, some hash does not come out.
 */
import { chainHash, equalHashes, HASH_BYTES, type Hash, hashText } from '../core/codec/chain.ts';
import type { PandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import type { LogRecord } from './log.ts';
import { corrupt } from './log-errors.ts';

const PAGE_VERSION = 1;
const PREVIOUS_OFFSET = 1 + 8 + 4;
const PAGE_HEADER_BYTES = PREVIOUS_OFFSET + HASH_BYTES;
const RECORD_HEADER_BYTES = 4 + HASH_BYTES;

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
  const size = records.reduce((sum, { bytes }) => sum + RECORD_HEADER_BYTES + bytes.length, PAGE_HEADER_BYTES);
  const target = new Uint8Array(size);
  const view = new DataView(target.buffer);
  view.setUint8(0, PAGE_VERSION);
  view.setBigUint64(1, BigInt(firstSeqOf(page)));
  view.setUint32(9, records.length);
  target.set(previous, PREVIOUS_OFFSET);
  let offset = PAGE_HEADER_BYTES;
  for (const { bytes, hash } of records) {
    view.setUint32(offset, bytes.length);
    target.set(hash, offset + 4);
    target.set(bytes, offset + RECORD_HEADER_BYTES);
    offset += RECORD_HEADER_BYTES + bytes.length;
  }
  return target;
}

/**
 * Reads the page of `stream` that begins with `first` and checks its chain from the hash that it states as the one before.
 * Throws `LOG_CORRUPT` (evidence: a LogFault) at the first record that is not what was written. The records share memory with `value`.
 */
export function decodePage(value: Uint8Array, stream: StreamId, first: number): Page {
  const reader = new PageReader(value, stream, first);
  const previous = reader.header();
  const records: LogRecord[] = [];
  let hash = previous;
  for (let index = 0; index < reader.count; index += 1) {
    const record = reader.record(first + index, hash);
    records.push(record);
    hash = record.hash;
  }
  reader.end();
  return { previous, records };
}

/** A cursor over a page that never leaves it. */
class PageReader {
  count = 0;
  readonly #value: Uint8Array;
  readonly #view: DataView;
  readonly #stream: StreamId;
  readonly #first: number;
  #offset = PAGE_HEADER_BYTES;

  constructor(value: Uint8Array, stream: StreamId, first: number) {
    this.#value = value;
    this.#view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    this.#stream = stream;
    this.#first = first;
  }

  /** Reads the count, and gives the hash before the first record. */
  header(): Hash {
    const seq = this.#first;
    if (this.#value.length < PAGE_HEADER_BYTES) throw this.#fault(seq, 'a page', `${this.#value.length} bytes`);
    const version = this.#view.getUint8(0);
    if (version !== PAGE_VERSION) throw this.#fault(seq, `a page of format ${PAGE_VERSION}`, `format ${version}`);
    const first = this.#view.getBigUint64(1);
    if (first !== BigInt(seq)) throw this.#fault(seq, `a page from event ${seq} on`, `one from event ${first} on`);
    this.count = this.#view.getUint32(9);
    if (this.count === 0) throw this.#fault(seq, 'at least one event', 'an empty page');
    return this.#bytes(PREVIOUS_OFFSET, HASH_BYTES);
  }

  record(seq: number, previous: Hash): LogRecord {
    const offset = this.#offset;
    const body = offset + RECORD_HEADER_BYTES;
    if (body > this.#value.length) throw this.#fault(seq, 'an event', 'the end of the page');
    const end = body + this.#view.getUint32(offset);
    if (end > this.#value.length) throw this.#fault(seq, 'a whole event', 'the end of the page');
    const hash = this.#bytes(offset + 4, HASH_BYTES);
    const bytes = this.#bytes(body, end - body);
    const found = chainHash(previous, bytes);
    if (!equalHashes(hash, found)) throw this.#fault(seq, hashText(hash), hashText(found));
    this.#offset = end;
    return { seq, bytes, hash };
  }

  end(): void {
    const rest = this.#value.length - this.#offset;
    if (rest !== 0) throw this.#fault(this.#first + this.count, 'the end of the page', `${rest} more bytes`);
  }

  #bytes(offset: number, length: number): Uint8Array {
    return new Uint8Array(this.#value.buffer, this.#value.byteOffset + offset, length);
  }

  #fault(seq: number, expected: string, found: string): PandoError {
    return corrupt({ stream: this.#stream, seq, expected, found });
  }
}
