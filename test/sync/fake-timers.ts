import type { Timers } from '../../src/sync/timers.ts';

/** Time that passes only when a test says so. */
export class FakeTimers implements Timers {
  #now = 0;
  readonly #tasks = new Set<{ readonly at: number; readonly task: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, task: () => void): () => void {
    const entry = { at: this.#now + ms, task };
    this.#tasks.add(entry);
    return () => this.#tasks.delete(entry);
  }

  /** Lets time pass; what falls due runs in order, with a turn for the others in between. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      const due = [...this.#tasks].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#tasks.delete(due);
      this.#now = due.at;
      due.task();
      await new Promise(setImmediate);
    }
    this.#now = until;
  }

  get pending(): number {
    return this.#tasks.size;
  }
}
