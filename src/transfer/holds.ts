/** The holds of a transfer: by name while it lasts, found again by guid when somebody renamed or promoted what was held. */
import { PandoError } from '../core/errors.ts';
import type { TransferStarted } from '../core/events.ts';
import { type DatasetName, type HoldTag, poolOf, type SnapshotGuid } from '../core/ids.ts';
import type { ListedDataset, SnapshotReference, Zfs } from '../zfs/zfs.ts';
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

/** How often what is held is looked for anew, when it has moved on again meanwhile: a root that changes places takes a rename for each of its children. */
const SEARCHES_MAX = 5;

/**
 * Releases the holds, wherever in their pools the snapshots are by now. Idempotent. Rejects when a pool is away, ZFS cannot be asked, or the snapshots are never where they
 * were seen: then some are left (invariant 6: the intent stays open).
 */
export async function releaseHolds(zfs: Zfs, tag: HoldTag, held: readonly HeldSnapshot[]): Promise<void> {
  if (held.length === 0 || (await zfs.release(tag, held))) return;
  const guids = new Set(held.map(({ guid }) => guid));
  for (const pool of new Set(held.map(({ dataset }) => poolOf(dataset)))) {
    await releaseMoved(zfs, tag, pool as DatasetName, guids);
  }
}

async function releaseMoved(
  zfs: Zfs,
  tag: HoldTag,
  pool: DatasetName,
  guids: ReadonlySet<SnapshotGuid>,
): Promise<void> {
  const { listHolds } = await zfs.capabilities();
  for (let search = 1; search <= SEARCHES_MAX; search += 1) {
    const seen = heldIn(await zfs.list(pool)).filter(({ guid }) => guids.has(guid));
    const { held, isCertain } = listHolds ? await heldUnder(zfs, tag, seen) : { held: seen, isCertain: true };
    const isReleased = held.length === 0 || (await zfs.release(tag, held));
    if (isReleased && isCertain) return;
  }
  // Where tags cannot be listed, what others hold looks the same, and is all that is left
  if (listHolds) {
    throw new PandoError('ZFS_BUSY', `Snapshots in "${pool}" that are held under ${tag} are renamed all the time.`, {
      pool,
      tag,
    });
  }
}

/** What is held, by whomever. */
export function heldIn(listing: readonly ListedDataset[]): HeldSnapshot[] {
  return listing.flatMap(({ name: dataset, snapshots }) =>
    snapshots.filter(({ userrefs }) => userrefs > 0).map(({ guid, name: snapshot }) => ({ dataset, snapshot, guid })),
  );
}

/**
 * Which of what is held by somebody is held under that tag. Not certain where a snapshot that was seen has another name by now, or had when it was asked for and seemed to be held by
 * nobody.
 */
async function heldUnder(
  zfs: Zfs,
  tag: HoldTag,
  seen: readonly HeldSnapshot[],
): Promise<{ readonly held: readonly HeldSnapshot[]; readonly isCertain: boolean }> {
  if (seen.length === 0) return { held: [], isCertain: true };
  const tags = await zfs.holds(seen);
  const now = await zfs.listSnapshots(seen);
  const held = seen.filter((_, index) => tags[index]?.includes(tag) === true);
  const isCertain = seen.every(({ guid }, index) => now[index]?.guid === guid && tags[index]?.length !== 0);
  return { held, isCertain };
}
