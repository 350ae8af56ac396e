import { isPandoError } from '../core/errors.ts';
import type { DatasetName } from '../core/ids.ts';
import type { Zfs } from '../zfs/zfs.ts';

/** Creates what is missing of the two hidden datasets above a name (`.pando` and what lies in it). They hold others, and are never mounted. */
export async function ensureContainers(zfs: Zfs, name: DatasetName): Promise<void> {
  const upper = above(above(name));
  for (const container of [upper, above(name)]) {
    const [there] = await zfs.listOnly([container]);
    if (there === undefined) await zfs.create(container, { canmount: 'off' }).catch(passOverExisting);
  }
}

/** Two that need it at once make it once. */
function passOverExisting(error: unknown): void {
  if (!isPandoError(error, 'ZFS_DATASET_EXISTS')) throw error;
}

function above(name: DatasetName): DatasetName {
  return name.slice(0, name.lastIndexOf('/')) as DatasetName;
}
