/**
 * What this node knows of trees: its own streams, which it writes, and those of its peers, which it follows. The only way the rest of
 * Pando uses a {@link Log}: it joins log, codec, signer and fold, so that a graph and its history never disagree.
 *
 * 1. A graph shows an event only once the event is on disk.
 * 2. What does not fold is not written: neither a body of this node nor an event of another.
 * 3. Nothing of another node is kept unless that node signed it and every hash is right.
 * 4. Changes of one stream run one after the other; streams do not wait for each other.
 * 5. A damaged stream is reported by {@link History.faults} and refused with `LOG_CORRUPT`; the others go on.
 */
import { isEd25519Signature, type SignedHead, type Signer, verifyHead } from '../core/codec/chain.ts';
import { decodeStoredEvent } from '../core/codec/event-codec.ts';
import type { Hash } from '../core/codec/hash.ts';
import type { SignatureCheck } from '../core/codec/key-proof.ts';
import { PandoError } from '../core/errors.ts';
import type { Cause, Event, EventBody, KnownEvent } from '../core/events.ts';
import type { Graph } from '../core/graph/graph.ts';
import { type NodeId, type StreamId, splitStreamId, type TreeName } from '../core/ids.ts';
import { amortisedPolicy, type CheckpointPolicy } from './checkpointing.ts';
import { FollowedStreams } from './followed-streams.ts';
import type { Log, StreamVerification } from './log.ts';
import { OwnStreams } from './own-streams.ts';
import { graphAtTime } from './past.ts';
import { RelayedStreams } from './relayed-streams.ts';
import type { SealedCheckpoint, SignedBatch } from './signed.ts';
import { hasGraph } from './stream-state.ts';
import { type HistoryListener, type StreamFault, StreamTable } from './stream-table.ts';
import { type EventBatch, subscription } from './subscription.ts';

export interface HistoryOptions {
  /** The History closes it. */
  readonly log: Log;
  /** This node's identity: signs its streams, and seals the checkpoints in its log. */
  readonly signer: Signer;
  /** How signatures are checked (default: as Ed25519). */
  readonly isSigned?: SignatureCheck;
  /** Wall clock in Unix ms. */
  readonly now: () => number;
  /** Default: {@link amortisedPolicy}. */
  readonly checkpointPolicy?: CheckpointPolicy;
  /** Datasets and snapshots that are kept of one peer, over all its streams (default: see followed-streams.ts). */
  readonly peerEntriesMax?: number;
}

export class History {
  readonly #table: StreamTable;
  readonly #own: OwnStreams;
  readonly #followed: FollowedStreams;
  readonly #relayed: RelayedStreams;

  private constructor(table: StreamTable, { now, peerEntriesMax }: HistoryOptions) {
    this.#table = table;
    this.#own = new OwnStreams(table, now);
    this.#followed = new FollowedStreams(table, peerEntriesMax);
    this.#relayed = new RelayedStreams(table);
  }

  /** Reads every stream of the log: newest checkpoint, tail, chain and signatures. Damaged streams are in {@link faults}. */
  static async open(options: HistoryOptions): Promise<History> {
    const { log, signer, isSigned = isEd25519Signature, checkpointPolicy = amortisedPolicy } = options;
    return new History(await StreamTable.open(log, { signer, isSigned }, checkpointPolicy), options);
  }

  get node(): NodeId {
    return this.#table.signer.node;
  }

  /** Unix ms by this node's clock, but never before the last event that it logged: a clock that was set back does not turn time back. */
  now(): number {
    return this.#own.now();
  }

  /** The stream in which this node tells about its copy of `tree` ({@link ADMIN_TREE}: about itself). */
  ownStream(tree: TreeName): StreamId {
    return this.#own.idOf(tree);
  }

  /** Heads of all sound streams, own and others'. */
  streams(): readonly SignedHead[] {
    const heads: SignedHead[] = [];
    for (const [, state] of this.#table.all()) if (state.kind === 'sound') heads.push(state.head);
    return heads;
  }

  /** Heads of those sound streams that this node writes. */
  ownStreams(): readonly SignedHead[] {
    return this.#own.heads();
  }

  /** What other nodes say of their copies of a tree, by node, as far as their streams are sound. */
  othersOf(tree: TreeName): ReadonlyMap<NodeId, Graph> {
    const graphs = new Map<NodeId, Graph>();
    for (const [stream, state] of this.#table.all()) {
      const place = splitStreamId(stream);
      if (state.kind === 'sound' && place.tree === tree && place.node !== this.node)
        graphs.set(place.node, state.graph);
    }
    return graphs;
  }

  /** Streams that cannot be used. A followed one can be had anew after {@link forget}, an own one after {@link startIncarnation}. */
  faults(): readonly StreamFault[] {
    return this.#table.faults();
  }

  /** Where a stream stands, or null when nothing is known of it. Throws `LOG_CORRUPT`. */
  head(stream: StreamId): SignedHead | null {
    return this.#table.sound(stream)?.head ?? null;
  }

  /** What a stream folds to now. Throws `STREAM_UNKNOWN` or `LOG_CORRUPT`. */
  graph(stream: StreamId): Graph {
    return this.#table.require(stream).graph;
  }

  /**
   * Writes facts to this node's own stream of a tree, which begins with the first of them. Resolves once they are on disk, with the
   * events they became. Rejects with `EVENT_INVALID`, and writes nothing, when one contradicts the graph or those before it.
   *
   * Up to 10,000 bodies are one atomic append. More are written 10,000 at a time: after a crash, a part from the front may be there.
   */
  record(
    tree: TreeName,
    cause: Cause | ((body: EventBody) => Cause),
    bodies: readonly EventBody[],
  ): Promise<readonly KnownEvent[]> {
    return this.#own.record(tree, cause, bodies);
  }

  /**
   * Takes over events of another node that follow on what is known of its stream, whoever brings them; those that are known already are
   * passed over. Resolves to the others once they are on disk.
   * Rejects, and writes nothing, with `LOG_GAP` (evidence: `expected` and `found` seq) when some are missing in between, `LOG_FORKED` for an own
   * stream, another incarnation (which begins with a checkpoint), or where the author is seen to have signed something else before, `LOG_CORRUPT` when hashes or
   * signature are not right, `CODEC_INVALID`, `CODEC_VERSION` or `EVENT_INVALID` for what is no event or contradicts the graph, `CODEC_INVALID` for more datasets and
   * snapshots than are kept of one peer.
   */
  ingest(batch: SignedBatch): Promise<readonly Event[]> {
    return this.#followed.ingest(batch);
  }

  /** Throws `LOG_CORRUPT` unless the stream's own node signed the head, with whichever of its keys. */
  verifyHead(head: SignedHead): void {
    verifyHead(head, this.#table.isSigned);
  }

  /**
   * Puts another node's checkpoint in the place of whatever is known of its stream, once all chunks have come and are what was sealed.
   * Rejects, and changes nothing, with `LOG_FORKED` when that would go back, else as {@link ingest}.
   */
  ingestCheckpoint(checkpoint: SealedCheckpoint): Promise<void> {
    return this.#followed.ingestCheckpoint(checkpoint);
  }

  /**
   * Events of an own stream from seq `from` to `to` inclusive (default: the head), ready to be sent: batches of at most 1,000 events and
   * 256 KiB, each with a signed head. Rejects with `ARGUMENT_INVALID` for another node's stream (only its author can sign a head in
   * mid-stream), `LOG_COMPACTED`, `STREAM_UNKNOWN`, `LOG_CORRUPT`.
   */
  records(stream: StreamId, from: number, to?: number): AsyncIterable<SignedBatch> {
    return this.#own.batches(stream, from, to);
  }

  /**
   * The seq from which {@link records} can begin. A peer needs the checkpoint when it lacks an event before, or when it is in another
   * incarnation (to have nothing counts as seq 0 of incarnation 1).
   */
  oldest(stream: StreamId): Promise<number> {
    this.#table.require(stream);
    return this.#table.log.oldest(stream);
  }

  /** A signed head in mid-stream. Rejects as {@link records}, and with `ARGUMENT_INVALID` beyond the head. */
  signedHeadAt(stream: StreamId, seq: number): Promise<SignedHead> {
    return this.#own.signedHeadAt(stream, seq);
  }

  /**
   * The graph of an own stream at its head, sealed, ready to be sent; its chunks are made while they are taken. No events need to
   * follow. Rejects with `ARGUMENT_INVALID` for another node's stream, `STREAM_UNKNOWN`, `LOG_CORRUPT`.
   */
  checkpointOf(stream: StreamId): Promise<SealedCheckpoint> {
    return this.#own.checkpoint(stream);
  }

  /**
   * Events of another node's stream from seq `from` to the head, as {@link records} but under the signatures that came with them. Rejects with
   * `LOG_COMPACTED` where they are not kept, or were stored without signatures by an earlier build, `LOG_CORRUPT` before a batch whose
   * signature is damaged, `STREAM_UNKNOWN`.
   */
  relayed(stream: StreamId, from: number): AsyncIterable<SignedBatch> {
    return this.#relayed.batches(stream, from);
  }

  /**
   * The newest checkpoint of another node's stream that its author sealed; {@link relayed} goes on behind it. Rejects with `LOG_COMPACTED` when
   * there is none that is still what was sealed, `STREAM_UNKNOWN`, `LOG_CORRUPT`.
   */
  relayedCheckpoint(stream: StreamId): Promise<SealedCheckpoint> {
    return this.#relayed.checkpoint(stream);
  }

  /** Hash of any sound stream's chain up to and including event `seq`. Rejects with `ARGUMENT_INVALID` beyond the head, else as {@link events}. */
  hashAt(stream: StreamId, seq: number): Promise<Hash> {
    return this.#table.hashAt(stream, seq);
  }

  /**
   * Events from seq `from` to `to` inclusive (default: the head), decoded. Those of types this version does not know are `unknown`.
   * Rejects with `LOG_COMPACTED`, `STREAM_UNKNOWN`, `LOG_CORRUPT`.
   */
  async *events(stream: StreamId, from: number, to?: number): AsyncGenerator<readonly Event[]> {
    this.#table.require(stream);
    for await (const records of this.#table.log.read(stream, from, to)) {
      yield records.map(({ bytes }) => decodeStoredEvent(bytes));
    }
  }

  /**
   * Events from seq `from` on, first those that are there, then each batch as it comes, without gap or duplicate, until the signal is
   * aborted. However slowly it is read, nothing is buffered: it reads on from the log. Rejects with `LOG_COMPACTED` when events it was
   * to give are gone (a checkpoint took their place: look at {@link graph} and subscribe from behind the head), `LOG_FORKED` when the
   * stream goes over to a new incarnation, `STREAM_UNKNOWN`, `LOG_CORRUPT`, `LOG_CLOSED`.
   */
  subscribe(stream: StreamId, from: number, signal: AbortSignal): AsyncIterable<EventBatch> {
    return subscription(this.#table, stream, from, signal);
  }

  /** Has `listener` called after each change that is on disk. What it throws becomes a process warning. Returns the way to end it. */
  onChange(listener: HistoryListener): () => void {
    return this.#table.onChange(listener);
  }

  /**
   * The graph as it was after the last event at or before a timestamp (see `lastTimestampAt` in core/clock.ts; design §5).
   * Rejects with `LOG_COMPACTED` when that is not kept any more, `STREAM_UNKNOWN`, `LOG_CORRUPT`.
   */
  async graphAt(stream: StreamId, timestamp: number): Promise<Graph> {
    const { seq } = this.#table.require(stream);
    return graphAtTime(this.#table.log, stream, { keeper: this.#table.keeper, headSeq: seq, timestamp });
  }

  /**
   * Begins an own stream anew with a checkpoint of its graph, when a peer knows more of it than this node (design §4): `known` is
   * the head that the peer showed, which this node signed before it lost it; the new incarnation is the one after both. A damaged
   * stream begins anew with the graph of what lies before the damage; the observer finds what is missing.
   * Rejects with `LOG_CORRUPT` when this node did not sign `known`, or when not even the head of a damaged stream that peers may know can be
   * read, `LOG_FORKED` for the admin stream.
   */
  startIncarnation(tree: TreeName, known: SignedHead | null = null): Promise<SignedHead> {
    return this.#own.startIncarnation(tree, known);
  }

  /** Forgets another node's stream. Rejects with `LOG_FORKED` for an own one. */
  forget(stream: StreamId): Promise<void> {
    return this.#followed.forget(stream);
  }

  /** Reads a stream, or all, from the disk and checks every hash. Never rejects for a fault: it is in the result. */
  async verify(stream?: StreamId): Promise<StreamVerification[]> {
    const verifications: StreamVerification[] = [];
    for (const each of stream === undefined ? await this.#table.log.streams() : [stream]) {
      verifications.push(await this.#table.log.verify(each));
    }
    return verifications;
  }

  /**
   * Drops events up to the newest checkpoint at or below `seq`. Returns the seq of the oldest that is left. Rejects with
   * `ARGUMENT_INVALID` for the admin stream, whose events no checkpoint stands for.
   */
  async compact(stream: StreamId, seq: number): Promise<number> {
    this.#table.require(stream);
    if (!hasGraph(stream)) {
      throw new PandoError('ARGUMENT_INVALID', `Stream ${stream} cannot be compacted: its events are all there is.`);
    }
    return this.#table.inTurn(stream, () => this.#table.log.compact(stream, seq));
  }

  /** Waits for running writes, then closes the log. */
  close(): Promise<void> {
    return this.#table.close();
  }
}
