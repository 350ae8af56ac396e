import type { Mirror } from '../../../src/core/admin.ts';
import { type DatasetName, ID_PROPERTY, isHidden, type RelativeName, relativeTo } from '../../../src/core/ids.ts';
import type { ListedDataset } from '../../../src/zfs/zfs.ts';
import type { Machine } from '../machine.ts';
import type { World } from '../world.ts';
import type { Checker, Finding } from './checker.ts';

/**
 * Invariant 3: what its peer has of a tree, a mirror has as well: the same names, origins, guids and order, as the two ZFS show them. It may have
 * more, since a receiver destroys nothing that it was not told to. What the node itself tells of as a conflict, or as waiting, is between people.
 */
export const convergence: Checker = {
  invariant: 3,
  async check(world) {
    const found: Finding[] = [];
    for (const machine of world.machines) {
      for (const mirror of machine.mirrors.values()) {
        const differences = await differencesOf(world, machine, mirror);
        found.push(...differences.map((what) => ({ machine: machine.name, what: `${mirror.tree}: ${what}` })));
      }
    }
    return found;
  },
};

async function differencesOf(world: World, machine: Machine, mirror: Mirror): Promise<string[]> {
  const { node } = machine;
  if (node === null) return ['its node is not up'];
  const source = world.machineOf(mirror.from);
  const root = source.trees.get(mirror.tree)?.root ?? source.mirrors.get(mirror.tree)?.root;
  if (root === undefined) return ['its peer does not keep the tree'];
  const { conflicts, waiting } = node.mirrors.plan(mirror.tree);
  const excused = new Set<string>([...conflicts, ...waiting].map(({ dataset }) => dataset));
  const theirs = await tree(source, root);
  const ours = await tree(machine, mirror.root);
  return theirs.flatMap((dataset) => {
    const id = idOf(dataset);
    if (excused.has(id)) return [];
    const copy = ours.find((one) => idOf(one) === id);
    const name = relative(root, dataset);
    if (copy === undefined) return [`${name} is missing`];
    return [
      ...(relative(mirror.root, copy) === name ? [] : [`${name} is called ${relative(mirror.root, copy)}`]),
      ...snapshotDifferences(name, dataset, copy),
      ...originDifferences(root, dataset, copy),
    ];
  });
}

/** What people see of a tree; nothing when it is not there. */
async function tree({ zfs }: Machine, root: DatasetName): Promise<ListedDataset[]> {
  const [there] = await zfs.listOnly([root]);
  if (there === undefined) return [];
  return (await zfs.list(root)).filter(({ name }) => !isHidden(relativeTo(root, name) ?? ('' as RelativeName)));
}

function idOf({ name, properties }: ListedDataset): string {
  return properties[ID_PROPERTY] ?? `without an id: ${name}`;
}

function relative(root: DatasetName, { name }: ListedDataset): string {
  return relativeTo(root, name) || 'the root';
}

function snapshotDifferences(name: string, theirs: ListedDataset, ours: ListedDataset): string[] {
  const wanted = theirs.snapshots.map(({ guid, name: snapshot }) => `${guid} ${snapshot}`);
  const guids = new Set(theirs.snapshots.map(({ guid }) => guid));
  const there = ours.snapshots
    .filter(({ guid }) => guids.has(guid))
    .map(({ guid, name: snapshot }) => `${guid} ${snapshot}`);
  return wanted.join() === there.join() ? [] : [`${name} has ${there.join(', ')} instead of ${wanted.join(', ')}`];
}

/** A clone of what lies outside its tree is a copy here. */
function originDifferences(root: DatasetName, theirs: ListedDataset, ours: ListedDataset): string[] {
  const origin = theirs.origin;
  if (origin?.guid === ours.origin?.guid || ours.origin === null) return [];
  const isInside = origin !== null && relativeTo(root, origin.reference.dataset) !== undefined;
  return isInside || origin === null
    ? [`${relative(root, theirs)} hangs off ${ours.origin.guid} instead of ${origin?.guid ?? 'nothing'}`]
    : [];
}
