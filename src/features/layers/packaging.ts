/** Layers as archives again: the difference of each to the one below, and whole images as OCI layouts. */
import { PandoError } from '../../core/errors.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { type ChainId, chainOf, type Digest } from '../../core/layers/digest.ts';
import { contestedLayerOf, layerName } from '../../core/layers/layer-names.ts';
import { packageLayer } from './archive/package.ts';
import type { CataloguedImage } from './image-catalog.ts';
import { writeImageLayout } from './images/image-layout.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayerParts } from './parts.ts';
import type { SnapshotReading } from './reading.ts';
import { layerUnknown } from './roots.ts';

export class Packaging {
  readonly #parts: LayerParts;
  readonly #stores: LayerStores;
  readonly #reading: SnapshotReading;

  constructor(parts: LayerParts, stores: LayerStores, reading: SnapshotReading) {
    this.#parts = parts;
    this.#stores = stores;
    this.#reading = reading;
  }

  /**
   * The tar of what a layer changes of the one below: the same bytes on every host that has both. Rejects with `LAYER_UNKNOWN`, before the first byte, and with
   * `ARCHIVE_INVALID` for what no layer can say.
   */
  async *tarOf(store: LayerStore, layer: ChainId, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    if (!this.#stores.has(store, layer)) throw layerUnknown(layer);
    const parent = parentOfLayer(this.#parts.graph(store.tree), store, layer);
    const below = parent === null ? null : this.#stores.snapshotOf(store, parent);
    const own = this.#stores.snapshotOf(store, layer);
    const candidates = below === null ? null : await this.#parts.zfs.changedPaths(below, own);
    const opened = await this.#reading.open(store.root, [below, own]);
    try {
      const [parentDirectory = null, directory] = opened.directories as [string | null, string];
      yield* packageLayer({ parent: parentDirectory, layer: directory, candidates, signal });
    } finally {
      await opened.close();
    }
  }

  /**
   * Writes an image layout: a directory, or an archive where `target` ends in `.tar`. Its layers are packaged anew, so that its digests are those of what Pando writes, the same on every host.
   * Rejects with `LAYER_UNKNOWN` where one is not here.
   */
  async exportImage(store: LayerStore, image: CataloguedImage, target: string, signal: AbortSignal): Promise<Digest> {
    const chain = chainOf(image.layers);
    const missing = chain.find((layer) => !this.#stores.has(store, layer));
    if (missing !== undefined) throw layerUnknown(missing);
    const layers = chain.map((layer) => ({ diffId: null, open: () => this.tarOf(store, layer, signal) }));
    const written = { reference: image.name, config: image.config, layers };
    return (await writeImageLayout(target, written, signal)).manifest;
  }
}

/** The layer that another is a clone of; null for the empty base, undefined for one that hangs off something else or is not here. */
export function layerBelow(
  graph: Graph,
  { base }: Pick<LayerStore, 'base'>,
  layer: ChainId,
): ChainId | null | undefined {
  const { origin } = graph.named(layerName(base, layer)) ?? { origin: null };
  const parent = origin?.dataset == null ? undefined : graph.get(origin.dataset);
  return parent?.name === layerName(base, null) ? null : parent && contestedLayerOf(base, parent.name);
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
