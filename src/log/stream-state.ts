/** Where one stream stands, as the log is opened and as it grows: its head, and the graph that its events fold to. */
import {
  equalHashes,
  genesisHash,
  hashText,
  type SignedHead,
  type Signer,
  signHead,
  verifyHead,
  verifySeal,
} from '../core/codec/chain.ts';
import { CheckpointReader } from '../core/codec/checkpoint-codec.ts';
import { decodeStoredEvent } from '../core/codec/event-codec.ts';
import { nodeOfProof, type SignatureCheck } from '../core/codec/key-proof.ts';
import { describeError, isPandoError, type PandoError } from '../core/errors.ts';
import { Fold } from '../core/graph/fold.ts';
import { EMPTY_GRAPH, type Graph } from '../core/graph/graph.ts';
import { ADMIN_TREE, type NodeId, type StreamId, splitStreamId } from '../core/ids.ts';
import type { Log, StoredCheckpoint } from './log.ts';
import { corrupt, unknownStream } from './log-errors.ts';

/** A graph at a place in its stream. */
export interface GraphAtSeq {
  readonly seq: number;
  /** Timestamp of the event at `seq`, 0 when there is none. */
  readonly at: number;
  readonly graph: Graph;
}

/** A stream in order. A value: every durable change puts a new one in its place. */
export interface SoundStream extends GraphAtSeq {
  readonly kind: 'sound';
  readonly head: SignedHead;
  /** Seq of the newest checkpoint, 0 when there is none. */
  readonly checkpointSeq: number;
}

/** A stream that is not what was written. `salvaged` is what the undamaged part in front folds to. */
export interface FaultyStream {
  readonly kind: 'faulty';
  readonly error: PandoError;
  readonly head: SignedHead | null;
  readonly salvaged: GraphAtSeq;
}

/** The node whose log something is in: it seals the checkpoints; and how its signatures are checked. */
export interface Keeper {
  readonly node: NodeId;
  readonly isSigned: SignatureCheck;
}

const NOTHING: GraphAtSeq = { seq: 0, at: 0, graph: EMPTY_GRAPH };

/** An own stream before its first event. */
export function freshStream(stream: StreamId, signer: Signer): SoundStream {
  const head = signHead({ stream, incarnation: 1, seq: 0, hash: genesisHash(stream, 1) }, signer);
  return { kind: 'sound', head, checkpointSeq: 0, ...NOTHING };
}

/**
 * Reads a stream back: its newest sound checkpoint and the tail behind it, chain, seal and signature checked.
 * Damage is told in the result, other failures reject.
 */
export async function loadStream(log: Log, stream: StreamId, keeper: Keeper): Promise<SoundStream | FaultyStream> {
  let head: SignedHead | null = null;
  const replay = new Replay(NOTHING);
  try {
    head = await log.head(stream);
    if (head === null) throw unknownStream(stream);
    verifyHead(head, keeper.isSigned);
    replay.restart(await startOf(log, head, keeper));
    const checkpointSeq = replay.seq;
    await replay.run(log, stream);
    return { kind: 'sound', head, checkpointSeq, ...replay.finish() };
  } catch (error) {
    return { kind: 'faulty', error: damage(stream, replay.seq + 1, error), head, salvaged: replay.finish() };
  }
}

/** Where a replay of a stream can begin: at its newest sound checkpoint, or with its first event. Rejects when neither is left. */
async function startOf(log: Log, head: SignedHead, keeper: Keeper): Promise<GraphAtSeq> {
  const { stream, incarnation } = head;
  let fault: PandoError | null = null;
  for (let at = head.seq; at >= 0; ) {
    const checkpoint = await log.checkpoint(stream, at);
    if (checkpoint === null) break;
    const { seq } = checkpoint.seal.head;
    try {
      return await readCheckpoint(checkpoint, keeper);
    } catch (error) {
      fault ??= damage(stream, seq, error);
      at = seq - 1;
    }
  }
  if (incarnation > 1) throw fault ?? missingCheckpoint(head);
  if (fault !== null && (await log.oldest(stream)) > 1) throw fault;
  return NOTHING;
}

/** A fold of stored records that remembers how far it has come. */
export class Replay {
  #fold: Fold;
  #seq: number;
  #at: number;

  constructor(start: GraphAtSeq) {
    this.#fold = new Fold(start.graph);
    this.#seq = start.seq;
    this.#at = start.at;
  }

  get seq(): number {
    return this.#seq;
  }

  restart(start: GraphAtSeq): void {
    this.#fold = new Fold(start.graph);
    this.#seq = start.seq;
    this.#at = start.at;
  }

  /** Folds what the log holds after the start, up to and including timestamp `until`. */
  async run(log: Log, stream: StreamId, until = Number.POSITIVE_INFINITY): Promise<void> {
    for await (const records of log.read(stream, this.#seq + 1)) {
      for (const { bytes, seq } of records) {
        const event = decodeStoredEvent(bytes);
        if (event.at > until) return;
        this.#fold.add([event]);
        this.#seq = seq;
        this.#at = event.at;
      }
    }
  }

  finish(): GraphAtSeq {
    return { seq: this.#seq, at: this.#at, graph: this.#fold.finish() };
  }
}

/** Reads a checkpoint of this log. Rejects with `LOG_CORRUPT` unless `keeper`, or the stream's author, sealed exactly these chunks. */
export async function readCheckpoint({ seal, chunks }: StoredCheckpoint, keeper: Keeper): Promise<GraphAtSeq> {
  const { stream, seq } = seal.head;
  const isKeepers = nodeOfProof(seal.keyProof, keeper.isSigned) === keeper.node;
  verifySeal(seal, isKeepers ? keeper.node : splitStreamId(stream).node, keeper.isSigned);
  // What another node sealed was looked at closely before it was kept
  const reader = new CheckpointReader({ trusted: true });
  for await (const chunk of chunks) addChunk(reader, chunk, stream, seq);
  const { graph, digest } = reader.finish();
  if (!equalHashes(digest, seal.digest)) {
    throw corrupt({ stream, seq, expected: hashText(seal.digest), found: hashText(digest) });
  }
  return { seq, at: reader.at, graph };
}

/** Chunks are decoded before their digest is complete, so a damaged one can fail in any way. */
function addChunk(reader: CheckpointReader, chunk: Uint8Array, stream: StreamId, seq: number): void {
  try {
    reader.add(chunk);
  } catch (error) {
    throw corrupt({ stream, seq, expected: 'a checkpoint', found: describeError(error) }, error);
  }
}

function missingCheckpoint({ stream, incarnation }: SignedHead): PandoError {
  return corrupt({
    stream,
    seq: 0,
    expected: `the checkpoint that incarnation ${incarnation} began with`,
    found: 'none',
  });
}

/**
 * Damage as `LOG_CORRUPT`. What the log says about itself (closed, disk unreadable) is thrown on; whatever else goes wrong while stored
 * events are decoded and folded is damage too, since one stream must not keep the node from starting.
 */
function damage(stream: StreamId, seq: number, error: unknown): PandoError {
  if (isPandoError(error, 'LOG_CORRUPT')) return error;
  if (isPandoError(error, 'LOG_CLOSED', 'LOG_UNWRITABLE', 'STREAM_UNKNOWN')) throw error;
  return corrupt({ stream, seq, expected: 'the next event', found: describeError(error) }, error);
}

/** Whether the stream is one that `node` writes. */
export function isWrittenBy(stream: StreamId, node: NodeId): boolean {
  return splitStreamId(stream).node === node;
}

/** Whether a graph says what a stream says. The facts about a node itself fold to none: they are kept, and never compacted. */
export function hasGraph(stream: StreamId): boolean {
  return splitStreamId(stream).tree !== ADMIN_TREE;
}
