/**
 * How much of a peer's own this node takes into a tree that it shares itself. Whoever may contribute could otherwise fill the pool with what costs nothing where it comes from: datasets
 * and snapshots. Space is limited by ZFS's own quotas.
 */
import type { Snapshot } from '../events.ts';
import { compareNames, type Dataset, Graph } from '../graph/graph.ts';
import type { DatasetId } from '../ids.ts';
import type { Named } from './refusals.ts';
import type { Allowance, Conflict, PlanInput } from './steps.ts';

/** Enough for a person's own work, and little enough that a mistake there does not drown what is here. */
export const DEFAULT_ALLOWANCE: Allowance = { filesystems: 32, snapshots: 128 };

/**
 * Leaves out new datasets beyond the allowance, and the newest snapshots of those that remain, with a conflict for each dataset of which something is left out. What is here stays and follows
 * its owner in everything else.
 */
export function withinAllowance(
  wanted: Graph,
  { local, follows }: Pick<PlanInput, 'local' | 'follows'>,
  allowance: Allowance,
): Named {
  const here = Array.from(local.datasets.values()).filter(follows);
  let filesystems = allowance.filesystems - here.length;
  let room = allowance.snapshots - here.reduce((sum, { snapshots }) => sum + snapshots.length, 0);
  const kept = new Map<DatasetId, Dataset>();
  const conflicts: Conflict[] = [];
  const refuse = ({ id, name }: Dataset, limit: keyof Allowance): void => {
    conflicts.push({ dataset: id, name, reason: 'limit-reached', limit, allowed: allowance[limit] });
  };
  for (const dataset of Array.from(wanted.datasets.values()).sort((a, b) => compareNames(a.name, b.name))) {
    const known = local.get(dataset.id);
    if (known === undefined && filesystems <= 0) {
      refuse(dataset, 'filesystems');
      continue;
    }
    if (known === undefined) filesystems -= 1;
    const coming = behind(dataset.snapshots, known?.snapshots ?? []);
    const left = Math.max(0, coming - Math.max(0, room));
    room -= coming - left;
    if (left > 0) refuse(dataset, 'snapshots');
    const snapshots = left === 0 ? dataset.snapshots : dataset.snapshots.slice(0, dataset.snapshots.length - left);
    kept.set(dataset.id, left === 0 ? dataset : { ...dataset, snapshots });
  }
  return conflicts.length === 0 ? { wanted, conflicts } : { wanted: new Graph(wanted.root, kept), conflicts };
}

/** How many snapshots would follow on those that are here. */
function behind(wanted: readonly Snapshot[], here: readonly Snapshot[]): number {
  const known = new Set(here.map(({ guid }) => guid));
  return wanted.length - 1 - wanted.findLastIndex(({ guid }) => known.has(guid));
}
