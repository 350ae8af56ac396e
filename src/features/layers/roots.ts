/** Container roots: clones of layers, made in constant time and space. */
import { PandoError } from '../../core/errors.ts';
import type { Properties } from '../../core/events.ts';
import type { Dataset } from '../../core/graph/graph.ts';
import { absoluteName, ID_PROPERTY, type RelativeName } from '../../core/ids.ts';
import type { ChainId } from '../../core/layers/digest.ts';
import { IMAGE_PROPERTY, rootIdOf, rootName, SNAPSHOT_PROPERTY } from '../../core/layers/layer-names.ts';
import type { Intent } from '../../transfer/journal.ts';
import { originLayer } from './layer-below.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayerParts } from './parts.ts';

/** A root is for running programs in; where it lies below a replica, it would inherit what keeps those from it. */
const ROOT_PROPERTIES: Properties = { readonly: 'off', exec: 'on', setuid: 'on' };

export interface ContainerRoot {
  readonly id: string;
  /** Its dataset, by its name in the tree. */
  readonly name: RelativeName;
  /** The layer that it is a clone of; null for the empty base, and for what is no clone of a layer. */
  readonly layer: ChainId | null;
  /** The image that it was made from, as far as known. */
  readonly image: string | null;
  /** Whether this node owns it. */
  readonly isOwn: boolean;
}

export class Roots {
  readonly #parts: LayerParts;
  readonly #stores: LayerStores;

  constructor(parts: LayerParts, stores: LayerStores) {
    this.#parts = parts;
    this.#stores = stores;
  }

  list(store: LayerStore): readonly ContainerRoot[] {
    return this.#parts
      .graph(store.tree)
      .sorted()
      .flatMap((dataset) => this.#rootOf(store, dataset) ?? []);
  }

  /** Throws `ROOT_UNKNOWN`, and `NAME_INVALID` for what is no id. */
  require(store: LayerStore, id: string): ContainerRoot {
    const dataset = this.#parts.graph(store.tree).named(rootName(store.base, id));
    const root = dataset && this.#rootOf(store, dataset);
    if (root !== undefined) return root;
    throw new PandoError('ROOT_UNKNOWN', `There is no container root "${id}"; "pando root ls" lists those there are.`, {
      id,
    });
  }

  /**
   * Clones a layer, gives the directory of the new root. `image` is remembered as what it was made from. Rejects with `ROOT_EXISTS`, with `LAYER_UNKNOWN` where the layer is not here.
   */
  async create(
    store: LayerStore,
    id: string,
    { layer, image }: { readonly layer: ChainId | null; readonly image: string | null },
  ): Promise<string> {
    const { zfs, graph, look, mintDatasetId } = this.#parts;
    const name = rootName(store.base, id);
    if (graph(store.tree).named(name) !== undefined) {
      throw new PandoError(
        'ROOT_EXISTS',
        `There is a container root "${id}" already; choose another id, or remove it with "pando root rm ${id}".`,
        { id },
      );
    }
    if (!this.#stores.has(store, layer)) throw layerUnknown(layer);
    const dataset = absoluteName(store.root, name);
    const properties = { ...ROOT_PROPERTIES, [ID_PROPERTY]: mintDatasetId() };
    await zfs.clone(
      this.#stores.snapshotOf(store, layer),
      dataset,
      image === null ? properties : { ...properties, [IMAGE_PROPERTY]: image },
    );
    await look(store.tree, [name]);
    return zfs.mount(dataset);
  }

  /** Destroys a root with its snapshots. Rejects with `DATASET_NOT_OWNED` for a replica, with `ROOT_IN_USE` while it is being committed, `ZFS_BUSY` while it is in use, `ZFS_HAS_DEPENDENTS` while others are its clones. */
  async remove(store: LayerStore, id: string): Promise<void> {
    const { zfs, look } = this.#parts;
    const { name, isOwn } = this.require(store, id);
    if (!isOwn) throw notOwned(id);
    const isCommit = (intent: Intent): boolean =>
      intent.type === 'root-commit.started' && intent.tree === store.tree && intent.root === id;
    if (this.#parts.journal.open().some(isCommit)) {
      throw new PandoError('ROOT_IN_USE', `Container root "${id}" is being committed; remove it once that is over.`, {
        id,
      });
    }
    await zfs.destroy(absoluteName(store.root, name));
    await look(store.tree, [name]);
  }

  #rootOf({ tree, base }: LayerStore, dataset: Dataset): ContainerRoot | undefined {
    const { name, owner, properties } = dataset;
    const id = rootIdOf(base, name);
    // What was made for containerd is containerd's
    if (id === undefined || properties[SNAPSHOT_PROPERTY] !== undefined) return undefined;
    return {
      id,
      name,
      layer: originLayer(this.#parts.graph(tree), base, dataset) ?? null,
      image: properties[IMAGE_PROPERTY] ?? null,
      isOwn: owner.node === this.#parts.history.node,
    };
  }
}

export function notOwned(id: string): PandoError {
  return new PandoError('DATASET_NOT_OWNED', `Container root "${id}" is a replica; only its owner changes it.`, { id });
}

export function layerUnknown(layer: ChainId | null): PandoError {
  return new PandoError(
    'LAYER_UNKNOWN',
    layer === null
      ? 'The empty base of the layer store is not here; "pando layers init" makes it.'
      : `Layer ${layer} is not here; extract an image that has it, or bring it with "pando sync".`,
    { layer },
  );
}
