/**
 * Hybrid logical clock (Kulkarni et al., 2014): wall time in ms in the high bits, a counter in the low ones, in one number
 * that never goes back even when the wall clock does. Of a double's 53 integer bits, 12 count and 41 hold the time,
 * which lasts for 69 years from the epoch below.
 */
const COUNTER_VALUES = 4096;
/** 2025-01-01T00:00:00Z in ms: times are counted from here. */
const EPOCH_UNIX_MS = 1_735_689_600_000;

/** The next timestamp after `previous` when the wall clock shows `unixMs`: always greater than `previous`. */
export function nextTimestamp(previous: number, unixMs: number): number {
  const physical = Math.max(0, Math.floor(unixMs) - EPOCH_UNIX_MS) * COUNTER_VALUES;
  return Math.max(physical, previous + 1);
}

/** The wall time in Unix ms that a timestamp stands for. */
export function unixMsOf(timestamp: number): number {
  return Math.floor(timestamp / COUNTER_VALUES) + EPOCH_UNIX_MS;
}

/** The greatest timestamp at or before `unixMs`: what `--at TIME` folds up to. */
export function lastTimestampAt(unixMs: number): number {
  return Math.max(0, Math.floor(unixMs) - EPOCH_UNIX_MS + 1) * COUNTER_VALUES - 1;
}
