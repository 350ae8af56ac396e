/**
 * Whether small things are done at once or handed to Node's threads. A call that waits for nothing takes microseconds, and handing it over takes many times that; but whoever else this process
 * serves is to be served in between, and is not to wait for a disk.
 */
import { setImmediate } from 'node:timers/promises';

/** How long others wait at most while nothing is slow, in milliseconds. */
const TURN_MS = 5;
/** A small file that takes this long, in milliseconds, waited for the disk: it is full of what was written before. */
const SLOW_MS = 25;
/** How long all is handed over then, in milliseconds. A pool writes out what it holds every few seconds (`zfs_txg_timeout`). */
const HANDED_OVER_MS = 1000;

export class Turns {
  readonly #now: () => number;
  #since: number;
  #handsOverUntil = Number.NEGATIVE_INFINITY;

  /** `now` tells a time in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#since = now();
  }

  /** Whether what could be done at once is to be handed over. */
  get handsOver(): boolean {
    return this.#now() < this.#handsOverUntil;
  }

  /** Does something at once, and lets others have their turn where that is due. Rejects with what `job` throws. */
  async take(job: () => void): Promise<void> {
    const started = this.#now();
    job();
    const ended = this.#now();
    if (ended - started >= SLOW_MS) this.#handsOverUntil = ended + HANDED_OVER_MS;
    if (ended - this.#since < TURN_MS) return;
    await setImmediate();
    this.#since = this.#now();
  }
}
