/** Clock and randomness for tests that bring none of their own: the same in each run. */

/** Where the default clock starts: 2025-01-01T00:00:00Z in ms. */
const START_UNIX_MS = 1_735_689_600_000;
const TICK_MS = 1000;
let sequences = 0n;

/** A clock that advances by a second whenever it is read. Gives Unix ms. */
export function tickingClock(): () => number {
  let unixMs = START_UNIX_MS;
  return () => {
    unixMs += TICK_MS;
    return unixMs;
  };
}

/** 64-bit numbers from SplitMix64 (Steele et al., 2014), another sequence for each call: two stores of one test never share a guid. */
export function nextSequence(): () => bigint {
  sequences += 1n;
  let state = sequences << 48n;
  return () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let mixed = BigInt.asUintN(64, (state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n);
    mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn);
    return mixed ^ (mixed >> 31n);
  };
}
