/** Round trips of one run, in ms. */
export interface RoundTrips {
  readonly median: number;
  readonly p99: number;
  readonly worst: number;
  readonly count: number;
}

export function roundTripsOf(milliseconds: readonly number[]): RoundTrips {
  const sorted = milliseconds.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN;
  return { median: at(0.5), p99: at(0.99), worst: at(1), count: sorted.length };
}
