/**
 * What changes the dataset graph, with the rules for it: each function checks everything first and then changes, so that a refusal
 * leaves all as it was.
 */
import { type DatasetName, poolOf, type SnapshotName } from '../../core/ids.ts';
import type { SnapshotReference } from '../zfs.ts';
import { bookmarkNamed, bookmarksAround } from './bookmarks.ts';
import {
  clonesOf,
  descendantsOf,
  fullName,
  type MemoryDataset,
  type MemoryPool,
  type MemorySnapshot,
  parentName,
} from './model.ts';
import { type MemoryPools, nextTxg, requireShortName } from './pools.ts';
import { Refusal } from './refusal.ts';

/** Takes snapshots, in one transaction group per pool. */
export function takeSnapshots(pools: MemoryPools, references: readonly SnapshotReference[]): void {
  const wanted = references.map((reference) => ({ ...pools.dataset(reference.dataset), name: reference.snapshot }));
  const taken = new Set<string>();
  for (const { dataset, name } of wanted) {
    const full = `${dataset.name}@${name}`;
    requireShortName(full);
    if (taken.has(full) || hasSnapshot(dataset, name)) throw new Refusal('ZFS_DATASET_EXISTS', `'${full}' exists`);
    taken.add(full);
  }
  const txgs = new Map(Array.from(new Set(wanted.map(({ pool }) => pool)), (pool) => [pool, nextTxg(pool)]));
  for (const { pool, dataset, name } of wanted) {
    const guid = pools.newGuid();
    addSnapshot(dataset, {
      guid,
      ivset: dataset.key === null ? null : guid,
      name,
      createtxg: txgs.get(pool) ?? pool.txg,
      creation: pools.nowSeconds(),
      content: dataset.content,
    });
  }
}

/** Appends a snapshot to its dataset. */
export function addSnapshot(
  dataset: MemoryDataset,
  fields: Pick<MemorySnapshot, 'guid' | 'name' | 'createtxg' | 'creation' | 'content' | 'ivset'>,
): MemorySnapshot {
  const snapshot: MemorySnapshot = { ...fields, dataset, holds: new Set(), streams: 0 };
  dataset.snapshots.push(snapshot);
  dataset.snapshotsChanged += 1;
  return snapshot;
}

/** Clones within one pool. */
export function cloneSnapshot(pools: MemoryPools, reference: SnapshotReference, target: DatasetName): MemoryDataset {
  const { snapshot } = pools.snapshot(reference);
  requireSamePool(reference.dataset, target);
  const pool = pools.poolForNew(target);
  return pools.addDataset(pool, {
    name: target,
    origin: snapshot,
    key: snapshot.dataset.key,
    content: snapshot.content,
  });
}

/** Turns the edge between a clone and its origin round (dsl_dataset_promote in dsl_dataset.c). */
export function promoteClone(pools: MemoryPools, name: DatasetName): void {
  const { pool, dataset: clone } = pools.dataset(name);
  const origin = clone.origin;
  if (origin === null) throw new Refusal('ZFS_NOT_A_CLONE', `'${name}' has no origin`);
  const former = origin.dataset;
  const count = former.snapshots.indexOf(origin) + 1;
  const moved = former.snapshots.slice(0, count);
  const conflicts = moved.filter((snapshot) => hasSnapshot(clone, snapshot.name)).map(({ name: label }) => label);
  if (conflicts.length > 0) {
    throw new Refusal('ZFS_DATASET_EXISTS', `'${name}' has snapshots of the same name: ${conflicts.join(', ')}`, {
      conflicts,
    });
  }
  const { upTo, behind } = bookmarksAround(former, origin.createtxg);
  const twice = upTo.filter((bookmark) => bookmarkNamed(clone, bookmark.name) !== undefined).map((one) => one.name);
  if (twice.length > 0) throw new Refusal('ZFS_DATASET_EXISTS', `'${name}' has bookmarks of the same name`, { twice });
  const busy = moved.filter(({ streams }) => streams > 0);
  if (busy.length > 0) throw new Refusal('ZFS_BUSY', `in use by a stream: ${busy.map(fullName).join(', ')}`);
  nextTxg(pool);
  for (const snapshot of moved) snapshot.dataset = clone;
  clone.snapshots = [...moved, ...clone.snapshots];
  clone.bookmarks = [...upTo, ...clone.bookmarks];
  former.bookmarks = behind;
  former.snapshots = former.snapshots.slice(count);
  clone.origin = former.origin;
  former.origin = origin;
  clone.snapshotsChanged += 1;
  former.snapshotsChanged += 1;
}

/** Renames a dataset and all below it. */
export function renameDataset(pools: MemoryPools, from: DatasetName, to: DatasetName): void {
  const { pool, dataset } = pools.dataset(from);
  if (from === pool.name) throw new Refusal('ZFS_NAME_REFUSED', `'${from}' is a pool`);
  requireSamePool(from, to);
  if (to.startsWith(`${from}/`)) throw new Refusal('ZFS_NAME_REFUSED', `'${to}' lies below '${from}'`);
  pools.poolForNew(to);
  const moved = [dataset, ...descendantsOf(pool, from)];
  const names = moved.map((each) => `${to}${each.name.slice(from.length)}` as DatasetName);
  moved.forEach((each, index) => {
    const longest = Math.max(0, ...[...each.snapshots, ...each.bookmarks].map((one) => one.name.length + 1));
    requireShortName(`${names[index]}${'x'.repeat(longest)}`);
  });
  nextTxg(pool);
  for (const each of moved) pool.datasets.delete(each.name);
  moved.forEach((each, index) => {
    each.name = names[index] ?? each.name;
    pool.datasets.set(each.name, each);
  });
}

export function renameSnapshot(pools: MemoryPools, from: SnapshotReference, to: SnapshotName): void {
  const { pool, dataset, snapshot } = pools.snapshot(from);
  requireShortName(`${dataset.name}@${to}`);
  if (hasSnapshot(dataset, to)) throw new Refusal('ZFS_DATASET_EXISTS', `'${dataset.name}@${to}' exists`);
  nextTxg(pool);
  snapshot.name = to;
  dataset.snapshotsChanged += 1;
}

/** Destroys a dataset with its snapshots. */
export function destroyDataset(pools: MemoryPools, name: DatasetName): void {
  const { pool, dataset } = pools.dataset(name);
  if (parentName(name) === undefined) throw new Refusal('ZFS_UNSUPPORTED', `'${name}' is a pool`);
  const arriving = Array.from(pool.arriving).filter((each) => each.startsWith(`${name}/`));
  const clones = dataset.snapshots.flatMap((snapshot) => clonesOf(pool, snapshot));
  requireNoDependents([...arriving, ...namesOf([...descendantsOf(pool, name), ...clones])]);
  dataset.snapshots.forEach(requireIdle);
  if (dataset.partial !== null && dataset.snapshots.length > 0) requireNoDependents([`${name}/%recv` as DatasetName]);
  if (dataset.receiving) throw new Refusal('ZFS_BUSY', `'${name}' is being received`);
  nextTxg(pool);
  pool.datasets.delete(name);
}

export function destroySnapshot(pools: MemoryPools, reference: SnapshotReference): void {
  const { pool, snapshot } = pools.snapshot(reference);
  requireDestroyable(pool, snapshot);
  removeSnapshots(pool, snapshot.dataset, [snapshot]);
}

/** Takes a dataset back to a snapshot, as `zfs rollback -r` does: newer snapshots and bookmarks go, unless the former have clones or holds. */
export function rollBack(
  pools: MemoryPools,
  reference: SnapshotReference,
  { destroyNewer }: { readonly destroyNewer: boolean },
): void {
  const { pool, dataset, snapshot } = pools.snapshot(reference);
  const newer = dataset.snapshots.slice(dataset.snapshots.indexOf(snapshot) + 1);
  if (newer.length > 0 && !destroyNewer) {
    const dependents = newer.map(fullName);
    throw new Refusal('ZFS_HAS_DEPENDENTS', dependents.join(', '), { dependents });
  }
  for (const each of newer) requireDestroyable(pool, each);
  removeSnapshots(pool, dataset, newer);
  dataset.bookmarks = bookmarksAround(dataset, snapshot.createtxg).upTo;
  dataset.content = snapshot.content;
}

function removeSnapshots(pool: MemoryPool, dataset: MemoryDataset, gone: readonly MemorySnapshot[]): void {
  nextTxg(pool);
  dataset.snapshots = dataset.snapshots.filter((snapshot) => !gone.includes(snapshot));
  dataset.snapshotsChanged += 1;
}

function requireDestroyable(pool: MemoryPool, snapshot: MemorySnapshot): void {
  const { partial, name } = snapshot.dataset;
  const hidden = partial?.base === snapshot ? [`${name}/%recv` as DatasetName] : [];
  requireNoDependents([...hidden, ...namesOf(clonesOf(pool, snapshot))]);
  requireIdle(snapshot);
}

function namesOf(datasets: readonly MemoryDataset[]): DatasetName[] {
  return datasets.map(({ name }) => name);
}

function requireNoDependents(names: readonly DatasetName[]): void {
  if (names.length === 0) return;
  const dependents = Array.from(new Set(names));
  throw new Refusal('ZFS_HAS_DEPENDENTS', dependents.join(', '), { dependents });
}

function requireIdle(snapshot: MemorySnapshot): void {
  if (snapshot.holds.size > 0) {
    throw new Refusal('ZFS_BUSY', `'${fullName(snapshot)}' is held by ${Array.from(snapshot.holds).join(', ')}`);
  }
  if (snapshot.streams > 0) throw new Refusal('ZFS_BUSY', `'${fullName(snapshot)}' is in use by a stream`);
}

function requireSamePool(a: DatasetName, b: DatasetName): void {
  if (poolOf(a) !== poolOf(b)) throw new Refusal('ZFS_NAME_REFUSED', `'${a}' and '${b}' lie in different pools`);
}

export function hasSnapshot(dataset: MemoryDataset, name: SnapshotName): boolean {
  return dataset.snapshots.some((snapshot) => snapshot.name === name);
}
