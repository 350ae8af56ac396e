/**
 * Hands on to a peer what other nodes have told this one: offers their streams, and brings up those that the peer follows, under the
 * signatures of their authors (design §4).
 *
 * 1. A peer is offered what it may have at this moment, and gets nothing that it was not offered.
 * 2. It says once how far it is in a stream that it begins to follow. From then on it has what was sent; what it has got from others in
 *    the meantime, it passes over.
 * 3. A stream that cannot be handed on, because of what this node kept or lost of it, is left out until it begins anew; the rest goes on.
 * 4. What this node has to say itself does not wait for what it hands on.
 * 5. Where the peer knows another history than this node, it gets none of it: that is between the author and those who know it.
 */
import { equalHashes, type Head } from '../core/codec/chain.ts';
import { isPandoError, PandoError } from '../core/errors.ts';
import { type NodeId, type StreamId, splitStreamId, type TreeName } from '../core/ids.ts';
import type { History } from '../log/history.ts';
import type { SealedCheckpoint } from '../log/signed.ts';
import { type Events, type Follow, type Message, RELAYED_STREAMS_MAX } from './messages.ts';

/** What comes of a stream that is damaged, incomplete, or changing. */
const UNREADABLE = ['LOG_CORRUPT', 'LOG_COMPACTED', 'STREAM_UNKNOWN', 'ARGUMENT_INVALID'] as const;

export interface HandingOnOptions {
  readonly history: History;
  readonly peer: NodeId;
  /** Whether the peer may have what `author` says of a tree, at this moment. */
  readonly handsOn: (author: NodeId, tree: TreeName) => boolean;
  readonly say: (message: Message) => void;
  readonly sendEvents: (events: Events) => Promise<void>;
  readonly sendCheckpoint: (checkpoint: SealedCheckpoint) => Promise<void>;
  /** Whether the session is over. */
  readonly isOver: () => boolean;
  /** Whether there is something else to be seen to, which does not wait for more than a batch, or a checkpoint. */
  readonly isInterrupted: () => boolean;
  readonly report: (error: unknown) => void;
}

/** A stream that the peer follows. One that it begins to follow anew is another of these. */
interface Followed {
  /** How far the peer is. */
  at: Head;
  /** Whether this node knows the same up to there; null before that was looked at, which takes a read. */
  agrees: boolean | null;
}

export class HandingOn {
  readonly #options: HandingOnOptions;
  #offered: ReadonlySet<StreamId> = new Set();
  readonly #followed = new Map<StreamId, Followed>();
  /** What was looked at since the peer may have something else than before. */
  #judged: ReadonlySet<StreamId> = new Set();
  #isOfferDue = true;
  #hasToldLimit = false;
  /** Belief 3. */
  readonly #unfit = new Set<StreamId>();

  constructor(options: HandingOnOptions) {
    this.#options = options;
  }

  /** Takes the peer's word on what it follows, as far as it was offered that: the offer may have changed in the meantime. */
  receive({ heads }: Follow): void {
    const wanted = new Map(heads.map((head) => [head.stream, head]));
    for (const stream of this.#followed.keys()) if (!wanted.has(stream)) this.#followed.delete(stream);
    for (const [stream, at] of wanted) {
      if (this.#offered.has(stream) && !this.#followed.has(stream)) this.#followed.set(stream, { at, agrees: null });
    }
  }

  /** Takes notice of a change of a stream; `isNew` where it begins anew. True when there may be something to tell the peer. */
  notice(stream: StreamId, isNew: boolean): boolean {
    if (isNew && this.#unfit.delete(stream)) this.#isOfferDue = true;
    if (!this.#judged.has(stream)) this.#isOfferDue = true;
    return this.#isOfferDue || this.#followed.has(stream);
  }

  /** The peer may have something else than before. */
  reconsider(): void {
    this.#isOfferDue = true;
  }

  /** Offers what is new, and sends what the peer lacks; false where something else came up, and there may be more to send. */
  async pass(): Promise<boolean> {
    const { isOver, isInterrupted } = this.#options;
    if (this.#isOfferDue) this.#offer();
    for (const [stream, followed] of this.#followed) {
      if (isOver()) return true;
      const { at } = followed;
      await this.#bringUp(stream, followed);
      if (followed.at === at || !isInterrupted()) continue;
      // The others come first then
      if (this.#followed.delete(stream)) this.#followed.set(stream, followed);
      return false;
    }
    return true;
  }

  #offer(): void {
    this.#isOfferDue = false;
    const known = this.#options.history.streams().map(({ stream }) => stream);
    this.#judged = new Set(known);
    const wanted = known.filter((stream) => this.#isFor(stream));
    const streams = wanted.slice(0, RELAYED_STREAMS_MAX);
    if (wanted.length > streams.length) this.#tellLimit(wanted.length);
    if (streams.length === this.#offered.size && streams.every((stream) => this.#offered.has(stream))) return;
    this.#offered = new Set(streams);
    this.#options.say({ type: 'offer', streams });
  }

  #tellLimit(wanted: number): void {
    const { peer, report } = this.#options;
    if (this.#hasToldLimit) return;
    this.#hasToldLimit = true;
    const message = `Peer ${peer} hears through this node of ${RELAYED_STREAMS_MAX} streams of others at most, and not of ${wanted}; have it meet some of their authors itself.`;
    report(new PandoError('PROTOCOL_LIMIT', message, { peer, wanted, limit: RELAYED_STREAMS_MAX }));
  }

  #isFor(stream: StreamId): boolean {
    const { history, peer, handsOn } = this.#options;
    const { node, tree } = splitStreamId(stream);
    return node !== peer && node !== history.node && !this.#unfit.has(stream) && handsOn(node, tree);
  }

  /** Whether the peer still follows the stream from where it said, and may have it. */
  #isCurrent(stream: StreamId, followed: Followed): boolean {
    return this.#followed.get(stream) === followed && this.#offered.has(stream);
  }

  async #bringUp(stream: StreamId, followed: Followed): Promise<void> {
    const { history, isOver, isInterrupted, report } = this.#options;
    let before: Head | null = null;
    while (this.#isCurrent(stream, followed) && followed.at !== before && !(before !== null && isInterrupted())) {
      const head = history.head(stream);
      try {
        if (head === null || !(await this.#isBehind(followed, head))) return;
        before = followed.at;
        await this.#send(followed, head);
      } catch (error) {
        if (isOver() || !isPandoError(error, ...UNREADABLE)) throw error;
        // It may have begun anew while it was read
        before = null;
        if (history.head(stream) !== head) continue;
        this.#unfit.add(stream);
        report(error);
        this.#offer();
      }
    }
  }

  /** Whether the peer lacks something that lies behind what it has. */
  async #isBehind(followed: Followed, head: Head): Promise<boolean> {
    const { at } = followed;
    if (at.incarnation !== head.incarnation) return at.incarnation < head.incarnation;
    if (at.seq >= head.seq) return false;
    followed.agrees ??= await this.#knows(at);
    return followed.agrees;
  }

  /** Belief 5. What is not kept any more is taken for the same. */
  async #knows({ stream, seq, hash }: Head): Promise<boolean> {
    const { history } = this.#options;
    if (seq < (await history.oldest(stream)) - 1) return true;
    return equalHashes(await history.hashAt(stream, seq), hash);
  }

  /** Sends a checkpoint where one is needed, else all events up to the head, or until something else comes up. */
  async #send(followed: Followed, head: Head): Promise<void> {
    const { history, isInterrupted, sendCheckpoint, sendEvents } = this.#options;
    const { stream } = head;
    const from = followed.at.seq + 1;
    if (followed.at.incarnation !== head.incarnation || from < (await history.oldest(stream))) {
      const checkpoint = await history.relayedCheckpoint(stream);
      await sendCheckpoint(checkpoint);
      advance(followed, checkpoint.head);
      return;
    }
    for await (const batch of history.relayed(stream, from)) {
      if (!this.#isCurrent(stream, followed)) return;
      await sendEvents({ type: 'events', ...batch });
      advance(followed, batch.head);
      if (isInterrupted()) return;
    }
  }
}

function advance(followed: Followed, at: Head): void {
  followed.at = at;
  followed.agrees = true;
}
