/** What a log finds when it is opened: where every stream stands, and the remains of what a crash cut short, which are deleted. */
import { genesisHash, type Head } from '../core/codec/chain.ts';
import type { Hash } from '../core/codec/hash.ts';
import { isPandoError, type PandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import { del, type LevelDatabase, type Row } from './level-database.ts';
import {
  checkpointsRange,
  chunksRange,
  headKey,
  type KeyRange,
  numberOf,
  ownerOf,
  pageKey,
  pagesRange,
  spaceRange,
} from './level-keys.ts';
import { type CheckpointRow, decodeCheckpointRow, decodeHead, type HeadRow } from './level-rows.ts';
import { corrupt } from './log-errors.ts';

/** A stream as its small rows tell it. A value. */
export interface OpenStream extends HeadRow {
  readonly kind: 'open';
  /** By seq. */
  readonly checkpoints: readonly CheckpointRow[];
}

/** A stream whose small rows are not what was written, or whose removal was begun and cannot be finished. */
export interface DamagedStream {
  readonly kind: 'damaged';
  readonly error: PandoError;
}

export type Streams = Map<StreamId, OpenStream | DamagedStream>;

/** Hashes that a stream's chain must have at certain seqs. */
export function anchorsOf({ head, checkpoints }: OpenStream): Map<number, Hash> {
  const anchors = new Map<number, Hash>();
  // Later incarnations begin with a checkpoint, which knows their first hash
  if (head.incarnation === 1) anchors.set(0, genesisHash(head.stream, 1));
  for (const sealed of [...checkpoints.map(({ seal }) => seal.head), head] as Head[])
    anchors.set(sealed.seq, sealed.hash);
  return anchors;
}

/**
 * Reads the small rows of all streams, and deletes remains. Rejects with `LOG_CORRUPT` when LevelDB cannot read all heads: a stream that seemed
 * to be unknown would begin again, and a node without its settings would retract all it shares.
 */
export async function recover(database: LevelDatabase): Promise<Streams> {
  const streams: Streams = new Map();
  for await (const rows of database.rows(spaceRange('head'))) {
    for (const row of rows) await readHead(database, streams, row);
  }
  const areKnown = await readCheckpoints(database, streams);
  for await (const stream of owners(database, spaceRange('page'), (id) => pagesRange(id as StreamId))) {
    if (!streams.has(stream as StreamId)) streams.set(stream as StreamId, headless(stream as StreamId));
  }
  // What cannot be read may be what refers to some chunks
  if (areKnown) await deleteRemains(database, streams);
  return streams;
}

/** Reads what can be read of all checkpoint rows, and tells whether that was all. A stream can do without a checkpoint, or says that it cannot. */
async function readCheckpoints(database: LevelDatabase, streams: Streams): Promise<boolean> {
  try {
    for await (const rows of database.rows(spaceRange('checkpoint'))) {
      for (const row of rows) readCheckpoint(streams, row);
    }
    return true;
  } catch (error) {
    if (isPandoError(error, 'LOG_CORRUPT')) return false;
    throw error;
  }
}

async function readHead(database: LevelDatabase, streams: Streams, [key, value]: Row): Promise<void> {
  const stream = ownerOf(key) as StreamId;
  try {
    const row = decodeHead(key, value, stream);
    if (row === null) await erase(database, stream, []);
    else streams.set(stream, { kind: 'open', ...row, checkpoints: [] });
  } catch (error) {
    streams.set(stream, damaged(error));
  }
}

function readCheckpoint(streams: Streams, [key, value]: Row): void {
  const stream = ownerOf(key) as StreamId;
  const known = streams.get(stream) ?? headless(stream);
  if (known.kind === 'damaged') {
    streams.set(stream, known);
    return;
  }
  try {
    const row = decodeCheckpointRow(key, value, stream, numberOf(key));
    streams.set(stream, { ...known, checkpoints: [...known.checkpoints, row] });
  } catch (error) {
    streams.set(stream, damaged(error));
  }
}

function headless(stream: StreamId): DamagedStream {
  return { kind: 'damaged', error: corrupt({ stream, seq: 0, expected: 'a head', found: 'none' }) };
}

function damaged(error: unknown): DamagedStream {
  if (!isPandoError(error, 'LOG_CORRUPT')) throw error;
  return { kind: 'damaged', error };
}

/** Whom the rows of a key space belong to, with one seek each, as far as they can be read: damage is told to whoever uses what is damaged. */
async function* owners(
  database: LevelDatabase,
  space: KeyRange,
  rangeOf: (owner: string) => KeyRange,
): AsyncGenerator<string> {
  let gte = space.gte;
  for (;;) {
    const key = await database.endKey({ gte, lt: space.lt }, 'first').catch((error: unknown) => {
      if (isPandoError(error, 'LOG_CORRUPT')) return undefined;
      throw error;
    });
    if (key === undefined) return;
    const owner = ownerOf(key);
    yield owner;
    gte = rangeOf(owner).lt;
  }
}

async function deleteRemains(database: LevelDatabase, streams: Streams): Promise<void> {
  const referenced = new Set<string>();
  for (const [stream, state] of streams) {
    // A damaged row may be the one that refers to some chunks, and a person may still want to look at what there is.
    if (state.kind === 'damaged') return;
    await deleteOldPages(database, stream, state);
    for (const { id } of state.checkpoints) referenced.add(id);
  }
  for await (const id of owners(database, spaceRange('chunk'), chunksRange)) {
    if (!referenced.has(id)) await database.clearRemains(chunksRange(id));
  }
}

/** Deletes the pages of older incarnations, and those before the oldest record that counts: remains, which may stay. */
export function deleteOldPages(database: LevelDatabase, stream: StreamId, { head, oldest }: HeadRow): Promise<void> {
  return database.clearRemains({ gte: pagesRange(stream).gte, lt: pageKey(stream, head.incarnation, oldest) });
}

/**
 * Deletes all rows of a stream, the head last: until then, its head row says that the removal has begun. Rejects with `LOG_CORRUPT` when some
 * cannot be deleted: they would come between what another stream of that name gets.
 */
export async function erase(
  database: LevelDatabase,
  stream: StreamId,
  checkpoints: readonly CheckpointRow[],
): Promise<void> {
  await database.clear(pagesRange(stream), { stream });
  await database.clear(checkpointsRange(stream), { stream });
  for (const { id } of checkpoints) await database.clearRemains(chunksRange(id));
  await database.write([del(headKey(stream))]);
}
