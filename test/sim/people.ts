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
    const owners = this.#world.machines.filter(({ trees }) => trees.size > 0);
    const machine = this.#random.pick(owners);
    const { root } = this.#random.pick([...machine.trees.values()]);
    await this.#garden(machine, root, this.#random.chance(BY_HAND));
  }

  /** Somebody does something to a replica, or beside one. */
  async meddle(): Promise<void> {
    const machine = this.#random.pick(this.#world.machines);
    const mirrors = [...machine.mirrors.values()];
    if (mirrors.length === 0) return;
    const { root } = this.#random.pick(mirrors);
    const datasets = await visibleBelow(machine, root);
    if (datasets.length === 0) return;
    this.#note(machine, 'meddle');
    await patiently(async () => {
      const mounted = datasets.filter(canBeMounted);
      if (mounted.length > 0 && this.#random.chance(0.5)) await this.#write(machine, this.#random.pick(mounted).name);
      if (this.#random.chance(0.5)) await this.#garden(machine, root, true);
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

  async #garden(machine: Machine, root: DatasetName, byHand: boolean): Promise<void> {
    const datasets = await visibleBelow(machine, root);
    const kind = this.#kind(datasets);
    this.#note(machine, kind);
    const action = { kind, pick: this.#random.below(PICKS), second: this.#random.below(PICKS) };
    if (!byHand) {
      // Whoever asks a node waits for it, while the others go on
      void this.#command(machine, root, action);
      return;
    }
    const writable = new Set(datasets.filter(canBeMounted).map(({ name }) => name));
    const write = async (dataset: DatasetName, path: string, text: string): Promise<void> => {
      if (!writable.has(dataset)) throw new PandoError('ZFS_PERMISSION', `${dataset} is not mounted.`);
      machine.zfs.write(dataset, path, `${text} ${this.#nextAct()}`);
    };
    const act = () => new Gardener({ zfs: machine.zfs, root, write }).live([action]);
    if (DESTRUCTIVE.has(kind)) await machine.guids.allow(act);
    else await act();
  }

  /** The same through the node, which refuses some of it. */
  async #command(machine: Machine, root: DatasetName, { kind, pick, second }: Action): Promise<void> {
    const { node } = machine;
    const tree = [...machine.trees.values()].find((own) => own.root === root)?.tree;
    const datasets = await visibleBelow(machine, root);
    const dataset = datasets[pick % Math.max(1, datasets.length)];
    if (node === null || tree === undefined || dataset === undefined) return;
    const told: Told = {
      trees: node.trees,
      tree,
      name: relativeTo(root, dataset.name) ?? ('' as RelativeName),
      snapshot: dataset.snapshots[second % Math.max(1, dataset.snapshots.length)]?.name ?? ('none' as SnapshotName),
      fresh: `c${this.#nextAct()}`,
      recursive: this.#random.chance(0.2),
    };
    if (DESTRUCTIVE.has(kind)) machine.guids.command(dataset.name);
    await patiently(async () => COMMANDS[kind]?.(told));
    if (DESTRUCTIVE.has(kind)) machine.guids.withdraw(dataset.name);
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

/** What people see at and below a root; nothing when it is not there. */
async function visibleBelow({ zfs }: Machine, root: DatasetName): Promise<ListedDataset[]> {
  try {
    return (await zfs.list(root)).filter(({ name }) => !isHidden(relativeTo(root, name) ?? ('' as RelativeName)));
  } catch (error) {
    if (isPandoError(error)) return [];
    throw error;
  }
}
