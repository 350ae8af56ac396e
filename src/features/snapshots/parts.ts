import type { DatasetName, RelativeName, TreeName } from '../../core/ids.ts';
import type { ChainId } from '../../core/layers/digest.ts';
import type { Zfs } from '../../zfs/zfs.ts';
import type { SnapshotJournal } from './snapshot-journal.ts';

/** The layer store in which snapshots are kept, as far as they need it. */
export interface SnapshotStore {
  readonly tree: TreeName;
  readonly base: RelativeName;
  /** Root of the tree on this node. */
  readonly root: DatasetName;
}

export interface SnapshotParts {
  readonly zfs: Zfs;
  readonly journal: SnapshotJournal;
  /** Throws `LAYER_STORE_UNKNOWN` as long as the node has none. */
  readonly store: () => SnapshotStore;
  /** Whether a layer is here, whole. */
  readonly hasLayer: (layer: ChainId) => boolean;
  /** Brings a layer here that a peer has; false where nobody has it. */
  readonly fetchLayer: (layer: ChainId) => Promise<boolean>;
  /** Does something while a layer is no garbage. */
  readonly keeping: <T>(layer: ChainId, task: () => Promise<T>) => Promise<T>;
  /** The layer below another that is here; null for the empty base, undefined where it lies over something else. */
  readonly layerBelow: (layer: ChainId) => ChainId | null | undefined;
  /** Has the observer log, soon, what was changed. */
  readonly lookSoon: (names: readonly RelativeName[]) => void;
  /** Destroys layers that nothing needs any more. */
  readonly collectGarbage: () => Promise<unknown>;
  /** An id for a dataset, and another for its name, each a UUIDv7. */
  readonly mintUuid: () => string;
  /** Unix time in nanoseconds. */
  readonly now: () => bigint;
  readonly warn: (message: string, facts?: object) => void;
}
