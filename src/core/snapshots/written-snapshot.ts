import type { SnapshotInfo } from './snapshot.ts';

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
const MS_PER_SECOND = 1000;
const NANOSECOND_DIGITS = 9;

/** A snapshot as JSON has it, whose numbers hold no nanoseconds: times are texts (RFC 3339, UTC). */
export type WrittenSnapshot = Omit<SnapshotInfo, 'createdAt' | 'updatedAt'> & {
  readonly createdAt: string;
  readonly updatedAt: string;
};

/** A Unix time in nanoseconds as RFC 3339 has it: `2023-11-14T22:13:20.123456789Z`, always with nine digits. */
export function writeNanoseconds(unixNanoseconds: bigint): string {
  const rest = unixNanoseconds % NANOSECONDS_PER_SECOND;
  const nanoseconds = rest < 0n ? rest + NANOSECONDS_PER_SECOND : rest;
  const seconds = Number((unixNanoseconds - nanoseconds) / NANOSECONDS_PER_SECOND);
  const toTheSecond = new Date(seconds * MS_PER_SECOND).toISOString().slice(0, -'.000Z'.length);
  return `${toTheSecond}.${nanoseconds.toString().padStart(NANOSECOND_DIGITS, '0')}Z`;
}

export function writeSnapshot(info: SnapshotInfo): WrittenSnapshot {
  return { ...info, createdAt: writeNanoseconds(info.createdAt), updatedAt: writeNanoseconds(info.updatedAt) };
}
