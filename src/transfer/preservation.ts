/**
 * Keeping what only a replica has (design §9), at the cost of no data. The dataset that diverged at its snapshot `common` is moved to `.pando/diverged`, and a
 * successor that ends with `common` takes its name:
 *
 *     clone    name@common → successor
 *     promote  successor                `common` and all before it are the successor's now
 *     rename   name → aside             with all that came after, and what was written since
 *     rename   successor → name
 *
 * Each step shows in what ZFS lists, so whoever finds the intent after a crash sees how far it came, and goes on (invariant 5).
 */
import { PandoError } from '../core/errors.ts';
import type { PreservationStarted } from '../core/events.ts';
import { type DatasetName, ID_PROPERTY } from '../core/ids.ts';
import { chainOf } from '../core/stream-flags.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';
import { ensureContainers } from './hidden-containers.ts';
import { replicaProperties } from './replica-properties.ts';

/** Says of a kept dataset where it came from: the name that it had. */
export const DIVERGED_PROPERTY = 'pando:diverged-from';

interface Found {
  readonly original: ListedDataset | undefined;
  readonly aside: ListedDataset | undefined;
  readonly successor: ListedDataset | undefined;
}

/** Does what of the intent is not yet done. Idempotent; rejects as ZFS does, and can then be tried again. */
export async function finishPreservation(intent: PreservationStarted, zfs: Zfs): Promise<void> {
  const { name, aside, successor } = intent;
  await ensureContainers(zfs, aside);
  if ((await look(intent, zfs)).aside === undefined) {
    if (intent.lastCommon !== null) await makeSuccessor(intent, intent.lastCommon, zfs);
    await zfs.rename(name, aside);
  }
  if ((await look(intent, zfs)).successor !== undefined) await zfs.rename(successor, name);
  await zfs.setProperties([aside], { [DIVERGED_PROPERTY]: name });
  await zfs.inheritProperty([aside], ID_PROPERTY);
}

/** Takes back what was begun while the dataset still has its name. Idempotent; rejects as ZFS does. */
export async function undoPreservation(intent: PreservationStarted, zfs: Zfs): Promise<void> {
  const { original, aside, successor } = await look(intent, zfs);
  if (successor === undefined || original === undefined || aside !== undefined) return;
  if (original.origin?.reference.dataset === intent.successor) await zfs.promote(intent.name);
  await zfs.destroy(intent.successor);
}

async function look({ name, aside, successor }: PreservationStarted, zfs: Zfs): Promise<Found> {
  const listed = await zfs.listOnly([name, aside, successor]);
  const named = (wanted: DatasetName) => listed.find((dataset) => dataset.name === wanted);
  return { original: named(name), aside: named(aside), successor: named(successor) };
}

/** Until the successor owns the snapshot in common, and all before it. */
async function makeSuccessor(
  intent: PreservationStarted,
  lastCommon: NonNullable<PreservationStarted['lastCommon']>,
  zfs: Zfs,
): Promise<void> {
  const { name, successor, dataset } = intent;
  const found = await look(intent, zfs);
  if (found.original === undefined) throw gone(name);
  if (found.original.origin?.reference.dataset === successor) return;
  if (found.successor === undefined) {
    await zfs.clone(
      { dataset: name, snapshot: lastCommon },
      successor,
      replicaProperties(dataset, chainOf(found.original.properties)),
    );
  }
  await zfs.promote(successor);
}

function gone(name: DatasetName): PandoError {
  return new PandoError(
    'ZFS_NOT_FOUND',
    `"${name}" is gone, so that what it had cannot be kept; look for it with "zfs list", and sync again.`,
    { name },
  );
}
