import type { Graph } from '../../core/graph/graph.ts';
import type { NodeId } from '../../core/ids.ts';
import { type ChainId, chainOf, type DiffId, isDigest } from '../../core/layers/digest.ts';
import { DIFF_ID_PROPERTY, isExtracted, layerOf } from '../../core/layers/layer-names.ts';
import type { CataloguedImage } from './image-catalog.ts';
import { originLayer } from './layer-below.ts';
import type { LayerStore } from './layer-stores.ts';

/** A layer that is here. */
export interface StoredLayer {
  readonly layer: ChainId;
  /** The one that it is a clone of; null for the empty base. */
  readonly parent: ChainId | null;
  /** Null where nobody here knows it. */
  readonly diffId: DiffId | null;
  /** Bytes that can be reached from it, those of the layers below included. */
  readonly referenced: number;
  /** Names of images that have it. */
  readonly images: readonly string[];
  readonly isOwn: boolean;
}

/** The layers of a store, each behind the one below it. */
export function storedLayers(
  graph: Graph,
  store: LayerStore,
  { node, images }: { readonly node: NodeId; readonly images: readonly CataloguedImage[] },
): readonly StoredLayer[] {
  const known = namesAndDiffIds(images);
  const layers = graph.sorted().flatMap((dataset) => {
    const layer = layerOf(store.base, dataset.name);
    if (layer === undefined || !isExtracted(dataset)) return [];
    const told = dataset.properties[DIFF_ID_PROPERTY] ?? '';
    const { names = [], diffId = isDigest(told) ? (told as DiffId) : null } = known.get(layer) ?? {};
    const parent = originLayer(graph, store.base, dataset) ?? null;
    const { referenced = 0 } = dataset.snapshots.at(-1) ?? {};
    return [{ layer, parent, diffId, referenced, images: [...new Set(names)], isOwn: dataset.owner.node === node }];
  });
  return parentsFirst(layers);
}

function namesAndDiffIds(
  images: readonly CataloguedImage[],
): ReadonlyMap<ChainId, { names: string[]; diffId: DiffId }> {
  const known = new Map<ChainId, { names: string[]; diffId: DiffId }>();
  for (const { name, layers } of images) {
    for (const [index, layer] of chainOf(layers).entries()) {
      const one = known.get(layer) ?? { names: [], diffId: layers[index] as DiffId };
      one.names.push(name);
      known.set(layer, one);
    }
  }
  return known;
}

function parentsFirst(layers: readonly StoredLayer[]): readonly StoredLayer[] {
  const byParent = new Map<ChainId | null, StoredLayer[]>();
  for (const one of layers) byParent.set(one.parent, [...(byParent.get(one.parent) ?? []), one]);
  const ordered: StoredLayer[] = [];
  const open = [...(byParent.get(null) ?? [])].reverse();
  for (let one = open.pop(); one !== undefined; one = open.pop()) {
    ordered.push(one);
    open.push(...(byParent.get(one.layer) ?? []).toReversed());
  }
  return ordered;
}
