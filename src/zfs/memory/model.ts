/**
 * What a pool holds, as plain data. Edges are references, so names are never stale: a snapshot knows its dataset, a clone its origin
 * snapshot, and a promote only moves snapshots from one dataset to another.
 */
import type { BookmarkName, DatasetName, HoldTag, SnapshotGuid, SnapshotName } from '../../core/ids.ts';
import type { StreamBegin } from './stream-format.ts';

/** One version of a file. Its identity is that of a block on disk: shared by clones and snapshots, never changed. */
export interface MemoryFile {
  readonly text: string;
  readonly bytes: number;
}

/** Files by path. Every write makes a new map, so that "the same map" means "not written since". */
export type Content = ReadonlyMap<string, MemoryFile>;

export interface MemorySnapshot {
  readonly guid: SnapshotGuid;
  name: SnapshotName;
  readonly createtxg: number;
  /** Unix time in seconds. */
  readonly creation: number;
  readonly content: Content;
  /** What its encrypted blocks are known by: raw increments build on exactly these. Null where it is not encrypted. */
  readonly ivset: string | null;
  /** Where it lives now; a promote moves it. */
  dataset: MemoryDataset;
  readonly holds: Set<HoldTag>;
  /** Number of running sends of it and receives on top of it (`long holds` in dsl_dataset.c). */
  streams: number;
}

export interface MemoryBookmark extends Pick<MemorySnapshot, 'guid' | 'createtxg' | 'content' | 'ivset'> {
  readonly name: BookmarkName;
}

/** A key, and all that it opens: the dataset that brought it, what was created below, their clones. */
export interface MemoryKey {
  isLoaded: boolean;
}

/** What a receive left that was cut short: all records of one snapshot so far. */
export interface MemoryPartial {
  readonly begin: StreamBegin;
  readonly base: MemorySnapshot | null;
  readonly key: MemoryKey | null;
  readonly content: Map<string, MemoryFile>;
  readonly records: number;
}

export interface MemoryDataset {
  name: DatasetName;
  readonly guid: string;
  readonly createtxg: number;
  origin: MemorySnapshot | null;
  /** Null where it is not encrypted. */
  readonly key: MemoryKey | null;
  readonly properties: Map<string, string>;
  /** Oldest first, by createtxg. */
  snapshots: MemorySnapshot[];
  /** By createtxg, then by name. */
  bookmarks: readonly MemoryBookmark[];
  content: Content;
  /** Whether a receive into it is running; one at a time (dmu_recv.c). */
  receiving: boolean;
  partial: MemoryPartial | null;
  /** Grows whenever its set of snapshots changes, like `snapshots_changed`. */
  snapshotsChanged: number;
}

export interface MemoryPool {
  readonly name: string;
  /** Bytes that fit, or null for no limit. */
  readonly capacityBytes: number | null;
  /** Transaction group of the latest change. */
  txg: number;
  imported: boolean;
  readonly datasets: Map<DatasetName, MemoryDataset>;
  /** Names that a running first receive will create. */
  readonly arriving: Set<DatasetName>;
}

export function newDataset(
  fields: Pick<MemoryDataset, 'name' | 'guid' | 'createtxg' | 'origin' | 'key' | 'content'>,
): MemoryDataset {
  return {
    ...fields,
    properties: new Map(),
    snapshots: [],
    bookmarks: [],
    receiving: false,
    partial: null,
    snapshotsChanged: 0,
  };
}

export function newFile(text: string): MemoryFile {
  return { text, bytes: Buffer.byteLength(text) };
}

/** Name of the dataset one level up, or undefined for a pool. */
export function parentName(name: DatasetName): DatasetName | undefined {
  const slash = name.lastIndexOf('/');
  return slash < 0 ? undefined : (name.slice(0, slash) as DatasetName);
}

/** The datasets below `name`, parents before children. */
export function descendantsOf(pool: MemoryPool, name: DatasetName): MemoryDataset[] {
  return sortedByName(Array.from(pool.datasets.values()).filter((dataset) => dataset.name.startsWith(`${name}/`)));
}

/** Datasets that were cloned from the snapshot. */
export function clonesOf(pool: MemoryPool, snapshot: MemorySnapshot): MemoryDataset[] {
  return sortedByName(Array.from(pool.datasets.values()).filter((dataset) => dataset.origin === snapshot));
}

/** By name, so that a parent stands before its children whatever characters the names hold. */
function sortedByName(datasets: readonly MemoryDataset[]): MemoryDataset[] {
  if (datasets.length < 2) return [...datasets];
  const keyed = datasets.map((dataset) => ({ dataset, sortKey: dataset.name.replaceAll('/', '\0') }));
  return keyed.sort((a, b) => (a.sortKey < b.sortKey ? -1 : 1)).map(({ dataset }) => dataset);
}

/** The snapshot before this one: in its dataset, or the origin of its dataset. */
export function predecessorOf(snapshot: MemorySnapshot): MemorySnapshot | undefined {
  const { snapshots, origin } = snapshot.dataset;
  return snapshots[snapshots.indexOf(snapshot) - 1] ?? origin ?? undefined;
}

export function bytesIn(content: Content): number {
  return sum(content.values());
}

/** Bytes of the files in `content` that `before` does not share. */
export function bytesWritten(content: Content, before: Content | undefined): number {
  if (content === before) return 0;
  let bytes = 0;
  for (const [path, file] of content) if (before?.get(path) !== file) bytes += file.bytes;
  return bytes;
}

/** Bytes that the pool stores: every file once, however many snapshots and clones share it. */
export function usedBytes(pool: MemoryPool): number {
  const files = new Set<MemoryFile>();
  for (const dataset of pool.datasets.values()) {
    for (const { content } of [dataset, ...dataset.snapshots]) {
      for (const file of content.values()) files.add(file);
    }
  }
  return sum(files);
}

function sum(files: Iterable<MemoryFile>): number {
  let bytes = 0;
  for (const file of files) bytes += file.bytes;
  return bytes;
}

/** `dataset@snapshot`, as ZFS writes it. */
export function fullName(snapshot: MemorySnapshot): string {
  return `${snapshot.dataset.name}@${snapshot.name}`;
}

/** A local value, or the nearest ancestor's. */
export function effectiveProperty(pool: MemoryPool, dataset: MemoryDataset, property: string): string | undefined {
  const value = dataset.properties.get(property);
  if (value !== undefined) return value;
  const parent = pool.datasets.get(parentName(dataset.name) ?? dataset.name);
  return parent === undefined || parent === dataset ? undefined : effectiveProperty(pool, parent, property);
}
