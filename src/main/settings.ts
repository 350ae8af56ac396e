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
  /** How much one peer may bring into a tree that this node shares itself. */
  readonly contributions: Allowance;
}
