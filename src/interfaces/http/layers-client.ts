import type { CommittedImage } from '../../features/layers/commit-steps.ts';
import type { ExtractionProgress, ExtractionResult } from '../../features/layers/extraction.ts';
import type { UnneededLayer } from '../../features/layers/garbage.ts';
import type { CataloguedImage } from '../../features/layers/image-catalog.ts';
import type { LayerStore } from '../../features/layers/layer-stores.ts';
import type { ContainerRoot } from '../../features/layers/roots.ts';
import type { StoredLayer } from '../../features/layers/stored-layers.ts';
import type { Call } from './call.ts';
import type {
  CollectGarbageRequest,
  CommitRootRequest,
  CreateRootRequest,
  ExportImageRequest,
  ExtractImageRequest,
} from './requests.ts';
import type { ErrorLine } from './wire.ts';

/** What a long operation on layers tells. */
export type LayerLine<Result> =
  | { readonly type: 'progress'; readonly progress: ExtractionProgress }
  | { readonly type: 'result'; readonly result: Result }
  | ErrorLine;

/** How calls are made: with an answer in JSON, without one, in lines, and as bytes. */
export interface LayerCalling {
  json<Result>(call: Call): Promise<Result>;
  done(call: Call): Promise<void>;
  lines<Line>(call: Call): AsyncIterable<Line>;
  bytes(call: Call): AsyncIterable<Uint8Array>;
  cutShort(): Error;
}

/** The part of the API that is about layers. `store` names the tree of a layer store, where there are several. */
export class LayersClient {
  readonly #calling: LayerCalling;

  constructor(calling: LayerCalling) {
    this.#calling = calling;
  }

  /** `dataset` in full, or as TREE or TREE/NAME. */
  init(dataset: string): Promise<LayerStore> {
    return this.#calling.json({ method: 'POST', path: '/v1/layer-stores', body: { dataset } });
  }

  list(store: string | undefined): Promise<readonly StoredLayer[]> {
    return this.#calling.json({ method: 'GET', path: '/v1/layers', query: { store } });
  }

  collectGarbage(body: CollectGarbageRequest): Promise<readonly UnneededLayer[]> {
    return this.#calling.json({ method: 'POST', path: '/v1/layers/garbage', body });
  }

  /** The tar of a layer. Fails where it is cut short. */
  tarOf(layer: string, store: string | undefined, signal: AbortSignal): AsyncIterable<Uint8Array> {
    return this.#calling.bytes({
      method: 'GET',
      path: `/v1/layers/${encodeURIComponent(layer)}/tar`,
      query: { store },
      signal,
    });
  }

  images(store: string | undefined): Promise<readonly CataloguedImage[]> {
    return this.#calling.json({ method: 'GET', path: '/v1/images', query: { store } });
  }

  extract(
    body: ExtractImageRequest,
    {
      onProgress,
      signal,
    }: { readonly onProgress: (progress: ExtractionProgress) => void; readonly signal: AbortSignal },
  ): Promise<ExtractionResult> {
    return this.#result({ method: 'POST', path: '/v1/images/extract', body, signal }, onProgress);
  }

  exportImage(body: ExportImageRequest, signal: AbortSignal): Promise<{ readonly manifest: string }> {
    return this.#result({ method: 'POST', path: '/v1/images/export', body, signal });
  }

  untag(image: string, store: string | undefined): Promise<void> {
    return this.#calling.done({ method: 'DELETE', path: '/v1/images', query: { image, store } });
  }

  roots(store: string | undefined): Promise<readonly ContainerRoot[]> {
    return this.#calling.json({ method: 'GET', path: '/v1/roots', query: { store } });
  }

  createRoot(
    body: CreateRootRequest,
    signal: AbortSignal,
  ): Promise<{ readonly id: string; readonly directory: string }> {
    return this.#result({ method: 'POST', path: '/v1/roots', body, signal });
  }

  removeRoot(id: string, store: string | undefined): Promise<void> {
    return this.#calling.done({ method: 'DELETE', path: `/v1/roots/${encodeURIComponent(id)}`, query: { store } });
  }

  commitRoot(id: string, body: CommitRootRequest, signal: AbortSignal): Promise<CommittedImage> {
    return this.#result({ method: 'POST', path: `/v1/roots/${encodeURIComponent(id)}/commit`, body, signal });
  }

  async #result<Result>(call: Call, onProgress?: (progress: ExtractionProgress) => void): Promise<Result> {
    for await (const line of this.#calling.lines<LayerLine<Result>>(call)) {
      if (line.type === 'error') throw line.error;
      if (line.type === 'result') return line.result;
      onProgress?.(line.progress);
    }
    throw this.#calling.cutShort();
  }
}
