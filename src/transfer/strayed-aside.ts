/**
 * What was being kept aside of a tree (`preservation.ts`), though no journal tells of it: the log was lost, in part or whole, in between. As long as the dataset that diverged has its
 * name, what was begun is taken back, and the next sync plans it anew; from then on it is finished.
 */
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  isHidden,
  nameInBetween,
  type RelativeName,
  ROOT_STAND_IN,
  relativeTo,
} from '../core/ids.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';
import {
  DIVERGED_PROPERTY,
  formerLeafOf,
  isAside,
  isSuccessor,
  listAside,
  markKept,
  takeBackSuccessor,
} from './preservation.ts';

/**
 * Settles all of it in the tree of a mirror but for what is named by an open intent. Idempotent, and can be cut short anywhere; rejects as ZFS does, with the first that it met once everything else is
 * settled. What does not fit together any more, since people have moved, replaced or written to some of it, stays as it is.
 */
export async function settleStrayedAside(
  root: DatasetName,
  zfs: Zfs,
  isKnown: (name: DatasetName) => boolean,
): Promise<void> {
  const strayed = (await listAside(zfs, root)).filter(({ name, properties }) => {
    // What is kept carries no id itself; what lies below it may
    return isAside(root, name) && properties[ID_PROPERTY] !== undefined && !isKnown(name);
  });
  if (strayed.length === 0) return;
  const inTree = (await zfs.list(root)).filter(({ name }) => !isHidden(relativeTo(root, name) as RelativeName));
  const namesakeOf = ({ properties }: ListedDataset) =>
    inTree.find((one) => one.properties[ID_PROPERTY] === properties[ID_PROPERTY]);
  const failures: unknown[] = [];
  const settle = (task: Promise<unknown>): Promise<unknown> => task.catch((error: unknown) => failures.push(error));
  // The name that a successor gets last tells nothing
  for (const one of strayed.filter(({ name }) => !isSuccessor(name))) {
    const name = one.properties[DIVERGED_PROPERTY] ?? namesakeOf(one)?.name ?? formerName(root, one.name, inTree);
    await settle(markKept({ aside: one.name, name: name as DatasetName }, zfs));
  }
  for (const one of strayed.filter(({ name }) => isSuccessor(name))) {
    await settle(settleSuccessor(one, namesakeOf(one), root, zfs));
  }
  if (failures.length > 0) throw failures[0];
}

async function settleSuccessor(
  successor: ListedDataset,
  original: ListedDataset | undefined,
  root: DatasetName,
  zfs: Zfs,
): Promise<void> {
  const id = successor.properties[ID_PROPERTY] as DatasetId;
  if (original !== undefined || id === ROOT_STAND_IN) {
    await takeBackSuccessor(zfs, original ?? successor, successor);
    return;
  }
  // Whoever plans next gives it the name that it is to have
  await zfs.rename(successor.name, absoluteName(root, nameInBetween(id)));
}

/** As far as its name tells, in which its parent is not: one that is called as the root was that, where something only stands in for the root. */
function formerName(root: DatasetName, aside: DatasetName, inTree: readonly ListedDataset[]): DatasetName {
  const leaf = formerLeafOf(aside);
  const isStoodInFor = inTree.some(
    ({ name, properties }) => name === root && properties[ID_PROPERTY] === ROOT_STAND_IN,
  );
  return isStoodInFor && root.endsWith(`/${leaf}`) ? root : absoluteName(root, leaf as RelativeName);
}
