import { PandoError } from '../errors.ts';
import type { Bookmark, DatasetKind, Hold, Origin, Ownership, Properties, Snapshot } from '../events.ts';
import type { DatasetId, DatasetName, RelativeName, SnapshotGuid } from '../ids.ts';
import { imageEntries, type TaggedImage } from '../layers/image.ts';

/** A dataset of a tree as one node has it. */
export interface Dataset {
  readonly id: DatasetId;
  readonly kind: DatasetKind;
  /** The dataset's own ZFS guid: tells a rename from a destroy-and-create in one pool, means nothing elsewhere. */
  readonly guid: string;
  readonly name: RelativeName;
  readonly origin: Origin | null;
  readonly owner: Ownership;
  readonly properties: Properties;
  /** Oldest first, by `createtxg`. */
  readonly snapshots: readonly Snapshot[];
  /** By `createtxg`, and by name where several stand for one snapshot. */
  readonly bookmarks: readonly Bookmark[];
  /** Holds that are not Pando's own, as far as ZFS can list them, in the order of guid and tag. */
  readonly holds: readonly Hold[];
  /** The newest snapshot that a stream brought here, null when none did: those behind it were taken on this node. */
  readonly received: SnapshotGuid | null;
}

export type Images = ReadonlyMap<TaggedImage['name'], TaggedImage>;

const NO_IMAGES: Images = new Map();

/**
 * One node's copy of one tree: datasets by id, never changed in place. Clone edges are the datasets' origins.
 */
export class Graph {
  /** Where the node keeps the tree, or null before `tree.added` and after `tree.removed`. */
  readonly root: DatasetName | null;
  readonly datasets: ReadonlyMap<DatasetId, Dataset>;
  /** Images that this node has given names in the tree, by name. Their layers may be here or not. */
  readonly images: Images;
  #byName: ReadonlyMap<RelativeName, Dataset> | undefined;
  #clonesOf: ReadonlyMap<SnapshotGuid, readonly Dataset[]> | undefined;
  #snapshotCount: number | undefined;
  #entryCount: number | undefined;

  constructor(root: DatasetName | null, datasets: ReadonlyMap<DatasetId, Dataset>, images: Images = NO_IMAGES) {
    this.root = root;
    this.datasets = datasets;
    this.images = images;
  }

  get(id: DatasetId): Dataset | undefined {
    return this.datasets.get(id);
  }

  /** The dataset of that name relative to the root. */
  named(name: RelativeName): Dataset | undefined {
    this.#byName ??= new Map(Array.from(this.datasets.values(), (dataset) => [dataset.name, dataset]));
    return this.#byName.get(name);
  }

  /** Datasets whose origin is that snapshot. */
  clonesOf(snapshot: SnapshotGuid): readonly Dataset[] {
    this.#clonesOf ??= indexClones(this.datasets.values());
    return this.#clonesOf.get(snapshot) ?? [];
  }

  /** Number of snapshots in all datasets. */
  get snapshotCount(): number {
    this.#snapshotCount ??= Array.from(this.datasets.values()).reduce(
      (sum, { snapshots }) => sum + snapshots.length,
      0,
    );
    return this.#snapshotCount;
  }

  /** Number of datasets, with all that they have: snapshots, bookmarks, holds; and what the images weigh. */
  get entryCount(): number {
    this.#entryCount ??= Array.from(this.datasets.values()).reduce(
      (sum, { snapshots, bookmarks, holds }) => sum + 1 + snapshots.length + bookmarks.length + holds.length,
      Array.from(this.images.values(), imageEntries).reduce((sum, entries) => sum + entries, 0),
    );
    return this.#entryCount;
  }

  /** All datasets in the order of their names, parents before children. */
  sorted(): Dataset[] {
    return Array.from(this.datasets.values()).sort((a, b) => compareNames(a.name, b.name));
  }
}

export const EMPTY_GRAPH = new Graph(null, new Map());

function indexClones(datasets: Iterable<Dataset>): Map<SnapshotGuid, Dataset[]> {
  const clones = new Map<SnapshotGuid, Dataset[]>();
  for (const dataset of datasets) {
    if (dataset.origin === null) continue;
    const siblings = clones.get(dataset.origin.snapshot);
    if (siblings === undefined) clones.set(dataset.origin.snapshot, [dataset]);
    else siblings.push(dataset);
  }
  return clones;
}

/** Orders names so that a parent stands right before its children, whatever characters the names hold. */
export function compareNames(a: RelativeName, b: RelativeName): number {
  const left = a.split('/');
  const right = b.split('/');
  const shared = Math.min(left.length, right.length);
  if (a === '' || b === '') return a.length - b.length;
  for (let index = 0; index < shared; index += 1) {
    const one = left[index] as string;
    const other = right[index] as string;
    if (one !== other) return one < other ? -1 : 1;
  }
  return left.length - right.length;
}

/** The snapshot of that guid in the dataset, if it is there. */
export function snapshotOf(dataset: Dataset, guid: SnapshotGuid): Snapshot | undefined {
  return dataset.snapshots.find((snapshot) => snapshot.guid === guid);
}

/** A bookmark of the snapshot of that guid, if the dataset has one. */
export function bookmarkOf(dataset: Dataset, guid: SnapshotGuid): Bookmark | undefined {
  return dataset.bookmarks.find((bookmark) => bookmark.guid === guid);
}

/** The newest snapshot of a dataset. */
export function newestSnapshot(dataset: Dataset): Snapshot | undefined {
  return dataset.snapshots.at(-1);
}

/** The dataset of that name. Throws `DATASET_UNKNOWN`. */
export function requireDataset(graph: Graph, name: RelativeName): Dataset {
  const dataset = graph.named(name);
  if (dataset === undefined) {
    throw new PandoError(
      'DATASET_UNKNOWN',
      `The tree has no dataset "${name === '' ? '(root)' : name}"; "pando graph" lists what it has.`,
      { name },
    );
  }
  return dataset;
}

/** Names of the datasets that a destroy of `dataset` would have to take along: children, and clones of its snapshots. */
export function dependentsOf(graph: Graph, dataset: Dataset): RelativeName[] {
  const prefix = dataset.name === '' ? '' : `${dataset.name}/`;
  const names = new Set<RelativeName>();
  for (const other of graph.datasets.values()) {
    if (other.id !== dataset.id && other.name.startsWith(prefix)) names.add(other.name);
  }
  for (const snapshot of dataset.snapshots) {
    for (const clone of graph.clonesOf(snapshot.guid)) names.add(clone.name);
  }
  return [...names].sort(compareNames);
}
