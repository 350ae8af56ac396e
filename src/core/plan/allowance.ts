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
  const room = new Room(allowance, here);
  const kept = new Map<DatasetId, Dataset>();
  const conflicts: Conflict[] = [];
  for (const dataset of Array.from(wanted.datasets.values()).sort((a, b) => compareNames(a.name, b.name))) {
    const { id, name } = dataset;
    const { taken, limit } = room.take(dataset, local.get(id));
    if (limit !== null) {
      conflicts.push({ dataset: id, name, reason: 'limit-reached', limit, allowed: allowance[limit] });
    }
    if (taken !== null) kept.set(id, taken);
  }
  return conflicts.length === 0 ? { wanted, conflicts } : { wanted: new Graph(wanted.root, kept), conflicts };
}

/** What of a dataset may come, and the limit that keeps the rest from it. */
interface Taken {
  readonly taken: Dataset | null;
  readonly limit: keyof Allowance | null;
}

/** What is left of an allowance. */
class Room {
  #filesystems: number;
  #snapshots: number;

  constructor({ filesystems, snapshots }: Allowance, here: readonly Dataset[]) {
    this.#filesystems = filesystems - here.length;
    this.#snapshots = snapshots - here.reduce((sum, dataset) => sum + dataset.snapshots.length, 0);
  }

  take(dataset: Dataset, known: Dataset | undefined): Taken {
    if (known === undefined && this.#filesystems <= 0) return { taken: null, limit: 'filesystems' };
    const coming = behind(dataset.snapshots, known?.snapshots ?? []);
    const left = Math.max(0, coming - Math.max(0, this.#snapshots));
    // Without a snapshot nothing of it would come
    if (known === undefined && left > 0 && left === coming) return { taken: null, limit: 'snapshots' };
    this.#snapshots -= coming - left;
    if (known === undefined) this.#filesystems -= 1;
    if (left === 0) return { taken: dataset, limit: null };
    const snapshots = dataset.snapshots.slice(0, dataset.snapshots.length - left);
    return { taken: { ...dataset, snapshots }, limit: 'snapshots' };
  }
}

/** How many snapshots would follow on those that are here. */
function behind(wanted: readonly Snapshot[], here: readonly Snapshot[]): number {
  const known = new Set(here.map(({ guid }) => guid));
  return wanted.length - 1 - wanted.findLastIndex(({ guid }) => known.has(guid));
}
