import type { CommittedImage } from '../../features/layers/commit-steps.ts';
import type { ExtractionProgress, ExtractionResult } from '../../features/layers/extraction.ts';
import type { UnneededLayer } from '../../features/layers/garbage.ts';
import type { CataloguedImage } from '../../features/layers/image-catalog.ts';
import type { LayerStore } from '../../features/layers/layer-stores.ts';
import type { ContainerRoot } from '../../features/layers/roots.ts';
import type { StoredLayer } from '../../features/layers/stored-layers.ts';

type Store = string | undefined;

/** What the commands ask of a node's layers. `store` names the tree of a layer store, where there are several. */
export interface LayersClient {
  init(dataset: string): Promise<LayerStore>;
  list(store: Store): Promise<readonly StoredLayer[]>;
  collectGarbage(request: { readonly store: Store; readonly dryRun: boolean }): Promise<readonly UnneededLayer[]>;
  tarOf(layer: string, store: Store, signal: AbortSignal): AsyncIterable<Uint8Array>;
  images(store: Store): Promise<readonly CataloguedImage[]>;
  extract(
    request: {
      readonly store: Store;
      readonly source: string;
      readonly name: string | null;
      readonly insecure: boolean;
    },
    call: { readonly onProgress: (progress: ExtractionProgress) => void; readonly signal: AbortSignal },
  ): Promise<ExtractionResult>;
  /** `target` is an absolute path. */
  exportImage(
    request: { readonly store: Store; readonly image: string; readonly target: string },
    signal: AbortSignal,
  ): Promise<{ readonly manifest: string }>;
  untag(image: string, store: Store): Promise<void>;
  roots(store: Store): Promise<readonly ContainerRoot[]>;
  createRoot(
    request: {
      readonly store: Store;
      readonly id: string;
      readonly image?: string | undefined;
      readonly layer?: string | undefined;
    },
    signal: AbortSignal,
  ): Promise<{ readonly id: string; readonly directory: string }>;
  removeRoot(id: string, store: Store): Promise<void>;
  commitRoot(
    id: string,
    request: { readonly store: Store; readonly image: string; readonly freeze: boolean },
    signal: AbortSignal,
  ): Promise<CommittedImage>;
}
