/** Images into layers: each layer once, over the one below, and a name for the whole. */
import { type ChainId, chainOf } from '../../core/layers/digest.ts';
import { unpackLayer } from './archive/unpack.ts';
import type { ImageCatalog } from './image-catalog.ts';
import type { ImageLayer, ImageSource } from './images/image-source.ts';
import type { LayerMaker, LayerPlan } from './layer-maker.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayersInUse } from './layers-in-use.ts';

/** How an extraction goes: told as each layer begins, grows and ends. */
export interface ExtractionProgress {
  /** Counted from 1. */
  readonly layer: number;
  readonly layers: number;
  /** Of the tar of this layer, in bytes. */
  readonly bytes: number;
}

export interface ExtractionResult {
  readonly image: string;
  readonly layers: readonly (Pick<LayerPlan, 'layer' | 'diffId'> & {
    /** `here`: it was here before. `fetched`: a peer had it. `unpacked`: from the image. */
    readonly how: 'here' | 'fetched' | 'unpacked';
  })[];
}

export interface ExtractionOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: ExtractionProgress) => void;
}

export interface ExtractionParts {
  readonly stores: LayerStores;
  readonly maker: LayerMaker;
  readonly catalog: ImageCatalog;
  readonly inUse: LayersInUse;
}

export class Extraction {
  readonly #stores: LayerStores;
  readonly #maker: LayerMaker;
  readonly #catalog: ImageCatalog;
  readonly #inUse: LayersInUse;

  constructor({ stores, maker, catalog, inUse }: ExtractionParts) {
    this.#stores = stores;
    this.#maker = maker;
    this.#catalog = catalog;
    this.#inUse = inUse;
  }

  /**
   * Makes the layers of an image that are not here, lowest first, and gives it a name. Where all are here and the name stands for it, nothing changes. Rejects with `DIGEST_MISMATCH`,
   * `ARCHIVE_INVALID`, …; the layers below the one that failed stay.
   */
  async extract(
    store: LayerStore,
    image: ImageSource,
    name: string,
    options: ExtractionOptions,
  ): Promise<ExtractionResult> {
    const chain = chainOf(image.layers.map(({ diffId }) => diffId));
    return this.#inUse.during(chain, () => this.#extract(store, image, { name, chain }, options));
  }

  async #extract(
    store: LayerStore,
    image: ImageSource,
    { name, chain }: { readonly name: string; readonly chain: readonly ChainId[] },
    options: ExtractionOptions,
  ): Promise<ExtractionResult> {
    const result: ExtractionResult['layers'][number][] = [];
    for (const [index, source] of image.layers.entries()) {
      options.signal.throwIfAborted();
      const plan = {
        layer: chain[index] as LayerPlan['layer'],
        parent: chain[index - 1] ?? null,
        diffId: source.diffId,
      };
      const onBytes = (bytes: number): void =>
        options.onProgress({ layer: index + 1, layers: image.layers.length, bytes });
      const how = await this.#bring(store, plan, source, { signal: options.signal, onBytes });
      result.push({ layer: plan.layer, diffId: plan.diffId, how });
    }
    const { manifest, config } = image;
    await this.#catalog.tag(store, {
      name,
      manifest,
      config: config.text,
      layers: image.layers.map(({ diffId }) => diffId),
    });
    return { image: name, layers: result };
  }

  async #bring(
    store: LayerStore,
    plan: LayerPlan,
    source: ImageLayer,
    { signal, onBytes }: { readonly signal: AbortSignal; readonly onBytes: (bytes: number) => void },
  ): Promise<ExtractionResult['layers'][number]['how']> {
    if (this.#stores.has(store, plan.layer)) return 'here';
    if (await this.#stores.fetch(store, plan.layer, signal)) return 'fetched';
    const isMade = await this.#maker.make(store, plan, async (directory) => {
      await unpackLayer(source.open(), directory, { signal, onProgress: onBytes });
    });
    return isMade ? 'unpacked' : 'here';
  }
}
