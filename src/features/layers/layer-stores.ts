/** Where layers are kept: datasets of trees that people have made layer stores. */
import { type LayerStorePlace, mirrorsOf } from '../../core/admin.ts';
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import type { Properties } from '../../core/events.ts';
import type { Dataset } from '../../core/graph/graph.ts';
import {
  absoluteName,
  type DatasetName,
  ID_PROPERTY,
  parentOf,
  type RelativeName,
  type TreeName,
} from '../../core/ids.ts';
import type { ChainId } from '../../core/layers/digest.ts';
import {
  EXTRACTED,
  isExtracted,
  LAYER_PROPERTY,
  layerName,
  runtimeName,
  STORE_PROPERTY,
  storageName,
} from '../../core/layers/layer-names.ts';
import type { SnapshotReference } from '../../zfs/zfs.ts';
import { makeTraversable } from './directory.ts';
import type { LayerParts } from './parts.ts';

/** What lies in a store is read by nobody but Pando, and looking at it is no change to it. */
const STORAGE_PROPERTIES: Properties = { atime: 'off', devices: 'off', setuid: 'off', exec: 'off' };
/** Device nodes that an image brings mean nothing to the host (zfsprops.7, `devices`). */
const RUNTIME_PROPERTIES: Properties = { atime: 'off', devices: 'off' };

/** A layer store, where this node keeps it. */
export interface LayerStore extends LayerStorePlace {
  /** Root of the tree on this node. */
  readonly root: DatasetName;
}

export class LayerStores {
  readonly #parts: LayerParts;
  /** Layers that are being destroyed. */
  readonly #leaving = new Set<ChainId>();

  constructor(parts: LayerParts) {
    this.#parts = parts;
  }

  /** All stores of this node. */
  list(): readonly LayerStore[] {
    const { admin, rootOf } = this.#parts;
    return Array.from(admin.state.layerStores.values(), (place) => ({ ...place, root: rootOf(place.tree) }));
  }

  /** The store of that tree; without a name, the only one. Throws `LAYER_STORE_UNKNOWN`, and `ARGUMENT_INVALID` where there are several to choose from. */
  require(tree?: TreeName): LayerStore {
    const stores = this.list();
    const [first, ...others] = tree === undefined ? stores : stores.filter((store) => store.tree === tree);
    if (first === undefined) {
      throw new PandoError(
        'LAYER_STORE_UNKNOWN',
        `This node keeps no layers${tree === undefined ? '' : ` in tree "${tree}"`}; make a place for them with "pando layers init ${tree ?? 'DATASET'}".`,
        { tree },
      );
    }
    if (others.length === 0) return first;
    const names = stores.map((store) => store.tree);
    throw new PandoError(
      'ARGUMENT_INVALID',
      `This node keeps layers in several trees: ${names.join(', ')}; say which with --store TREE.`,
      { trees: names },
    );
  }

  /**
   * Makes a dataset of a tree a layer store: `storage` with the empty base, and `runtime`. What is there already stays. Rejects with `ZFS_DATASET_EXISTS` for what is in the
   * way, with `ARGUMENT_INVALID` where the tree has a store elsewhere.
   */
  async init(tree: TreeName, base: RelativeName): Promise<LayerStore> {
    const { admin, rootOf, look } = this.#parts;
    const store: LayerStore = { tree, base, root: rootOf(tree) };
    this.#requireOnlyOne(store);
    await look(tree, [base]);
    this.#requireUpToDate(store);
    if (this.#dataset(store, base) === undefined) {
      throw new PandoError(
        'DATASET_UNKNOWN',
        `There is no dataset "${absoluteName(store.root, base)}" in tree "${tree}"; create it first.`,
        { tree, base },
      );
    }
    await this.#makeStorage(store);
    await this.#makeRuntime(store);
    if (admin.state.layerStores.has(tree)) return store;
    await admin.change(() => [{ type: 'layer-store.added', tree, base }]);
    return store;
  }

  /** Nobody takes a layer for one that is here while a task destroys it. */
  async whileLeaving(layer: ChainId, task: () => Promise<void>): Promise<void> {
    this.#leaving.add(layer);
    try {
      await task();
    } finally {
      this.#leaving.delete(layer);
    }
  }

  /** Whether the layer is here, whole. */
  has(store: LayerStore, layer: ChainId | null): boolean {
    if (layer !== null && this.#leaving.has(layer)) return false;
    return isExtracted(this.#dataset(store, layerName(store.base, layer)));
  }

  /**
   * Brings a layer here that a peer has and this node mirrors; whether it is here then. What keeps it from coming is told to the operator, since there are other ways to have it;
   * rejects only with the reason of the signal.
   */
  async fetch(store: LayerStore, layer: ChainId, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#parts.fetch(store.tree, layerName(store.base, layer), signal);
    } catch (error) {
      if (!signal.aborted)
        this.#parts.warn(`Layer ${layer} could not be brought from a peer: ${describeError(error)}`, { layer });
    }
    // A sync that was cancelled says so in its report, and ends well
    signal.throwIfAborted();
    return this.has(store, layer);
  }

  /** The snapshot that stands for a layer, or for the empty base. */
  snapshotOf(store: LayerStore, layer: ChainId | null): SnapshotReference {
    return { dataset: absoluteName(store.root, layerName(store.base, layer)), snapshot: EXTRACTED };
  }

  /** The dataset of that name in this node's copy of the tree. */
  #dataset({ tree }: LayerStore, name: RelativeName): Dataset | undefined {
    return this.#parts.graph(tree).named(name);
  }

  /** What a peer has made of a store comes from there: made here as well, there would be two. */
  #requireUpToDate(store: LayerStore): void {
    const { admin, others } = this.#parts;
    const empty = layerName(store.base, null);
    const isElsewhere = Array.from(others(store.tree).values()).some((graph) => isExtracted(graph.named(empty)));
    if (!isElsewhere || this.has(store, null) || mirrorsOf(admin.state, store.tree).length === 0) return;
    throw new PandoError(
      'REPLICA_BEHIND',
      `A peer keeps layers in "${store.tree}", and they are not here yet; bring them with "pando sync ${store.tree}" first.`,
      { tree: store.tree },
    );
  }

  #requireOnlyOne({ tree, base }: LayerStore): void {
    const there = this.#parts.admin.state.layerStores.get(tree);
    if (there === undefined || there.base === base) return;
    throw new PandoError(
      'ARGUMENT_INVALID',
      `Tree "${tree}" keeps its layers in "${there.base === '' ? tree : `${tree}/${there.base}`}" already; a tree has one place for them.`,
      { tree, base: there.base },
    );
  }

  async #makeStorage(store: LayerStore): Promise<void> {
    if (this.has(store, null)) return;
    const { zfs, look } = this.#parts;
    const name = storageName(store.base);
    const made = await this.#make(store, name, { ...STORAGE_PROPERTIES, [STORE_PROPERTY]: 'storage' });
    const empty = layerName(store.base, null);
    await this.#make(store, empty, { [LAYER_PROPERTY]: 'empty' });
    const { dataset } = this.snapshotOf(store, null);
    await makeTraversable(await zfs.mount(dataset));
    await zfs.snapshot([this.snapshotOf(store, null)]);
    await zfs.unmount(dataset);
    await zfs.setProperties([dataset], { canmount: 'noauto' });
    await look(store.tree, made ? [name, empty] : [empty]);
  }

  async #makeRuntime(store: LayerStore): Promise<void> {
    const name = runtimeName(store.base);
    const there = this.#dataset(store, name);
    // A replica is the owner's; what is cloned beside its children is this node's own
    const isReplica = there !== undefined && there.owner.node !== this.#parts.history.node;
    if (isReplica || there?.properties[STORE_PROPERTY] === 'runtime') return;
    if (await this.#make(store, name, { ...RUNTIME_PROPERTIES, [STORE_PROPERTY]: 'runtime' })) {
      await this.#parts.look(store.tree, [name]);
    }
  }

  /** Creates a dataset unless this node made it before; false then. Rejects with `ZFS_DATASET_EXISTS` for anything else of that name. */
  async #make({ root, tree }: LayerStore, name: RelativeName, properties: Properties): Promise<boolean> {
    const { zfs, mintDatasetId } = this.#parts;
    const dataset = absoluteName(root, name);
    try {
      await zfs.create(dataset, { ...properties, readonly: 'off', [ID_PROPERTY]: mintDatasetId() });
      return true;
    } catch (error) {
      if (!isPandoError(error, 'ZFS_DATASET_EXISTS')) throw error;
      const [there] = await zfs.listOnly([dataset]);
      const mark = properties[STORE_PROPERTY] === undefined ? LAYER_PROPERTY : STORE_PROPERTY;
      if (there?.properties[mark] === properties[mark]) return false;
      throw new PandoError(
        'ZFS_DATASET_EXISTS',
        `"${dataset}" is in the way: layers of tree "${tree}" belong there, and Pando did not make it. Rename it, or choose another dataset than "${parentOf(name) || tree}" for them.`,
        { dataset },
        { cause: error },
      );
    }
  }
}
