/** Replicas that have what their owner has not: written to, or left behind when their owner was rolled back or restored (design §9). */
import type { Snapshot } from '../events.ts';
import { bookmarkOf, type Dataset, snapshotOf } from '../graph/graph.ts';
import type { SnapshotGuid } from '../ids.ts';
import { FIRST_EPOCH } from '../ownership.ts';
import { ROOT_NAME } from './stand-in.ts';
import { type Conflict, isPlaceholder, type PreserveStep } from './steps.ts';
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
  if (here === undefined || atSource.snapshots.length === 0) return undefined;
  if (isPlaceholder(here)) return planForClone(copy, wanted);
  if (here.snapshots.length === 0) return planAnew(copy, here, wanted);
  const known = new Set<SnapshotGuid>([...atSource.snapshots, ...atSource.bookmarks].map(({ guid }) => guid));
  const last = here.snapshots.findLastIndex((snapshot) => known.has(snapshot.guid));
  const localOnly = here.snapshots.slice(last + 1).map((snapshot) => snapshot.name);
  const lastCommon = here.snapshots[last] ?? null;
  if (lastCommon !== null && !hasMore(atSource, wanted, lastCommon)) return undefined;
  if (lastCommon === null && !areClones(copy, here, wanted)) {
    return { dataset: id, name, reason: 'no-common-snapshot', localOnly };
  }
  if (localOnly.length === 0 && !modified) return undefined;
  return keepAside(copy, wanted, { lastCommon, localOnly });
}

function keepAside(
  copy: WorkingCopy,
  { id, name }: Dataset,
  step: Pick<PreserveStep, 'lastCommon' | 'localOnly'>,
): Conflict | undefined {
  // A volume has nothing below it, nor can it be given anything
  const isFixed = copy.isRootFixed() || copy.get(id)?.kind === 'volume';
  if (copy.nameOf(id) === ROOT_NAME && isFixed) {
    const { lastCommon, localOnly } = step;
    return { dataset: id, name, reason: 'root-diverged', lastCommon: lastCommon?.name ?? null, localOnly };
  }
  if (!copy.mayKeepAside()) return { dataset: id, name, reason: 'aside-full' };
  if (copy.preserve(id, step)) return undefined;
  return { dataset: id, name, reason: 'not-owned-together', by: copy.nameOf(id) };
}

/** A placeholder for what is a clone by now makes room: nothing could be received in its place. */
function planForClone(copy: WorkingCopy, wanted: Dataset): Conflict | undefined {
  if (wanted.origin?.dataset == null || wanted.snapshots.length === 0) return undefined;
  return keepAside(copy, wanted, { lastCommon: null, localOnly: [] });
}

/**
 * A dataset without snapshots cannot be received into: nothing can but an increment, and that needs a snapshot to follow on. A clone that a promote has left like that goes aside, and comes
 * anew as the clone that it is; so does what another node took over, and its former owner never took a snapshot of.
 */
function planAnew(copy: WorkingCopy, here: Dataset, wanted: Dataset): Conflict | undefined {
  const wasTakenOver = wanted.owner.epoch > FIRST_EPOCH && here.origin === null && wanted.origin?.dataset == null;
  if (wanted.snapshots.length === 0 || !(wasTakenOver || areClones(copy, here, wanted))) return undefined;
  return keepAside(copy, wanted, { lastCommon: null, localOnly: [] });
}

/** Whether there is something to receive behind a snapshot. Otherwise what is only here is in nobody's way. */
function hasMore(atSource: Dataset, wanted: Dataset, { guid }: Snapshot): boolean {
  const common = snapshotOf(atSource, guid) ?? bookmarkOf(atSource, guid);
  const newest = wanted.snapshots.at(-1);
  return common !== undefined && newest !== undefined && newest.createtxg > common.createtxg;
}

/** Whether both grew from something in the tree, so that it can come anew for what its owner's clone cost. */
function areClones(copy: WorkingCopy, here: Dataset, wanted: Dataset): boolean {
  const origin = here.origin?.dataset == null ? undefined : copy.get(here.origin.dataset);
  return origin !== undefined && wanted.origin?.dataset != null;
}
