/** What the taking end of transfers is given: once, and for each plan. */
import type { Graph } from '../core/graph/graph.ts';
import type { DatasetName, NodeId, TransferId, TreeName } from '../core/ids.ts';
import type { Plan } from '../core/plan/steps.ts';
import type { Timers } from '../sync/timers.ts';
import type { Zfs } from '../zfs/zfs.ts';
import type { RateLimit } from './bandwidth.ts';
import type { Settle } from './completion.ts';
import type { LinkRates } from './compression/link-rates.ts';
import type { DataLinkOptions } from './data-links.ts';
import type { Interrupted } from './interruptions.ts';
import type { TransferJournal } from './journal.ts';
import type { TransferQueue } from './limits.ts';
import type { PeerCalls } from './peer-calls.ts';
import type { ProgressListener } from './progress.ts';
import type { LinkMode } from './protocol.ts';
import type { TransferRecovery } from './recovery.ts';

export interface PullerOptions {
  readonly node: NodeId;
  readonly zfs: Zfs;
  readonly journal: TransferJournal;
  readonly recovery: TransferRecovery;
  readonly calls: PeerCalls;
  readonly links: DataLinkOptions;
  readonly rates: LinkRates;
  readonly queue: TransferQueue;
  readonly timers: Timers;
  /** A fresh id for each transfer. */
  readonly mintTransferId: () => TransferId;
}

/** What is to be pulled, and where to. */
export interface PullRequest {
  readonly peer: NodeId;
  readonly tree: TreeName;
  /** Where this node keeps its copy. */
  readonly root: DatasetName;
  readonly plan: Plan;
  /** What is here now; asked again after renames. */
  readonly local: () => Graph;
  /** Whether the link to the peer is trusted on this side. */
  readonly mode: LinkMode;
  /** How fast its streams may be; null for no limit of its own. */
  readonly limit: RateLimit | null;
  /** Told which datasets changed, once they are verified: whoever keeps the log looks at them. */
  readonly settle: Settle;
  readonly onProgress: ProgressListener;
  readonly signal: AbortSignal;
  /** What the steps of the plan go on with where they were cut short; none in a plan of its own. */
  readonly interrupted?: Interrupted;
}
