import { randomUUID } from 'node:crypto';
import type { SignedHead } from '../core/codec/chain.ts';
import { isPandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import { type DatabaseSnapshot, del, LevelDatabase, type Operation, put } from './level-database.ts';
import { checkpointKey, chunkKey, chunksRange, headKey, pageKey } from './level-keys.ts';
import { readStretch } from './level-pages.ts';
import { anchorsOf, deleteOldPages, erase, type OpenStream, recover, type Streams } from './level-recovery.ts';
import { type CheckpointRow, encodeCheckpointRow, encodeHead, type HeadRow } from './level-rows.ts';
import type { Append, Checkpoint, Log, LogRecord, StoredCheckpoint, StreamVerification } from './log.ts';
import { closed, compacted, corrupt, unknownStream } from './log-errors.ts';
import { encodePage, firstSeqOf, pagesOf } from './page.ts';
import { additionOf, checkCheckpoint, checkSuccession } from './succession.ts';
import { Turns } from './turns.ts';
import { isSealed, verifyStream } from './verification.ts';

/** Bytes of chunks written at once: a checkpoint of any size goes through this much memory. */
const CHUNK_BATCH_BYTES = 4 * 1024 * 1024;

/**
 * A log in a LevelDB directory of its own.
 *
 * The small rows of all streams are in memory, the directory is locked, and so they are what is on disk. A checkpoint's chunks are
 * written first, under an id that nothing refers to; then one synchronous batch adds the pages, the head and the reference to the
 * chunks. Whatever is replaced is deleted after that. A crash or a bad disk in between
 * leaves rows that nothing refers to; the next start deletes them.
 */
export class LevelLog implements Log {
  readonly #database: LevelDatabase;
  readonly #streams: Streams;
  readonly #turns = new Turns<StreamId>();
  #closing: Promise<void> | undefined;

  private constructor(database: LevelDatabase, streams: Streams) {
    this.#database = database;
    this.#streams = streams;
  }

  /**
   * Opens the log in a directory, which is made if need be. Rejects with `LOG_LOCKED` when another process (or another LevelLog of this
   * one) has it, `LOG_UNWRITABLE` when it cannot be made or written, `LOG_CORRUPT` when LevelDB cannot read its own files.
   */
  static async open(directory: string): Promise<LevelLog> {
    const database = await LevelDatabase.open(directory);
    try {
      return new LevelLog(database, await recover(database));
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  async streams(): Promise<StreamId[]> {
    this.#checkOpen();
    return [...this.#streams.keys()].sort();
  }

  async head(stream: StreamId): Promise<SignedHead | null> {
    this.#checkOpen();
    return this.#find(stream)?.head ?? null;
  }

  append(append: Append): Promise<void> {
    return this.#change(append.stream, async () => {
      const { stream, head, checkpoint } = append;
      const current = this.#find(stream);
      const addition = additionOf(current?.head ?? null, append);
      if (addition.records.length === 0 && checkpoint === undefined) return;
      const pages = Array.from(pagesOf(addition), (page) =>
        put(pageKey(stream, head.incarnation, firstSeqOf(page)), encodePage(page)),
      );
      await this.#commit({ head, oldest: current?.oldest ?? 1 }, current?.checkpoints ?? [], pages, checkpoint);
    });
  }

  reset(stream: StreamId, head: SignedHead, checkpoint: Checkpoint): Promise<void> {
    return this.#change(stream, async () => {
      checkCheckpoint(head, checkpoint.seal.head);
      const current = this.#streams.get(stream);
      if (current?.kind === 'damaged') await this.#erase(stream);
      const before = this.#find(stream);
      if (before !== undefined) checkSuccession(before.head, head);
      const replaced = before?.checkpoints ?? [];
      const row = { head, oldest: head.seq + 1 };
      const deletions = replaced.map(({ seal }) => del(checkpointKey(stream, seal.head.seq)));
      await this.#commit(row, [], deletions, checkpoint);
      await deleteOldPages(this.#database, stream, row);
      await this.#deleteChunks(replaced);
    });
  }

  async *read(stream: StreamId, from: number, to?: number): AsyncGenerator<readonly LogRecord[]> {
    this.#checkOpen();
    const state = this.#require(stream);
    const { head, oldest } = state;
    const end = Math.min(to ?? head.seq, head.seq);
    if (from < oldest) throw compacted(stream, from, oldest);
    if (from > end) return;
    const stretch = { stream, incarnation: head.incarnation, from, to: end, anchors: anchorsOf(state) };
    const snapshot: DatabaseSnapshot = this.#database.snapshot();
    try {
      yield* readStretch(this.#database, stretch, snapshot);
    } finally {
      await snapshot.close();
    }
  }

  async checkpoint(stream: StreamId, seq?: number): Promise<StoredCheckpoint | null> {
    this.#checkOpen();
    const { head, checkpoints } = this.#require(stream);
    const row = newestUpTo(checkpoints, seq ?? head.seq);
    return row === undefined ? null : this.#stored(row);
  }

  compact(stream: StreamId, seq: number): Promise<number> {
    return this.#change(stream, async () => {
      const { head, oldest, checkpoints } = this.#require(stream);
      const base = await this.#newestSealed(checkpoints, seq);
      if (base === undefined) return oldest;
      const start = base.seal.head.seq;
      const row = { head, oldest: start + 1 };
      const dropped = checkpoints.filter(({ seal }) => seal.head.seq < start);
      await this.#database.write([
        ...dropped.map(({ seal }) => del(checkpointKey(stream, seal.head.seq))),
        put(headKey(stream), encodeHead(headKey(stream), row)),
      ]);
      const kept = checkpoints.filter((each) => !dropped.includes(each));
      this.#streams.set(stream, { kind: 'open', ...row, checkpoints: kept });
      await deleteOldPages(this.#database, stream, row);
      await this.#deleteChunks(dropped);
      return row.oldest;
    });
  }

  async oldest(stream: StreamId): Promise<number> {
    this.#checkOpen();
    return this.#require(stream).oldest;
  }

  remove(stream: StreamId): Promise<void> {
    return this.#change(stream, () => this.#erase(stream));
  }

  async verify(stream: StreamId): Promise<StreamVerification> {
    return verifyStream(this, stream);
  }

  close(): Promise<void> {
    this.#closing ??= this.#turns.idle().then(() => this.#database.close());
    return this.#closing;
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw closed();
  }

  /** Runs a change of a stream after those that came before. Once begun, it goes on while the log is being closed. */
  async #change<Result>(stream: StreamId, change: () => Promise<Result>): Promise<Result> {
    this.#checkOpen();
    return this.#turns.run(stream, change);
  }

  #find(stream: StreamId): OpenStream | undefined {
    const state = this.#streams.get(stream);
    if (state?.kind === 'damaged') throw state.error;
    return state;
  }

  #require(stream: StreamId): OpenStream {
    const state = this.#find(stream);
    if (state === undefined) throw unknownStream(stream);
    return state;
  }

  /** Makes `row` the head of its stream, together with `operations` and the checkpoint, and deletes a checkpoint that was at its seq. */
  async #commit(
    row: HeadRow,
    checkpoints: readonly CheckpointRow[],
    operations: readonly Operation[],
    checkpoint: Checkpoint | undefined,
  ): Promise<void> {
    const { stream, seq } = row.head;
    const batch = [...operations, put(headKey(stream), encodeHead(headKey(stream), row))];
    const added: CheckpointRow[] = [];
    if (checkpoint !== undefined) {
      const key = checkpointKey(stream, seq);
      const reference = await this.#writeChunks(row.head, checkpoint);
      batch.push(put(key, encodeCheckpointRow(key, reference)));
      added.push(reference);
    }
    try {
      await this.#database.write(batch);
    } catch (error) {
      await this.#abandon(added, error);
    }
    const isReplaced = ({ seal }: CheckpointRow) => added.length > 0 && seal.head.seq === seq;
    const kept = checkpoints.filter((each) => !isReplaced(each));
    this.#streams.set(stream, { kind: 'open', ...row, checkpoints: [...kept, ...added] });
    await this.#deleteChunks(checkpoints.filter(isReplaced));
  }

  /** Writes chunks under an id of their own. Synced, all of them: LevelDB would sync no more than the file it writes to at the end. */
  async #writeChunks(head: SignedHead, { seal, chunks }: Checkpoint): Promise<CheckpointRow> {
    const id = randomUUID();
    let count = 0;
    let batch: Operation[] = [];
    let bytes = 0;
    try {
      for (const chunk of chunks) {
        batch.push(put(chunkKey(id, count), chunk));
        count += 1;
        bytes += chunk.length;
        if (bytes < CHUNK_BATCH_BYTES) continue;
        await this.#database.write(batch);
        batch = [];
        bytes = 0;
      }
      await this.#database.write(batch);
    } catch (error) {
      await this.#abandon([{ seal, head, id, chunks: count }], error);
    }
    return { seal, head, id, chunks: count };
  }

  /** Fails with `error`, after deleting chunks that nothing refers to. */
  async #abandon(rows: readonly CheckpointRow[], error: unknown): Promise<never> {
    await this.#deleteChunks(rows);
    throw error;
  }

  #stored(row: CheckpointRow): StoredCheckpoint {
    return { head: row.head, seal: row.seal, chunks: this.#chunks(row) };
  }

  async *#chunks({ seal, id, chunks }: CheckpointRow): AsyncGenerator<Uint8Array> {
    const { stream, seq } = seal.head;
    // Whoever reads slowly, as a peer may, does not notice that another checkpoint takes the place of this one
    const snapshot: DatabaseSnapshot = this.#database.snapshot();
    let count = 0;
    try {
      for await (const rows of this.#database.rows(chunksRange(id), { stream, seq }, snapshot)) {
        for (const [, chunk] of rows) yield chunk;
        count += rows.length;
        if (count === chunks) return;
      }
    } finally {
      await snapshot.close();
    }
    if (count !== chunks)
      throw corrupt({ stream, seq, expected: `a checkpoint of ${chunks} chunks`, found: String(count) });
  }

  async #newestSealed(checkpoints: readonly CheckpointRow[], seq: number): Promise<CheckpointRow | undefined> {
    for (const row of checkpoints.filter(({ seal }) => seal.head.seq <= seq).toReversed()) {
      if (await isSealed(this.#stored(row))) return row;
    }
    return undefined;
  }

  async #deleteChunks(rows: readonly CheckpointRow[]): Promise<void> {
    for (const { id } of rows) await this.#database.clearRemains(chunksRange(id));
  }

  async #erase(stream: StreamId): Promise<void> {
    const state = this.#streams.get(stream);
    if (state === undefined) return;
    await this.#database.write([put(headKey(stream), encodeHead(headKey(stream), null))]);
    this.#streams.delete(stream);
    try {
      await erase(this.#database, stream, state.kind === 'open' ? state.checkpoints : []);
    } catch (error) {
      // Nothing may be written between the rows that are left: it can only be removed again, here or by the next start.
      if (isPandoError(error)) this.#streams.set(stream, { kind: 'damaged', error });
      throw error;
    }
  }
}

function newestUpTo(checkpoints: readonly CheckpointRow[], seq: number): CheckpointRow | undefined {
  return checkpoints.findLast(({ seal }) => seal.head.seq <= seq);
}
