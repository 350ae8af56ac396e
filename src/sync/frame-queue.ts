import type { PandoError } from '../core/errors.ts';

/** What waits to be dealt with in order, by one reader. Its size is bounded by what may be put into it: credit. */
export class FrameQueue<Item> {
  #items: Item[] = [];
  #reader: { readonly resolve: (item: Item) => void; readonly reject: (reason: PandoError) => void } | undefined;
  #closed: PandoError | undefined;

  push(item: Item): void {
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) this.#items.push(item);
    else reader.resolve(item);
  }

  /** The oldest item, as soon as there is one. Rejects once the queue is closed. */
  next(): Promise<Item> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift() as Item);
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  close(reason: PandoError): void {
    this.#closed = reason;
    this.#items = [];
    this.#reader?.reject(reason);
  }
}
