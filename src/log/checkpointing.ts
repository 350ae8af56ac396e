/**
 * When a stream gets a checkpoint, and how it is made.
 *
 * The checkpoints in a log are sealed by the node that keeps it, or by the stream's author. The author's seal is what other nodes accept:
 * of its own stream, and of one that it sent, from whoever hands that on. The keeper's seal on the stream of another says "this is what I
 * folded and checked", which is of use here only.
 */
import { createHash } from 'node:crypto';
import { setImmediate as nextTick } from 'node:timers/promises';
import { type CheckpointSeal, equalHashes, type Head, type Signer, sealCheckpoint } from '../core/codec/chain.ts';
import { encodeCheckpoint } from '../core/codec/checkpoint-codec.ts';
import type { Graph } from '../core/graph/graph.ts';
import type { Checkpoint } from './log.ts';

/** Whether a stream whose last checkpoint lies `tail` events back, and which folds to `graph` now, gets a new one. */
export type CheckpointPolicy = (tail: number, graph: Graph) => boolean;

/** Below this many events behind a checkpoint, replaying them takes less than opening anything else. */
const TAIL_EVENTS_MIN = 1_000;

/**
 * A checkpoint once the tail has half as many events as the graph has entries: in a tree that only grows, each time it has doubled.
 * Writing the graph anew then costs a few entries per event at most, and opening a stream reads half as much again as its graph.
 */
export const amortisedPolicy: CheckpointPolicy = (tail, graph) =>
  tail >= TAIL_EVENTS_MIN && 2 * tail >= graph.datasets.size + graph.snapshotCount;

/** Chunks up to this many bytes are kept from sealing to writing: all of most graphs, and a small part of what a large one takes. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Seals a graph at a head. The seal comes before the chunks and covers all of them, so a large graph is encoded twice, for its digest
 * and again as the chunks are taken, and is never in memory as bytes. In between chunks, others get their turn.
 */
export async function sealedGraph(head: Head, graph: Graph, at: number, signer: Signer): Promise<Checkpoint> {
  const digest = createHash('sha256');
  const kept: Uint8Array[] = [];
  let bytes = 0;
  for (const chunk of encodeCheckpoint(graph, at)) {
    digest.update(chunk);
    bytes += chunk.length;
    if (bytes <= KEPT_BYTES_MAX) kept.push(chunk);
    await nextTick();
  }
  const { stream, incarnation, seq, hash } = head;
  const seal = sealCheckpoint({ stream, incarnation, seq, hash }, digest.digest(), signer);
  const chunks = bytes <= KEPT_BYTES_MAX ? kept : { [Symbol.iterator]: () => encodeCheckpoint(graph, at) };
  return { seal, chunks };
}

/**
 * A checkpoint under the author's seal instead of the keeper's, where it is over the same bytes. It is not where the author's software encodes
 * a graph in another way than this one.
 */
export function underSealOf(author: CheckpointSeal, checkpoint: Checkpoint): Checkpoint {
  return equalHashes(author.digest, checkpoint.seal.digest) ? { ...checkpoint, seal: author } : checkpoint;
}
