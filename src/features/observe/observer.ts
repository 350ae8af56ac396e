/**
 * Turns what people and other tools did with plain `zfs` into events (design §4), on start and every few seconds.
 *
 * What this module believes:
 *
 * 1. The disk is the truth. A look lists what is there, and whatever differs from the graph becomes events (invariant 4).
 * 2. A root that cannot be listed says nothing about its datasets: an exported pool destroys nothing. The tree keeps its graph and shows the
 *    error until it is back. So does an own tree whose root is gone from a pool that is there: nothing is told as destroyed for a root that
 *    was renamed. The root of a mirror takes its datasets along, and the next sync brings them again.
 * 3. Looks at one tree take turns, so that each compares with what the one before has logged. Whoever asks while one waits shares it.
 * 4. While a tree is being received into, what is half there is nobody's business: the transfer itself tells when something is whole.
 * 5. That nothing changed, as ZFS tells it, counts for the graph that was looked at then: a tree that was removed and added has another. It counts as
 *    long as a mirror's peer says the same, too: it knows who owns what.
 */
import { isPandoError, PandoError } from '../../core/errors.ts';
import type { Cause, EventBody, KnownEvent, Ownership } from '../../core/events.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { ObservationScope, ObservedDataset } from '../../core/graph/observed.ts';
import { reconcile, reconcileArrival } from '../../core/graph/reconcile.ts';
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  isHidden,
  type RelativeName,
  relativeTo,
  type SnapshotGuid,
  type TreeName,
} from '../../core/ids.ts';
import type { History } from '../../log/history.ts';
import { Turns } from '../../log/turns.ts';
import type { Timers } from '../../sync/timers.ts';
import type { ArrivedSnapshot } from '../../transfer/completion.ts';
import type { ListedDataset, Zfs } from '../../zfs/zfs.ts';
import { foreignHolds } from './foreign-holds.ts';
import { LookMemory, type TreeCondition } from './look-memory.ts';
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
  readonly ownerOf: (id: DatasetId, seen: ObservedDataset) => Ownership;
  /** Who owns a dataset of a mirror by what its peers say now; undefined where nobody says anything. */
  readonly saidOwnerOf: (id: DatasetId) => Ownership | undefined;
  /** What peers that may take over datasets of the tree claim of each now; undefined where none claims it. */
  readonly claims: () => (id: DatasetId) => Ownership | undefined;
  /** The snapshots that the owner of a dataset has of it, as far as known; none of what belongs to this node. */
  readonly atOwner: (id: DatasetId) => ReadonlySet<SnapshotGuid>;
  /** What the peers of a mirror say, the same as long as they say the same. */
  readonly heard: () => unknown;
  /** Whether the root may be absent without that being an error: a mirror's comes with a sync. */
  readonly mayBeAbsent: boolean;
}

export interface ObserverOptions {
  readonly history: History;
  readonly zfs: Zfs;
  /** The trees of this node, asked before each round. */
  readonly trees: () => readonly WatchedTree[];
  /** Whether a transfer is writing into the tree now. */
  readonly isReceiving: (tree: TreeName) => boolean;
  /**
   * Has transfers that were cut short mark what they brought: unmarked, it would be taken for something new. Rejects where the tree is not where it belongs.
   */
  readonly clearUp: (tree: TreeName, root: DatasetName) => Promise<unknown>;
  /** Told what the first look at a tree shows since this node runs. What it rejects with is the look's failure. */
  readonly onFirstListing: (tree: TreeName, listing: readonly ListedDataset[]) => Promise<void>;
  /** How many holds of this node's own there are on a snapshot. */
  readonly ownHolds: (snapshot: SnapshotGuid) => number;
  readonly mintDatasetId: () => DatasetId;
  readonly timers: Timers;
  /** Wall clock in Unix ms. */
  readonly now: () => number;
  readonly intervalMs: number;
  /** Told about what went wrong with a tree, and with null once it is well again. */
  readonly onTrouble: (tree: TreeName, error: PandoError | null) => void;
}

/** A look that has not begun: what it finds is new enough for whoever asks now. */
interface WaitingLook {
  readonly root: DatasetName;
  readonly cause: Cause;
  readonly events: Promise<readonly KnownEvent[]>;
}

export class Observer {
  readonly #options: ObserverOptions;
  readonly #turns = new Turns<TreeName>();
  readonly #waiting = new Map<TreeName, WaitingLook>();
  readonly #memory: LookMemory;
  /** Trees that were listed since this node runs. */
  readonly #listed = new Set<TreeName>();
  readonly #stopping = new AbortController();
  #round: Promise<void> = Promise.resolve();
  #cancelNext: () => void = () => undefined;

  constructor(options: ObserverOptions) {
    this.#options = options;
    this.#memory = new LookMemory(options.now, options.onTrouble);
  }

  /** Looks at every tree, then again and again until {@link stop}. Resolves after the first round. */
  start(): Promise<void> {
    this.#round = this.#lookAtAll();
    return this.#round;
  }

  /** Ends the rounds and resolves once nothing is being looked at. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#cancelNext();
    await this.#round;
    await this.#turns.idle();
  }

  condition(tree: TreeName): TreeCondition {
    return this.#memory.condition(tree);
  }

  /**
   * Looks at a whole tree now and logs what is new. Gives the events; none when ZFS can tell that nothing changed, or while the tree is being
   * received into. Rejects when the root cannot be listed, with `TREE_ROOT_MISSING` when an own tree's is gone.
   */
  look(watched: WatchedTree, cause: Cause = 'observed'): Promise<readonly KnownEvent[]> {
    const { tree, root } = watched;
    const waiting = this.#waiting.get(tree);
    if (waiting?.root === root && waiting.cause === cause) return waiting.events;
    const events = this.#turns.run(tree, () => {
      if (this.#waiting.get(tree)?.events === events) this.#waiting.delete(tree);
      return this.#lookNow(watched, cause);
    });
    this.#waiting.set(tree, { root, cause, events });
    return events;
  }

  /**
   * Looks at these datasets only. For whoever knows what it changed. At the whole tree where one is not at its name any more, since it may have been destroyed, or have another
   * name, and where one hangs off what is not known yet, since that would be a graph that cannot be. Then gives none while the tree is being received into.
   */
  lookAt(watched: WatchedTree, names: readonly RelativeName[], cause: Cause): Promise<readonly KnownEvent[]> {
    return this.#turns.run(watched.tree, async () => {
      const listing = await this.#options.zfs.listOnly(names.map((name) => absoluteName(watched.root, name)));
      const graph = this.#graph(watched.tree);
      const isPart = isAnyMissing(graph, names, listing) || leavesHanging(graph, watched.root, listing);
      if (isPart) return this.#lookNow(watched, cause);
      return this.#log(watched, listing, new Set(names), cause);
    });
  }

  /** Runs a task while nobody looks at the tree, and once whoever does now has looked: for what is only half true until it ends. */
  unobserved<Result>(tree: TreeName, task: () => Promise<Result>): Promise<Result> {
    return this.#turns.run(tree, task);
  }

  /** Logs what a transfer brought: listed datasets, and single snapshots that came into others. Those of `asked` that are not listed are gone for certain. */
  settle(
    watched: WatchedTree,
    listed: readonly ListedDataset[],
    arrived: readonly ArrivedSnapshot[],
    asked: readonly DatasetName[] = listed.map(({ name }) => name),
  ): Promise<readonly KnownEvent[]> {
    const names = asked.map((name) => relativeTo(watched.root, name)).filter((name) => name !== undefined);
    return this.#turns.run(watched.tree, async () => {
      const logged = await this.#log(watched, listed, new Set(names), 'received');
      return [...logged, ...(await this.#logArrivals(watched, arrived))];
    });
  }

  async #logArrivals(watched: WatchedTree, arrived: readonly ArrivedSnapshot[]): Promise<readonly KnownEvent[]> {
    const { history } = this.#options;
    const graph = this.#graph(watched.tree);
    if (graph.root !== watched.root) return [];
    const events = arrived.flatMap(({ dataset: name, snapshot }) => {
      const relative = relativeTo(watched.root, name);
      const dataset = relative === undefined ? undefined : graph.named(relative);
      return dataset === undefined ? [] : reconcileArrival(dataset, snapshot);
    });
    return events.length === 0 ? [] : history.record(watched.tree, 'received', events);
  }

  async #lookAtAll(): Promise<void> {
    const { timers, intervalMs } = this.#options;
    const started = timers.now();
    for (const watched of this.#options.trees()) {
      if (this.#stopping.signal.aborted) return;
      // The condition of the tree keeps the error; the others are looked at all the same.
      await this.look(watched).catch(() => undefined);
    }
    if (this.#stopping.signal.aborted) return;
    const rest = Math.max(intervalMs, REST_PER_LOOK * (timers.now() - started));
    this.#cancelNext = timers.after(rest, () => {
      this.#round = this.#lookAtAll();
    });
  }

  async #lookNow(watched: WatchedTree, cause: Cause): Promise<readonly KnownEvent[]> {
    if (this.#options.isReceiving(watched.tree)) return [];
    try {
      await this.#options.clearUp(watched.tree, watched.root);
      return await this.#lookAtRoot(watched, cause);
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#memory.unwell(watched.tree, error);
      throw error;
    }
  }

  async #lookAtRoot(watched: WatchedTree, cause: Cause): Promise<readonly KnownEvent[]> {
    const { zfs } = this.#options;
    const { signal } = this.#stopping;
    try {
      const token = await zfs.changeToken(watched.root, signal);
      const graph = this.#graph(watched.tree);
      const seen = { token, graph, heard: watched.heard() };
      if (this.#memory.isAsSeen(watched.tree, seen)) {
        this.#memory.well(watched.tree, seen);
        return [];
      }
      return await this.#take(watched, await zfs.list(watched.root, signal), { token, cause });
    } catch (error) {
      await this.#requireAbsence(watched, error);
      return this.#take(watched, [], { token: null, cause });
    }
  }

  async #take(
    watched: WatchedTree,
    listing: readonly ListedDataset[],
    { token, cause }: { readonly token: string | null; readonly cause: Cause },
  ): Promise<readonly KnownEvent[]> {
    // Begun meanwhile: the listing may show datasets that are half there (belief 4).
    if (this.#options.isReceiving(watched.tree)) return [];
    if (!this.#listed.has(watched.tree)) await this.#options.onFirstListing(watched.tree, listing);
    this.#listed.add(watched.tree);
    const heard = watched.heard();
    const events = await this.#log(watched, listing, 'tree', cause);
    this.#memory.well(watched.tree, { token, graph: this.#graph(watched.tree), heard });
    return events;
  }

  /**
   * Throws unless the root is certainly gone, and may be (belief 2). ZFS is asked again for the root alone, since what was not found can have
   * been something below it that went meanwhile.
   */
  async #requireAbsence(watched: WatchedTree, error: unknown): Promise<void> {
    if (!isPandoError(error, 'ZFS_NOT_FOUND')) throw error;
    const there = await this.#options.zfs.listOnly([watched.root], this.#stopping.signal);
    if (there.length > 0) throw error;
    if (!watched.mayBeAbsent) throw rootMissing(watched, error);
  }

  async #log(
    watched: WatchedTree,
    listing: readonly ListedDataset[],
    scope: ObservationScope,
    cause: Cause,
  ): Promise<readonly KnownEvent[]> {
    const { history, mintDatasetId, zfs, ownHolds } = this.#options;
    const holds = await foreignHolds(zfs, this.#graph(watched.tree), listing, ownHolds);
    const graph = this.#graph(watched.tree);
    // Removed while it was being listed: nothing more is said about it.
    if (graph.root !== watched.root) return [];
    const { events, unmarked } = reconcile(graph, observedTree(watched.root, listing, holds), {
      scope,
      mint: mintDatasetId,
      ownerOf: watched.ownerOf,
      saidOwnerOf: watched.saidOwnerOf,
      claimOf: watched.claims(),
      self: history.node,
    });
    const logged = events.length === 0 ? [] : await history.record(watched.tree, causeIn(watched, cause), events);
    // After the log: should this be cut short, the next look knows the dataset by its guid and marks it then.
    for (const { name, dataset } of unmarked) {
      await this.#options.zfs.setProperties([absoluteName(watched.root, name)], { [ID_PROPERTY]: dataset });
    }
    return logged;
  }

  #graph(tree: TreeName): Graph {
    const { history } = this.#options;
    return history.graph(history.ownStream(tree));
  }
}

function isAnyMissing(graph: Graph, names: readonly RelativeName[], listing: readonly ListedDataset[]): boolean {
  const guids = new Set(listing.map(({ guid }) => guid));
  return names.some((name) => {
    const known = graph.named(name);
    return known !== undefined && !guids.has(known.guid);
  });
}

/** Whether what is listed hangs off what is not known, or what is known would hang off what is listed as gone. */
function leavesHanging(graph: Graph, root: DatasetName, listing: readonly ListedDataset[]): boolean {
  const present = new Set(listing.flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid)));
  return hangsOffUnknown(graph, root, listing) || listing.some(({ name }) => hasLostOrigin(graph, root, name, present));
}

function hasLostOrigin(
  graph: Graph,
  root: DatasetName,
  name: DatasetName,
  present: ReadonlySet<SnapshotGuid>,
): boolean {
  const relative = relativeTo(root, name);
  const known = relative === undefined ? undefined : graph.named(relative);
  return known?.snapshots.some(({ guid }) => !present.has(guid) && graph.clonesOf(guid).length > 0) === true;
}

function hangsOffUnknown(graph: Graph, root: DatasetName, listing: readonly ListedDataset[]): boolean {
  return listing.some(({ origin }) => {
    const name = origin === null ? undefined : relativeTo(root, origin.reference.dataset);
    if (origin === null || name === undefined || isHidden(name)) return false;
    const parent = listing.find((one) => one.name === origin.reference.dataset) ?? graph.named(name);
    return parent?.snapshots.some(({ guid }) => guid === origin.guid) !== true;
  });
}

function rootMissing({ tree, root }: WatchedTree, cause: PandoError): PandoError {
  return new PandoError(
    'TREE_ROOT_MISSING',
    `The root "${root}" of tree "${tree}" is gone; what was last known of it is kept. Bring it back, say with "zfs rename", or end it with "pando tree rm ${tree}".`,
    { tree, root },
    { cause },
  );
}

/**
 * What an owner has can only have come from there, whoever was not told of it: a transfer that was cut short, or the mirror that there was before this one.
 */
function causeIn({ atOwner }: WatchedTree, cause: Cause): (event: EventBody) => Cause {
  const known = new Map<DatasetId, ReadonlySet<SnapshotGuid>>();
  return (event) => {
    if (event.type !== 'snapshot.created') return cause;
    const there = known.get(event.dataset) ?? atOwner(event.dataset);
    known.set(event.dataset, there);
    return there.has(event.snapshot.guid) ? 'received' : cause;
  };
}
