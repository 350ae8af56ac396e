import { unixMsOf } from '../core/clock.ts';
import { CheckpointReader } from '../core/codec/checkpoint-codec.ts';
import { isPandoError, PandoError } from '../core/errors.ts';
import { EMPTY_GRAPH, type Graph } from '../core/graph/graph.ts';
import type { StreamId } from '../core/ids.ts';
import type { Log, StoredCheckpoint } from './log.ts';
import { type GraphAtSeq, type Keeper, Replay, readCheckpoint } from './stream-state.ts';

/**
 * The graph as it was at a moment (design §5): the newest checkpoint that is not after it, and the events up to it. `headSeq` is where
 * the stream stands. Rejects with `LOG_COMPACTED` when the moment lies before everything that is kept.
 */
export async function graphAtTime(
  log: Log,
  stream: StreamId,
  { keeper, headSeq, timestamp }: { readonly keeper: Keeper; readonly headSeq: number; readonly timestamp: number },
): Promise<Graph> {
  const start = await checkpointBefore(log, stream, { keeper, headSeq, timestamp });
  const replay = new Replay(start ?? { seq: 0, at: 0, graph: EMPTY_GRAPH });
  try {
    await replay.run(log, stream, timestamp);
  } catch (error) {
    throw isPandoError(error, 'LOG_COMPACTED') ? tooLongAgo(stream, timestamp, error) : error;
  }
  return replay.finish().graph;
}

async function checkpointBefore(
  log: Log,
  stream: StreamId,
  { keeper, headSeq, timestamp }: { readonly keeper: Keeper; readonly headSeq: number; readonly timestamp: number },
): Promise<GraphAtSeq | null> {
  let seq = headSeq;
  for (;;) {
    const candidate = await log.checkpoint(stream, seq);
    if (candidate === null) return null;
    seq = candidate.seal.head.seq;
    if ((await momentOf(candidate)) <= timestamp) {
      const chosen = await log.checkpoint(stream, seq);
      return chosen === null ? null : readCheckpoint(chosen, keeper);
    }
    if (seq === 0) throw tooLongAgo(stream, timestamp);
    seq -= 1;
  }
}

/** The moment a checkpoint stands for, from its first chunk. */
async function momentOf({ chunks }: StoredCheckpoint): Promise<number> {
  const reader = new CheckpointReader({ trusted: true });
  for await (const chunk of chunks) {
    reader.add(chunk);
    break;
  }
  return reader.at;
}

function tooLongAgo(stream: StreamId, timestamp: number, cause?: unknown): PandoError {
  const moment = new Date(unixMsOf(timestamp)).toISOString();
  return new PandoError(
    'LOG_COMPACTED',
    `What stream ${stream} looked like on ${moment} is not kept any more; ask for a later moment.`,
    { stream, timestamp },
    cause === undefined ? undefined : { cause },
  );
}
