import type { AdminState } from '../../core/admin.ts';
import { type DatasetName, isPrivateTree, parseStreamId, type TreeName } from '../../core/ids.ts';
import type { History } from '../../log/history.ts';

/**
 * Brings what this node tells of its trees in line with its settings, at the start and before anybody hears of it. A crash between the two writes of an
 * `add` or a `remove` leaves a tree that is kept but was never begun, or one that is still told of though it is kept no longer. A stream of its own that
 * is damaged begins anew: the disk is the truth, and the next look tells all of it (design §4).
 */
export async function mendTreeStreams(history: History, { trees, mirrors }: AdminState): Promise<void> {
  for (const { stream } of history.faults()) {
    const { node, tree } = parseStreamId(stream);
    if (node === history.node && !isPrivateTree(tree)) await history.startIncarnation(tree);
  }
  const kept = new Map<TreeName, DatasetName>(
    [...trees.values(), ...mirrors.values()].map(({ tree, root }) => [tree, root]),
  );
  for (const [tree, root] of kept) {
    if (!isTold(history, tree)) await history.record(tree, 'command', [{ type: 'tree.added', root }]);
  }
  for (const { stream } of history.streams()) {
    const { node, tree } = parseStreamId(stream);
    if (node !== history.node || isPrivateTree(tree) || kept.has(tree) || !isTold(history, tree)) continue;
    await history.record(tree, 'command', [{ type: 'tree.removed' }]);
  }
}

/** Whether peers would hear of the tree. */
function isTold(history: History, tree: TreeName): boolean {
  const stream = history.ownStream(tree);
  return history.head(stream) !== null && history.graph(stream).root !== null;
}
