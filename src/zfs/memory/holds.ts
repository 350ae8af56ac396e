/** Holds of the ZFS in memory (zfs-hold.8). */
import type { HoldTag } from '../../core/ids.ts';
import type { HoldReference } from '../zfs.ts';
import { descendantsOf, fullName, type MemorySnapshot } from './model.ts';
import type { MemoryPools } from './pools.ts';
import { Refusal } from './refusal.ts';

/** What follows the tag in the words of the command; `zfs` would take a command of its own for those with all below them. */
export function holdWords(snapshots: readonly HoldReference[]): string[] {
  return snapshots.flatMap(({ dataset, snapshot, below = false }) => [
    ...(below ? ['-r'] : []),
    `${dataset}@${snapshot}`,
  ]);
}

/** All that the reference reaches, or none of it. */
export function placeHold(pools: MemoryPools, tag: HoldTag, reference: HoldReference): void {
  pools.snapshot(reference);
  const reached = reachedBy(pools, reference);
  const taken = reached.find(({ holds }) => holds.has(tag));
  if (taken !== undefined) throw new Refusal('ZFS_HOLD_EXISTS', fullName(taken));
  for (const { holds } of reached) holds.add(tag);
}

/** Whether it was held; all or nothing, as zfs-fuse has it, where OpenZFS passes over those below that do not have the tag. */
export function releaseHold(pools: MemoryPools, tag: HoldTag, reference: HoldReference): boolean {
  const reached = reachedBy(pools, reference);
  if (reached.length === 0 || !reached.every(({ holds }) => holds.has(tag))) return false;
  for (const { holds } of reached) holds.delete(tag);
  return true;
}

/** The snapshots that are there. */
function reachedBy(pools: MemoryPools, { dataset: name, snapshot, below = false }: HoldReference): MemorySnapshot[] {
  const found = pools.find(name);
  if (found === undefined) return [];
  const datasets = below ? [found.dataset, ...descendantsOf(found.pool, name)] : [found.dataset];
  return datasets.flatMap(({ snapshots }) => snapshots.filter((one) => one.name === snapshot));
}
