/** Which images a tree has, whoever gave them their names, and where their layers are. */
import { PandoError } from '../../core/errors.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { NodeId } from '../../core/ids.ts';
import { type ChainId, chainOf } from '../../core/layers/digest.ts';
import type { TaggedImage } from '../../core/layers/image.ts';
import { isExtracted, layerName } from '../../core/layers/layer-names.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayerParts } from './parts.ts';

/** `coming`: a transfer is bringing layers of the tree. `missing`: nobody who says anything of the tree has it. */
export type LayerState = 'here' | 'coming' | 'elsewhere' | 'missing';

export interface CataloguedImage extends TaggedImage {
  /** Who gave it its name. */
  readonly node: NodeId;
  /** Lowest first. */
  readonly chain: readonly { readonly layer: ChainId; readonly state: LayerState }[];
}

export class ImageCatalog {
  readonly #parts: LayerParts;
  readonly #stores: LayerStores;

  constructor(parts: LayerParts, stores: LayerStores) {
    this.#parts = parts;
    this.#stores = stores;
  }

  /** All images of the tree in the order of their names, one line for each node that gave the name. */
  list(store: LayerStore): readonly CataloguedImage[] {
    const { history, graph, others } = this.#parts;
    const peers = others(store.tree);
    const all: [NodeId, Graph][] = [[history.node, graph(store.tree)], ...peers];
    const images = all.flatMap(([node, { images: own }]) =>
      Array.from(own.values(), (image) => ({ ...image, node, chain: this.#chain(store, image, peers) })),
    );
    return images.sort((a, b) => compare(a.name, b.name) || compare(a.node, b.node));
  }

  /** All images, in the order in which one is chosen of several: those that this node named first, then by when they got their names. */
  preferred(store: LayerStore): readonly CataloguedImage[] {
    return this.list(store).toSorted(
      (a, b) => Number(this.#isOwn(b)) - Number(this.#isOwn(a)) || b.taggedAt - a.taggedAt,
    );
  }

  /**
   * The image of that name: this node's own where it gave the name, otherwise the one that got it last. Throws `IMAGE_UNKNOWN`.
   */
  require(store: LayerStore, name: string): CataloguedImage {
    const found = this.preferred(store).find((image) => image.name === name);
    if (found !== undefined) return found;
    throw unknownImage(name);
  }

  /** Gives an image its name, which stands for nothing else from then on. */
  async tag(store: LayerStore, image: Omit<TaggedImage, 'taggedAt'>): Promise<void> {
    const { name, manifest, config, layers } = image;
    const there = this.#parts.graph(store.tree).images.get(name);
    const isSame = there?.manifest === manifest && there.config === config && there.layers.join() === layers.join();
    if (isSame) return;
    await this.#parts.history.record(store.tree, 'command', [{ type: 'image.tagged', name, manifest, config, layers }]);
  }

  /** Takes its name from an image; its layers stay. Rejects with `IMAGE_UNKNOWN`, and with `DATASET_NOT_OWNED` where another node gave the name. */
  async untag(store: LayerStore, name: string): Promise<void> {
    const image = this.require(store, name);
    if (!this.#isOwn(image)) {
      throw new PandoError(
        'DATASET_NOT_OWNED',
        `Image "${name}" got its name from node ${image.node}; remove it there.`,
        { name, node: image.node },
      );
    }
    await this.#parts.history.record(store.tree, 'command', [{ type: 'image.untagged', name }]);
  }

  #isOwn({ node }: CataloguedImage): boolean {
    return node === this.#parts.history.node;
  }

  #chain(store: LayerStore, { layers }: TaggedImage, peers: ReadonlyMap<NodeId, Graph>): CataloguedImage['chain'] {
    return chainOf(layers).map((layer) => ({ layer, state: this.#stateOf(store, layer, peers) }));
  }

  #stateOf(store: LayerStore, layer: ChainId, peers: ReadonlyMap<NodeId, Graph>): LayerState {
    if (this.#stores.has(store, layer)) return 'here';
    const name = layerName(store.base, layer);
    const isAtPeer = Array.from(peers.values()).some((graph) => isExtracted(graph.named(name)));
    if (!isAtPeer) return 'missing';
    return this.#parts.isReceiving(store.tree) ? 'coming' : 'elsewhere';
  }
}

function unknownImage(name: string): PandoError {
  return new PandoError('IMAGE_UNKNOWN', `No image is called "${name}" here; "pando image ls" lists those there are.`, {
    name,
  });
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
