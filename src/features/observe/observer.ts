/**
 * Turns what people and other tools did with plain `zfs` into events (design §4), on start and every few seconds.
 *
 * What this module believes:
 *
 * 1. The disk is the truth. A look lists what is there, and whatever differs from the graph becomes events (invariant 4).
 * 2. A root that cannot be listed says nothing about its datasets: an exported pool destroys nothing. The tree keeps its graph and shows the
 *    error until it is back.
 * 3. Looks at one tree take turns, so that each compares with what the one before has logged.
 * 4. While a tree is being received into, what is half there is nobody's business: the transfer itself tells when something is whole.
 */
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import type { Cause, KnownEvent, Ownership } from '../../core/events.ts';
import type { ObservationScope } from '../../core/graph/observed.ts';
import { reconcile, reconcileArrival } from '../../core/graph/reconcile.ts';
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  type RelativeName,
  relativeTo,
  type TreeName,
} from '../../core/ids.ts';
import type { History } from '../../log/history.ts';
import { Turns } from '../../log/turns.ts';
import type { ArrivedSnapshot } from '../../transfer/completion.ts';
import type { ListedDataset, Zfs } from '../../zfs/zfs.ts';
import { observedTree } from './observed-tree.ts';

/** How often a tree is looked at, in ms, unless configured: soon enough for people, seldom enough for disks. */
export const LOOK_INTERVAL_MS = 5_000;
/** A look that takes long makes the next wait this many times as long, so that a huge tree costs at most a tenth of a core. */
const REST_PER_LOOK = 10;

/** A tree that this node keeps. */
export interface WatchedTree {
  readonly tree: TreeName;
  readonly root: DatasetName;
  /** Who owns a dataset that appears in it. */
  readonly ownerOf: (id: DatasetId) => Ownership;
  /** Whether the root may be absent without that being an error: a mirror before its first sync. */
  readonly mayBeAbsent: boolean;
}

export interface ObserverOptions {
  readonly history: History;
  readonly zfs: Zfs;
  /** The trees of this node, asked before each round. */
  readonly trees: () => readonly WatchedTree[];
  /** Whether a transfer is writing into the tree now. */
  readonly isReceiving: (tree: TreeName) => boolean;
  readonly mintDatasetId: () => DatasetId;
  readonly intervalMs: number;
  /** Told about what went wrong with a tree, and with null once it is well again. */
  readonly onTrouble: (tree: TreeName, error: PandoError | null) => void;
}

/** How a tree was found at the last look. */
export interface TreeCondition {
  /** Unix ms of the last look that succeeded, or null. */
  readonly lookedAt: number | null;
  readonly error: PandoError | null;
}

interface TreeMemory {
  token: string | null;
  condition: TreeCondition;
}

export class Observer {
  readonly #options: ObserverOptions;
  readonly #turns = new Turns<TreeName>();
  readonly #memory = new Map<TreeName, TreeMemory>();
  /** Looks that have not begun. */
  readonly #waiting = new Map<TreeName, Promise<readonly KnownEvent[]>>();
  readonly #stopping = new AbortController();
  #round: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ObserverOptions) {
    this.#options = options;
  }

  /** Looks at every tree, then again and again until {@link stop}. Resolves after the first round. */
  start(): Promise<void> {
    this.#round = this.#lookAtAll();
    return this.#round;
  }

  /** Ends the rounds and resolves once nothing is being looked at. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await this.#round;
    await this.#turns.idle();
  }

  condition(tree: TreeName): TreeCondition {
    return this.#memory.get(tree)?.condition ?? { lookedAt: null, error: null };
  }

  /** Like {@link look}, but whoever asks while a look waits for its turn shares it: it has not seen anything yet. */
  lookSoon(watched: WatchedTree): Promise<readonly KnownEvent[]> {
    const waiting = this.#waiting.get(watched.tree);
    if (waiting !== undefined) return waiting;
    const begun = (): void => void this.#waiting.delete(watched.tree);
    const look = this.#turns.run(watched.tree, async () => begun()).then(() => this.look(watched));
    this.#waiting.set(watched.tree, look);
    return look;
  }

  /**
   * Looks at a whole tree now and logs what is new. Gives the events; none when ZFS can tell that nothing changed, or while the tree is being
   * received into. Rejects when the root cannot be listed.
   */
  look(watched: WatchedTree, cause: Cause = 'observed'): Promise<readonly KnownEvent[]> {
    return this.#turns.run(watched.tree, async () => {
      if (this.#options.isReceiving(watched.tree)) return [];
      const { zfs } = this.#options;
      const { signal } = this.#stopping;
      try {
        const memory = this.#remember(watched.tree);
        const token = await zfs.changeToken(watched.root, signal);
        if (token !== null && token === memory.token && !this.#isBlank(watched)) {
          this.#well(watched.tree, token);
          return [];
        }
        const listing = await zfs.list(watched.root, signal);
        // Begun meanwhile: the listing may show datasets that are half there (belief 4).
        if (this.#options.isReceiving(watched.tree)) return [];
        const events = await this.#log(watched, listing, 'tree', cause);
        this.#well(watched.tree, token);
        return events;
      } catch (error) {
        // A pool that is away is told from a root that is gone: a replica without its root is no replica any more.
        if (watched.mayBeAbsent && isPandoError(error, 'ZFS_NOT_FOUND')) return this.#log(watched, [], 'tree', cause);
        this.#unwell(watched.tree, error);
        throw error;
      }
    });
  }

  /** Looks at these datasets only, those that are gone included. For whoever knows what it changed. */
  lookAt(watched: WatchedTree, names: readonly RelativeName[], cause: Cause): Promise<readonly KnownEvent[]> {
    return this.#turns.run(watched.tree, async () => {
      const listing = await this.#options.zfs.listOnly(names.map((name) => absoluteName(watched.root, name)));
      return this.#log(watched, listing, new Set(names), cause);
    });
  }

  /** Logs what a transfer brought: listed datasets, and single snapshots that came into others. */
  settle(
    watched: WatchedTree,
    listed: readonly ListedDataset[],
    arrived: readonly ArrivedSnapshot[],
  ): Promise<readonly KnownEvent[]> {
    const names = listed.map(({ name }) => relativeTo(watched.root, name)).filter((name) => name !== undefined);
    return this.#turns.run(watched.tree, async () => {
      const logged = await this.#log(watched, listed, new Set(names), 'received');
      return [...logged, ...(await this.#logArrivals(watched, arrived))];
    });
  }

  async #logArrivals(watched: WatchedTree, arrived: readonly ArrivedSnapshot[]): Promise<readonly KnownEvent[]> {
    const { history } = this.#options;
    const graph = history.graph(history.ownStream(watched.tree));
    const events = arrived.flatMap(({ dataset: name, snapshot }) => {
      const relative = relativeTo(watched.root, name);
      const dataset = relative === undefined ? undefined : graph.named(relative);
      return dataset === undefined ? [] : reconcileArrival(dataset, snapshot);
    });
    return events.length === 0 ? [] : history.record(watched.tree, 'received', events);
  }

  async #lookAtAll(): Promise<void> {
    const started = performance.now();
    for (const watched of this.#options.trees()) {
      if (this.#stopping.signal.aborted) return;
      // The condition of the tree keeps the error; the others are looked at all the same.
      await this.look(watched).catch(() => undefined);
    }
    if (this.#stopping.signal.aborted) return;
    const rest = Math.max(this.#options.intervalMs, REST_PER_LOOK * (performance.now() - started));
    this.#timer = setTimeout(() => {
      this.#round = this.#lookAtAll();
    }, rest);
  }

  async #log(
    watched: WatchedTree,
    listing: readonly ListedDataset[],
    scope: ObservationScope,
    cause: Cause,
  ): Promise<readonly KnownEvent[]> {
    const { history, mintDatasetId } = this.#options;
    const graph = history.graph(history.ownStream(watched.tree));
    const { events, unmarked } = reconcile(graph, observedTree(watched.root, listing), {
      scope,
      mint: mintDatasetId,
      ownerOf: watched.ownerOf,
    });
    const logged = events.length === 0 ? [] : await history.record(watched.tree, cause, events);
    // After the log: should this be cut short, the next look knows the dataset by its guid and marks it then.
    for (const { name, dataset } of unmarked) {
      await this.#options.zfs.setProperties([absoluteName(watched.root, name)], { [ID_PROPERTY]: dataset });
    }
    return logged;
  }

  #remember(tree: TreeName): TreeMemory {
    const memory = this.#memory.get(tree) ?? { token: null, condition: { lookedAt: null, error: null } };
    this.#memory.set(tree, memory);
    return memory;
  }

  #well(tree: TreeName, token: string | null): void {
    const memory = this.#remember(tree);
    if (memory.condition.error !== null) this.#options.onTrouble(tree, null);
    memory.token = token;
    memory.condition = { lookedAt: Date.now(), error: null };
  }

  #unwell(tree: TreeName, thrown: unknown): void {
    if (this.#stopping.signal.aborted) return;
    const error = thrown instanceof PandoError ? thrown : new PandoError('INTERNAL', describeError(thrown));
    const memory = this.#remember(tree);
    if (memory.condition.error?.code !== error.code) this.#options.onTrouble(tree, error);
    memory.token = null;
    memory.condition = { lookedAt: memory.condition.lookedAt, error };
  }

  /** Whether nothing is known of the tree, as after it was removed and added again: no token speaks for that. */
  #isBlank(watched: WatchedTree): boolean {
    const { history } = this.#options;
    return history.graph(history.ownStream(watched.tree)).datasets.size === 0;
  }
}
