/** What a node knows of itself: peers, trees and mirrors, folded from its admin stream (design §4). */
import type { Event, LocalTreeAdded, MirrorAdded, MirrorRules, PeerAdded } from './events.ts';
import type { NodeId, TreeName } from './ids.ts';

export type Peer = Omit<PeerAdded, 'type'>;
export type LocalTree = Omit<LocalTreeAdded, 'type'>;
export type Mirror = Omit<MirrorAdded, 'type'>;

export interface AdminState {
  readonly peers: ReadonlyMap<NodeId, Peer>;
  readonly trees: ReadonlyMap<TreeName, LocalTree>;
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
export function mirrorsOf({ mirrors }: AdminState, tree: TreeName): Mirror[] {
  return Array.from(mirrors.values()).filter((mirror) => mirror.tree === tree);
}

export const EMPTY_ADMIN_STATE: AdminState = { peers: new Map(), trees: new Map(), mirrors: new Map() };

function changed<Key, Value>(map: ReadonlyMap<Key, Value>, key: Key, value: Value | null): ReadonlyMap<Key, Value> {
  const copy = new Map(map);
  if (value === null) copy.delete(key);
  else copy.set(key, value);
  return copy;
}

function rulesOf({ only, except, keep, graceMs }: MirrorRules): MirrorRules {
  return { only, except, keep, graceMs };
}

function applyAdmin(state: AdminState, event: Event): AdminState {
  switch (event.type) {
    case 'peer.added': {
      const { peer, name, address, shares, trustedLink } = event;
      return { ...state, peers: changed(state.peers, peer, { peer, name, address, shares, trustedLink }) };
    }
    case 'peer.removed':
      return { ...state, peers: changed(state.peers, event.peer, null) };
    case 'local-tree.added':
      return { ...state, trees: changed(state.trees, event.tree, { tree: event.tree, root: event.root }) };
    case 'local-tree.removed':
      return { ...state, trees: changed(state.trees, event.tree, null) };
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
      return { ...state, mirrors: changed(state.mirrors, mirrorKey(event), null) };
    default:
      return state;
  }
}

/** The state after `events`, which follow on what `state` stands for. Events of other kinds say nothing about it. */
export function foldAdmin(state: AdminState, events: Iterable<Event>): AdminState {
  let result = state;
  for (const event of events) result = applyAdmin(result, event);
  return result;
}
