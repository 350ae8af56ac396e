import { randomBytes } from 'node:crypto';
import { systemTimers, type Timers } from '../sync/timers.ts';

/** Time and chance as a node meets them. A simulation brings its own, so that a run can be repeated exactly. */
export interface Surroundings {
  /** Wall clock in Unix ms. */
  readonly now: () => number;
  readonly timers: Timers;
  /** Numbers from 0 to below 1, for jitter. */
  readonly random: () => number;
  /** That many bytes that nobody can guess. */
  readonly randomBytes: (count: number) => Uint8Array;
}

export const systemSurroundings: Surroundings = {
  now: () => Date.now(),
  timers: systemTimers,
  random: Math.random,
  randomBytes,
};
