import type { TreeName } from '../core/ids.ts';
import type { Allowance } from '../core/plan/steps.ts';
import type { TransferLimits } from '../transfer/limits.ts';

/** What a node is told by its configuration, with the defaults filled in. */
export interface NodeSettings {
  /** Version of this software, for people and peers. */
  readonly version: string;
  /** Host of the listening address; direct data connections are taken on it too. */
  readonly listenHost: string;
  /** TCP port for data connections outside TLS, 0 for any free one, null for none. */
  readonly directPort: number | null;
  readonly observeEveryMs: number;
  /** Whether mirrors are brought up to date by themselves. */
  readonly follow: boolean;
  readonly transfers: TransferLimits;
  /** A directory of this node's own for files that are needed for a while; it exists. */
  readonly scratchDirectory: string;
  /** The tree in whose layer store containerd's snapshots are kept; null for the only one that there is. */
  readonly snapshotterTree: TreeName | null;
  /** How much one peer may bring into a tree that this node shares itself. */
  readonly contributions: Allowance;
}
