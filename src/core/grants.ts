/**
 * Who may do what: grants tie a peer and a glob of tree names to a role, and a role allows actions. Whatever is not granted is refused, and a peer that may not
 * read a tree does not even learn that there is one.
 */
import picomatch from 'picomatch';
import { PandoError } from './errors.ts';
import { isPrivateTree, type NodeId, type TreeName } from './ids.ts';

/** From the least to the most: each may what those before it may. */
export const ROLES = ['reader', 'contributor', 'standby', 'operator'] as const;
/**
 * - `reader`: pulls the tree.
 * - `contributor`: also, this node takes datasets that the peer owns into the tree.
 * - `standby`: also, it may take over what others own in the tree, this node's own datasets too.
 * - `operator`: also, it may have this node change the tree.
 */
export type Role = (typeof ROLES)[number];

export const ACTIONS = ['read', 'contribute', 'take', 'operate'] as const;
export type Action = (typeof ACTIONS)[number];

/** The least role that allows an action. */
const ROLE_FOR: Readonly<Record<Action, Role>> = {
  read: 'reader',
  contribute: 'contributor',
  take: 'standby',
  operate: 'operator',
};

/** What a peer may do in the trees that a glob names. */
export interface Grant {
  /** A tree's name, or a glob of names. */
  readonly trees: string;
  readonly role: Role;
}

/** Grants of all peers: roles by globs of tree names. */
export type Grants = ReadonlyMap<NodeId, ReadonlyMap<string, Role>>;

export function allows(role: Role, action: Action): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(ROLE_FOR[action]);
}

/** Matchers by their globs: who may read what is asked for each change of each stream. */
const matchers = new WeakMap<
  ReadonlyMap<string, Role>,
  readonly { role: Role; matches: (name: string) => boolean }[]
>();

function matchersOf(grants: ReadonlyMap<string, Role>) {
  const known = matchers.get(grants);
  if (known !== undefined) return known;
  // Tree names have no slashes; a leading dot is nothing special
  const made = Array.from(grants, ([trees, role]) => ({ role, matches: picomatch(trees, { dot: true }) }));
  matchers.set(grants, made);
  return made;
}

/** What a peer may be in a tree: the highest of the roles that it was granted there; null where it was granted none, and for private streams of a node always. */
export function roleIn(grants: Grants, peer: NodeId, tree: TreeName): Role | null {
  const given = grants.get(peer);
  if (given === undefined || isPrivateTree(tree)) return null;
  const roles = matchersOf(given).flatMap(({ role, matches }) => (matches(tree) ? [ROLES.indexOf(role)] : []));
  return ROLES[Math.max(...roles)] ?? null;
}

export function isAllowed(grants: Grants, peer: NodeId, tree: TreeName, action: Action): boolean {
  const role = roleIn(grants, peer, tree);
  return role !== null && allows(role, action);
}

/** What a peer hears of a tree that it may not read: the same as of one that does not exist, so that it learns nothing. */
export function noTreeFor(tree: TreeName): PandoError {
  return new PandoError('TREE_UNKNOWN', `There is no tree "${tree}" for you here.`, { tree });
}
