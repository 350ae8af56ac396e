/** What is known of the layers that a container root hangs off, when it is to become an image. */
import { arch } from 'node:process';
import { PandoError } from '../../core/errors.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { type ChainId, chainOf, type DiffId, isDigest } from '../../core/layers/digest.ts';
import { DIFF_ID_PROPERTY, layerName } from '../../core/layers/layer-names.ts';
import type { CataloguedImage } from './image-catalog.ts';
import { parentOfLayer } from './layer-below.ts';
import type { LayerStore } from './layer-stores.ts';

export interface LayersBelow {
  /** Lowest first. */
  readonly below: readonly DiffId[];
  /** That of the image, where one ends with the parent. */
  readonly config: string | null;
}

/** Names of processors as OCI images have them (config.md "architecture"), where Node calls them otherwise. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };

/**
 * The DiffIDs of the layers below a root: those of the image that it was made from, of any image with that layer, or as the layers themselves tell. Throws
 * `IMAGE_INVALID` where nobody knows them.
 */
export function layersBelow(
  graph: Graph,
  store: LayerStore,
  images: readonly CataloguedImage[],
  { parent, image }: { readonly parent: ChainId | null; readonly image: string | null },
): LayersBelow {
  if (parent === null) return { below: [], config: null };
  const ofImages = images.flatMap((one) => {
    const index = chainOf(one.layers).indexOf(parent);
    return index < 0
      ? []
      : [
          {
            below: one.layers.slice(0, index + 1),
            config: one.config,
            name: one.name,
            isWhole: index + 1 === one.layers.length,
          },
        ];
  });
  const best =
    ofImages.find((one) => one.name === image && one.isWhole) ?? ofImages.find((one) => one.isWhole) ?? ofImages[0];
  if (best !== undefined) return { below: best.below, config: best.isWhole ? best.config : null };
  return { below: toldByLayers(graph, store, parent), config: null };
}

/** A configuration that says nothing but for which machines the image is. */
export function emptyConfig(): string {
  const architecture = ARCHITECTURES[arch] ?? arch;
  return JSON.stringify({ architecture, os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, history: [] });
}

function toldByLayers(graph: Graph, store: LayerStore, top: ChainId): readonly DiffId[] {
  const below: DiffId[] = [];
  for (let layer: ChainId | null = top; layer !== null; layer = parentOfLayer(graph, store, layer)) {
    const told = graph.named(layerName(store.base, layer))?.properties[DIFF_ID_PROPERTY] ?? '';
    if (!isDigest(told)) {
      throw new PandoError(
        'IMAGE_INVALID',
        `Nobody here knows the DiffID of layer ${layer}, which an image of this root needs; extract an image that has it with "pando image extract".`,
        { layer },
      );
    }
    below.unshift(told as DiffId);
  }
  return below;
}
