/** Layers that nothing needs any more. */
import { describeError } from '../../core/errors.ts';
import type { Dataset, Graph } from '../../core/graph/graph.ts';
import { absoluteName, type DatasetName, type NodeId } from '../../core/ids.ts';
import { type ChainId, chainOf } from '../../core/layers/digest.ts';
import { layerName, layerOf } from '../../core/layers/layer-names.ts';
import type { LayerStore } from './layer-stores.ts';
import type { LayerParts } from './parts.ts';

export interface UnneededLayer {
  readonly layer: ChainId;
  /** Bytes that only it has, by its newest snapshot; null where the ZFS cannot tell. */
  readonly bytes: number | null;
}

export class Garbage {
  readonly #parts: LayerParts;
  readonly #isInUse: (dataset: DatasetName) => boolean;

  /** `isInUse` knows who else refers to a layer's dataset. */
  constructor(parts: LayerParts, isInUse: (dataset: DatasetName) => boolean) {
    this.#parts = parts;
    this.#isInUse = isInUse;
  }

  /**
   * The layers of this node that no image here or at a peer has, nothing is cloned from but other such layers, nobody holds, nobody refers to, and no peer has a replica of. In the order in
   * which they can be destroyed.
   */
  find(store: LayerStore): readonly UnneededLayer[] {
    const graph = this.#parts.graph(store.tree);
    const others = this.#parts.others(store.tree);
    const needed = neededBy([graph, ...others.values()]);
    const gone = new Set<Dataset['id']>();
    const unneeded: UnneededLayer[] = [];
    const candidates = graph.sorted().filter((dataset) => this.#mayGo(store, dataset, needed, others));
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

  /** Destroys them; ZFS itself refuses what somebody has cloned or held meanwhile, and that stays. Gives those that are gone. */
  async collect(store: LayerStore): Promise<readonly UnneededLayer[]> {
    const { zfs, look, warn } = this.#parts;
    const gone: UnneededLayer[] = [];
    const stuck = new Set<Dataset['id']>();
    for (const unneeded of this.find(store)) {
      const graph = this.#parts.graph(store.tree);
      const dataset = graph.named(layerName(store.base, unneeded.layer));
      if (dataset === undefined) continue;
      // What it hangs off stays with it, and that is no news
      if (clonesOf(graph, dataset).some(({ id }) => stuck.has(id))) {
        stuck.add(dataset.id);
        continue;
      }
      try {
        await zfs.destroy(absoluteName(store.root, dataset.name));
      } catch (error) {
        stuck.add(dataset.id);
        warn(`Layer ${unneeded.layer} stays: ${describeError(error)}`, { layer: unneeded.layer });
        continue;
      }
      await look(store.tree, [dataset.name]);
      gone.push(unneeded);
    }
    return gone;
  }

  #mayGo(
    store: LayerStore,
    { id, name, owner, holds }: Dataset,
    needed: ReadonlySet<ChainId>,
    others: ReadonlyMap<NodeId, Graph>,
  ): boolean {
    const layer = layerOf(store.base, name);
    if (layer === undefined || needed.has(layer) || holds.length > 0) return false;
    if (owner.node !== this.#parts.history.node) return false;
    const isMirrored = Array.from(others.values()).some((graph) => graph.get(id) !== undefined);
    return !isMirrored && !this.#isInUse(absoluteName(store.root, name));
  }
}

function neededBy(graphs: readonly Graph[]): ReadonlySet<ChainId> {
  return new Set(graphs.flatMap(({ images }) => Array.from(images.values()).flatMap(({ layers }) => chainOf(layers))));
}

function clonesOf(graph: Graph, { snapshots }: Dataset): readonly Dataset[] {
  return snapshots.flatMap(({ guid }) => graph.clonesOf(guid));
}
