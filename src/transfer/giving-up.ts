/** Destroys what a mirror need not keep, once it is certain that it still is what was planned for (design §9). */
import { type ErrorCode, isPandoError, PandoError } from '../core/errors.ts';
import { type DatasetName, ID_PROPERTY } from '../core/ids.ts';
import {
  type DestroyDatasetStep,
  type DestroySnapshotStep,
  isPlaceholder,
  PLACEHOLDER_BYTES_MAX,
  type Step,
} from '../core/plan/steps.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';

/** With these, what was to be destroyed stays: it is held or has clones, or is not what was planned for any more. */
export const REASONS_TO_KEEP: readonly ErrorCode[] = ['ZFS_BUSY', 'ZFS_HAS_DEPENDENTS', 'PLAN_CONFLICT'];

export function isGivingUp(step: Step): step is DestroyDatasetStep | DestroySnapshotStep {
  return step.kind === 'destroy-dataset' || step.kind === 'destroy-snapshot';
}

/** Rejects with `PLAN_CONFLICT` when another snapshot has the name by now, `ZFS_BUSY` when it is held, `ZFS_HAS_DEPENDENTS` when it has clones. */
export async function destroyGivenUpSnapshot(zfs: Zfs, dataset: DatasetName, step: DestroySnapshotStep): Promise<void> {
  const snapshot = { dataset, snapshot: step.snapshot.name };
  const [found] = await zfs.listSnapshots([snapshot]);
  if (found == null) return;
  if (found.guid !== step.snapshot.guid)
    throw changed(`${dataset}@${step.snapshot.name}`, 'is another snapshot by now');
  await zfs.destroySnapshot(snapshot);
}

/**
 * Resolves to whether it was there to be destroyed. Rejects with `PLAN_CONFLICT` when the dataset was written to, or has other snapshots than planned, `ZFS_BUSY` when it or one of them is in use, and
 * `ZFS_HAS_DEPENDENTS` when there are children or clones.
 */
export async function destroyGivenUpDataset(zfs: Zfs, name: DatasetName, step: DestroyDatasetStep): Promise<boolean> {
  const [found] = await zfs.listOnly([name]);
  if (found === undefined) return false;
  if (found.properties[ID_PROPERTY] !== step.dataset) throw changed(name, 'is another dataset by now');
  // What is left of a destroy that was cut short has older snapshots only
  const planned = new Set(step.snapshots);
  if (found.snapshots.some(({ guid }) => !planned.has(guid))) throw changed(name, 'has a new snapshot');
  if (await wasWrittenTo(zfs, found)) throw changed(name, 'was written to here');
  await zfs.destroy(name).catch(async (error: unknown) => {
    // What came of an increment that nothing tells of any more depends on it, as a clone does
    if (found.resumeToken === null || !isPandoError(error, 'ZFS_HAS_DEPENDENTS')) throw error;
    await zfs.abandonReceive(name);
    await zfs.destroy(name);
  });
  return true;
}

/**
 * Whether there is anything in it that no snapshot has. zfs-fuse does not tell what was written since the newest snapshot, or since the origin of a clone that has
 * none, but how much there is now and was then. What never had a snapshot is all that there is of it, unless it only gave others a parent.
 */
export async function wasWrittenTo(zfs: Zfs, found: ListedDataset): Promise<boolean> {
  const { written, referenced, snapshots, origin, properties } = found;
  if (snapshots.length === 0 && origin === null) {
    return !isPlaceholder(found) || properties.canmount !== 'off' || referenced > PLACEHOLDER_BYTES_MAX;
  }
  if (written !== null) return written > 0;
  const newest = snapshots.at(-1) ?? (origin === null ? null : (await zfs.listSnapshots([origin.reference]))[0]);
  return newest?.referenced !== referenced;
}

function changed(what: string, how: string): PandoError {
  return new PandoError('PLAN_CONFLICT', `${what} was to be destroyed, but ${how}: it stays.`, { name: what });
}
