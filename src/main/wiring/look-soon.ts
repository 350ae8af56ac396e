import type { RelativeName, TreeName } from '../../core/ids.ts';
import type { Timers } from '../../sync/timers.ts';

/** Changes are looked at together once there have been none for so long, in ms: looks at each would be in the way of the next. */
const QUIET_MS = 300;
/** But no later than so many ms after the first, since peers wait to hear of them. */
const GATHERING_MS_MAX = 3_000;

/** Has the observer look at what was changed, in a while, at many together. */
export class LookSoon {
  readonly #timers: Timers;
  readonly #look: (tree: TreeName, names: readonly RelativeName[]) => Promise<unknown>;
  readonly #gathered = new Map<TreeName, Set<RelativeName>>();
  #cancel: (() => void) | null = null;
  /** When the first of what is gathered came. */
  #since = 0;
  #looking: Promise<unknown> = Promise.resolve();

  constructor(timers: Timers, look: (tree: TreeName, names: readonly RelativeName[]) => Promise<unknown>) {
    this.#timers = timers;
    this.#look = look;
  }

  add(tree: TreeName, names: readonly RelativeName[]): void {
    const gathered = this.#gathered.get(tree) ?? new Set();
    this.#gathered.set(tree, gathered);
    for (const name of names) gathered.add(name);
    const now = this.#timers.now();
    if (this.#cancel === null) this.#since = now;
    this.#cancel?.();
    const wait = Math.max(0, Math.min(QUIET_MS, this.#since + GATHERING_MS_MAX - now));
    this.#cancel = this.#timers.after(wait, () => this.#begin());
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
