/** Holding the begin of a stream against what was asked for, the same in both drivers. */
import type { ExpectedStream, StreamHead } from './zfs.ts';

/** What is wrong with a stream, in words; undefined for the one that was expected. */
export function differenceTo(expected: ExpectedStream, found: StreamHead): string | undefined {
  const base = (guid: string | null): string => (guid === null ? 'nothing' : `guid ${guid}`);
  if (found.toGuid !== expected.toGuid) return `it brings guid ${found.toGuid} instead of ${expected.toGuid}`;
  if (found.fromGuid !== expected.fromGuid) {
    return `it builds on ${base(found.fromGuid)} instead of ${base(expected.fromGuid)}`;
  }
  if (found.raw !== expected.raw) return found.raw ? 'it is raw' : 'it is not raw';
  if (found.several && !expected.several) return 'it brings more than one snapshot';
  return undefined;
}
