import type { SignedHead } from '../core/codec/chain.ts';
import { PandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import type { Have, Message } from './messages.ts';
import { errorOfRemote } from './remote-error.ts';

/** What came of a question. */
export interface CaughtUp {
  /** Whether anything came in. */
  readonly changed: boolean;
  /** The peer's streams that it shares with this node now. */
  readonly shared: ReadonlySet<StreamId>;
}

interface Waiter {
  readonly resolve: (outcome: CaughtUp) => void;
  readonly reject: (error: PandoError) => void;
}

interface Question {
  readonly id: number;
  /** What had been stored when it was asked. */
  readonly storedTimes: number;
  readonly waiters: readonly Waiter[];
}

export interface QuestionsOptions {
  readonly send: (message: Message) => void;
  readonly storedTimes: () => number;
}

/**
 * This node's questions to the peer: what is new? One at a time; whoever asks in the meantime shares the next one, since
 * the answer under way may have been given before.
 */
export class Questions {
  readonly #options: QuestionsOptions;
  #open: Question | undefined;
  #arrived = false;
  #begun = false;
  #next: { refresh: boolean; waiters: Waiter[] } = { refresh: false, waiters: [] };
  #lastId = 0;
  #closed: PandoError | undefined;

  constructor(options: QuestionsOptions) {
    this.#options = options;
  }

  /** Sends the first question of a session, which tells what this node holds of the peer's streams. */
  begin(heads: readonly SignedHead[]): void {
    this.#begun = true;
    this.#sendNext(heads);
  }

  /** Resolves at the answer. Rejects with what made the peer's refresh fail, or when the connection ends. */
  ask(refresh: boolean): Promise<CaughtUp> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    return new Promise((resolve, reject) => {
      this.#next.refresh ||= refresh;
      this.#next.waiters.push({ resolve, reject });
      if (this.#begun && this.#open === undefined) this.#sendNext([]);
    });
  }

  /** Throws `PROTOCOL_UNEXPECTED` unless exactly this answer is waited for. */
  expect({ id }: Have): void {
    if (this.#open?.id !== id || this.#arrived) {
      throw new PandoError('PROTOCOL_UNEXPECTED', `The peer answered question ${id}, which was not asked.`);
    }
    this.#arrived = true;
  }

  /** The answer, with everything before it stored. */
  answered({ failure, heads }: Have): void {
    const question = this.#open;
    this.#open = undefined;
    const changed = this.#options.storedTimes() > (question?.storedTimes ?? 0);
    const shared = new Set(heads.map(({ stream }) => stream));
    for (const { resolve, reject } of question?.waiters ?? []) {
      if (failure === null) resolve({ changed, shared });
      else reject(errorOfRemote(failure));
    }
    if (this.#next.waiters.length > 0) this.#sendNext([]);
  }

  close(reason: PandoError): void {
    this.#closed = new PandoError('CONNECTION_CLOSED', reason.message, reason.evidence, { cause: reason });
    for (const { reject } of [...(this.#open?.waiters ?? []), ...this.#next.waiters]) reject(this.#closed);
    this.#open = undefined;
    this.#next.waiters = [];
  }

  #sendNext(heads: readonly SignedHead[]): void {
    const { refresh, waiters } = this.#next;
    this.#next = { refresh: false, waiters: [] };
    this.#lastId += 1;
    this.#arrived = false;
    this.#open = { id: this.#lastId, storedTimes: this.#options.storedTimes(), waiters };
    this.#options.send({ type: 'have', id: this.#lastId, reply: false, refresh, heads, failure: null });
  }
}
