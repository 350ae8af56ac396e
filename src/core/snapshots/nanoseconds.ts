/** Times of snapshots: Unix times in nanoseconds, which containerd keeps and no number of JavaScript holds. */

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
const MS_PER_SECOND = 1000;
const NANOSECOND_DIGITS = 9;

/** Whole seconds, and the 0 to 999,999,999 nanoseconds after them, also before 1970. */
export function splitNanoseconds(unixNanoseconds: bigint): { readonly seconds: number; readonly nanoseconds: number } {
  const rest = unixNanoseconds % NANOSECONDS_PER_SECOND;
  const nanoseconds = rest < 0n ? rest + NANOSECONDS_PER_SECOND : rest;
  return {
    seconds: Number((unixNanoseconds - nanoseconds) / NANOSECONDS_PER_SECOND),
    nanoseconds: Number(nanoseconds),
  };
}

/** A time as RFC 3339 has it: `2023-11-14T22:13:20.123456789Z`, always with nine digits. */
export function writeNanoseconds(unixNanoseconds: bigint): string {
  const { seconds, nanoseconds } = splitNanoseconds(unixNanoseconds);
  const toTheSecond = new Date(seconds * MS_PER_SECOND).toISOString().slice(0, -'.000Z'.length);
  return `${toTheSecond}.${String(nanoseconds).padStart(NANOSECOND_DIGITS, '0')}Z`;
}
