/** The holds of a transfer: by name while it lasts, found again by guid when somebody renamed or promoted what was held. */
import { PandoError } from '../core/errors.ts';
import type { TransferStarted } from '../core/events.ts';
import { type DatasetName, type HoldTag, poolOf, relativeTo, type SnapshotGuid } from '../core/ids.ts';
import type { HoldReference, ListedDataset, SnapshotReference, Zfs } from '../zfs/zfs.ts';
import { parseSnapshotText, snapshotText } from './snapshot-text.ts';

export interface HeldSnapshot extends SnapshotReference {
  readonly guid: SnapshotGuid;
}

/** What a transfer holds under its tag. */
export interface Holds {
  /** All of it as far as it was known when it was held, each snapshot once. */
  readonly held: readonly HeldSnapshot[];
  /** Those of them with which all that has their name in the datasets below is held. */
  readonly tops: readonly SnapshotReference[];
}

/** As the journal keeps them. */
export function journaledHolds({ held, tops }: Holds): Pick<TransferStarted, 'held' | 'heldBelow'> {
  return {
    held: held.map((snapshot) => ({ snapshot: snapshotText(snapshot), guid: snapshot.guid })),
    heldBelow: tops.map(snapshotText),
  };
}

export function holdsOf({ held, heldBelow }: TransferStarted): Holds {
  return {
    held: held.map(({ snapshot, guid }) => ({ ...parseSnapshotText(snapshot), guid })),
    tops: heldBelow.map(parseSnapshotText),
  };
}

/** Each snapshot once: a hold command refuses one that it names twice. */
export function snapshotsOnce(held: Iterable<HeldSnapshot>): HeldSnapshot[] {
  return [...new Map(Array.from(held, (snapshot) => [snapshotText(snapshot), snapshot])).values()];
}

/** Holds all of it; rejects as {@link Zfs.hold} does. What is held with a top may be missing: see {@link missingAmong}. */
export async function placeHolds(zfs: Zfs, tag: HoldTag, holds: Holds): Promise<void> {
  if (holds.held.length > 0) await zfs.hold(tag, commanded(holds));
}

/** Those of the snapshots that turned out not to be there when they were held, or not to be held. */
export async function missingAmong(
  zfs: Zfs,
  { tops }: Holds,
  snapshots: readonly HeldSnapshot[],
): Promise<ReadonlySet<HeldSnapshot>> {
  const together = snapshots.filter((one) => isBelow(tops, one));
  if (together.length === 0) return new Set();
  const now = await zfs.listSnapshots(together);
  // What was away for a moment is there, and held by nobody
  return new Set(together.filter(({ guid }, index) => now[index]?.guid !== guid || now[index]?.userrefs === 0));
}

/** How often what is held is looked for anew, when it has moved on again meanwhile: a root that changes places takes a rename for each of its children. */
const SEARCHES_MAX = 5;

/**
 * Releases the holds, wherever in their pools the snapshots are by now. Idempotent. Rejects when a pool is away, ZFS cannot be asked, or the snapshots are never where they
 * were seen: then some are left (invariant 6: the intent stays open).
 */
export async function releaseHolds(zfs: Zfs, tag: HoldTag, holds: Holds): Promise<void> {
  const { held } = holds;
  if (held.length === 0) return;
  if ((await zfs.release(tag, commanded(holds))) && (await areFree(zfs, tag, withTops(holds)))) return;
  for (const pool of new Set(held.map(({ dataset }) => poolOf(dataset)))) {
    await releaseMoved(zfs, tag, pool as DatasetName, holds);
  }
}

/** What commands name: the tops, and what lies below none of them. */
function commanded({ held, tops }: Holds): HoldReference[] {
  return [...tops.map((top) => ({ ...top, below: true })), ...held.filter((one) => !isBelow(tops, one))];
}

function withTops({ held, tops }: Holds): HeldSnapshot[] {
  return held.filter((one) => isBelow(tops, one));
}

/** Whether it is one of the tops, or held with one. */
function isBelow(tops: readonly SnapshotReference[], { dataset, snapshot }: SnapshotReference): boolean {
  return tops.some((top) => top.snapshot === snapshot && relativeTo(top.dataset, dataset) !== undefined);
}

/**
 * Whether none of what was held with tops still has the tag: of what is not where it was any more, a release that reaches down says nothing. What somebody else holds there as well is
 * asked for the tag, or released by name where tags cannot be listed.
 */
async function areFree(zfs: Zfs, tag: HoldTag, together: readonly HeldSnapshot[]): Promise<boolean> {
  if (together.length === 0) return true;
  const now = await zfs.listSnapshots(together);
  if (together.some(({ guid }, index) => now[index]?.guid !== guid)) return false;
  const seen = together.filter((_, index) => now[index]?.userrefs !== 0);
  if (seen.length === 0) return true;
  const { listHolds } = await zfs.capabilities();
  if (!listHolds) {
    await zfs.release(tag, seen);
    return true;
  }
  const { held, isCertain } = await heldUnder(zfs, tag, seen);
  return isCertain && (held.length === 0 || (await zfs.release(tag, held)));
}

async function releaseMoved(zfs: Zfs, tag: HoldTag, pool: DatasetName, { held: known, tops }: Holds): Promise<void> {
  const guids = new Set(known.map(({ guid }) => guid));
  const { listHolds } = await zfs.capabilities();
  for (let search = 1; search <= SEARCHES_MAX; search += 1) {
    const seen = heldIn(await zfs.list(pool)).filter((one) => guids.has(one.guid) || isBelow(tops, one));
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
