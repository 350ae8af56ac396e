/** Layers that nothing needs any more. */
import { describeError } from '../../core/errors.ts';
import type { Dataset, Graph } from '../../core/graph/graph.ts';
import { absoluteName, type DatasetName, type NodeId, parseCursorName } from '../../core/ids.ts';
import { type ChainId, chainOf } from '../../core/layers/digest.ts';
import { DIFF_ID_PROPERTY, layerName, layerOf } from '../../core/layers/layer-names.ts';
import { isReceived } from '../../core/layers/receivers.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayerParts } from './parts.ts';

export interface UnneededLayer {
  readonly layer: ChainId;
  /** Bytes that only it has, by its newest snapshot; null where the ZFS cannot tell. */
  readonly bytes: number | null;
}

/**
 * `of containerd`: only what it unpacked itself, of which nobody was told a DiffID. What people had Pando unpack goes when people say so.
 */
export type GarbageScope = 'all' | 'of containerd';

export class Garbage {
  readonly #parts: LayerParts;
  readonly #stores: LayerStores;
  readonly #isInUse: (dataset: DatasetName, layer: ChainId) => boolean;

  /** `isInUse` knows who else counts on a layer. */
  constructor(parts: LayerParts, stores: LayerStores, isInUse: (dataset: DatasetName, layer: ChainId) => boolean) {
    this.#parts = parts;
    this.#stores = stores;
    this.#isInUse = isInUse;
  }

  /**
   * The layers of this node that no image here or at a peer has, nothing is cloned from but other such layers, nobody holds, nobody refers to, and no peer has a replica of. In the order in
   * which they can be destroyed. Those of `except` count as needed, and so does what they hang off.
   */
  find(store: LayerStore, scope: GarbageScope, except: ReadonlySet<ChainId> = new Set()): readonly UnneededLayer[] {
    const graph = this.#parts.graph(store.tree);
    const others = this.#parts.others(store.tree);
    const needed = new Set([...neededBy([graph, ...others.values()]), ...except]);
    const gone = new Set<Dataset['id']>();
    const unneeded: UnneededLayer[] = [];
    const candidates = graph
      .sorted()
      .filter((dataset) => isIn(scope, dataset) && this.#mayGo(store, dataset, needed, others));
    for (let found = true; found; ) {
      found = false;
      for (const dataset of candidates) {
        if (gone.has(dataset.id) || clonesOf(graph, dataset).some(({ id }) => !gone.has(id))) continue;
        gone.add(dataset.id);
        unneeded.push({
          layer: layerOf(store.base, dataset.name) as ChainId,
          bytes: dataset.snapshots.at(-1)?.written ?? null,
        });
        found = true;
      }
    }
    return unneeded;
  }

  /** Destroys them one by one, each if it is still unneeded then; ZFS itself refuses what somebody has cloned or held meanwhile, and that stays. Gives those that are gone. */
  async collect(store: LayerStore, scope: GarbageScope): Promise<readonly UnneededLayer[]> {
    const { zfs, look, warn } = this.#parts;
    const gone: UnneededLayer[] = [];
    const kept = new Set<ChainId>();
    const next = (): UnneededLayer | undefined => this.find(store, scope, kept)[0];
    for (let unneeded = next(); unneeded !== undefined; unneeded = next()) {
      const { layer } = unneeded;
      const name = layerName(store.base, layer);
      try {
        await this.#stores.whileLeaving(layer, async () => {
          await zfs.destroy(absoluteName(store.root, name));
          await look(store.tree, [name]);
        });
        gone.push(unneeded);
      } catch (error) {
        kept.add(layer);
        warn(`Layer ${layer} stays: ${describeError(error)}`, { layer });
      }
    }
    return gone;
  }

  #mayGo(
    store: LayerStore,
    { id, name, owner, holds, bookmarks, properties }: Dataset,
    needed: ReadonlySet<ChainId>,
    others: ReadonlyMap<NodeId, Graph>,
  ): boolean {
    const layer = layerOf(store.base, name);
    if (layer === undefined || needed.has(layer) || holds.length > 0) return false;
    if (owner.node !== this.#parts.history.node) return false;
    // A peer that only reads does not tell what it has; the cursor of each transfer does, or the layer itself where the ZFS has no bookmarks
    const isSent =
      bookmarks.some(({ name: bookmark }) => parseCursorName(bookmark) !== undefined) || isReceived(properties);
    const isMirrored = isSent || Array.from(others.values()).some((graph) => graph.get(id) !== undefined);
    return !isMirrored && !this.#isInUse(absoluteName(store.root, name), layer);
  }
}

function isIn(scope: GarbageScope, { properties }: Dataset): boolean {
  return scope === 'all' || properties[DIFF_ID_PROPERTY] === undefined;
}

function neededBy(graphs: readonly Graph[]): ReadonlySet<ChainId> {
  return new Set(graphs.flatMap(({ images }) => Array.from(images.values()).flatMap(({ layers }) => chainOf(layers))));
}

function clonesOf(graph: Graph, { snapshots }: Dataset): readonly Dataset[] {
  return snapshots.flatMap(({ guid }) => graph.clonesOf(guid));
}
