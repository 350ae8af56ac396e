import type { NodeId } from '../../../src/core/ids.ts';
import type { Checker, Finding } from './checker.ts';

/** Invariant 2: nowhere does anybody say of a dataset, in one epoch, that it has another owner than elsewhere. */
export const oneOwner: Checker = {
  invariant: 2,
  async check({ machines, machineOf }) {
    const found: Finding[] = [];
    const owners = new Map<string, NodeId>();
    for (const { name, node } of machines) {
      for (const { tree } of node?.trees.list() ?? []) {
        for (const { id, owner } of node?.trees.graph(tree).datasets.values() ?? []) {
          const key = `${tree} ${id} in epoch ${owner.epoch}`;
          const known = owners.get(key) ?? owner.node;
          owners.set(key, known);
          if (known === owner.node) continue;
          const both = [known, owner.node].map((one) => machineOf(one).name).join(' and ');
          found.push({ machine: name, what: `${key} is said to belong to ${both}` });
        }
      }
    }
    return found;
  },
};
