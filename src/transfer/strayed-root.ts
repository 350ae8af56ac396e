/**
 * A root that stands beside its place, though no journal tells why: the log was lost, in part or whole, while it changed places (`root-exchange.ts`). What had not begun in earnest is
 * taken back; otherwise it is finished: what the successor lacks goes below it, and the former root to where whoever plans next finds it, or to what is kept of those that diverged.
 */
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  nameInBetween,
  poolOf,
  ROOT_STAND_IN,
  type TransferId,
} from '../core/ids.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';
import { ensureContainers } from './hidden-containers.ts';
import { asideOf, DIVERGED_PROPERTY, markKept } from './preservation.ts';
import { childrenOf, leafBelow, moveChildren, outsideOf } from './root-exchange.ts';

/**
 * Puts the root of a mirror back to where it belongs, should it stand beside that and nothing be in its place. Where its successor is there, gives what finishes the exchange, under an id of its own; null
 * where nothing is to be done. What only has such a name, and is no replica, stays as it is, as does all where somebody else's dataset has the root's name. Idempotent, and can be cut short anywhere; both
 * reject as ZFS does.
 */
export async function bringRootHome(
  root: DatasetName,
  zfs: Zfs,
): Promise<((transfer: TransferId) => Promise<void>) | null> {
  // The root of a pool has nothing beside it
  if (poolOf(root) === root) return null;
  const outside = outsideOf(root);
  const listed = await zfs.listOnly([root, outside]);
  const strayed = listed.find(({ name }) => name === outside);
  const there = listed.find(({ name }) => name === root);
  const id = strayed?.properties[ID_PROPERTY];
  const isMarked = strayed?.properties[DIVERGED_PROPERTY] === root;
  if (strayed === undefined || (id === undefined && !isMarked)) return null;
  if (there === undefined) {
    if (id !== undefined) await zfs.rename(outside, root);
    return null;
  }
  const successor = there.properties[ID_PROPERTY];
  if (successor === undefined) return null;
  // Whoever diverged has a successor of its own id, or one that only stands in for it
  const hasDiverged = id === undefined || successor === id || successor === ROOT_STAND_IN;
  return async (transfer) => {
    // What has come anew meanwhile is there twice: the one of before goes along with its parent
    const taken = (await childrenOf(root, zfs)).map((child) => leafBelow(root, child));
    await moveChildren(outside, root, zfs, taken);
    if (hasDiverged) await keepAside(strayed, asideOf(root, root, transfer), root, zfs);
    else await move(strayed, absoluteName(root, nameInBetween(id as DatasetId)), zfs);
  };
}

async function keepAside(strayed: ListedDataset, aside: DatasetName, root: DatasetName, zfs: Zfs): Promise<void> {
  await ensureContainers(zfs, aside);
  // All of it before it is out of sight
  await markKept({ aside: strayed.name, name: root }, zfs);
  await move(strayed, aside, zfs);
}

async function move({ name, properties }: ListedDataset, to: DatasetName, zfs: Zfs): Promise<void> {
  await zfs.rename(name, to);
  // Its successor is mounted there, should it ever be
  if (properties.mountpoint !== undefined) await zfs.inheritProperty([to], 'mountpoint');
}
