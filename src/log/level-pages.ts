import { equalHashes, hashText } from '../core/codec/chain.ts';
import type { Hash } from '../core/codec/hash.ts';
import { isPandoError, type PandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import type { DatabaseSnapshot, LevelDatabase, Row } from './level-database.ts';
import { numberOf, pageKey } from './level-keys.ts';
import type { LogRecord } from './log.ts';
import { corrupt } from './log-errors.ts';
import { decodePage, type Page } from './page.ts';

/** A stretch of a stream, and what is known of its chain from elsewhere. */
export interface Stretch {
  readonly stream: StreamId;
  readonly incarnation: number;
  readonly from: number;
  /** At least `from`. */
  readonly to: number;
  /** Hashes that the chain must have at certain seqs: the head's, those of checkpoints, the genesis hash at 0. */
  readonly anchors: ReadonlyMap<number, Hash>;
}

/**
 * Reads a stretch page by page. It begins with the page that holds `from`, wherever in it that is, so that the hash before is known.
 * Rejects with `LOG_CORRUPT` before anything is given out that is damaged, or that comes after a damaged or missing page.
 */
export async function* readStretch(
  database: LevelDatabase,
  stretch: Stretch,
  snapshot: DatabaseSnapshot,
): AsyncGenerator<readonly LogRecord[]> {
  const { stream, incarnation, from, to } = stretch;
  const range = { gte: pageKey(stream, incarnation, 0), lt: pageKey(stream, incarnation, from + 1) };
  const start = await database.endKey(range, 'last', { stream, seq: from }, snapshot);
  if (start === undefined) throw corrupt({ stream, seq: from, expected: 'a page', found: 'none' });
  const walk = new Walk(stretch);
  const pages = { gte: start, lt: pageKey(stream, incarnation, to + 1) };
  for await (const rows of database.rows(pages, { stream, seq: from }, snapshot)) {
    const { records, fault } = walk.steps(rows);
    if (records.length > 0) yield records;
    if (fault !== null) throw fault;
    if (walk.isAtEnd) return;
  }
  walk.finish();
}

/** Follows the chain from page to page. */
class Walk {
  readonly #stretch: Stretch;
  #next: number | null = null;
  #hash: Hash | null = null;

  constructor(stretch: Stretch) {
    this.#stretch = stretch;
  }

  /** Takes pages in a row, as far as they are sound: what lies in front of a fault is good. */
  steps(rows: readonly Row[]): { readonly records: readonly LogRecord[]; readonly fault: PandoError | null } {
    const pages: (readonly LogRecord[])[] = [];
    try {
      for (const [key, value] of rows) pages.push(this.#step(numberOf(key), value));
      return { records: pages.flat(), fault: null };
    } catch (error) {
      if (!isPandoError(error)) throw error;
      return { records: pages.flat(), fault: error };
    }
  }

  get isAtEnd(): boolean {
    return this.#next !== null && this.#next > this.#stretch.to;
  }

  finish(): void {
    const { from, to } = this.#stretch;
    const next = this.#next ?? from;
    if (next <= to) throw this.#missing(next, 'none');
  }

  /** Checks that a page follows on the one before, and gives its records that are asked for. */
  #step(first: number, value: Uint8Array): readonly LogRecord[] {
    const { stream, from, to } = this.#stretch;
    if (this.#next !== null && first !== this.#next) throw this.#missing(this.#next, `one from event ${first} on`);
    const { previous, records }: Page = decodePage(value, stream, first);
    if (this.#hash !== null) this.#expect(first - 1, this.#hash, previous);
    this.#anchor(first - 1, previous);
    const last = records.at(-1) as LogRecord;
    this.#anchor(last.seq, last.hash);
    this.#next = last.seq + 1;
    this.#hash = last.hash;
    return first >= from && last.seq <= to ? records : records.filter(({ seq }) => seq >= from && seq <= to);
  }

  #anchor(seq: number, found: Hash): void {
    const known = this.#stretch.anchors.get(seq);
    if (known !== undefined) this.#expect(seq, known, found);
  }

  #expect(seq: number, expected: Hash, found: Hash): void {
    if (equalHashes(expected, found)) return;
    throw corrupt({ stream: this.#stretch.stream, seq, expected: hashText(expected), found: hashText(found) });
  }

  #missing(seq: number, found: string): PandoError {
    return corrupt({ stream: this.#stretch.stream, seq, expected: `a page from event ${seq} on`, found });
  }
}
