import { nextTimestamp, unixMsOf } from '../core/clock.ts';
import { chainHash, equalHashes, genesisHash, type SignedHead, signHead, verifyHead } from '../core/codec/chain.ts';
import { encodeEvent } from '../core/codec/event-codec.ts';
import type { Hash } from '../core/codec/hash.ts';
import { PandoError } from '../core/errors.ts';
import { type Cause, EVENT_VERSION, type EventBody, type KnownEvent } from '../core/events.ts';
import { fold } from '../core/graph/fold.ts';
import { isPrivateTree, type StreamId, streamIdOf, type TreeName } from '../core/ids.ts';
import { sealedGraph } from './checkpointing.ts';
import { forked } from './log-errors.ts';
import { BATCH_BYTES_MAX, BATCH_EVENTS_MAX, type SealedCheckpoint, type SignedBatch } from './signed.ts';
import { freshStream, hasGraph, isWrittenBy, type SoundStream } from './stream-state.ts';
import type { StreamTable } from './stream-table.ts';

/**
 * Events in one append: about 100 ms of work, in which the node hears nobody, and few enough copies of a big graph's table in between
 * (each append shows a graph of its own).
 */
const APPEND_EVENTS_MAX = 10_000;

/** The streams that this node writes: numbers, stamps, chains and signs what goes into them, and hands it out to others. */
export class OwnStreams {
  readonly #table: StreamTable;
  readonly #now: () => number;
  /** Timestamp given last; one clock for all own streams, so that their events have an order. */
  #timestamp = 0;

  constructor(table: StreamTable, now: () => number) {
    this.#table = table;
    this.#now = now;
    for (const [stream, state] of table.all()) {
      const { at } = state.kind === 'sound' ? state : state.salvaged;
      if (isWrittenBy(stream, table.signer.node)) this.#timestamp = Math.max(this.#timestamp, at);
    }
  }

  now(): number {
    return Math.max(this.#now(), unixMsOf(this.#timestamp));
  }

  idOf(tree: TreeName): StreamId {
    return streamIdOf(this.#table.signer.node, tree);
  }

  heads(): SignedHead[] {
    const own = `${this.#table.signer.node}/`;
    const heads: SignedHead[] = [];
    for (const [stream, state] of this.#table.all()) {
      if (state.kind === 'sound' && stream.startsWith(own)) heads.push(state.head);
    }
    return heads;
  }

  record(
    tree: TreeName,
    cause: Cause | ((body: EventBody) => Cause),
    bodies: readonly EventBody[],
  ): Promise<readonly KnownEvent[]> {
    const stream = this.idOf(tree);
    return this.#table.inTurn(stream, async () => {
      let state = this.#table.sound(stream) ?? freshStream(stream, this.#table.signer);
      const events = this.#stamp(state.seq, typeof cause === 'function' ? cause : () => cause, bodies);
      // What does not fit is refused as a whole, before any part of it is written.
      if (events.length > APPEND_EVENTS_MAX) fold(state.graph, events);
      for (let start = 0; start < events.length; start += APPEND_EVENTS_MAX) {
        state = await this.#append(state, events.slice(start, start + APPEND_EVENTS_MAX));
      }
      return events;
    });
  }

  async startIncarnation(tree: TreeName, known: SignedHead | null): Promise<SignedHead> {
    const stream = this.idOf(tree);
    if (!hasGraph(stream)) throw forked(stream, 'facts about the node itself have no graph to begin anew from');
    if (known !== null) this.#checkOwn(stream, known);
    return this.#table.inTurn(stream, async () => {
      const state = this.#table.find(stream) ?? freshStream(stream, this.#table.signer);
      // Which incarnations there were matters to peers: nobody else knows of a private stream
      if (state.head === null && !isPrivateTree(tree)) throw (state as { error: PandoError }).error;
      const incarnation = Math.max(state.head?.incarnation ?? 0, known?.incarnation ?? 0) + 1;
      const hash = genesisHash(stream, incarnation, state.head?.hash);
      const head = signHead({ stream, incarnation, seq: 0, hash }, this.#table.signer);
      await this.#table.reset(head, state.kind === 'sound' ? state : state.salvaged);
      return head;
    });
  }

  async *batches(stream: StreamId, from: number, to: number | undefined): AsyncGenerator<SignedBatch> {
    const { head } = this.#requireOwn(stream);
    let events: Uint8Array[] = [];
    let bytes = 0;
    let last: { seq: number; hash: Hash } = head;
    for await (const records of this.#table.log.read(stream, from, to)) {
      for (const record of records) {
        if (events.length === BATCH_EVENTS_MAX || bytes + record.bytes.length > BATCH_BYTES_MAX) {
          yield { head: this.#sign(head, last), events };
          events = [];
          bytes = 0;
        }
        events.push(record.bytes);
        bytes += record.bytes.length;
        last = record;
      }
    }
    if (events.length > 0) yield { head: this.#sign(head, last), events };
  }

  async signedHeadAt(stream: StreamId, seq: number): Promise<SignedHead> {
    const { head } = this.#requireOwn(stream);
    return this.#sign(head, { seq, hash: await this.#table.hashAt(stream, seq) });
  }

  async checkpoint(stream: StreamId): Promise<SealedCheckpoint> {
    const { head, graph, at } = this.#requireOwn(stream);
    const { seal, chunks } = await sealedGraph(head, graph, at, this.#table.signer);
    return { head: this.#sign(head, head), seal, chunks: oneByOne(chunks) };
  }

  #requireOwn(stream: StreamId): SoundStream {
    const state = this.#table.require(stream);
    if (isWrittenBy(stream, this.#table.signer.node)) return state;
    throw new PandoError('ARGUMENT_INVALID', `Stream ${stream} is another node's; ask that node for it.`, { stream });
  }

  /** A head that a peer shows must be one that this node signed once, or the peer could drive the incarnation to its end. */
  #checkOwn(stream: StreamId, known: SignedHead): void {
    verifyHead(known, this.#table.isSigned);
    if (known.stream !== stream) throw forked(stream, `the head that was shown belongs to ${known.stream}`);
  }

  /** The head of the same stream at another place; what is signed already, with the key that is in use, is not signed again for each peer that it is sent to. */
  #sign(head: SignedHead, { seq, hash }: { readonly seq: number; readonly hash: Hash }): SignedHead {
    const isSigned = seq === head.seq && equalHashes(hash, head.hash);
    if (isSigned && Buffer.compare(head.keyProof, this.#table.signer.keyProof) === 0) return head;
    const { stream, incarnation } = head;
    return signHead({ stream, incarnation, seq, hash }, this.#table.signer);
  }

  #stamp(seq: number, causeOf: (body: EventBody) => Cause, bodies: readonly EventBody[]): KnownEvent[] {
    const unixMs = this.#now();
    return bodies.map((body, index) => {
      this.#timestamp = nextTimestamp(this.#timestamp, unixMs);
      return { v: EVENT_VERSION, seq: seq + 1 + index, at: this.#timestamp, cause: causeOf(body), ...body };
    });
  }

  async #append(state: SoundStream, events: readonly KnownEvent[]): Promise<SoundStream> {
    const graph = fold(state.graph, events);
    const bytes = events.map(encodeEvent);
    const head = this.#sign(state.head, {
      seq: state.seq + events.length,
      hash: bytes.reduce(chainHash, state.head.hash),
    });
    return this.#table.append(state, { head, events, bytes, graph });
  }
}

async function* oneByOne(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* chunks;
}
