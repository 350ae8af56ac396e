import type { ChainId } from '../../core/layers/digest.ts';

/** Layers that something under way counts on, though nothing refers to them yet: those of an image that has no name before all of it is there. */
export class LayersInUse {
  readonly #counts = new Map<ChainId, number>();

  has(layer: ChainId): boolean {
    return this.#counts.has(layer);
  }

  /** Keeps layers from being taken for garbage while a task runs. */
  async during<T>(layers: readonly ChainId[], task: () => Promise<T>): Promise<T> {
    for (const layer of layers) this.#counts.set(layer, (this.#counts.get(layer) ?? 0) + 1);
    try {
      return await task();
    } finally {
      for (const layer of layers) this.#release(layer);
    }
  }

  #release(layer: ChainId): void {
    const left = (this.#counts.get(layer) ?? 1) - 1;
    if (left === 0) this.#counts.delete(layer);
    else this.#counts.set(layer, left);
  }
}
