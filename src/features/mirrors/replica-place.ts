import { PandoError } from '../../core/errors.ts';
import { type DatasetName, ID_PROPERTY } from '../../core/ids.ts';
import type { Zfs } from '../../zfs/zfs.ts';

/**
 * Checks that a mirror can be kept at `root`. Rejects with `ARGUMENT_INVALID` for a pool, `TREE_ROOT_MISSING` when the dataset above does not exist, and
 * `ZFS_DATASET_EXISTS` when `root` does and is no replica: nothing is ever received over it.
 */
export async function checkReplicaPlace(zfs: Zfs, root: DatasetName): Promise<void> {
  const slash = root.lastIndexOf('/');
  const parent = slash < 0 ? null : (root.slice(0, slash) as DatasetName);
  if (parent === null) {
    throw new PandoError('ARGUMENT_INVALID', `"${root}" is a pool; name a dataset in it, say ${root}/mirror.`, {
      root,
    });
  }
  const listed = await zfs.listOnly([parent, root]);
  if (!listed.some(({ name }) => name === parent)) {
    throw new PandoError(
      'TREE_ROOT_MISSING',
      `There is no dataset "${parent}" to keep the mirror in; create it with "zfs create -p ${parent}".`,
      { root, parent },
    );
  }
  const occupant = listed.find(({ name }) => name === root);
  if (occupant === undefined || occupant.properties[ID_PROPERTY] !== undefined) return;
  throw new PandoError(
    'ZFS_DATASET_EXISTS',
    `"${root}" exists and is not a replica; nothing is received over it. Name a dataset that does not exist.`,
    { root },
  );
}
