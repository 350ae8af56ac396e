/** First wait before dialling again, in ms: short, since most cuts are restarts of the other side. */
export const RECONNECT_DELAY_MIN_MS = 500;
/** Longest wait, in ms: a peer that comes back after a holiday is noticed within a minute. */
export const RECONNECT_DELAY_MAX_MS = 60_000;
/** A connection that held this long, in ms, was a good one: after it the waits begin small again. */
export const RECONNECT_STABLE_MS = 30_000;

/** Growing waits between attempts, with jitter so that peers of a node that restarts do not all dial at once. */
export class BackOff {
  readonly #random: () => number;
  #delayMs = RECONNECT_DELAY_MIN_MS;

  /** `random` gives numbers from 0 to below 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** The wait before the next attempt, in ms: from half of the current delay to all of it; the delay doubles. */
  next(): number {
    const wait = this.#delayMs * (0.5 + this.#random() / 2);
    this.#delayMs = Math.min(2 * this.#delayMs, RECONNECT_DELAY_MAX_MS);
    return wait;
  }

  reset(): void {
    this.#delayMs = RECONNECT_DELAY_MIN_MS;
  }
}
