/** Between what the messages say and what the rest of Pando means. */
import { PandoError } from '../../core/errors.ts';
import { splitNanoseconds } from '../../core/snapshots/nanoseconds.ts';
import type { Mount, SnapshotInfo, SnapshotKind, SnapshotUsage } from '../../core/snapshots/snapshot.ts';
import type { InfoMessage, MountsResponse, TimestampMessage, UsageResponse } from './messages.ts';

const KINDS = { view: 'VIEW', active: 'ACTIVE', committed: 'COMMITTED' } as const satisfies Record<
  SnapshotKind,
  string
>;

/** A Unix time in nanoseconds as seconds and the nanoseconds after them (`google/protobuf/timestamp.proto`). */
export function timestampMessage(unixNanoseconds: bigint): TimestampMessage {
  const { seconds, nanoseconds } = splitNanoseconds(unixNanoseconds);
  return { seconds, nanos: nanoseconds };
}

export function infoMessage(info: SnapshotInfo): InfoMessage {
  return {
    name: info.key,
    parent: info.parent ?? '',
    kind: KINDS[info.kind],
    createdAt: timestampMessage(info.createdAt),
    updatedAt: timestampMessage(info.updatedAt),
    labels: info.labels,
  };
}

export function mountsResponse(mounts: readonly Mount[]): MountsResponse {
  return { mounts: mounts.map(({ type, source, options }) => ({ type, source, options })) };
}

export function usageResponse({ bytes, inodes }: SnapshotUsage): UsageResponse {
  return { size: bytes, inodes };
}

/** The key, or the name, that a request has to have. Throws `ARGUMENT_INVALID` for an empty one. */
export function required(text: string, what: 'key' | 'name'): string {
  if (text !== '') return text;
  throw new PandoError('ARGUMENT_INVALID', `The request names no snapshot: its ${what} is empty.`);
}

/** The parent that a request names; null for none. */
export function optionalParent(text: string): string | null {
  return text === '' ? null : text;
}
