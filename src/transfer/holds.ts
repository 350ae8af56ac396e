/** The holds of a transfer: by name while it lasts, found again by guid when somebody renamed or promoted what was held. */
import type { TransferStarted } from '../core/events.ts';
import { type DatasetName, type HoldTag, poolOf, type SnapshotGuid } from '../core/ids.ts';
import type { SnapshotReference, Zfs } from '../zfs/zfs.ts';
import { parseSnapshotText, snapshotText } from './snapshot-text.ts';

export interface HeldSnapshot extends SnapshotReference {
  readonly guid: SnapshotGuid;
}

/** As the journal keeps them. */
export function journaledHolds(held: readonly HeldSnapshot[]): TransferStarted['held'] {
  return held.map((snapshot) => ({ snapshot: snapshotText(snapshot), guid: snapshot.guid }));
}

export function holdsOf({ held }: TransferStarted): HeldSnapshot[] {
  return held.map(({ snapshot, guid }) => ({ ...parseSnapshotText(snapshot), guid }));
}

/** Each snapshot once: a hold command refuses one that it names twice. */
export function distinct(held: Iterable<HeldSnapshot>): HeldSnapshot[] {
  return [...new Map(Array.from(held, (snapshot) => [snapshotText(snapshot), snapshot])).values()];
}

/**
 * Releases the holds, wherever in their pools the snapshots are by now. Idempotent. Rejects when a pool is away, or ZFS cannot be asked: then some are left
 * (invariant 6: the intent stays open).
 */
export async function releaseHolds(zfs: Zfs, tag: HoldTag, held: readonly HeldSnapshot[]): Promise<void> {
  if (held.length === 0 || (await zfs.release(tag, held))) return;
  const guids = new Set(held.map(({ guid }) => guid));
  for (const pool of new Set(held.map(({ dataset }) => poolOf(dataset)))) {
    const moved = (await zfs.list(pool as DatasetName)).flatMap(({ name, snapshots }) =>
      snapshots
        .filter(({ guid, userrefs }) => userrefs > 0 && guids.has(guid))
        .map((snapshot) => ({ dataset: name, snapshot: snapshot.name })),
    );
    if (moved.length > 0) await zfs.release(tag, moved);
  }
}
