import type { Graph } from '../../core/graph/graph.ts';
import type { DatasetId, DatasetName, NodeId, RelativeName, TreeName } from '../../core/ids.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import type { Compressor } from '../../transfer/compression/compressor.ts';
import type { TransferJournal } from '../../transfer/journal.ts';
import type { Zfs } from '../../zfs/zfs.ts';

/** What everything around layers is built on. */
export interface LayerParts {
  readonly history: History;
  readonly admin: AdminJournal;
  readonly journal: TransferJournal;
  readonly zfs: Zfs;
  readonly compressor: Compressor;
  /** Where files are put that are needed for a while; it exists, and is this node's own. */
  readonly scratch: string;
  /** Where this node keeps a tree. Throws `TREE_UNKNOWN`. */
  readonly rootOf: (tree: TreeName) => DatasetName;
  /** The graph of this node's copy of a tree. */
  readonly graph: (tree: TreeName) => Graph;
  /** What peers say of the same tree, by node. */
  readonly others: (tree: TreeName) => ReadonlyMap<NodeId, Graph>;
  /** Whether a transfer is writing into the tree now. */
  readonly isReceiving: (tree: TreeName) => boolean;
  /** Brings a dataset that a peer has here, with what it hangs off, where one that this node mirrors the tree from has it: see `Mirrors.fetch`. */
  readonly fetch: (tree: TreeName, name: RelativeName, signal: AbortSignal) => Promise<unknown>;
  /** Has the observer log what Pando just changed. */
  readonly look: (tree: TreeName, names: readonly RelativeName[]) => Promise<unknown>;
  readonly mintDatasetId: () => DatasetId;
  readonly warn: (message: string, facts?: object) => void;
}
