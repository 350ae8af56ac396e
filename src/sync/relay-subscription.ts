/**
 * What this node follows of other nodes' streams through one peer: out of what the peer offers, that which this node wants at the moment.
 */
import { genesisHash, type Head } from '../core/codec/chain.ts';
import type { StreamId } from '../core/ids.ts';
import type { History } from '../log/history.ts';
import type { Message, Offer } from './messages.ts';

export interface RelaySubscriptionOptions {
  readonly history: History;
  /** Whether a stream is of use here, and does not come from its author itself, at this moment. */
  readonly wants: (stream: StreamId) => boolean;
  readonly say: (message: Message) => void;
  readonly report: (error: unknown) => void;
}

export class RelaySubscription {
  readonly #options: RelaySubscriptionOptions;
  #offered: readonly StreamId[] = [];
  #followed: ReadonlySet<StreamId> = new Set();
  /** Whatever was followed at any time: some of it may still be under way. */
  readonly #askedFor = new Set<StreamId>();
  /** What was not fit to be taken, whoever brings it. */
  readonly #givenUp = new Set<StreamId>();
  /** Damaged copies that are being dropped, to be had anew. */
  readonly #dropping = new Set<StreamId>();

  constructor(options: RelaySubscriptionOptions) {
    this.#options = options;
  }

  /** Streams that the peer brings at present. */
  get followed(): ReadonlySet<StreamId> {
    return this.#followed;
  }

  receive({ streams }: Offer): void {
    this.#offered = streams;
    this.reconsider();
  }

  /** Asks for what is wanted by now, if that is not what was asked for last. */
  reconsider(): void {
    const wanted = this.#offered.filter((stream) => this.takes(stream) && !this.#isDropping(stream));
    if (wanted.length === this.#followed.size && wanted.every((stream) => this.#followed.has(stream))) return;
    this.#followed = new Set(wanted);
    for (const stream of wanted) this.#askedFor.add(stream);
    this.#options.say({ type: 'follow', heads: wanted.map((stream) => this.#headOf(stream)) });
  }

  /** Whether the peer may send a stream: it was asked to, now or earlier in this session. */
  wasAskedFor(stream: StreamId): boolean {
    return this.#askedFor.has(stream);
  }

  /** Whether what the peer sends of a stream is taken. */
  takes(stream: StreamId): boolean {
    return !this.#givenUp.has(stream) && this.#options.wants(stream);
  }

  /** Follows a stream no more through this peer, which is not to blame. */
  giveUp(stream: StreamId, error: unknown): void {
    this.#givenUp.add(stream);
    this.#options.report(error);
    this.reconsider();
  }

  #headOf(stream: StreamId): Head {
    const head = this.#options.history.head(stream);
    if (head === null) return { stream, incarnation: 1, seq: 0, hash: genesisHash(stream, 1) };
    const { incarnation, seq, hash } = head;
    return { stream, incarnation, seq, hash };
  }

  #isDropping(stream: StreamId): boolean {
    if (this.#dropping.has(stream)) return true;
    const fault = this.#options.history.faults().find((one) => one.stream === stream);
    if (fault === undefined) return false;
    this.#options.report(fault.error);
    void this.#drop(stream);
    return true;
  }

  async #drop(stream: StreamId): Promise<void> {
    const { history } = this.#options;
    this.#dropping.add(stream);
    try {
      await history.forget(stream);
    } catch (error) {
      this.giveUp(stream, error);
    } finally {
      this.#dropping.delete(stream);
    }
    this.reconsider();
  }
}
