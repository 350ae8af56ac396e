import type { RelativeName, TreeName } from '../core/ids.ts';
import type { Timers } from '../sync/timers.ts';

/** How long changes are gathered, in ms, before they are looked at together: peers hear of them as soon, and nobody who makes many waits for a look at each. */
const GATHERING_MS = 500;

/** Has the observer look at what was changed, in a while, at many together. */
export class LookSoon {
  readonly #timers: Timers;
  readonly #look: (tree: TreeName, names: readonly RelativeName[]) => Promise<unknown>;
  readonly #gathered = new Map<TreeName, Set<RelativeName>>();
  #cancel: (() => void) | null = null;
  #looking: Promise<unknown> = Promise.resolve();

  constructor(timers: Timers, look: (tree: TreeName, names: readonly RelativeName[]) => Promise<unknown>) {
    this.#timers = timers;
    this.#look = look;
  }

  add(tree: TreeName, names: readonly RelativeName[]): void {
    const gathered = this.#gathered.get(tree) ?? new Set();
    this.#gathered.set(tree, gathered);
    for (const name of names) gathered.add(name);
    this.#cancel ??= this.#timers.after(GATHERING_MS, () => this.#begin());
  }

  /** Looks at what was gathered, now; resolves once that has been seen. */
  async settle(): Promise<void> {
    this.#cancel?.();
    this.#begin();
    await this.#looking;
  }

  #begin(): void {
    this.#cancel = null;
    const gathered = [...this.#gathered];
    this.#gathered.clear();
    this.#looking = this.#looking.then(async () => {
      // What cannot be looked at now is seen by the next round of the observer, which also tells why
      for (const [tree, names] of gathered) await this.#look(tree, [...names]).catch(() => undefined);
    });
  }
}
