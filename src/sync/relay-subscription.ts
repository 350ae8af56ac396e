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
  #offered: ReadonlySet<StreamId> = new Set();
  #followed: ReadonlySet<StreamId> = new Set();
  /** Whatever was followed at any time: some of it may still be under way. */
  readonly #askedFor = new Set<StreamId>();
  /** What was not fit to be taken, until something else is known of it. */
  readonly #givenUp = new Set<StreamId>();
  /** Damaged copies that are being dropped, to be had anew. */
  readonly #dropping = new Set<StreamId>();
  /** What was asked for again, since something was missing in between. */
  readonly #askedAgain = new Set<StreamId>();

  constructor(options: RelaySubscriptionOptions) {
    this.#options = options;
  }

  /** Streams that the peer brings at present. */
  get followed(): ReadonlySet<StreamId> {
    return this.#followed;
  }

  receive({ streams }: Offer): void {
    this.#offered = new Set(streams);
    this.reconsider();
  }

  /** Asks for what is wanted by now, if that is not what was asked for last. */
  reconsider(): void {
    const sound = this.#withoutDamaged();
    const wanted = Array.from(this.#offered).filter((stream) => this.takes(stream) && sound(stream));
    if (wanted.length === this.#followed.size && wanted.every((stream) => this.#followed.has(stream))) return;
    this.#follow(wanted);
  }

  /** Takes notice that something else is known of a stream, whoever has brought it. */
  notice(stream: StreamId): void {
    this.#askedAgain.delete(stream);
    if (this.#givenUp.delete(stream)) this.reconsider();
  }

  /**
   * Something is missing in between: part of it came while the stream was not wanted. Asks for it again from where this node is, and not a second time
   * before that comes.
   */
  askAgain(stream: StreamId): void {
    if (this.#askedAgain.has(stream) || !this.#followed.has(stream)) return;
    this.#askedAgain.add(stream);
    const all = Array.from(this.#followed);
    this.#follow(all.filter((other) => other !== stream));
    this.#follow(all);
  }

  #follow(wanted: readonly StreamId[]): void {
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

  /** Tells which streams are sound here; a damaged one is dropped, and asked for after that. */
  #withoutDamaged(): (stream: StreamId) => boolean {
    const faults = new Map(this.#options.history.faults().map(({ stream, error }) => [stream, error]));
    return (stream) => {
      if (this.#dropping.has(stream)) return false;
      if (!faults.has(stream)) return true;
      this.#options.report(faults.get(stream));
      void this.#drop(stream);
      return false;
    };
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
