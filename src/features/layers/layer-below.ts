/** What layers, and container roots, hang off. */
import { PandoError } from '../../core/errors.ts';
import type { Dataset, Graph } from '../../core/graph/graph.ts';
import type { RelativeName } from '../../core/ids.ts';
import type { ChainId } from '../../core/layers/digest.ts';
import { contestedLayerOf, layerName } from '../../core/layers/layer-names.ts';
import type { LayerStore } from './layer-stores.ts';

/** The layer that a dataset is a clone of; null for the empty base, undefined for one that hangs off something else. */
export function originLayer(
  graph: Graph,
  base: RelativeName,
  { origin }: Pick<Dataset, 'origin'>,
): ChainId | null | undefined {
  const parent = origin?.dataset == null ? undefined : graph.get(origin.dataset);
  return parent?.name === layerName(base, null) ? null : parent && contestedLayerOf(base, parent.name);
}

/** The layer below another one, as {@link originLayer}; undefined also where that is not here. */
export function layerBelow(
  graph: Graph,
  { base }: Pick<LayerStore, 'base'>,
  layer: ChainId,
): ChainId | null | undefined {
  const dataset = graph.named(layerName(base, layer));
  return dataset && originLayer(graph, base, dataset);
}

/** As {@link layerBelow}, but throws `LAYER_UNKNOWN` for undefined. */
export function parentOfLayer(graph: Graph, store: LayerStore, layer: ChainId): ChainId | null {
  const below = layerBelow(graph, store, layer);
  if (below !== undefined) return below;
  throw new PandoError(
    'LAYER_UNKNOWN',
    `Nobody can tell what layer ${layer} of "${store.tree}" lies over: it is no clone of another layer here.`,
    { layer },
  );
}
