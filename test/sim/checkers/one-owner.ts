import type { NodeId } from '../../../src/core/ids.ts';
import type { Checker, Finding } from './checker.ts';

/**
 * Invariant 2: of each dataset, and in each epoch, one node at most says that it is the owner, and whoever else keeps it says the same, if its peer
 * still has it to say so.
 */
export const oneOwner: Checker = {
  invariant: 2,
  async check(world) {
    const { machineOf } = world;
    const claims = world.honest.flatMap((machine) =>
      (machine.node?.trees.list() ?? []).flatMap(({ tree }) =>
        Array.from(machine.node?.trees.graph(tree).datasets.values() ?? [], ({ id, name, owner }) => ({
          key: `${tree}: ${name || 'the root'} (${id}) in epoch ${owner.epoch}`,
          dataset: `${tree} ${id} ${owner.epoch}`,
          tree,
          id,
          owner: owner.node,
          by: machine,
        })),
      ),
    );
    const owners = new Map<string, NodeId>();
    const found: Finding[] = [];
    for (const { dataset, key, owner, by } of claims.filter((claim) => claim.owner === claim.by.id)) {
      const other = owners.get(dataset);
      owners.set(dataset, other ?? owner);
      if (other !== undefined) found.push({ machine: by.name, what: `${key} belongs to ${machineOf(other).name} too` });
    }
    for (const { dataset, key, tree, id, owner, by } of claims.filter((claim) => !claim.by.deceived.has(claim.tree))) {
      const real = owners.get(dataset) ?? owner;
      const from = world.mirrorsOf(by).find((mirror) => mirror.tree === tree)?.from;
      const peer = from === undefined ? undefined : machineOf(from).node;
      if (real === owner || peer?.trees.graph(tree).get(id) === undefined) continue;
      const what = `${key} is said to belong to ${machineOf(owner).name}, but belongs to ${machineOf(real).name}`;
      found.push({ machine: by.name, what });
    }
    return found;
  },
};
