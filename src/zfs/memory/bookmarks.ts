/** Bookmarks: what is left of a snapshot, so that a stream can begin behind it. */
import type { BookmarkName } from '../../core/ids.ts';
import type { BookmarkReference, SnapshotReference } from '../zfs.ts';
import type { MemoryBookmark, MemoryDataset } from './model.ts';
import { type MemoryPools, nextTxg, requireShortName } from './pools.ts';
import { Refusal } from './refusal.ts';

export function bookmarkSnapshot(pools: MemoryPools, reference: SnapshotReference, name: BookmarkName): void {
  const { pool, dataset, snapshot } = pools.snapshot(reference);
  const full = `${dataset.name}#${name}`;
  requireShortName(full);
  if (bookmarkNamed(dataset, name) !== undefined) throw new Refusal('ZFS_DATASET_EXISTS', `'${full}' exists`);
  nextTxg(pool);
  const { guid, createtxg, content, ivset } = snapshot;
  dataset.bookmarks = [...dataset.bookmarks, { name, guid, createtxg, content, ivset }].sort(
    (a, b) => a.createtxg - b.createtxg || (a.name < b.name ? -1 : 1),
  );
}

export function destroyBookmark(pools: MemoryPools, reference: BookmarkReference): void {
  const { pool, dataset } = pools.dataset(reference.dataset);
  const bookmark = bookmarkNamed(dataset, reference.bookmark);
  if (bookmark === undefined) {
    throw new Refusal('ZFS_NOT_FOUND', `bookmark '${dataset.name}#${reference.bookmark}' does not exist`);
  }
  nextTxg(pool);
  dataset.bookmarks = dataset.bookmarks.filter((each) => each !== bookmark);
}

export function bookmarkNamed(dataset: MemoryDataset, name: BookmarkName): MemoryBookmark | undefined {
  return dataset.bookmarks.find((bookmark) => bookmark.name === name);
}

/** Those of the snapshots up to a transaction group, and the others. */
export function bookmarksAround(
  { bookmarks }: MemoryDataset,
  createtxg: number,
): { readonly upTo: MemoryBookmark[]; readonly behind: MemoryBookmark[] } {
  return {
    upTo: bookmarks.filter((bookmark) => bookmark.createtxg <= createtxg),
    behind: bookmarks.filter((bookmark) => bookmark.createtxg > createtxg),
  };
}
