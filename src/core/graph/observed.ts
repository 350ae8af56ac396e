import type { Bookmark, DatasetKind, Hold, Properties, Snapshot } from '../events.ts';
import type { DatasetId, RelativeName, SnapshotGuid } from '../ids.ts';

/** A dataset of a tree as ZFS shows it now, before anything is known about what it was. */
export interface ObservedDataset {
  readonly name: RelativeName;
  readonly kind: DatasetKind;
  /** The dataset's own guid in its pool. */
  readonly guid: string;
  /** The id it carries as a local `pando:id`, or null. */
  readonly id: DatasetId | null;
  /** Bytes reachable from it now. */
  readonly referenced: number;
  /** Bytes written since its newest snapshot, or null where the ZFS cannot tell. */
  readonly written: number | null;
  /** `dataset` is null where the origin lies outside the tree. */
  readonly origin: { readonly dataset: RelativeName | null; readonly snapshot: SnapshotGuid } | null;
  /** Local properties, without those that Pando keeps for itself. */
  readonly properties: Properties;
  /** Oldest first, by createtxg. */
  readonly snapshots: readonly Snapshot[];
  readonly bookmarks: readonly Bookmark[];
  /** Null where nobody could look. */
  readonly holds: readonly Hold[] | null;
}

/** What was looked at: the whole tree, or only the datasets of these names. */
export type ObservationScope = 'tree' | ReadonlySet<RelativeName>;
