import type { Graph } from '../../../src/core/graph/graph.ts';
import { type DatasetName, isHidden, type RelativeName, relativeTo, type SnapshotGuid } from '../../../src/core/ids.ts';
import type { Machine } from '../machine.ts';
import type { Checker, Finding } from './checker.ts';

/**
 * Invariant 4: what the log of a tree folds to is what ZFS shows: names, guids of snapshots in their order, origins. What a peer in wrong hands began to send waits for
 * it to go on.
 */
export const logIsTruth: Checker = {
  invariant: 4,
  async check(world) {
    const found: Finding[] = [];
    for (const machine of world.honest) {
      const { node } = machine;
      for (const [tree, root] of machine.roots) {
        const isAwaited = world.isFromHostile(machine, tree);
        const shown = await shownBy(machine, root, isAwaited);
        const folded = node === null ? ['nothing: the node is not up'] : foldedTo(node.trees.graph(tree));
        for (const what of shown.filter((line) => !folded.includes(line))) {
          found.push({ machine: machine.name, what: `the log of ${tree} lacks ${what}` });
        }
        for (const what of folded.filter((line) => !shown.includes(line))) {
          found.push({ machine: machine.name, what: `the log of ${tree} has ${what}, which ZFS does not show` });
        }
      }
    }
    return found;
  },
};

async function shownBy({ zfs }: Machine, root: DatasetName, isAwaited: boolean): Promise<string[]> {
  const [there] = await zfs.listOnly([root]);
  const listed = there === undefined ? [] : await zfs.list(root);
  return listed.flatMap(({ name, origin, snapshots, resumeToken }) => {
    const relative = relativeTo(root, name) ?? ('' as RelativeName);
    const isBegun = isAwaited && resumeToken !== null && snapshots.length === 0;
    return isBegun || isHidden(relative) ? [] : [inWords(relative, origin?.guid ?? null, snapshots)];
  });
}

function foldedTo(graph: Graph): string[] {
  return Array.from(graph.datasets.values(), ({ name, origin, snapshots }) =>
    inWords(name, origin?.snapshot ?? null, snapshots),
  );
}

function inWords(
  name: RelativeName,
  origin: SnapshotGuid | null,
  snapshots: readonly { readonly guid: SnapshotGuid; readonly name: string }[],
): string {
  const all = snapshots.map((snapshot) => `${snapshot.name} ${snapshot.guid}`).join(', ');
  return `"${name}" from ${origin ?? 'nothing'} with ${all || 'no snapshot'}`;
}
