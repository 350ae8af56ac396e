/** One run of a node's process. When it is over, nothing that it waited for comes back to it, and nothing that it asked for happens. */
export class Life {
  readonly #ending = new AbortController();

  get isOver(): boolean {
    return this.#ending.signal.aborted;
  }

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  end(): void {
    this.#ending.abort();
  }
}
