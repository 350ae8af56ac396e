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
  type RelativeName,
  ROOT_STAND_IN,
  relativeTo,
  shortDatasetId,
} from '../core/ids.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';
import { formerLeafOf, isAside, isSuccessor, listAside, markKept } from './preservation.ts';

/**
 * Settles all of it in the tree of a mirror but for what is named by an open intent. Idempotent, and can be cut short anywhere; rejects as ZFS does. What does not fit together any more, since
 * people have moved or replaced some of it, stays as it is.
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
  for (const one of strayed) {
    const namesake = inTree.find(({ properties }) => properties[ID_PROPERTY] === one.properties[ID_PROPERTY]);
    if (isSuccessor(one.name)) await settleSuccessor(one, namesake, root, zfs);
    else await markKept({ aside: one.name, name: namesake?.name ?? formerName(root, one.name, inTree) }, zfs);
  }
}

/** Where the dataset that diverged has its name still, the successor is in nobody's way, and has nothing of its own once that has its snapshots back. */
async function settleSuccessor(
  successor: ListedDataset,
  original: ListedDataset | undefined,
  root: DatasetName,
  zfs: Zfs,
): Promise<void> {
  const id = successor.properties[ID_PROPERTY] as DatasetId;
  if (id === ROOT_STAND_IN) {
    if (successor.snapshots.length === 0) await zfs.destroy(successor.name);
  } else if (original === undefined) {
    // Whoever plans next gives it the name that it is to have
    await zfs.rename(successor.name, absoluteName(root, `renaming-${shortDatasetId(id)}` as RelativeName));
  } else if (original.origin?.reference.dataset === successor.name) {
    await zfs.promote(original.name);
    await zfs.destroy(successor.name);
  } else if (successor.origin?.reference.dataset === original.name) {
    await zfs.destroy(successor.name);
  }
}

/** As far as its name tells, in which its parent is not: one that is called as the root was that, where something only stands in for the root. */
function formerName(root: DatasetName, aside: DatasetName, inTree: readonly ListedDataset[]): DatasetName {
  const leaf = formerLeafOf(aside);
  const isStoodInFor = inTree.some(
    ({ name, properties }) => name === root && properties[ID_PROPERTY] === ROOT_STAND_IN,
  );
  return isStoodInFor && root.endsWith(`/${leaf}`) ? root : absoluteName(root, leaf as RelativeName);
}
