import { PandoError } from '../core/errors.ts';
import type { Timers } from './timers.ts';

/** Time between two pings, in ms: keeps middleboxes, which forget idle connections after a minute at worst, awake. */
export const HEARTBEAT_INTERVAL_MS = 10_000;
/** Silence after which a connection counts as dead, in ms: three missed pings. */
export const HEARTBEAT_TIMEOUT_MS = 30_000;

/** Notices a peer that is gone without a word. */
export class Heartbeat {
  readonly #timers: Timers;
  readonly #ping: () => void;
  readonly #dead: (reason: PandoError) => void;
  #lastHeard: number;
  #cancel: () => void;

  constructor(timers: Timers, ping: () => void, dead: (reason: PandoError) => void) {
    this.#timers = timers;
    this.#ping = ping;
    this.#dead = dead;
    this.#lastHeard = timers.now();
    this.#cancel = timers.after(HEARTBEAT_INTERVAL_MS, () => this.#beat());
  }

  /** Anything at all came from the peer. */
  heard(): void {
    this.#lastHeard = this.#timers.now();
  }

  stop(): void {
    this.#cancel();
  }

  #beat(): void {
    const silence = this.#timers.now() - this.#lastHeard;
    if (silence >= HEARTBEAT_TIMEOUT_MS) {
      const seconds = Math.round(silence / 1000);
      this.#dead(new PandoError('PROTOCOL_TIMEOUT', `Nothing was heard from the peer for ${seconds} seconds.`));
      return;
    }
    this.#cancel = this.#timers.after(HEARTBEAT_INTERVAL_MS, () => this.#beat());
    this.#ping();
  }
}
