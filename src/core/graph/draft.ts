/** A graph under construction, and what people do to datasets as changes to it: the one place that knows what a promote or a rename moves. */
import { PandoError } from '../errors.ts';
import type { Bookmark, Hold, Snapshot } from '../events.ts';
import type { BookmarkName, DatasetId, DatasetName, RelativeName, SnapshotGuid } from '../ids.ts';
import type { TaggedImage } from '../layers/image.ts';
import { type Dataset, Graph, type Images } from './graph.ts';

export type MutableDataset = { -readonly [Key in keyof Dataset]: Dataset[Key] } & { snapshots: Snapshot[] };

/** Most datasets have none, and share this. */
export const NO_BOOKMARKS: readonly Bookmark[] = Object.freeze([]);
export const NO_HOLDS: readonly Hold[] = Object.freeze([]);

/**
 * Copies the table of datasets once and each dataset on its first change, so that a batch of changes costs the batch and one table,
 * not one table per change.
 */
export class GraphDraft {
  root: DatasetName | null;
  readonly #datasets: Map<DatasetId, Dataset>;
  #images: Images;
  /** Whether the table of images is this draft's own, and may be changed in place. */
  #ownsImages = false;
  /** Datasets that were added or copied, and may be changed in place. */
  readonly #owned = new Map<DatasetId, MutableDataset>();

  constructor(base: Graph) {
    this.root = base.root;
    this.#datasets = new Map(base.datasets);
    this.#images = base.images;
  }

  get(id: DatasetId): Dataset | undefined {
    return this.#datasets.get(id);
  }

  has(id: DatasetId): boolean {
    return this.#datasets.has(id);
  }

  values(): Iterable<Dataset> {
    return this.#datasets.values();
  }

  add(dataset: MutableDataset): void {
    this.#datasets.set(dataset.id, dataset);
    this.#owned.set(dataset.id, dataset);
  }

  remove(id: DatasetId): void {
    this.#datasets.delete(id);
    this.#owned.delete(id);
  }

  clear(): void {
    this.#datasets.clear();
    this.#images = new Map();
    this.#ownsImages = true;
    this.#owned.clear();
  }

  /** The dataset, ready to be changed. Throws `EVENT_INVALID` when there is none. */
  change(id: DatasetId): MutableDataset {
    const owned = this.#owned.get(id);
    if (owned !== undefined) return owned;
    const dataset = this.#datasets.get(id);
    if (dataset === undefined) throw new PandoError('EVENT_INVALID', `no dataset ${id} was created before`);
    const copy: MutableDataset = { ...dataset, snapshots: dataset.snapshots.slice() };
    this.add(copy);
    return copy;
  }

  /** Gives a dataset another name, and all below it with it, as `zfs rename` does. Who leaves the root goes alone: that is a place, and others lie below it still. */
  rename(id: DatasetId, to: RelativeName): void {
    const renamed = this.change(id);
    const prefix = `${renamed.name}/`;
    const above = to === '' ? '' : `${to}/`;
    for (const dataset of this.#datasets.values()) {
      if (!dataset.name.startsWith(prefix)) continue;
      this.change(dataset.id).name = `${above}${dataset.name.slice(prefix.length)}` as RelativeName;
    }
    renamed.name = to;
  }

  /**
   * What zfs-promote.8 says: the origin snapshot and all before it move to the clone, their bookmarks and the clones of what moved follow, and the
   * origin edge turns round. The clone inherits the origin of its former parent. Throws `EVENT_INVALID` for what is no clone in this tree.
   */
  promote(id: DatasetId): void {
    const clone = this.change(id);
    const origin = clone.origin;
    if (origin === null || origin.dataset === null) {
      throw new PandoError('EVENT_INVALID', `dataset ${id} has no origin in this tree to be promoted over`);
    }
    const parent = this.change(origin.dataset);
    const cut = parent.snapshots.findIndex(({ guid }) => guid === origin.snapshot) + 1;
    if (cut === 0) throw new PandoError('EVENT_INVALID', `origin snapshot ${origin.snapshot} is not in ${parent.id}`);
    const moved = parent.snapshots.splice(0, cut);
    clone.snapshots.unshift(...moved);
    clone.origin = parent.origin;
    parent.origin = { dataset: clone.id, snapshot: origin.snapshot };
    moveBookmarks(parent, clone, moved.at(-1)?.createtxg ?? 0);
    const movedGuids = new Set(moved.map(({ guid }) => guid));
    const isMoved = ({ guid }: Hold) => movedGuids.has(guid);
    clone.holds = sortedHolds([...clone.holds, ...parent.holds.filter(isMoved)]);
    parent.holds = parent.holds.filter((hold) => !isMoved(hold));
    if (parent.received !== null && movedGuids.has(parent.received)) {
      clone.received ??= parent.received;
      parent.received = null;
    }
    for (const dataset of this.#datasets.values()) {
      if (dataset.origin?.dataset !== parent.id || !movedGuids.has(dataset.origin.snapshot)) continue;
      this.change(dataset.id).origin = { dataset: clone.id, snapshot: dataset.origin.snapshot };
    }
  }

  /** Throws `EVENT_INVALID` when the dataset or the snapshot is not there. */
  renameSnapshot(id: DatasetId, guid: SnapshotGuid, name: Snapshot['name']): void {
    const dataset = this.change(id);
    const index = indexOfSnapshot(dataset, guid);
    dataset.snapshots[index] = { ...(dataset.snapshots[index] as Snapshot), name };
  }

  /** Throws `EVENT_INVALID` when the dataset or the snapshot is not there. */
  destroySnapshot(id: DatasetId, guid: SnapshotGuid): void {
    const dataset = this.change(id);
    const index = indexOfSnapshot(dataset, guid);
    dataset.snapshots.splice(index, 1);
    if (dataset.holds.length > 0) dataset.holds = dataset.holds.filter((hold) => hold.guid !== guid);
    if (dataset.received === guid) dataset.received = dataset.snapshots[index - 1]?.guid ?? null;
  }

  /** Takes away all snapshots behind that one, and their bookmarks (zfs-rollback.8). Throws `EVENT_INVALID` when the dataset or the snapshot is not there. */
  rollBack(id: DatasetId, guid: SnapshotGuid): void {
    const dataset = this.change(id);
    const gone = dataset.snapshots.splice(indexOfSnapshot(dataset, guid) + 1);
    const { createtxg } = dataset.snapshots.at(-1) as Snapshot;
    dataset.bookmarks = dataset.bookmarks.filter((bookmark) => bookmark.createtxg <= createtxg);
    dataset.holds = dataset.holds.filter((hold) => !gone.some((snapshot) => snapshot.guid === hold.guid));
    if (gone.some((snapshot) => snapshot.guid === dataset.received)) dataset.received = guid;
  }

  /** Throws `EVENT_INVALID` when there is no such dataset, or it has a bookmark of that name. */
  addBookmark(id: DatasetId, { guid, name, createtxg }: Bookmark): void {
    const dataset = this.change(id);
    if (dataset.bookmarks.some((one) => one.name === name)) {
      throw new PandoError('EVENT_INVALID', `dataset ${id} has a bookmark "${name}" already`);
    }
    // Nearly always of the newest snapshot, so behind all others
    const after = dataset.bookmarks.findLastIndex((one) => isBefore(one, { guid, name, createtxg }));
    dataset.bookmarks = dataset.bookmarks.toSpliced(after + 1, 0, { guid, name, createtxg });
  }

  /** Throws `EVENT_INVALID` when the dataset or the bookmark is not there. */
  destroyBookmark(id: DatasetId, name: BookmarkName): void {
    const dataset = this.change(id);
    const left = dataset.bookmarks.filter((one) => one.name !== name);
    if (left.length === dataset.bookmarks.length) {
      throw new PandoError('EVENT_INVALID', `dataset ${id} has no bookmark "${name}"`);
    }
    dataset.bookmarks = left.length === 0 ? NO_BOOKMARKS : left;
  }

  /** Throws `EVENT_INVALID` when there is no such dataset or snapshot, or it is held under that tag. */
  placeHold(id: DatasetId, { guid, tag }: Hold): void {
    const dataset = this.change(id);
    indexOfSnapshot(dataset, guid);
    const at = placeOf(dataset.holds, { guid, tag });
    const there = dataset.holds[at];
    if (there !== undefined && compareHolds(there, { guid, tag }) === 0) {
      throw new PandoError('EVENT_INVALID', `snapshot ${guid} is held under "${tag}" already`);
    }
    dataset.holds = dataset.holds.toSpliced(at, 0, { guid, tag });
  }

  /** Throws `EVENT_INVALID` when the dataset or the hold is not there. */
  releaseHold(id: DatasetId, { guid, tag }: Hold): void {
    const dataset = this.change(id);
    const at = placeOf(dataset.holds, { guid, tag });
    const there = dataset.holds[at];
    if (there === undefined || compareHolds(there, { guid, tag }) !== 0) {
      throw new PandoError('EVENT_INVALID', `snapshot ${guid} is not held under "${tag}"`);
    }
    dataset.holds = dataset.holds.length === 1 ? NO_HOLDS : dataset.holds.toSpliced(at, 1);
  }

  /** Has a name stand for that image. */
  tag(image: TaggedImage): void {
    this.#changeImages().set(image.name, image);
  }

  /** Throws `EVENT_INVALID` when no image has that name. */
  untag(name: string): void {
    if (!this.#changeImages().delete(name)) throw new PandoError('EVENT_INVALID', `no image is called "${name}"`);
  }

  #changeImages(): Map<TaggedImage['name'], TaggedImage> {
    if (!this.#ownsImages) this.#images = new Map(this.#images);
    this.#ownsImages = true;
    return this.#images as Map<TaggedImage['name'], TaggedImage>;
  }

  finish(): Graph {
    return new Graph(this.root, this.#datasets, this.#images);
  }
}

function compareHolds(a: Hold, b: Hold): number {
  if (a.guid !== b.guid) return a.guid < b.guid ? -1 : 1;
  if (a.tag === b.tag) return 0;
  return a.tag < b.tag ? -1 : 1;
}

/** Where in their order a hold is, or would be: there can be one on each of very many snapshots. */
function placeOf(holds: readonly Hold[], hold: Hold): number {
  let [from, to] = [0, holds.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (compareHolds(holds[middle] as Hold, hold) < 0) from = middle + 1;
    else to = middle;
  }
  return from;
}

function sortedHolds(holds: readonly Hold[]): readonly Hold[] {
  return holds.length < 2 ? holds : holds.toSorted(compareHolds);
}

function moveBookmarks(from: MutableDataset, to: MutableDataset, createtxg: number): void {
  const moved = from.bookmarks.filter((bookmark) => bookmark.createtxg <= createtxg);
  if (moved.length === 0) return;
  from.bookmarks = from.bookmarks.filter((bookmark) => bookmark.createtxg > createtxg);
  // ZFS never has the same name at both ends (`Zfs.promote`); a look at half of a promote can
  const names = new Set(moved.map(({ name }) => name));
  to.bookmarks = inOrder([...to.bookmarks.filter(({ name }) => !names.has(name)), ...moved]);
}

/** Bookmarks in the order in which a graph has them: by `createtxg`, then by name. */
export function inOrder(bookmarks: readonly Bookmark[]): readonly Bookmark[] {
  return bookmarks.toSorted((a, b) => (isBefore(a, b) ? -1 : 1));
}

function isBefore(a: Bookmark, b: Bookmark): boolean {
  return a.createtxg === b.createtxg ? a.name < b.name : a.createtxg < b.createtxg;
}

function indexOfSnapshot(dataset: Dataset, guid: SnapshotGuid): number {
  const index = dataset.snapshots.findLastIndex((snapshot) => snapshot.guid === guid);
  if (index < 0) throw new PandoError('EVENT_INVALID', `dataset ${dataset.id} has no snapshot ${guid}`);
  return index;
}
