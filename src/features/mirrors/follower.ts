import { type Mirror, type MirrorKey, type MirrorPlace, mirrorKey } from '../../core/admin.ts';
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import type { Event } from '../../core/events.ts';
import type { Dataset, Graph } from '../../core/graph/graph.ts';
import { type DatasetId, isLineage, type NodeId, splitStreamId, streamIdOf, type TreeName } from '../../core/ids.ts';
import { firstDue, keepsForDependents, keepsForOthers } from '../../core/plan/retention.ts';
import type { Conflict, Plan, Waiting } from '../../core/plan/steps.ts';
import type { History } from '../../log/history.ts';
import type { HistoryChange } from '../../log/stream-table.ts';
import type { Timers } from '../../sync/timers.ts';
import type { SyncReport } from './mirror-syncs.ts';
import type { Mirrors } from './mirrors.ts';

/**
 * After a sync that failed, or did only a part, in ms, before it is tried again without anything new: long enough for a person to mend what is wrong. So long what may go waits also where
 * others have moved on that it was kept for: there can be many of them.
 */
const RETRY_MS = 60_000;
/** A grace period can outlast what a timer takes (2^31 ms): mirrors that have one are looked at once a day, in ms. */
const LOOK_AGAIN_MS_MAX = 86_400_000;

/**
 * What a mirror need not hurry for: at most something is not protected any more. Each delivery moves a cursor, so that otherwise every mirror would look once for each of
 * the others.
 */
const MARKS: ReadonlySet<string> = new Set<Event['type']>([
  'bookmark.created',
  'bookmark.destroyed',
  'hold.placed',
  'hold.released',
]);

/** What can free a name that a dataset of another peer waits for, or the dataset itself from what is not to be changed with it; and can leave a lineage holder that nobody needs. */
const MAKES_ROOM: ReadonlySet<string> = new Set<Event['type']>([
  'dataset.destroyed',
  'dataset.promoted',
  'dataset.renamed',
  'ownership.claimed',
]);

/** What can leave a snapshot, or a dataset, with nothing that hangs off it or lies below. */
const FREES: ReadonlySet<string> = new Set<Event['type']>(['dataset.destroyed', 'dataset.promoted', 'dataset.renamed']);

export interface FollowerOptions {
  readonly history: History;
  readonly mirrors: Pick<Mirrors, 'list' | 'sync'>;
  readonly timers: Timers;
  /** Told what a sync did by itself, or what kept it from it. */
  readonly onSynced: (tree: TreeName, result: SyncReport | PandoError) => void;
}

/**
 * Keeps mirrors up to date by itself: syncs each once at the start, whenever its peer reports something new, when somebody here changed the mirror
 * behind its back, when others have brought to the tree, or told of it, what this one may have waited for, and some time after others have moved on for whom it kept what need not
 * be kept.
 */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #stopping = new AbortController();
  /** Mirrors whose sync is running, and whether something new came meanwhile. */
  readonly #busy = new Map<MirrorKey, { again: boolean }>();
  readonly #runs = new Set<Promise<void>>();
  /** Mirrors of which the last sync left something that others of the tree can bring, or make room for: an origin, a parent, a name. */
  readonly #unfinished = new Set<MirrorKey>();
  /** Trees in which the last sync left a lineage holder, which what others bring or give up can make needless. */
  readonly #keeping = new Set<TreeName>();
  /** Mirrors whose last sync kept something only since another peer has it as well. */
  readonly #sharing = new Set<MirrorKey>();
  /** Mirrors whose last sync kept something only since something else here depends on it. */
  readonly #dependedOn = new Set<MirrorKey>();
  /** Mirrors whose last sync failed: they are tried again in time, and when their own peer tells something. */
  readonly #failed = new Set<MirrorKey>();
  /** The syncs that are to come by themselves: when, by the clock of the timers, and how to call them off. */
  readonly #wakings = new Map<MirrorKey, { readonly at: number; readonly cancel: () => void }>();
  #unsubscribe: () => void = () => undefined;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#unsubscribe = this.#options.history.onChange((change) => this.#heard(change));
    for (const mirror of this.#options.mirrors.list()) this.follow(mirror);
  }

  async stop(): Promise<void> {
    this.#unsubscribe();
    this.#stopping.abort();
    for (const { cancel } of this.#wakings.values()) cancel();
    await Promise.all(this.#runs);
  }

  /** Syncs a mirror soon; once more after the running sync when there is one. */
  follow(mirror: MirrorPlace): void {
    const busy = this.#busy.get(mirrorKey(mirror));
    if (busy !== undefined) {
      busy.again = true;
      return;
    }
    const run = this.#sync(mirror).finally(() => this.#runs.delete(run));
    this.#runs.add(run);
  }

  #heard({ head, events }: HistoryChange): void {
    const { node, tree } = splitStreamId(head.stream);
    const mirrors = this.#options.mirrors.list().filter((mirror) => mirror.tree === tree);
    if (mirrors.length === 0) return;
    if (node === this.#options.history.node) this.#happened(tree, mirrors, events);
    else if (events?.every(({ type }) => MARKS.has(type)) !== true) this.#told(mirrors, node, events);
  }

  /** Something was logged of the tree here. */
  #happened(tree: TreeName, mirrors: readonly Mirror[], events: HistoryChange['events']): void {
    const isMeddled = events?.some((event) => this.#isMeddling(tree, event)) === true;
    const isBrought = events?.some(({ cause }) => cause === 'received') === true;
    const hasRoom = events?.some(({ type }) => MAKES_ROOM.has(type)) === true;
    const isFreeing = events?.some(({ type }) => FREES.has(type)) === true;
    const hasNewOwner = events?.some(({ type }) => type === 'ownership.claimed') === true;
    for (const mirror of mirrors) {
      const key = mirrorKey(mirror);
      // What one that is at work has brought itself helps no other
      const isLeft = ((isBrought || hasRoom) && this.#unfinished.has(key)) || (isFreeing && this.#dependedOn.has(key));
      const isHelped = !this.#busy.has(key) && (isLeft || (isBrought && this.#keeping.has(tree)));
      const isNeeded =
        hasNewOwner || (isBrought && !this.#busy.has(key) && this.#concerns(mirror, events, losesOrigin));
      if (isMeddled || isHelped || (isNeeded && !this.#failed.has(key))) this.follow(mirror);
    }
  }

  /** Whether somebody changed the tree behind this node's back. Commands leave replicas alone: what one of them found changed there, somebody did by hand just before. */
  #isMeddling(tree: TreeName, event: Event): boolean {
    if (event.cause === 'observed') return true;
    if (event.cause !== 'command' || MARKS.has(event.type) || !('dataset' in event)) return false;
    const { history } = this.#options;
    const id = event.dataset as DatasetId;
    const here = history.graph(history.ownStream(tree)).get(id);
    if (here !== undefined) return here.owner.node !== history.node;
    // Of what is gone only peers still know whose it is
    const there = Array.from(history.othersOf(tree).values(), (graph) => graph.get(id)).find(
      (one) => one !== undefined,
    );
    return there !== undefined && there.owner.node !== history.node;
  }

  /** A peer has told something of the tree. Mirrors of others wait for their turn where the last sync failed. */
  #told(mirrors: readonly Mirror[], node: NodeId, events: HistoryChange['events']): void {
    for (const mirror of mirrors) if (this.#sharing.has(mirrorKey(mirror))) this.#wakeUp(mirror, RETRY_MS);
    if (!mirrors.some(({ from }) => from === node)) return;
    for (const mirror of mirrors) {
      const key = mirrorKey(mirror);
      const isLeft = this.#unfinished.has(key) || this.#keeping.has(mirror.tree);
      const isHelped = isLeft && events?.some(({ type }) => MAKES_ROOM.has(type)) !== false;
      if (mirror.from === node) this.follow(mirror);
      else if (!this.#failed.has(key) && (isHelped || this.#concerns(mirror, events, movesTo))) this.follow(mirror);
    }
  }

  /** Whether what was done here, or at another peer, concerns something at the peer of this mirror. */
  #concerns(
    { tree, from }: MirrorPlace,
    events: HistoryChange['events'],
    isConcerned: (graph: Graph, event: Event) => boolean,
  ): boolean {
    const { history } = this.#options;
    const stream = streamIdOf(from, tree);
    if (events === null || history.faults().some((fault) => fault.stream === stream) || history.head(stream) === null)
      return events === null;
    const graph = history.graph(stream);
    return events.some((event) => isConcerned(graph, event));
  }

  #keepsHolders(tree: TreeName): boolean {
    const { history } = this.#options;
    const stream = history.ownStream(tree);
    if (history.head(stream) === null) return false;
    const { datasets } = history.graph(stream);
    return Array.from(datasets.values()).some(({ name }) => isLineage(name));
  }

  /** Where the first holders came, what made them needless can have been heard before they were known of. */
  #rememberHolders(tree: TreeName): void {
    const had = this.#keeping.has(tree);
    remember(this.#keeping, tree, this.#keepsHolders(tree));
    if (had || !this.#keeping.has(tree)) return;
    for (const mirror of this.#options.mirrors.list()) if (mirror.tree === tree) this.follow(mirror);
  }

  #isMirrored(place: MirrorPlace): boolean {
    return this.#options.mirrors.list().some((mirror) => mirrorKey(mirror) === mirrorKey(place));
  }

  async #sync({ tree, from }: MirrorPlace): Promise<void> {
    const state = { again: false };
    const key = mirrorKey({ tree, from });
    let isSecondLook = false;
    this.#busy.set(key, state);
    this.#callOff(key);
    const quiet = { onProgress: () => undefined, onPlan: () => undefined };
    const options = { ...quiet, signal: this.#stopping.signal, refresh: false };
    try {
      do {
        state.again = false;
        const report = await this.#options.mirrors.sync(tree, options, from);
        this.#options.onSynced(tree, report);
        this.#failed.delete(key);
        remember(this.#unfinished, key, leavesSomething(report.plan));
        this.#rememberHolders(tree);
        remember(this.#sharing, key, keepsForOthers(report.plan));
        remember(this.#dependedOn, key, keepsForDependents(report.plan));
        this.#wakeUp({ tree, from }, whenAgain(report, this.#options.history.now()));
        // What somebody did here meanwhile, the sync may have met with and told of as its own
        const isDone = report.steps.every(({ outcome }) => outcome.result === 'done' || outcome.result === 'kept');
        isSecondLook = isDone && report.steps.length > 0 && !isSecondLook;
        state.again ||= isSecondLook;
      } while (state.again && !this.#stopping.signal.aborted);
    } catch (error) {
      this.#unfinished.delete(key);
      this.#failed.add(key);
      if (this.#stopping.signal.aborted || !this.#isMirrored({ tree, from })) return;
      this.#wakeUp({ tree, from }, RETRY_MS);
      // Somebody here ended it, and knows
      if (isPandoError(error, 'TRANSFER_CANCELLED')) return;
      const known = error instanceof PandoError ? error : new PandoError('INTERNAL', describeError(error));
      this.#options.onSynced(tree, known);
    } finally {
      this.#busy.delete(key);
    }
  }

  /** Syncs again after so many ms by itself, or sooner where that was to be; null for not. */
  #wakeUp(mirror: MirrorPlace, afterMs: number | null): void {
    if (afterMs === null || this.#stopping.signal.aborted) return;
    const { timers } = this.#options;
    const key = mirrorKey(mirror);
    const at = timers.now() + afterMs;
    const planned = this.#wakings.get(key);
    if (planned !== undefined && planned.at <= at) return;
    this.#callOff(key);
    const cancel = timers.after(afterMs, () => {
      this.#wakings.delete(key);
      if (this.#isMirrored(mirror)) this.follow(mirror);
    });
    this.#wakings.set(key, { at, cancel });
  }

  #callOff(key: MirrorKey): void {
    this.#wakings.get(key)?.cancel();
    this.#wakings.delete(key);
  }
}

function remember<Key>(keys: Set<Key>, key: Key, isSo: boolean): void {
  if (isSo) keys.add(key);
  else keys.delete(key);
}

/** Whether it shows now that what a dataset of that graph hangs off is nowhere but in a lineage holder. */
function losesOrigin(graph: Graph, event: Event): boolean {
  switch (event.type) {
    case 'dataset.created':
      // It came as another owner has it
      return graph.get(event.dataset)?.snapshots.some(({ guid }) => graph.clonesOf(guid).length > 0) === true;
    case 'dataset.destroyed':
    case 'dataset.promoted':
    case 'dataset.rolled-back':
      return graph.get(event.dataset) !== undefined;
    case 'snapshot.destroyed':
      return graph.clonesOf(event.guid).length > 0;
    default:
      return false;
  }
}

/** Whether a dataset of that graph follows another peer now, since one has it no more or has taken it over, or has to share its name with what another peer has, or has lost its origin. */
function movesTo(graph: Graph, event: Event): boolean {
  switch (event.type) {
    case 'ownership.claimed':
      return graph.get(event.dataset) !== undefined;
    case 'dataset.created':
      return isOther(graph.named(event.name), event.dataset) || losesOrigin(graph, event);
    case 'dataset.renamed':
      return isOther(graph.named(event.to), event.dataset);
    default:
      return losesOrigin(graph, event);
  }
}

function isOther(found: Dataset | undefined, id: DatasetId): boolean {
  return found !== undefined && found.id !== id;
}

/** What another mirror can bring, or make room for. */
const HELPED: ReadonlySet<string> = new Set<(Waiting | Conflict)['reason']>([
  ...(['origin-waits', 'parent-waits'] as const),
  ...(['name-taken', 'parent-missing', 'origin-missing', 'rename-blocked', 'not-owned-together'] as const),
]);

function leavesSomething({ waiting, conflicts, contested }: Plan): boolean {
  return contested.length > 0 || [...waiting, ...conflicts].some(({ reason }) => HELPED.has(reason));
}

/** When to sync again although the peer tells nothing new: after a failure, while it cannot look, and when a grace period ends. */
function whenAgain({ steps, plan, awaitsLook }: SyncReport, now: number): number | null {
  // Steps that were skipped had a connection that was lost, or need what failed
  if (awaitsLook || steps.some(({ outcome }) => outcome.result === 'failed' || outcome.result === 'skipped'))
    return RETRY_MS;
  const due = firstDue(plan.retained);
  return due === null ? null : Math.min(Math.max(due - now, RETRY_MS), LOOK_AGAIN_MS_MAX);
}
