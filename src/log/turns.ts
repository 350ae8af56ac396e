/** Tasks that take turns: those of one key run one after the other, in the order they came; others beside them. */
export class Turns<Key> {
  readonly #last = new Map<Key, Promise<void>>();

  /** Runs the task once all earlier ones of that key have settled, and gives its outcome. */
  async run<Result>(key: Key, task: () => Promise<Result>): Promise<Result> {
    const turn = (this.#last.get(key) ?? Promise.resolve()).then(task);
    const settled = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#last.set(key, settled);
    try {
      return await turn;
    } finally {
      if (this.#last.get(key) === settled) this.#last.delete(key);
    }
  }

  /** Resolves once nothing runs and nothing waits. */
  async idle(): Promise<void> {
    while (this.#last.size > 0) await Promise.all(this.#last.values());
  }
}
