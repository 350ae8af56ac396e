/** Replicas that have what their owner has not: written to, or left behind when their owner was rolled back or restored (design §9). */
import type { Snapshot } from '../events.ts';
import { bookmarkOf, type Dataset, snapshotOf } from '../graph/graph.ts';
import type { SnapshotGuid } from '../ids.ts';
import { type Conflict, isPlaceholder } from './steps.ts';
import type { WorkingCopy } from './working-copy.ts';

/**
 * Plans to keep what only the replica has, and to go on from the newest snapshot in common or, for a clone, from its origin. `modified`: it was written to
 * since its newest snapshot. Gives the conflict where there is nothing in common, or something of this node's own lies below.
 */
export function planDivergence(
  copy: WorkingCopy,
  atSource: Dataset,
  wanted: Dataset,
  modified: boolean,
): Conflict | undefined {
  const { id, name } = wanted;
  const here = copy.get(id);
  if (here === undefined || isPlaceholder(here) || atSource.snapshots.length === 0) return undefined;
  if (here.snapshots.length === 0) return planAnew(copy, here, wanted);
  const known = new Set<SnapshotGuid>([...atSource.snapshots, ...atSource.bookmarks].map(({ guid }) => guid));
  const last = here.snapshots.findLastIndex((snapshot) => known.has(snapshot.guid));
  const localOnly = here.snapshots.slice(last + 1).map((snapshot) => snapshot.name);
  const lastCommon = here.snapshots[last] ?? null;
  if (lastCommon !== null && !hasMore(atSource, wanted, lastCommon)) return undefined;
  if (lastCommon === null && !sharesOrigin(copy, here, wanted)) {
    return { dataset: id, name, reason: 'no-common-snapshot', localOnly };
  }
  if (localOnly.length === 0 && !modified) return undefined;
  // Everything else lies below the root, so that it cannot be moved below itself
  if (name === '')
    return { dataset: id, name, reason: 'root-diverged', lastCommon: lastCommon?.name ?? null, localOnly };
  if (copy.preserve(id, { lastCommon, localOnly })) return undefined;
  return { dataset: id, name, reason: 'not-owned-together', by: copy.nameOf(id) };
}

/**
 * A clone that a promote has left without snapshots cannot be received into: nothing can but an increment, and that needs a snapshot to follow on. It goes aside, and
 * comes anew as the clone that it is.
 */
function planAnew(copy: WorkingCopy, here: Dataset, { id, name, ...wanted }: Dataset): Conflict | undefined {
  if (wanted.snapshots.length === 0 || name === '' || !sharesOrigin(copy, here, { id, name, ...wanted }))
    return undefined;
  if (copy.preserve(id, { lastCommon: null, localOnly: [] })) return undefined;
  return { dataset: id, name, reason: 'not-owned-together', by: copy.nameOf(id) };
}

/** Whether there is something to receive behind a snapshot. Otherwise what is only here is in nobody's way. */
function hasMore(atSource: Dataset, wanted: Dataset, { guid }: Snapshot): boolean {
  const common = snapshotOf(atSource, guid) ?? bookmarkOf(atSource, guid);
  const newest = wanted.snapshots.at(-1);
  return common !== undefined && newest !== undefined && newest.createtxg > common.createtxg;
}

/** Whether both are clones of the same snapshot, and that is here. */
function sharesOrigin(copy: WorkingCopy, here: Dataset, wanted: Dataset): boolean {
  const origin = here.origin?.dataset == null ? undefined : copy.get(here.origin.dataset);
  return origin !== undefined && wanted.origin?.dataset != null && wanted.origin.snapshot === here.origin?.snapshot;
}
