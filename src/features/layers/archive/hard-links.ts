/**
 * Which names of a layer belong together as hard links, and which of them have to be written for that to come out right.
 *
 * A group of names of one inode is left out where the same names are one unchanged inode in the parent. Else all its names are written, the first with the content and the others as links to that: a link to a name that is
 * not in the layer is taken by some readers and refused by others, and a name that stayed behind would belong to another inode.
 */
import type { Found } from './tree-side.ts';

/** A name of the layer that is one of several, there or in the parent. */
export interface LinkedName {
  readonly found: Found;
  /** The inode that the name has in the parent; null where there is none. */
  readonly parentInode: bigint | null;
  readonly isChanged: boolean;
}

/** The names that have to be written besides those that are changed themselves. */
export function alsoChanged(names: readonly LinkedName[]): Found[] {
  const groups = grouped(names, ({ found }) => found.stats.ino);
  const isChanged = (group: readonly LinkedName[]): boolean => {
    const [first] = group;
    return group.some((name) => name.isChanged || name.parentInode !== first?.parentInode);
  };
  const changed = new Set(
    Array.from(groups)
      .filter(([, group]) => isChanged(group))
      .map(([inode]) => inode),
  );
  const unchanged = names.filter(({ found }) => !changed.has(found.stats.ino));
  // What was one inode and is several now: whoever kept it would keep the names together
  for (const [, group] of grouped(unchanged, ({ parentInode }) => parentInode ?? -1n)) {
    const inodes = new Set(group.map(({ found }) => found.stats.ino));
    if (inodes.size > 1) for (const inode of inodes) changed.add(inode);
  }
  return names.filter((name) => !name.isChanged && changed.has(name.found.stats.ino)).map(({ found }) => found);
}

function grouped(names: readonly LinkedName[], by: (name: LinkedName) => bigint): Map<bigint, LinkedName[]> {
  const groups = new Map<bigint, LinkedName[]>();
  for (const name of names) {
    const group = groups.get(by(name));
    if (group === undefined) groups.set(by(name), [name]);
    else group.push(name);
  }
  return groups;
}
