/**
 * Who hears of whom through others. A node hands on what its peers say of their copies of a tree, under their signatures (design §4), so that a
 * claim reaches also those who never meet who made it. What a node reads of a tree is its own copy; what others say of theirs is for those who
 * work in it.
 */
import { type AdminState, mirrorKey, mirrorsOf } from './admin.ts';
import { isAllowed } from './grants.ts';
import type { NodeId, TreeName } from './ids.ts';

type Settings = Pick<AdminState, 'peers' | 'grants' | 'trees' | 'mirrors'>;

function isKept(settings: Settings, tree: TreeName): boolean {
  return settings.trees.has(tree) || mirrorsOf(settings, tree).length > 0;
}

/** Whether what a peer says of a tree counts here: the tree is mirrored from it, or it may take over what is kept here. */
export function countsHere(settings: Settings, author: NodeId, tree: TreeName): boolean {
  if (!settings.peers.has(author)) return false;
  if (settings.mirrors.has(mirrorKey({ tree, from: author }))) return true;
  return isAllowed(settings.grants, author, tree, 'take') && isKept(settings, tree);
}

/** Whether this node hands on to `peer` what `author` says of a tree: to who may bring datasets of its own into it. */
export function isHandedOn(settings: Settings, peer: NodeId, author: NodeId, tree: TreeName): boolean {
  return isAllowed(settings.grants, peer, tree, 'contribute') && countsHere(settings, author, tree);
}
