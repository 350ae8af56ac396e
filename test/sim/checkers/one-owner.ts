import type { Ownership } from '../../../src/core/events.ts';
import { absoluteName, type DatasetId, isLineage, type NodeId, type TreeName } from '../../../src/core/ids.ts';
import { FIRST_EPOCH } from '../../../src/core/ownership.ts';
import { isWritable } from '../../suites/writable.ts';
import type { Machine } from '../machine.ts';
import type { World } from '../world.ts';
import type { Checker, Finding } from './checker.ts';

/** What one machine's node says of a dataset. */
interface Claim {
  readonly by: Machine;
  readonly tree: TreeName;
  readonly id: DatasetId;
  readonly owner: Ownership;
  /** The dataset, for people. */
  readonly what: string;
}

/**
 * Invariant 2: of each dataset, and in each epoch, one node at most says that it is the owner, and whoever else keeps it says the same, if its peer
 * still has it to say so. In a tree that all of its nodes mirror from all others one node says it at all, and only that node's copy can be written to. Lineage holders belong to nobody, so that it
 * does not matter what is said of them, and nobody can write to any.
 */
export const oneOwner: Checker = {
  invariant: 2,
  async check(world) {
    const claims = world.honest.flatMap(claimsOf);
    const owners = new Map<string, NodeId>();
    const found: Finding[] = [];
    for (const { what, id, tree, owner, by } of claims.filter(isOwn)) {
      const key = `${tree} ${id} ${owner.epoch}`;
      const other = owners.get(key);
      owners.set(key, other ?? owner.node);
      if (other !== undefined)
        found.push({ machine: by.name, what: `${what} belongs to ${world.machineOf(other).name} too` });
    }
    found.push(...claims.flatMap((claim) => saidOtherwise(world, claim, owners)));
    found.push(...severalOwners(claims));
    for (const machine of world.honest) found.push(...(await writtenByOthers(machine)));
    return found;
  },
};

function claimsOf(by: Machine): Claim[] {
  return (by.node?.trees.list() ?? []).flatMap(({ tree }) =>
    Array.from(by.node?.trees.graph(tree).datasets.values() ?? [])
      .filter(({ name }) => !isLineage(name))
      .map(({ id, name, owner }) => {
        return { by, tree, id, owner, what: `${tree}: ${name || 'the root'} (${id}) in epoch ${owner.epoch}` };
      }),
  );
}

function isOwn({ owner, by }: Claim): boolean {
  return owner.node === by.id;
}

function saidOtherwise(world: World, claim: Claim, owners: ReadonlyMap<string, NodeId>): Finding[] {
  const { by, tree, id, owner, what } = claim;
  const real = owners.get(`${tree} ${id} ${owner.epoch}`) ?? owner.node;
  // What is new may go to who claims it first
  const isBelieved = owner.node === world.hostile?.id && owner.epoch === FIRST_EPOCH && by.shared.has(tree);
  if (by.deceived.has(tree) || isBelieved || real === owner.node) return [];
  const told = world.mirrorsOf(by).filter((mirror) => mirror.tree === tree);
  const isTold = told.some(({ from }) => world.machineOf(from).node?.trees.graph(tree).get(id) !== undefined);
  if (!isTold) return [];
  const [said, is] = [owner.node, real].map((node) => world.machineOf(node).name);
  return [{ machine: by.name, what: `${what} is said to belong to ${said}, but belongs to ${is}` }];
}

/** In trees where every node hears every other. */
function severalOwners(claims: readonly Claim[]): Finding[] {
  const owners = new Map<string, Claim>();
  return claims
    .filter((claim) => isOwn(claim) && claim.by.shared.has(claim.tree))
    .flatMap((claim) => {
      const key = `${claim.tree} ${claim.id}`;
      const other = owners.get(key);
      owners.set(key, other ?? claim);
      if (other === undefined) return [];
      return [
        {
          machine: claim.by.name,
          what: `${claim.what} belongs to ${other.by.name} too, in epoch ${other.owner.epoch}`,
        },
      ];
    });
}

async function writtenByOthers(machine: Machine): Promise<Finding[]> {
  if (machine.hasForgotten) return [];
  const found: Finding[] = [];
  for (const tree of machine.shared) {
    const root = machine.roots.get(tree);
    const [there] = root === undefined ? [] : await machine.zfs.listOnly([root]);
    if (root === undefined || there === undefined) continue;
    const listed = await machine.zfs.list(root);
    const writable = new Set(listed.filter((one) => isWritable(one, listed)).map(({ name }) => name));
    for (const { name, owner } of machine.node?.trees.graph(tree).datasets.values() ?? []) {
      const here = absoluteName(root, name);
      if ((owner.node === machine.id && !isLineage(name)) || !writable.has(here)) continue;
      found.push({ machine: machine.name, what: `${here} can be written to, though this node does not own it` });
    }
  }
  return found;
}
