import { describeError, PandoError } from '../../core/errors.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { TreeName } from '../../core/ids.ts';

/** How a tree was found at the last look. */
export interface TreeCondition {
  /** Unix ms of the last look that succeeded, or null. */
  readonly lookedAt: number | null;
  readonly error: PandoError | null;
}

/** What a look found. */
interface Seen {
  /** The change token; null where there is none. */
  readonly token: string | null;
  /** The graph as the look left it. */
  readonly graph: Graph;
  /** What the peers of a mirror said then. */
  readonly heard: unknown;
}

interface LastLook {
  /** Null where the look failed. */
  readonly seen: Seen | null;
  readonly condition: TreeCondition;
}

const NEVER: LastLook = { seen: null, condition: { lookedAt: null, error: null } };

/** What the last look at each tree found, and how it went. */
export class LookMemory {
  readonly #last = new Map<TreeName, LastLook>();
  readonly #now: () => number;
  readonly #onTrouble: (tree: TreeName, error: PandoError | null) => void;

  /** `now` is the wall clock in Unix ms. `onTrouble` is told about what goes wrong with a tree, once for each kind of error, and with null once it is well again. */
  constructor(now: () => number, onTrouble: (tree: TreeName, error: PandoError | null) => void) {
    this.#now = now;
    this.#onTrouble = onTrouble;
  }

  condition(tree: TreeName): TreeCondition {
    return this.#of(tree).condition;
  }

  /** Whether the last look found just this. */
  isAsSeen(tree: TreeName, { token, graph, heard }: Seen): boolean {
    const { seen } = this.#of(tree);
    return token !== null && seen?.token === token && seen.graph === graph && seen.heard === heard;
  }

  well(tree: TreeName, seen: Seen): void {
    const { condition } = this.#of(tree);
    this.#last.set(tree, { seen, condition: { lookedAt: this.#now(), error: null } });
    if (condition.error !== null) this.#onTrouble(tree, null);
  }

  unwell(tree: TreeName, thrown: unknown): void {
    const error = thrown instanceof PandoError ? thrown : new PandoError('INTERNAL', describeError(thrown));
    const { condition } = this.#of(tree);
    this.#last.set(tree, { seen: null, condition: { lookedAt: condition.lookedAt, error } });
    if (condition.error?.code !== error.code) this.#onTrouble(tree, error);
  }

  #of(tree: TreeName): LastLook {
    return this.#last.get(tree) ?? NEVER;
  }
}
