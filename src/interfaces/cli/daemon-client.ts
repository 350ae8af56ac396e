/**
 * What the commands ask of a running node, in this folder's own words: no interface knows another, so main.ts hands in something that
 * fits (`HttpClient`), and the compiler checks that it does. Names and ids go as people type them; the node parses them.
 */
import type { ContributionLimits, Mirror, Peer } from '../../core/admin.ts';
import type { PandoError } from '../../core/errors.ts';
import type { Event } from '../../core/events.ts';
import type { Grant } from '../../core/grants.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { NodeId, StreamId } from '../../core/ids.ts';
import type { Conflict, Plan, Waiting } from '../../core/plan/steps.ts';
import type { DivergedCopy } from '../../features/diverged/diverged.ts';
import type { SyncReport } from '../../features/mirrors/mirror-syncs.ts';
import type { TreeCondition } from '../../features/observe/look-memory.ts';
import type { Taken } from '../../features/ownership/ownership.ts';
import type { Joined, OpenInvitation } from '../../features/peers/invitations.ts';
import type { LimitsStatus } from '../../features/peers/limits.ts';
import type { Notice } from '../../features/peers/notices.ts';
import type { PeerGrant } from '../../features/peers/peer-grants.ts';
import type { KeptTree } from '../../features/trees/trees.ts';
import type { TreeVerification } from '../../features/verify/verifier.ts';
import type { HubLink } from '../../sync/hub.ts';
import type { LinkUse } from '../../transfer/link-uses.ts';
import type { TransferProgress } from '../../transfer/progress.ts';
import type { ZfsCapabilities } from '../../zfs/zfs.ts';
import type { LayersClient } from './layers-client.ts';
import type { SnapshotsClient } from './snapshots-client.ts';

export type PeerStatus = Peer & {
  /** How the newest stream with it went; null before the first. */
  readonly streams: LinkUse | null;
  readonly grants: readonly Grant[];
  /** What it tells of this node. */
  readonly notices: readonly Notice[];
  readonly link: HubLink | null;
};
export type TreeStatus = KeptTree & TreeCondition;
export type MirrorStatus = Mirror & {
  /** Whether a sync is writing into it now. */
  readonly receiving: boolean;
  /** Copies of what diverged that wait for a decision; null where ZFS cannot be asked. */
  readonly diverged: number | null;
  /** What a sync would do by what is known of the peer; null when that cannot be told, and then `error` says why. */
  readonly behind: {
    readonly steps: number;
    readonly bytes: number;
    readonly conflicts: readonly Conflict[];
    readonly waiting: readonly Waiting[];
  } | null;
  readonly error: PandoError | null;
};

export interface DaemonStatus {
  readonly node: NodeId;
  readonly version: string;
  /** Unix ms. */
  readonly startedAt: number;
  readonly dataDirectory: string;
  readonly address: string;
  readonly zfs: { readonly capabilities: ZfsCapabilities | null; readonly error: PandoError | null };
  readonly trees: readonly TreeStatus[];
  readonly peers: readonly PeerStatus[];
  readonly mirrors: readonly MirrorStatus[];
  /** Streams of the log that cannot be used. */
  readonly faults: readonly { readonly stream: StreamId; readonly error: PandoError }[];
}

export interface SyncCall {
  readonly from?: string | undefined;
  readonly refresh: boolean;
  readonly bytesPerSecond?: number | undefined;
  readonly signal: AbortSignal;
  readonly onPlan: (plan: Plan) => void;
  readonly onProgress: (progress: TransferProgress) => void;
}

/** Which node does it: a peer, by its name or id; undefined for the one that is asked. */
interface On {
  readonly on?: string | undefined;
}

/** Every call rejects with `DAEMON_UNREACHABLE` when no node answers; one whose signal is aborted with `CALL_CANCELLED`. */
export interface DaemonClient {
  readonly snapshots: SnapshotsClient;
  readonly layers: LayersClient;

  identity(): Promise<{ readonly node: NodeId; readonly version: string }>;
  /** Gives how many keys the node has had then. */
  rotateKey(): Promise<number>;
  status(): Promise<DaemonStatus>;

  trees(): Promise<readonly KeptTree[]>;
  addTree(tree: { readonly tree: string; readonly root: string }): Promise<void>;
  removeTree(tree: string): Promise<void>;

  peers(): Promise<readonly PeerStatus[]>;
  addPeer(peer: {
    readonly name: string;
    readonly node: string;
    readonly address: string | null;
    readonly grants: Grant[];
    readonly trustedLink: boolean;
  }): Promise<void>;
  /** By name or NodeId. */
  removePeer(peer: string): Promise<void>;

  grants(): Promise<readonly PeerGrant[]>;
  /** `peer` is a name or NodeId, here as below. */
  giveGrant(grant: Grant & { readonly peer: string }): Promise<void>;
  revokeGrant(peer: string, trees: string): Promise<void>;

  limits(): Promise<LimitsStatus>;
  /** A null peer is all streams together, a null rate no limit. */
  setLimit(limit: { readonly peer: string | null; readonly bytesPerSecond: number | null }): Promise<void>;
  /** Null is what the configuration of the node says. */
  setContributionLimits(limits: ContributionLimits & { readonly peer: string }): Promise<void>;

  invitations(): Promise<readonly OpenInvitation[]>;
  /** Gives the line that the other node joins with. */
  invite(
    invitation: Grant & {
      /** Null for where this node is by its configuration. */
      readonly address: string | null;
      readonly lifetimeMs: number;
      readonly name: string | null;
    },
  ): Promise<string>;
  withdrawInvitation(invitation: string): Promise<void>;
  join(request: {
    readonly line: string;
    readonly as: string | null;
    readonly name: string | null;
    readonly address: string | null;
    readonly shares: string[];
  }): Promise<Joined>;

  mirrors(): Promise<readonly Mirror[]>;
  addMirror(mirror: {
    readonly tree: string;
    readonly from: string;
    readonly root: string;
    readonly only: string[];
    readonly except: string[];
    /** See `core/keep.ts`. */
    readonly keep: string;
    /** Null for ever. */
    readonly graceMs: number | null;
  }): Promise<void>;
  /** What is left out stays as it is. */
  changeMirror(
    tree: string,
    from: string | undefined,
    rules: {
      readonly only?: string[];
      readonly except?: string[];
      readonly keep?: string;
      readonly graceMs?: number | null;
    },
  ): Promise<void>;
  removeMirror(tree: string, from?: string): Promise<void>;

  /** `from` names the peer where a tree has several mirrors, here as elsewhere. */
  plan(tree: string, from?: string): Promise<Plan>;
  sync(tree: string, call: SyncCall): Promise<SyncReport>;
  /** `at` is a Unix time in ms; without `node`, this node's copy. */
  graph(tree: string, query: { readonly node: string | undefined; readonly at: number | undefined }): Promise<Graph>;
  /** Without a tree: this node's own settings. With `follow` it ends when the signal is aborted. */
  log(query: {
    readonly tree: string | undefined;
    readonly node: string | undefined;
    readonly from: number | undefined;
    readonly transfers?: boolean;
    readonly follow: boolean;
    readonly signal: AbortSignal;
  }): AsyncIterable<Event>;
  verify(tree: string, signal: AbortSignal): Promise<TreeVerification>;

  snapshot(request: { readonly snapshot: string; readonly recursive: boolean } & On): Promise<void>;
  clone(request: { readonly snapshot: string; readonly name: string } & On): Promise<void>;
  rename(request: { readonly from: string; readonly to: string } & On): Promise<void>;
  promote(request: { readonly dataset: string } & On): Promise<void>;
  own(request: {
    readonly dataset: string;
    readonly recursive: boolean;
    readonly withoutOwner: boolean;
  }): Promise<Taken>;
  rollback(request: { readonly snapshot: string; readonly destroyNewer: boolean } & On): Promise<void>;
  destroy(request: { readonly target: string } & On): Promise<void>;
  diverged(tree: string): Promise<readonly DivergedCopy[]>;
  restoreDiverged(tree: string, copy: string, name: string): Promise<void>;
  dropDiverged(tree: string, copy: string): Promise<void>;
}
