import { writeNanoseconds } from './nanoseconds.ts';
import type { SnapshotInfo } from './snapshot.ts';

/** A snapshot as JSON has it, whose numbers hold no nanoseconds: times are texts (RFC 3339, UTC). */
export type WrittenSnapshot = Omit<SnapshotInfo, 'createdAt' | 'updatedAt'> & {
  readonly createdAt: string;
  readonly updatedAt: string;
};

export function writeSnapshot(info: SnapshotInfo): WrittenSnapshot {
  return { ...info, createdAt: writeNanoseconds(info.createdAt), updatedAt: writeNanoseconds(info.updatedAt) };
}
