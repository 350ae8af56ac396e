import { type AdminState, type Mirror, type MirrorPlace, mirrorKey } from './admin.ts';
import { PandoError } from './errors.ts';
import { type DatasetName, relativeTo, type TreeName } from './ids.ts';

/**
 * Throws unless a mirror of that tree can be kept at `root`: as {@link checkRootIsFree}, but that a tree of this name may be here already, shared by this node or
 * mirrored from other peers. Then `TREE_EXISTS` means that it is kept elsewhere, `MIRROR_EXISTS` that this mirror is there.
 */
export function checkMirrorPlace(state: AdminState, mirror: MirrorPlace & Pick<Mirror, 'root'>): void {
  const { tree, from, root } = mirror;
  if (state.mirrors.has(mirrorKey(mirror))) {
    throw new PandoError(
      'MIRROR_EXISTS',
      `"${tree}" is mirrored from ${from} already; remove that mirror first, or change it.`,
      {
        tree,
        from,
      },
    );
  }
  const kept = [...state.trees.values(), ...state.mirrors.values()];
  if (!kept.some((other) => other.tree === tree && other.root === root)) checkRootIsFree(state, tree, root);
}

/**
 * Throws unless a tree of that name and root can be added to what the node keeps: `TREE_EXISTS` when the name is taken, `TREE_OVERLAP` when
 * one root lies in the other, since a dataset belongs to one tree only.
 */
export function checkRootIsFree(state: AdminState, tree: TreeName, root: DatasetName): void {
  const kept = [...state.trees.values(), ...state.mirrors.values()];
  for (const other of kept) {
    if (other.tree === tree) {
      throw new PandoError(
        'TREE_EXISTS',
        `This node keeps a tree "${tree}" already, at ${other.root}; remove it first or choose another name.`,
        { tree, root: other.root },
      );
    }
    if (relativeTo(other.root, root) !== undefined || relativeTo(root, other.root) !== undefined) {
      throw new PandoError(
        'TREE_OVERLAP',
        `"${root}" overlaps with "${other.root}", the root of tree "${other.tree}"; a dataset can belong to one tree only.`,
        { tree, root, other: other.tree, otherRoot: other.root },
      );
    }
  }
}
