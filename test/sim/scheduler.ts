/**
 * Owns time. Everything that happens in a simulated world happens when the scheduler says so: a message arrives, a timer rings, a command
 * on a ZFS or a write to a log takes effect, somebody does something.
 *
 * Between two events whatever they set off runs to its end: promises and streams, which know neither time nor chance. Each event has a round of
 * Node's own loop to itself, so that all of that has run before the next one; what is left to setImmediate has one turn for each event.
 */

interface Entry {
  readonly at: number;
  /** Breaks ties: first in, first out. */
  readonly order: number;
  task: (() => void) | null;
}

export class Scheduler {
  readonly #heap: Entry[] = [];
  #now = 0;
  #order = 0;
  #events = 0;

  /** Virtual ms since the world began. */
  readonly now = (): number => this.#now;

  /** Events so far. */
  get events(): number {
    return this.#events;
  }

  /** Runs a task once in `ms` virtual milliseconds, unless the function that comes back is called before. */
  readonly after = (ms: number, task: () => void): (() => void) => {
    const entry: Entry = { at: this.#now + ms, order: this.#order, task };
    this.#order += 1;
    this.#push(entry);
    return () => {
      entry.task = null;
    };
  };

  /** Resolves in `ms` virtual milliseconds. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  /** Lets events happen until `isDone`. Rejects when one throws, and when nothing is left that could happen. */
  run(isDone: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (): void => {
        try {
          if (isDone()) {
            resolve();
            return;
          }
          this.#next();
          setImmediate(step);
        } catch (error) {
          reject(error);
        }
      };
      setImmediate(step);
    });
  }

  /** Lets events happen until the promise settles, and gives its outcome. */
  async until<Result>(promise: Promise<Result>): Promise<Result> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    promise.then(settle, settle);
    await this.run(() => settled);
    return promise;
  }

  #next(): void {
    for (;;) {
      const entry = this.#pop();
      if (entry === undefined) throw new Error('Nothing is left that could happen: something waits for ever.');
      const { task } = entry;
      if (task === null) continue;
      this.#now = entry.at;
      this.#events += 1;
      task();
      return;
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above] as Entry;
      if (isBefore(parent, entry)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = entry;
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1] as Entry, heap[below] as Entry)) below += 1;
      const child = heap[below] as Entry;
      if (isBefore(last, child)) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = last;
    return first;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
