/** What people do while all goes on: to what they own, with plain `zfs` or through the node, and to replicas, where they should not. */
import { isPandoError, PandoError } from '../../src/core/errors.ts';
import {
  type DatasetName,
  isHidden,
  type RelativeName,
  relativeTo,
  type SnapshotName,
  type TreeName,
} from '../../src/core/ids.ts';
import type { Trees } from '../../src/features/trees/trees.ts';
import type { ListedDataset } from '../../src/zfs/zfs.ts';
import type { Action } from '../core/forest.ts';
import { Gardener } from '../suites/gardener.ts';
import { isWritable } from '../suites/writable.ts';
import type { Machine } from './machine.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

type Kind = Action['kind'];

const GROWING: readonly Kind[] = ['create', 'snapshot', 'snapshot', 'snapshot', 'clone', 'clone'];
const MOVING: readonly Kind[] = [
  'promote',
  'promote',
  'rename',
  'rename-snapshot',
  'swap',
  'move',
  'rollback',
  'bookmark',
  'hold',
];
const SHRINKING: readonly Kind[] = ['destroy-snapshot', 'destroy', 'destroy-bookmark', 'release', 'release'];
const DESTRUCTIVE: ReadonlySet<Kind> = new Set<Kind>(['destroy-snapshot', 'destroy', 'rollback']);

/** Datasets and snapshots of a tree from which on people clear up rather than add to it. */
const DATASETS_MANY = 12;
const SNAPSHOTS_MANY = 40;
/** How often people use plain `zfs`, behind the node's back. */
const BY_HAND = 0.6;
/** How often people who work in one tree take over what another of them owns, how often with all below, and how often without asking. */
const TAKING = 0.15;
const TAKING_ALL = 0.3;
const TAKING_UNASKED = 0.2;
/** How often a name is one of a few, which others who work in the tree may just choose too. */
const COMMON_NAMES = 0.3;
const COMMON_NAMES_COUNT = 4;
/** Numbers that pick what something is done to. */
const PICKS = 1_000;

/** What a node is told to do something to, and how what is new is called. */
interface Told {
  readonly trees: Trees;
  readonly tree: TreeName;
  readonly name: RelativeName;
  readonly snapshot: SnapshotName;
  readonly fresh: string;
  readonly recursive: boolean;
}

const COMMANDS: { readonly [Each in Kind]?: (told: Told) => Promise<void> } = {
  snapshot: ({ trees, tree, name, fresh, recursive }) =>
    trees.snapshot({ tree, name, snapshot: fresh as SnapshotName }, { recursive }),
  clone: ({ trees, tree, name, snapshot, fresh }) =>
    trees.clone({ tree, name, snapshot }, (name === '' ? fresh : `${name}/${fresh}`) as RelativeName),
  promote: ({ trees, tree, name }) => trees.promote({ tree, name }),
  rename: ({ trees, tree, name, fresh }) => trees.rename({ tree, name }, fresh as RelativeName),
  'rename-snapshot': ({ trees, tree, name, snapshot, fresh }) =>
    trees.renameSnapshot({ tree, name, snapshot }, fresh as SnapshotName),
  rollback: ({ trees, tree, name, snapshot }) => trees.rollback({ tree, name, snapshot }, { destroyNewer: true }),
  destroy: ({ trees, tree, name }) => trees.destroy({ tree, name }),
  'destroy-snapshot': ({ trees, tree, name, snapshot }) => trees.destroySnapshot({ tree, name, snapshot }),
};

export class People {
  readonly #world: World;
  readonly #random: Random;
  #acts = 0;

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
  }

  /** Somebody does something to a tree of their own. */
  async work(): Promise<void> {
    const owners = this.#world.machines.filter(({ trees, shared }) => trees.size > 0 || shared.size > 0);
    const machine = this.#random.pick(owners);
    const tree = this.#random.pick([...new Set([...machine.trees.keys(), ...machine.shared])]);
    const mayTake = machine.shared.has(tree) && machine.peersMay === 'standby';
    if (mayTake && this.#random.chance(TAKING)) await this.#take(machine, tree);
    else if (this.#random.chance(BY_HAND)) await this.#gardenByHand(machine, tree);
    else await this.#command(machine, tree);
  }

  /** Somebody does something to a replica, or beside one. */
  async meddle(): Promise<void> {
    const machine = this.#random.pick(this.#world.machines);
    const mirrors = [...machine.mirrors.values()];
    if (mirrors.length === 0) return;
    const { tree, root } = this.#random.pick(mirrors);
    const datasets = await visibleBelow(machine, root);
    if (datasets.length === 0) return;
    this.#note(machine, 'meddle');
    await patiently(async () => {
      const mounted = datasets.filter(canBeMounted);
      if (mounted.length > 0 && this.#random.chance(0.5)) await this.#write(machine, this.#random.pick(mounted).name);
      if (this.#random.chance(0.5)) await this.#gardenByHand(machine, tree, datasets);
    });
  }

  /** Writes to a replica, which then is no replica any more of what its owner has. */
  async #write(machine: Machine, name: DatasetName): Promise<void> {
    await machine.zfs.setProperties([name], { readonly: 'off' });
    machine.zfs.write(name, 'meddled', `by act ${this.#nextAct()}`);
    if (this.#random.chance(0.5)) {
      await machine.zfs.snapshot([{ dataset: name, snapshot: `mine-${this.#acts}` as SnapshotName }]);
    }
    await machine.zfs.setProperties([name], { readonly: 'on' });
  }

  /** What this node owns of a tree, or whatever is handed in, with plain `zfs`. */
  async #gardenByHand(machine: Machine, tree: TreeName, among?: readonly ListedDataset[]): Promise<void> {
    const root = machine.roots.get(tree) as DatasetName;
    const datasets = among ?? (await ownBelow(machine, tree));
    const action = this.#action(machine, datasets);
    const { kind } = action;
    const writable = new Set(datasets.filter(canBeMounted).map(({ name }) => name));
    const write = async (dataset: DatasetName, path: string, text: string): Promise<void> => {
      if (!writable.has(dataset)) throw new PandoError('ZFS_PERMISSION', `${dataset} is not mounted.`);
      machine.zfs.write(dataset, path, `${text} ${this.#nextAct()}`);
    };
    const choose = among === undefined ? () => ownBelow(machine, tree) : () => visibleBelow(machine, root);
    const act = () => new Gardener({ zfs: machine.zfs, root, choose, write }).live([action]);
    if (DESTRUCTIVE.has(kind)) await machine.guids.allow(act);
    else await act();
  }

  /** The same through the node, which refuses some of it. */
  async #command(machine: Machine, tree: TreeName): Promise<void> {
    const { node } = machine;
    const root = machine.roots.get(tree) as DatasetName;
    const datasets = await visibleBelow(machine, root);
    const { kind, pick, second } = this.#action(machine, datasets);
    const dataset = datasets[pick % Math.max(1, datasets.length)];
    if (node === null || dataset === undefined) return;
    const told: Told = {
      trees: node.trees,
      tree,
      name: relativeTo(root, dataset.name) ?? ('' as RelativeName),
      snapshot: dataset.snapshots[second % Math.max(1, dataset.snapshots.length)]?.name ?? ('none' as SnapshotName),
      fresh: this.#random.chance(COMMON_NAMES) ? `c${second % COMMON_NAMES_COUNT}` : `c${this.#nextAct()}`,
      recursive: this.#random.chance(0.2),
    };
    // Whoever asks a node waits for it, while the others go on
    void this.#told(machine, dataset.name, kind, told);
  }

  async #told({ guids }: Machine, dataset: DatasetName, kind: Kind, told: Told): Promise<void> {
    if (DESTRUCTIVE.has(kind)) guids.command(dataset);
    await patiently(async () => COMMANDS[kind]?.(told));
    if (DESTRUCTIVE.has(kind)) guids.withdraw(dataset);
  }

  /** Has a node take over what another owns. */
  async #take(machine: Machine, tree: TreeName): Promise<void> {
    const { node } = machine;
    const root = machine.roots.get(tree) as DatasetName;
    const datasets = await visibleBelow(machine, root);
    if (node === null || datasets.length === 0) return;
    const { name } = this.#random.pick(datasets);
    const recursive = this.#random.chance(TAKING_ALL);
    const withoutOwner = this.#random.chance(TAKING_UNASKED);
    this.#note(machine, withoutOwner ? 'take without asking' : 'take');
    const taken = relativeTo(root, name) ?? ('' as RelativeName);
    void patiently(async () => {
      await node.ownership.take({ tree, name: taken, recursive, withoutOwner });
    });
  }

  #action(machine: Machine, datasets: readonly ListedDataset[]): Action {
    const kind = this.#kind(datasets);
    this.#note(machine, kind);
    return { kind, pick: this.#random.below(PICKS), second: this.#random.below(PICKS) };
  }

  #kind(datasets: readonly ListedDataset[]): Kind {
    const snapshots = datasets.reduce((sum, one) => sum + one.snapshots.length, 0);
    if (datasets.length > DATASETS_MANY || snapshots > SNAPSHOTS_MANY) {
      return this.#random.pick(this.#random.chance(0.5) ? SHRINKING : MOVING);
    }
    return this.#random.pick(this.#random.chance(0.6) ? GROWING : [...MOVING, ...SHRINKING]);
  }

  #nextAct(): number {
    this.#acts += 1;
    return this.#acts;
  }

  #note(machine: Machine, what: string): void {
    this.#world.trace.note(this.#world.scheduler.now(), machine.name, `people: ${what}`);
  }
}

/** Does what may be refused, as people do it. */
async function patiently(act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!isPandoError(error)) throw error;
  }
}

/** Nobody writes to what is never mounted, as stand-ins for datasets without snapshots are not. */
function canBeMounted({ properties }: ListedDataset): boolean {
  return properties.canmount !== 'off';
}

/**
 * What this node owns of a tree, as people see who owns it: what can be written to here. What hangs off a replica is no clone to them, so that
 * they do not promote it: its origin is another node's.
 */
async function ownBelow(machine: Machine, tree: TreeName): Promise<ListedDataset[]> {
  const root = machine.roots.get(tree) as DatasetName;
  const datasets = await visibleBelow(machine, root);
  if (!machine.shared.has(tree)) return datasets;
  const own = datasets.filter((dataset) => isWritable(dataset, datasets));
  const names = new Set(own.map(({ name }) => name));
  return own.map((one) =>
    one.origin !== null && names.has(one.origin.reference.dataset) ? one : { ...one, origin: null },
  );
}

/** What people see at and below a root; nothing when it is not there. */
async function visibleBelow({ zfs }: Machine, root: DatasetName): Promise<ListedDataset[]> {
  try {
    return (await zfs.list(root)).filter(({ name }) => !isHidden(relativeTo(root, name) ?? ('' as RelativeName)));
  } catch (error) {
    if (isPandoError(error)) return [];
    throw error;
  }
}
