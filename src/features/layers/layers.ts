/** The layer store of a node: images in and out, container roots, and what becomes of them. */
import { basename } from 'node:path';
import { describeError } from '../../core/errors.ts';
import type { DatasetName, RelativeName, TransferId, TreeName } from '../../core/ids.ts';
import type { ChainId, Digest } from '../../core/layers/digest.ts';
import { topLayerOf } from '../../core/layers/image.ts';
import { formatReference, parseReference } from '../../core/layers/reference.ts';
import type { CommittedImage } from './commit-steps.ts';
import { type CommitOptions, Commits } from './commits.ts';
import { Extraction, type ExtractionOptions, type ExtractionResult } from './extraction.ts';
import { Garbage, type UnneededLayer } from './garbage.ts';
import { type CataloguedImage, ImageCatalog } from './image-catalog.ts';
import { openImage } from './images/open-image.ts';
import { parseSourceName } from './images/source-name.ts';
import { LayerMaker } from './layer-maker.ts';
import { type LayerStore, LayerStores } from './layer-stores.ts';
import { LayersInUse } from './layers-in-use.ts';
import { Packaging } from './packaging.ts';
import type { LayerParts } from './parts.ts';
import { SnapshotReading } from './reading.ts';
import { type ContainerRoot, Roots } from './roots.ts';
import { type StoredLayer, storedLayers } from './stored-layers.ts';

export interface LayersOptions extends LayerParts {
  readonly mintTransferId: () => TransferId;
  /** Whether somebody else refers to a layer's dataset. */
  readonly isInUse: (dataset: DatasetName) => boolean;
}

/** Where an image comes from, and what it is to be called. */
export interface ExtractRequest extends ExtractionOptions {
  /** See `openImage`. */
  readonly source: string;
  /** Null for what the source calls it. */
  readonly name: string | null;
  /** Whether a registry may be asked without TLS. */
  readonly insecure: boolean;
}

export class Layers {
  readonly stores: LayerStores;
  readonly catalog: ImageCatalog;
  readonly roots: Roots;
  readonly maker: LayerMaker;
  readonly #options: LayersOptions;
  readonly #inUse = new LayersInUse();
  readonly #reading: SnapshotReading;
  readonly #packaging: Packaging;
  readonly #extraction: Extraction;
  readonly #commits: Commits;
  readonly #garbage: Garbage;

  constructor(options: LayersOptions) {
    const { zfs, mintDatasetId, mintTransferId } = options;
    this.#options = options;
    this.stores = new LayerStores(options);
    this.catalog = new ImageCatalog(options, this.stores);
    this.roots = new Roots(options, this.stores);
    this.maker = new LayerMaker(options, this.stores);
    this.#reading = new SnapshotReading(zfs, mintDatasetId);
    this.#packaging = new Packaging(options, this.stores, this.#reading);
    this.#extraction = new Extraction({
      stores: this.stores,
      maker: this.maker,
      catalog: this.catalog,
      inUse: this.#inUse,
    });
    this.#commits = new Commits({
      parts: options,
      stores: this.stores,
      roots: this.roots,
      catalog: this.catalog,
      packaged: (difference, signal) => this.#packaging.difference(difference, signal),
      inUse: this.#inUse,
      mintTransferId,
    });
    this.#garbage = new Garbage(
      options,
      this.stores,
      (dataset, layer) => this.#inUse.has(layer) || options.isInUse(dataset),
    );
  }

  /** Clears up what a crash left in the stores; what cannot be now is told. */
  async recover(): Promise<void> {
    for (const store of this.stores.list()) {
      await this.#reading.recover(store.root).catch((error: unknown) => this.#warn(store, error));
    }
    for (const store of this.stores.list()) {
      const destroyed = await this.maker.recover(store).catch((error: unknown) => this.#warn(store, error));
      for (const dataset of destroyed ?? []) {
        this.#options.warn(`${dataset} was about to become a layer when this node ended; it is gone`, { dataset });
      }
    }
    // What is left half made by then is nobody's, and a commit makes it again
    await this.#commits.recover();
  }

  /** Resolves once nothing is under way. */
  stop(): Promise<void> {
    return this.maker.idle();
  }

  init(tree: TreeName, base: RelativeName): Promise<LayerStore> {
    return this.stores.init(tree, base);
  }

  /** Makes layers of an image, see `Extraction.extract`; rejects as `openImage` does as well. */
  async extract(store: LayerStore, request: ExtractRequest): Promise<ExtractionResult> {
    const { source, insecure, signal } = request;
    const { scratch, compressor } = this.#options;
    const name = formatReference(parseReference(request.name ?? nameIn(source)));
    const image = await openImage(source, { scratch, zstd: compressor, signal, insecure });
    try {
      return await this.#extraction.extract(store, image, name, request);
    } finally {
      await image.close();
    }
  }

  /** Clones the top layer of an image, or a layer, to a new root, and fetches it first where a peer has it; gives its directory. Rejects as `Roots.create`, and with `IMAGE_UNKNOWN` and the reason of the signal. */
  async createRoot(
    store: LayerStore,
    id: string,
    of: { readonly image: string } | { readonly layer: ChainId },
    signal: AbortSignal,
  ): Promise<string> {
    const { layer, image } = 'layer' in of ? { layer: of.layer, image: null } : this.#topOf(store, of.image);
    if (layer !== null && !this.stores.has(store, layer)) await this.stores.fetch(store, layer, signal);
    return this.roots.create(store, id, { layer, image });
  }

  #topOf(store: LayerStore, name: string): { readonly layer: ChainId | null; readonly image: string } {
    const image = this.catalog.require(store, name);
    return { layer: topLayerOf(image), image: image.name };
  }

  commit(store: LayerStore, id: string, name: string, options: CommitOptions): Promise<CommittedImage> {
    return this.#commits.commit(store, id, formatReference(parseReference(name)), options);
  }

  /** See `Packaging.tarOf`. */
  tarOf(store: LayerStore, layer: ChainId, signal: AbortSignal): AsyncIterable<Uint8Array> {
    return this.#packaging.tarOf(store, layer, signal);
  }

  /** See `Packaging.exportImage`. */
  exportImage(store: LayerStore, name: string, target: string, signal: AbortSignal): Promise<Digest> {
    return this.#packaging.exportImage(store, this.catalog.require(store, name), target, signal);
  }

  /** Does something while a layer is no garbage, whatever refers to it by then. */
  keeping<T>(layer: ChainId, task: () => Promise<T>): Promise<T> {
    return this.#inUse.during([layer], task);
  }

  images(store: LayerStore): readonly CataloguedImage[] {
    return this.catalog.list(store);
  }

  listLayers(store: LayerStore): readonly StoredLayer[] {
    const { graph, history } = this.#options;
    return storedLayers(graph(store.tree), store, { node: history.node, images: this.images(store) });
  }

  listRoots(store: LayerStore): readonly ContainerRoot[] {
    return this.roots.list(store);
  }

  /** Layers that nothing needs; with `isDryRun` they stay. With `ofContainerd` only those that it unpacked. */
  async collectGarbage(
    store: LayerStore,
    { isDryRun, ofContainerd = false }: { readonly isDryRun: boolean; readonly ofContainerd?: boolean },
  ): Promise<readonly UnneededLayer[]> {
    const scope = ofContainerd ? 'of containerd' : 'all';
    return isDryRun ? this.#garbage.find(store, scope) : this.#garbage.collect(store, scope);
  }

  #warn({ tree }: LayerStore, error: unknown): undefined {
    this.#options.warn(`The layer store of tree "${tree}" could not be cleared up: ${describeError(error)}`, { tree });
  }
}

/** What a source calls its image. */
function nameIn(source: string): string {
  const name = parseSourceName(source);
  if (name.kind === 'registry') return formatReference({ ...name.reference, digest: null });
  if (name.name?.includes('/') === true) return name.name;
  const stem = basename(name.path)
    .replace(/\.(tar|tgz|tar\.\w+)$/, '')
    .toLowerCase();
  return name.name === null ? stem : `${stem}:${name.name}`;
}
