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

/** How many names of trees are remembered for each peer: a peer can ask for any. */
const NAMES_MAX = 1_000;

/** What globs come to: who may read what is asked for each change of each stream. */
interface Matching {
  readonly matchers: readonly { readonly role: Role; readonly matches: (name: string) => boolean }[];
  readonly roles: Map<TreeName, Role | null>;
}

const matchings = new WeakMap<ReadonlyMap<string, Role>, Matching>();

function matchingOf(given: ReadonlyMap<string, Role>): Matching {
  const known = matchings.get(given);
  if (known !== undefined) return known;
  // Tree names have no slashes; a leading dot is nothing special
  const matchers = Array.from(given, ([trees, role]) => ({ role, matches: picomatch(trees, { dot: true }) }));
  const made: Matching = { matchers, roles: new Map() };
  matchings.set(given, made);
  return made;
}

/** What a peer may be in a tree: the highest of the roles that it was granted there; null where it was granted none, and for private streams of a node always. */
export function roleIn(grants: Grants, peer: NodeId, tree: TreeName): Role | null {
  const given = grants.get(peer);
  if (given === undefined || isPrivateTree(tree)) return null;
  const { matchers, roles } = matchingOf(given);
  const known = roles.get(tree);
  if (known !== undefined) return known;
  const matching = matchers.flatMap(({ role, matches }) => (matches(tree) ? [ROLES.indexOf(role)] : []));
  const role = ROLES[Math.max(...matching)] ?? null;
  if (roles.size >= NAMES_MAX) roles.clear();
  roles.set(tree, role);
  return role;
}

export function isAllowed(grants: Grants, peer: NodeId, tree: TreeName, action: Action): boolean {
  const role = roleIn(grants, peer, tree);
  return role !== null && allows(role, action);
}

/** What a peer hears of a tree that it may not read: the same as of one that does not exist, so that it learns nothing. */
export function noTreeFor(tree: TreeName): PandoError {
  return new PandoError('TREE_UNKNOWN', `There is no tree "${tree}" for you here.`, { tree });
}
