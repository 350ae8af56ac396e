import type { NodeId } from '../../core/ids.ts';
import type { Diverged } from '../../features/diverged/diverged.ts';
import type { Layers } from '../../features/layers/layers.ts';
import type { Mirrors } from '../../features/mirrors/mirrors.ts';
import type { Observer } from '../../features/observe/observer.ts';
import type { Ownership } from '../../features/ownership/ownership.ts';
import type { Invitations } from '../../features/peers/invitations.ts';
import type { Limits } from '../../features/peers/limits.ts';
import type { Notices } from '../../features/peers/notices.ts';
import type { PeerGrants } from '../../features/peers/peer-grants.ts';
import type { Peers } from '../../features/peers/peers.ts';
import type { SnapshotService } from '../../features/snapshots/snapshot-service.ts';
import type { Operators } from '../../features/trees/operators.ts';
import type { Trees } from '../../features/trees/trees.ts';
import type { Verifier } from '../../features/verify/verifier.ts';
import type { History } from '../../log/history.ts';
import type { HubLink } from '../../sync/hub.ts';
import type { LinkUses } from '../../transfer/link-uses.ts';
import type { ZfsCapabilities } from '../../zfs/zfs.ts';

/** How this node presents itself to others. */
export interface NodePresence {
  /** What it calls itself: the name of its host, as far as that can be the name of a peer. */
  readonly name: string;
  /** Where it is to be found as far as is known, as `host:port`. */
  readonly address: string;
  /** The same where people configured it; null where nobody said that it can be dialled at all. */
  readonly publicAddress: string | null;
}

/** What the API needs of a running node. */
export interface DaemonServices {
  readonly node: NodeId;
  /** Version of this software. */
  readonly version: string;
  /** Unix ms. */
  readonly startedAt: number;
  readonly dataDirectory: string;
  /** Gives the node a new key from its next start on; resolves with how many it has had. */
  readonly rotateKey: () => Promise<number>;
  /** Where peers reach this node, as `host:port`. */
  readonly address: string;
  readonly history: History;
  readonly trees: Trees;
  readonly operators: Operators;
  readonly mirrors: Mirrors;
  readonly ownership: Ownership;
  readonly diverged: Diverged;
  readonly peers: Peers;
  readonly grants: PeerGrants;
  readonly invitations: Invitations;
  readonly limits: Limits;
  readonly notices: Notices;
  readonly presence: NodePresence;
  readonly verifier: Verifier;
  /** Null where the node keeps no layers. */
  readonly snapshots: SnapshotService | null;
  readonly observer: Observer;
  readonly layers: Layers;
  /** The ties to all known peers (`Hub.status`). */
  readonly links: () => readonly HubLink[];
  /** How the newest stream with a peer went. */
  readonly linkUses: LinkUses;
  readonly zfsCapabilities: () => Promise<ZfsCapabilities>;
}
