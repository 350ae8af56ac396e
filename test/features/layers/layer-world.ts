/** A node in memory with a layer store, whose datasets have directories that are there. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatasetName, RelativeName, SnapshotName, TreeName } from '../../../src/core/ids.ts';
import { type ChainId, chainIdOf, type DiffId, digestOf } from '../../../src/core/layers/digest.ts';
import { EXTRACTED, layerName, rootName } from '../../../src/core/layers/layer-names.ts';
import type { LayerStore } from '../../../src/features/layers/layer-stores.ts';
import type { Layers } from '../../../src/features/layers/layers.ts';
import type { ZfsCapabilities } from '../../../src/zfs/zfs.ts';
import { MemoryWorld, type WorldNode } from '../../main/memory-world.ts';

export const TREE = 'images' as TreeName;
const BASE = '' as RelativeName;

/** Words of commands that change something. */
const CHANGES: ReadonlySet<string> = new Set([
  'clone',
  'create',
  'destroy',
  'inherit',
  'promote',
  'rename',
  'set',
  'snapshot',
]);

export class LayerWorld {
  readonly world = new MemoryWorld();
  /** Commands that changed something, in order. */
  readonly changes: string[] = [];
  readonly directory: string;
  node!: WorldNode;
  store!: LayerStore;
  /** Called before each command but those that only look; what it throws is the command's failure, what it awaits delays it. */
  beforeChange: (command: string) => void | Promise<void> = () => undefined;
  #changesLeft = Number.POSITIVE_INFINITY;
  #isDead = false;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async start(capabilities: Partial<ZfsCapabilities> = {}): Promise<LayerWorld> {
    const world = new LayerWorld(await mkdtemp(join(tmpdir(), 'pando-layers-')));
    const onCommand = (words: readonly string[]): Promise<void> => world.#heard(words);
    const zfsOptions = { mountRoot: world.directory, capabilities, onCommand };
    world.node = await world.world.start('tank', undefined, zfsOptions);
    await world.node.zfs.create('tank/images' as DatasetName);
    await world.node.node.trees.add({ tree: TREE, root: 'tank/images' as DatasetName });
    world.store = await world.layers.init(TREE, BASE);
    world.changes.length = 0;
    return world;
  }

  get layers(): Layers {
    return this.node.node.layers;
  }

  /** Makes a layer over another one, from nothing. */
  async addLayer(parent: ChainId | null, diffId: DiffId): Promise<ChainId> {
    const layer = chainIdOf(parent, diffId);
    await this.layers.maker.make(this.store, { layer, parent, diffId }, async () => undefined);
    await this.layers.maker.idle();
    return layer;
  }

  /** Has every command fail from the n-th change on that follows, as if the node were killed there. */
  killAfter(changes: number): void {
    this.#changesLeft = changes;
  }

  /** Whether that has come to pass. */
  get isDead(): boolean {
    return this.#isDead;
  }

  /** Starts the node again, as what is left of the one before. */
  async restart(): Promise<void> {
    this.#changesLeft = Number.POSITIVE_INFINITY;
    this.#isDead = false;
    await this.node.node.stop();
    this.node = await this.world.start('tank', this.node);
  }

  /** Where a dataset of the tree was cloned from, as ZFS has it; undefined for one that is not there. */
  async originOf(name: RelativeName): Promise<string | null | undefined> {
    const [listed] = await this.node.zfs.listOnly([`tank/images/${name}` as DatasetName]);
    if (listed === undefined) return undefined;
    return listed.origin === null ? null : listed.origin.reference.dataset.slice('tank/images/'.length);
  }

  /** Names of the snapshots of a dataset of the tree. */
  async snapshotsOf(name: RelativeName): Promise<readonly SnapshotName[]> {
    const [listed] = await this.node.zfs.listOnly([`tank/images/${name}` as DatasetName]);
    return (listed?.snapshots ?? []).map((snapshot) => snapshot.name);
  }

  /** Names of all datasets below the tree's root, as ZFS has them. */
  async names(): Promise<readonly string[]> {
    const listed = await this.node.zfs.list('tank/images' as DatasetName);
    return listed.map(({ name }) => name.slice('tank/images/'.length)).filter((name) => name !== '');
  }

  async remove(): Promise<void> {
    await this.world.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  async #heard([, word = '', ...rest]: readonly string[]): Promise<void> {
    if (this.#isDead) throw new Error('killed');
    if (!CHANGES.has(word)) return;
    if (this.#changesLeft <= 0) {
      this.#isDead = true;
      throw new Error('killed');
    }
    this.#changesLeft -= 1;
    const command = [word, ...rest].join(' ');
    this.changes.push(command);
    await this.beforeChange(command);
  }
}

/** A DiffID that stands for some text. */
export function diffId(text: string): DiffId {
  return digestOf(text) as DiffId;
}

export function layer(chain: ChainId | null): RelativeName {
  return layerName(BASE, chain);
}

export function root(id: string): RelativeName {
  return rootName(BASE, id);
}

export { EXTRACTED };
