import type { Ownership as OwnerAndEpoch } from '../../core/events.ts';
import type { Action } from '../../core/grants.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { DatasetId, NodeId, TreeName } from '../../core/ids.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import type { Timers } from '../../sync/timers.ts';
import type { Zfs } from '../../zfs/zfs.ts';

/** What taking over and yielding both go by. */
export interface OwnershipParts {
  readonly history: History;
  readonly admin: AdminJournal;
  readonly zfs: Zfs;
  readonly timers: Timers;
  /** This node's copy of a tree. */
  readonly graph: (tree: TreeName) => Graph;
  /** What peers that may take over datasets of a tree claim of each; undefined where none claims it. */
  readonly claims: (tree: TreeName) => (id: DatasetId) => OwnerAndEpoch | undefined;
  /** What this node takes over right now: nothing of it is yielded before that is over. */
  readonly taking: Set<DatasetId>;
  readonly allows: (peer: NodeId, tree: TreeName, action: Action) => boolean;
}
