/** Layers as archives again: the difference of each to the one below, and whole images as OCI layouts. */
import type { DatasetName } from '../../core/ids.ts';
import { type ChainId, chainOf, type Digest } from '../../core/layers/digest.ts';
import type { SnapshotReference } from '../../zfs/zfs.ts';
import { packageLayer } from './archive/package.ts';
import type { CataloguedImage } from './image-catalog.ts';
import { writeImageLayout } from './images/image-layout.ts';
import { parentOfLayer } from './layer-below.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayerParts } from './parts.ts';
import type { SnapshotReading } from './reading.ts';
import { layerUnknown } from './roots.ts';

/** Two snapshots that are compared. */
export interface SnapshotDifference {
  /** Root of the tree on this node. */
  readonly root: DatasetName;
  readonly below: SnapshotReference | null;
  readonly snapshot: SnapshotReference;
}

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
    yield* this.difference({ root: store.root, below, snapshot: this.#stores.snapshotOf(store, layer) }, signal);
  }

  /** The tar of what a snapshot changes of the one below; null for nothing below. Both lie in the tree of that root. */
  async *difference({ root, below, snapshot }: SnapshotDifference, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const candidates = below === null ? null : await this.#parts.zfs.changedPaths(below, snapshot);
    const opened = await this.#reading.open(root, [below, snapshot]);
    try {
      const [parent = null, layer] = opened.directories as [string | null, string];
      yield* packageLayer({ parent, layer, candidates, signal });
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
