/** What a node knows of itself: peers, grants, trees and mirrors, folded from its admin stream (design §4). */
import type { ContributionsLimited, Event, LocalTreeAdded, MirrorAdded, MirrorRules, PeerAdded } from './events.ts';
import type { Grant, Grants } from './grants.ts';
import type { DatasetName, InvitationId, NodeId, TreeName } from './ids.ts';
import type { LayerStoreAdded } from './layer-events.ts';
import type { InvitationMade } from './trust-events.ts';

export type Peer = Omit<PeerAdded, 'type'>;
/** How much a peer may bring into a tree, where that differs from the configuration (null). */
export type ContributionLimits = Omit<ContributionsLimited, 'type' | 'peer'>;
export type LocalTree = Omit<LocalTreeAdded, 'type'>;
export type Mirror = Omit<MirrorAdded, 'type'>;
export type LayerStorePlace = Omit<LayerStoreAdded, 'type'>;

export type Invitation = Omit<InvitationMade, 'type'> & {
  /** Who has joined with it; null as long as nobody has. */
  readonly usedBy: NodeId | null;
};

/** How fast streams may be, in bytes a second each way. */
export interface BandwidthLimits {
  /** Of all streams together; null for no limit. */
  readonly overall: number | null;
  /** Of those with one peer. */
  readonly peers: ReadonlyMap<NodeId, number>;
}

export interface AdminState {
  readonly peers: ReadonlyMap<NodeId, Peer>;
  /** Of peers only. */
  readonly grants: Grants;
  /** Of peers that have changed theirs: from the first to the newest, each as hexadecimal. */
  readonly keys: ReadonlyMap<NodeId, readonly string[]>;
  /** All that were not withdrawn, also those that have expired. */
  readonly invitations: ReadonlyMap<InvitationId, Invitation>;
  readonly bandwidth: BandwidthLimits;
  /** Of peers that people set one for. */
  readonly contributions: ReadonlyMap<NodeId, ContributionLimits>;
  readonly trees: ReadonlyMap<TreeName, LocalTree>;
  /** Where layers are kept, one place in a tree. */
  readonly layerStores: ReadonlyMap<TreeName, LayerStorePlace>;
  /** A tree can be mirrored from several peers, each of which owns a part of it. */
  readonly mirrors: ReadonlyMap<MirrorKey, Mirror>;
}

/** Which mirror it is: of which tree, from which peer. */
export type MirrorPlace = Pick<Mirror, 'tree' | 'from'>;
export type MirrorKey = `${TreeName} ${NodeId}`;

export function mirrorKey({ tree, from }: MirrorPlace): MirrorKey {
  return `${tree} ${from}`;
}

/** The mirrors of one tree, in the order in which they were added. */
export function mirrorsOf({ mirrors }: Pick<AdminState, 'mirrors'>, tree: TreeName): Mirror[] {
  return Array.from(mirrors.values()).filter((mirror) => mirror.tree === tree);
}

/** Where this node keeps each tree, its own and those it mirrors. */
export function rootsOf({ trees, mirrors }: Pick<AdminState, 'trees' | 'mirrors'>): ReadonlyMap<TreeName, DatasetName> {
  return new Map([...mirrors.values(), ...trees.values()].map(({ tree, root }) => [tree, root]));
}

export const EMPTY_ADMIN_STATE: AdminState = {
  peers: new Map(),
  grants: new Map(),
  keys: new Map(),
  invitations: new Map(),
  bandwidth: { overall: null, peers: new Map() },
  contributions: new Map(),
  trees: new Map(),
  layerStores: new Map(),
  mirrors: new Map(),
};

function changed<Key, Value>(map: ReadonlyMap<Key, Value>, key: Key, value: Value | null): ReadonlyMap<Key, Value> {
  const copy = new Map(map);
  if (value === null) copy.delete(key);
  else copy.set(key, value);
  return copy;
}

function rulesOf({ only, except, keep, graceMs }: MirrorRules): MirrorRules {
  return { only, except, keep, graceMs };
}

function withGrant(grants: Grants, peer: NodeId, trees: string, role: Grant['role'] | null): Grants {
  const given = changed(grants.get(peer) ?? new Map(), trees, role);
  return changed(grants, peer, given.size === 0 ? null : given);
}

function withLimit(limits: BandwidthLimits, peer: NodeId | null, bytesPerSecond: number | null): BandwidthLimits {
  if (peer === null) return { ...limits, overall: bytesPerSecond };
  return { ...limits, peers: changed(limits.peers, peer, bytesPerSecond) };
}

/** What is kept in a tree goes with the last that this node has of it. */
function withoutTree(state: AdminState, tree: TreeName): AdminState {
  if (state.trees.has(tree) || mirrorsOf(state, tree).length > 0) return state;
  return { ...state, layerStores: changed(state.layerStores, tree, null) };
}

function applyInvitation(state: AdminState, event: Event): AdminState {
  switch (event.type) {
    case 'invitation.made': {
      const { invitation, secretHash, name, expiresAt, trees, role } = event;
      const made = { invitation, secretHash, name, expiresAt, trees, role, usedBy: null };
      return { ...state, invitations: changed(state.invitations, invitation, made) };
    }
    case 'invitation.used': {
      const made = state.invitations.get(event.invitation);
      if (made === undefined) return state;
      return { ...state, invitations: changed(state.invitations, made.invitation, { ...made, usedBy: event.peer }) };
    }
    case 'invitation.withdrawn':
      return { ...state, invitations: changed(state.invitations, event.invitation, null) };
    default:
      return state;
  }
}

function applyAdmin(state: AdminState, event: Event): AdminState {
  switch (event.type) {
    case 'peer.added': {
      const { peer, name, address, trustedLink } = event;
      return { ...state, peers: changed(state.peers, peer, { peer, name, address, trustedLink }) };
    }
    case 'peer.removed':
      return {
        ...state,
        peers: changed(state.peers, event.peer, null),
        grants: changed(state.grants, event.peer, null),
        keys: changed(state.keys, event.peer, null),
        bandwidth: withLimit(state.bandwidth, event.peer, null),
        contributions: changed(state.contributions, event.peer, null),
      };
    case 'peer.rekeyed':
      return { ...state, keys: changed(state.keys, event.peer, event.keys) };
    case 'grant.given':
      return { ...state, grants: withGrant(state.grants, event.peer, event.trees, event.role) };
    case 'grant.revoked':
      return { ...state, grants: withGrant(state.grants, event.peer, event.trees, null) };
    case 'bandwidth.limited':
      return { ...state, bandwidth: withLimit(state.bandwidth, event.peer, event.bytesPerSecond) };
    case 'contributions.limited': {
      const { peer, filesystems, snapshots } = event;
      const isLimited = filesystems !== null || snapshots !== null;
      const limits = isLimited ? { filesystems, snapshots } : null;
      return { ...state, contributions: changed(state.contributions, peer, limits) };
    }
    case 'local-tree.added':
      return { ...state, trees: changed(state.trees, event.tree, { tree: event.tree, root: event.root }) };
    case 'local-tree.removed':
      return withoutTree({ ...state, trees: changed(state.trees, event.tree, null) }, event.tree);
    case 'layer-store.added': {
      const { tree, base } = event;
      return { ...state, layerStores: changed(state.layerStores, tree, { tree, base }) };
    }
    case 'mirror.added': {
      const { tree, from, root } = event;
      return { ...state, mirrors: changed(state.mirrors, mirrorKey(event), { tree, from, root, ...rulesOf(event) }) };
    }
    case 'mirror.changed': {
      const mirror = state.mirrors.get(mirrorKey(event));
      if (mirror === undefined) return state;
      return { ...state, mirrors: changed(state.mirrors, mirrorKey(event), { ...mirror, ...rulesOf(event) }) };
    }
    case 'mirror.removed':
      return withoutTree({ ...state, mirrors: changed(state.mirrors, mirrorKey(event), null) }, event.tree);
    default:
      return applyInvitation(state, event);
  }
}

/** The state after `events`, which follow on what `state` stands for. Events of other kinds say nothing about it. */
export function foldAdmin(state: AdminState, events: Iterable<Event>): AdminState {
  let result = state;
  for (const event of events) result = applyAdmin(result, event);
  return result;
}
