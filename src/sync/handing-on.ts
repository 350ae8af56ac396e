/**
 * Hands on to a peer what other nodes have told this one: offers their streams, and brings up those that the peer follows, under the
 * signatures of their authors (design §4).
 *
 * 1. A peer is offered what it may have at this moment, and gets nothing that it was not offered.
 * 2. It says once how far it is in a stream that it begins to follow. From then on it has what was sent; what it has got from others in
 *    the meantime, it passes over.
 * 3. A stream that cannot be handed on, because of what this node kept or lost of it, is left out; the rest goes on.
 */
import { equalHashes, type Head } from '../core/codec/chain.ts';
import { isPandoError } from '../core/errors.ts';
import { type NodeId, type StreamId, splitStreamId, type TreeName } from '../core/ids.ts';
import type { History } from '../log/history.ts';
import type { SealedCheckpoint } from '../log/signed.ts';
import { type Events, type Follow, type Message, RELAYED_STREAMS_MAX } from './messages.ts';

export interface HandingOnOptions {
  readonly history: History;
  readonly peer: NodeId;
  /** Whether the peer may have what `author` says of a tree, at this moment. */
  readonly handsOn: (author: NodeId, tree: TreeName) => boolean;
  readonly say: (message: Message) => void;
  readonly sendEvents: (events: Events) => Promise<void>;
  readonly sendCheckpoint: (checkpoint: SealedCheckpoint) => Promise<void>;
  readonly report: (error: unknown) => void;
}

export class HandingOn {
  readonly #options: HandingOnOptions;
  #offered: ReadonlySet<StreamId> = new Set();
  /** How far the peer is in what it follows. */
  readonly #followed = new Map<StreamId, Head>();
  /** What was looked at since the peer may have something else than before. */
  readonly #judged = new Set<StreamId>();
  #isOfferDue = true;
  /** Belief 3. */
  readonly #unfit = new Set<StreamId>();

  constructor(options: HandingOnOptions) {
    this.#options = options;
  }

  /** Takes the peer's word on what it follows, as far as it was offered that: the offer may have changed in the meantime. */
  receive({ heads }: Follow): void {
    const wanted = new Map(heads.map((head) => [head.stream, head]));
    for (const stream of this.#followed.keys()) if (!wanted.has(stream)) this.#followed.delete(stream);
    for (const [stream, head] of wanted) {
      if (this.#offered.has(stream) && !this.#followed.has(stream)) this.#followed.set(stream, head);
    }
  }

  /** Whether a change of a stream is something to tell the peer of. */
  concerns(stream: StreamId): boolean {
    if (!this.#judged.has(stream)) this.#isOfferDue = true;
    return this.#isOfferDue || this.#followed.has(stream);
  }

  /** The peer may have something else than before. */
  reconsider(): void {
    this.#isOfferDue = true;
  }

  /** Offers what is new, and sends what the peer lacks. */
  async pass(): Promise<void> {
    if (this.#isOfferDue) this.#offer();
    for (const [stream, head] of this.#followed) {
      if (this.#offered.has(stream)) await this.#bringUp(stream, head);
    }
  }

  #offer(): void {
    this.#isOfferDue = false;
    const known = this.#options.history.streams().map(({ stream }) => stream);
    for (const stream of known) this.#judged.add(stream);
    const streams = known.filter((stream) => this.#isFor(stream)).slice(0, RELAYED_STREAMS_MAX);
    if (streams.length === this.#offered.size && streams.every((stream) => this.#offered.has(stream))) return;
    this.#offered = new Set(streams);
    this.#options.say({ type: 'offer', streams });
  }

  #isFor(stream: StreamId): boolean {
    const { history, peer, handsOn } = this.#options;
    const { node, tree } = splitStreamId(stream);
    return node !== peer && node !== history.node && !this.#unfit.has(stream) && handsOn(node, tree);
  }

  async #bringUp(stream: StreamId, theirs: Head): Promise<void> {
    try {
      if (await this.#isBehind(theirs)) await this.#send(theirs);
    } catch (error) {
      if (!isPandoError(error, 'LOG_CORRUPT', 'LOG_COMPACTED', 'STREAM_UNKNOWN')) throw error;
      this.#unfit.add(stream);
      this.#options.report(error);
      this.#offer();
    }
  }

  /** Whether the peer lacks something that lies behind what it has. What contradicts that is between its author and those who know it. */
  async #isBehind(theirs: Head): Promise<boolean> {
    const { history } = this.#options;
    const { stream } = theirs;
    const head = history.head(stream);
    if (head === null) return false;
    if (theirs.incarnation !== head.incarnation) return theirs.incarnation < head.incarnation;
    if (theirs.seq >= head.seq) return false;
    if (theirs.seq < (await history.oldest(stream)) - 1) return true;
    return equalHashes(await history.hashAt(stream, theirs.seq), theirs.hash);
  }

  async #send({ stream, incarnation, seq }: Head): Promise<void> {
    const { history, sendCheckpoint, sendEvents } = this.#options;
    let from = seq + 1;
    if (incarnation !== history.head(stream)?.incarnation || from < (await history.oldest(stream))) {
      const checkpoint = await history.relayedCheckpoint(stream);
      await sendCheckpoint(checkpoint);
      this.#sent(checkpoint.head);
      from = checkpoint.head.seq + 1;
    }
    for await (const { head, events } of history.relayed(stream, from)) {
      await sendEvents({ type: 'events', head, events });
      this.#sent(head);
    }
  }

  /** A peer that does not follow the stream any more says anew how far it is when it does again. */
  #sent(head: Head): void {
    if (this.#followed.has(head.stream)) this.#followed.set(head.stream, head);
  }
}
