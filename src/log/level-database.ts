import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BatchOperation, Level } from 'level';
import { isPandoError } from '../core/errors.ts';
import { type Activity, levelError, openError } from './level-errors.ts';
import type { KeyRange } from './level-keys.ts';

/** Names the process that has the log open. LevelDB's own lock is what keeps others out; this file tells them who has it. */
const PROCESS_FILE = 'PROCESS';

/** Bytes of rows fetched from LevelDB at once, a single row may exceed it: far fewer calls than rows, and little memory. */
const FETCH_BYTES = 1024 * 1024;
const FETCH_ROWS_MAX = 1_000;

type Database = Level<string, Uint8Array>;
type Range = KeyRange | { readonly gt: string; readonly lt: string };
export type Row = readonly [key: string, value: Uint8Array];
export type Operation = BatchOperation<Database, string, Uint8Array>;
/** A view of the database that later writes do not change. To be closed. */
export type DatabaseSnapshot = ReturnType<Database['snapshot']>;

/** Operation of a {@link LevelDatabase.write}. */
export function put(key: string, value: Uint8Array): Operation {
  return { type: 'put', key, value };
}

/** Operation of a {@link LevelDatabase.write}. */
export function del(key: string): Operation {
  return { type: 'del', key };
}

/** The part of LevelDB that a log needs, with its errors turned into those of a log (level-errors.ts). */
export class LevelDatabase {
  readonly directory: string;
  readonly #level: Database;

  private constructor(directory: string, level: Database) {
    this.directory = directory;
    this.#level = level;
  }

  /** Opens or creates. Rejects with `LOG_LOCKED`, `LOG_UNWRITABLE` or `LOG_CORRUPT`. */
  static async open(directory: string): Promise<LevelDatabase> {
    const level: Database = new Level(directory, { keyEncoding: 'utf8', valueEncoding: 'view' });
    try {
      await level.open();
    } catch (error) {
      throw openError(error, directory, await holderOf(directory));
    }
    const database = new LevelDatabase(directory, level);
    try {
      await writeFile(join(directory, PROCESS_FILE), String(process.pid));
    } catch (error) {
      await level.close();
      throw levelError(error, { directory });
    }
    return database;
  }

  /** Writes all operations or none, and returns once they are on the disk. */
  write(operations: Operation[]): Promise<void> {
    return this.#guarded({}, () => this.#level.batch(operations, { sync: true }));
  }

  /**
   * Rows of a range in order, as many at a time as make a mebibyte. Where LevelDB cannot read a block, the rows before and behind it come all
   * the same, one by one, and `LOG_CORRUPT` comes last. That can be about a block which only borders on the range: whoever has all rows
   * that there should be need not go on to the end.
   */
  async *rows(range: KeyRange, about: Partial<Activity> = {}, snapshot?: DatabaseSnapshot): AsyncGenerator<Row[]> {
    let rest: Range = range;
    try {
      for await (const rows of this.#fetched(rest, FETCH_ROWS_MAX, about, snapshot)) {
        yield rows;
        rest = { gt: rows.at(-1)?.[0] ?? '', lt: range.lt };
      }
    } catch (error) {
      if (!isPandoError(error, 'LOG_CORRUPT')) throw error;
      // LevelDB passes over what it cannot read, and says so only with the rows that it fetches at the end
      yield* this.#fetched(rest, 1, about, snapshot);
      throw error;
    }
  }

  async *#fetched(
    range: Range,
    rowsMax: number,
    about: Partial<Activity>,
    snapshot: DatabaseSnapshot | undefined,
  ): AsyncGenerator<Row[]> {
    const iterator = await this.#guarded(about, async () =>
      this.#level.iterator({ ...range, snapshot, highWaterMarkBytes: FETCH_BYTES, fillCache: false }),
    );
    try {
      for (;;) {
        const rows = await this.#guarded(about, () => iterator.nextv(rowsMax));
        if (rows.length === 0) return;
        yield rows;
      }
    } finally {
      await iterator.close();
    }
  }

  /** The first key of a range that can be read, or its last. Rejects with `LOG_CORRUPT` when only unreadable ones are left. */
  async endKey(
    range: KeyRange,
    end: 'first' | 'last',
    about: Partial<Activity> = {},
    snapshot?: DatabaseSnapshot,
  ): Promise<string | undefined> {
    const options = { ...range, limit: 1, reverse: end === 'last', snapshot };
    const [key] = await this.#guarded(about, () => this.#level.keys(options).all());
    return key;
  }

  /** Deletes the rows of a range, a part from the front when it rejects. LevelDB reads what it deletes, so an unreadable block is `LOG_CORRUPT`. */
  clear(range: KeyRange, about: Partial<Activity> = {}): Promise<void> {
    return this.#guarded(about, () => this.#level.clear(range));
  }

  /**
   * Deletes the rows of a range that nothing refers to any more. Never rejects: what led to them is on the disk already, they do no harm, and
   * the next start tries again.
   */
  async clearRemains(range: KeyRange): Promise<void> {
    await this.clear(range).catch(() => undefined);
  }

  snapshot(): DatabaseSnapshot {
    try {
      return this.#level.snapshot();
    } catch (error) {
      throw levelError(error, { directory: this.directory });
    }
  }

  async close(): Promise<void> {
    if (this.#level.status !== 'open') return;
    await rm(join(this.directory, PROCESS_FILE), { force: true });
    await this.#guarded({}, () => this.#level.close());
  }

  async #guarded<Result>(about: Partial<Activity>, operation: () => Promise<Result>): Promise<Result> {
    try {
      return await operation();
    } catch (error) {
      throw levelError(error, { ...about, directory: this.directory });
    }
  }
}

async function holderOf(directory: string): Promise<string | null> {
  try {
    return await readFile(join(directory, PROCESS_FILE), 'utf8');
  } catch {
    // No file: another program has the database open, or it was just being opened.
    return null;
  }
}
