/** Mirrors: trees of peers that this node follows. Added and removed by people, brought up to date by {@link Mirrors.sync}. */
import { type Mirror, type MirrorKey, type MirrorPlace, mirrorKey, mirrorsOf } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { MirrorRules } from '../../core/events.ts';
import { isAllowed } from '../../core/grants.ts';
import type { Difference } from '../../core/graph/difference.ts';
import { type Dataset, Graph } from '../../core/graph/graph.ts';
import { neededHolders } from '../../core/graph/lineage.ts';
import { replicaDifference } from '../../core/graph/replica-difference.ts';
import {
  type DatasetId,
  type DatasetName,
  isLineage,
  type NodeId,
  type RelativeName,
  streamIdOf,
  type TreeName,
} from '../../core/ids.ts';
import { departures as departed } from '../../core/plan/departures.ts';
import { wantedGraph } from '../../core/plan/filter.ts';
import { plan } from '../../core/plan/plan.ts';
import { firstDue, keepsForOthers } from '../../core/plan/retention.ts';
import type { Allowance, Conflict, Plan, Retention, Step } from '../../core/plan/steps.ts';
import { checkMirrorPlace } from '../../core/roots.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import type { CaughtUp } from '../../sync/questions.ts';
import { type Timers, withinTime } from '../../sync/timers.ts';
import { RateLimit } from '../../transfer/bandwidth.ts';
import type { Settle } from '../../transfer/completion.ts';
import { isGivingUp } from '../../transfer/giving-up.ts';
import type { Interrupted } from '../../transfer/interruptions.ts';
import { listKeptAside } from '../../transfer/preservation.ts';
import type { ProgressListener, PullReport } from '../../transfer/progress.ts';
import type { LinkMode } from '../../transfer/protocol.ts';
import type { PullRequest } from '../../transfer/pull.ts';
import type { Zfs } from '../../zfs/zfs.ts';
import type { DepartureJournal } from './departure-journal.ts';
import { MirrorTurns, uncancelled } from './mirror-turns.ts';
import { checkReplicaPlace } from './replica-place.ts';
import { isSame, notShared, type Source, Sources } from './sources.ts';

export interface MirrorsOptions {
  readonly history: History;
  readonly admin: AdminJournal;
  readonly departures: DepartureJournal;
  readonly zfs: Zfs;
  /** Brings what is known of the peer's trees up to date; `refresh` lets the peer look at its ZFS first. */
  readonly catchUp: (peer: NodeId, options: { readonly refresh: boolean }) => Promise<CaughtUp>;
  readonly timers: Timers;
  /** How long a peer that is connected may take to answer, in ms. */
  readonly answerMsMax: number;
  readonly pull: (request: PullRequest) => Promise<PullReport>;
  /** What was cut short of a mirror and can go on; null where there is nothing. */
  readonly interrupted: (request: PullRequest, source: Graph) => Promise<Interrupted | null>;
  /** Whether streams from this peer may go outside TLS. */
  readonly linkMode: (peer: NodeId) => LinkMode;
  /** How much a peer may bring into a tree that this node shares itself. */
  readonly allowance: Allowance;
  /** Told after each plan what is left out because the peer has reached a limit: datasets by their names, none when it has not. */
  readonly onLimited: (mirror: MirrorPlace, names: readonly RelativeName[]) => void;
  /** Told of a peer that may not contribute to the tree of this node that is mirrored from it. */
  readonly onRefused: (peer: NodeId, tree: TreeName) => void;
  /** Has this node's stream of a tree say that it is kept at that root. */
  readonly announce: (tree: TreeName, root: DatasetName) => Promise<void>;
  /** Has it say that the tree is not kept any more. */
  readonly retract: (tree: TreeName) => Promise<void>;
  /** Lets the observer look at the whole mirror now, or at these datasets even where ZFS's change token says that nothing has changed. */
  readonly look: (tree: TreeName, names?: readonly RelativeName[]) => Promise<unknown>;
  /** Logs listed datasets of a mirror as received. */
  readonly settle: (tree: TreeName, ...shown: Parameters<Settle>) => Promise<unknown>;
}

export interface SyncOptions {
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
  /** Told once, before the first byte. */
  readonly onPlan: (plan: Plan) => void;
  /** Whether the peer looks at its ZFS first, instead of trusting what its observer last saw. */
  readonly refresh: boolean;
  /** How fast its streams may be, in bytes a second; without one, as fast as the node's limits allow. */
  readonly bytesPerSecond?: number | undefined;
}

/** What a sync did. */
export interface SyncReport extends PullReport {
  readonly tree: TreeName;
  readonly from: NodeId;
  readonly plan: Plan;
}

/** A plan, and what was known when it was made: of anything that came since it says nothing. */
interface Made {
  readonly plan: Plan;
  readonly basis: Source['basis'];
  /** What others had then. */
  readonly copies: readonly Graph[];
}

/** The last plan of a mirror that had nothing to do, to tell that again in no time. */
interface Settled extends Made {
  readonly mirror: Mirror;
  /** When time alone gives something to do, in Unix ms; null for never. */
  readonly until: number | null;
}

/**
 * How long a peer that is connected may take to answer, in ms: minutes, since it may have to list a large pool first. What comes later is stored all
 * the same, and then followed.
 */
export const ANSWER_MS_MAX = 600_000;

/** Steps that are planned against what ZFS shows now, not against what was last seen: they are told names, and another dataset may have those by now. */
const LOOKED_AT_FIRST: ReadonlySet<Step['kind']> = new Set([
  'clone',
  'destroy-dataset',
  'destroy-snapshot',
  'preserve',
  'promote',
  'rename',
  'take-root',
]);

/** For what is not cancelled by whoever asked for it. */
const NEVER = new AbortController().signal;

export class Mirrors {
  readonly #options: MirrorsOptions;
  readonly #turns = new MirrorTurns();
  /** What the peers say. */
  readonly sources: Sources;
  readonly #receiving = new Set<TreeName>();
  readonly #settled = new Map<MirrorKey, Settled>();
  /** Copies of what diverged that were kept when a tree was last planned anew. */
  readonly #aside = new Map<TreeName, number>();
  /** Mirrors whose peers were told that they have reached a limit. */
  readonly #limited = new Set<MirrorKey>();
  /** Mirrors whose last sync failed in part: more may be there than was logged. */
  readonly #unsure = new Set<MirrorKey>();

  constructor(options: MirrorsOptions) {
    this.#options = options;
    this.sources = new Sources(options);
  }

  list(): readonly Mirror[] {
    return [...this.#options.admin.state.mirrors.values()];
  }

  /**
   * The mirror of a tree; `from` says which where there are several. Throws `MIRROR_UNKNOWN` when there is none, `ARGUMENT_INVALID` when there are several and
   * none was named.
   */
  get(tree: TreeName, from?: NodeId): Mirror {
    const mirrors = mirrorsOf(this.#options.admin.state, tree);
    const [mirror, ...others] = mirrors.filter((one) => from === undefined || one.from === from);
    if (mirror === undefined) throw unknownMirror(tree);
    if (others.length === 0) return mirror;
    throw new PandoError(
      'ARGUMENT_INVALID',
      `"${tree}" is mirrored from ${mirrors.length} peers; name one with --from.`,
      {
        tree,
        from: mirrors.map((one) => one.from),
      },
    );
  }

  /** Whether a sync is writing into the tree now. */
  isReceiving(tree: TreeName): boolean {
    return this.#receiving.has(tree);
  }

  /**
   * Adds a mirror; a replica that is there from before is gone on with. One of a tree that this node keeps already brings what the peer owns of it. Rejects with
   * `TREE_EXISTS` when the tree is kept at another root, `MIRROR_EXISTS`, `TREE_OVERLAP`, `PEER_UNKNOWN`,
   * `TREE_ROOT_MISSING` when the dataset above `root` does not exist, and `ZFS_DATASET_EXISTS` when `root` does and is no replica: nothing is
   * ever received over it.
   */
  async add(mirror: Mirror): Promise<void> {
    const { admin, announce, look, zfs } = this.#options;
    const { tree, root } = mirror;
    // Said at once, rather than behind a sync of the mirror that there is.
    checkMirrorPlace(admin.state, mirror);
    // In a turn of its own: whoever hears of the new mirror and syncs it does so once it has been looked at.
    return this.#turns.run(tree, NEVER, async () => {
      if (!this.#isKept(tree)) await checkReplicaPlace(zfs, root);
      await admin.change((state) => {
        checkMirrorPlace(state, mirror);
        if (!state.peers.has(mirror.from)) {
          throw new PandoError(
            'PEER_UNKNOWN',
            `There is no peer ${mirror.from} here; add it first with "pando peer add".`,
          );
        }
        return [{ type: 'mirror.added', ...mirror }];
      });
      await announce(tree, root);
      await look(tree);
    });
  }

  /** Adds a mirror of a tree that is kept at that root already, at once: nothing has to be looked at for it. What cannot be is left: the peer is gone by then, or the mirror there. */
  async adopt(mirror: Mirror): Promise<void> {
    await this.#options.admin.change(({ peers, mirrors }) =>
      peers.has(mirror.from) && !mirrors.has(mirrorKey(mirror)) ? [{ type: 'mirror.added', ...mirror }] : [],
    );
  }

  /** Whether the tree is here for other reasons than one mirror alone. */
  #isKept(tree: TreeName): boolean {
    const { state } = this.#options.admin;
    return state.trees.has(tree) || mirrorsOf(state, tree).length > 0;
  }

  /** Changes what a mirror takes and keeps; the next sync goes by it. Rejects as {@link get} throws. */
  async change(tree: TreeName, rules: Partial<MirrorRules>, from?: NodeId): Promise<void> {
    await this.#options.admin.change(() => {
      const mirror = this.get(tree, from);
      const { only, except, keep, graceMs } = { ...mirror, ...rules };
      return [{ type: 'mirror.changed', tree, from: mirror.from, only, except, keep, graceMs }];
    });
  }

  /** Cancels the syncs of the tree and stops following the peer; what was received stays as it is. Rejects as {@link get} throws. */
  async remove(tree: TreeName, from?: NodeId): Promise<void> {
    const mirror = this.get(tree, from);
    const removed = new PandoError('TRANSFER_CANCELLED', `The mirror of "${tree}" was removed; its sync ended.`, {
      tree,
    });
    await this.#turns.cancel(tree, removed);
    await this.#turns.run(tree, NEVER, async () => {
      this.get(tree, mirror.from);
      await this.#options.admin.change(() => [{ type: 'mirror.removed', tree, from: mirror.from }]);
      await this.#options.departures.notice(mirror, []);
      if (!this.#isKept(tree)) await this.#options.retract(tree);
      this.#settled.delete(mirrorKey(mirror));
      this.#unsure.delete(mirrorKey(mirror));
    });
  }

  /** What a sync would do now, by what is known of the peer. Throws as {@link get}, `TREE_UNKNOWN` when the peer shares no such tree. */
  plan(tree: TreeName, from?: NodeId): Plan {
    return this.#make(this.get(tree, from)).plan;
  }

  /** The part of the peer's view that the mirror wants: of what follows the peer, that which its globs and its rule select. */
  wanted(mirror: Mirror): Graph {
    const { graph, follows, taken } = this.sources.of(mirror);
    const local = this.#local(mirror.tree);
    const wanted = wantedGraph(graph, mirror, { local, now: this.#options.history.now() }, taken());
    const followed = Array.from(wanted.datasets.values()).filter(follows);
    const holders = neededHolders(followed);
    // A holder that nobody needs follows somebody only to be given up
    const kept = followed.filter(({ id, name }) => !isLineage(name) || holders.has(id));
    if (kept.length === wanted.datasets.size) return wanted;
    return new Graph(wanted.root, new Map(kept.map((dataset) => [dataset.id, dataset])));
  }

  /** In what this node's copy differs from what its mirrors want. */
  compare(tree: TreeName): Difference[] {
    const mirrors = mirrorsOf(this.#options.admin.state, tree);
    if (mirrors.length === 0) throw unknownMirror(tree);
    const entitled = mirrors.filter((mirror) => this.sources.isEntitled(mirror));
    const wanted = new Map(entitled.flatMap((mirror) => [...this.wanted(mirror).datasets]));
    const { node } = this.#options.history;
    const found = replicaDifference(wanted, this.#local(tree), ({ owner }) => owner.node !== node);
    const plans = entitled
      .filter((mirror) => this.#allowance(mirror) !== undefined)
      .map((mirror) => this.#make(mirror).plan);
    const limited = new Set(plans.flatMap(limitedBy).map(({ dataset }) => dataset));
    return found.filter(({ dataset }) => !limited.has(dataset));
  }

  /**
   * Brings what is known of the mirrored tree up to date; with `refresh` the peer looks at its ZFS first. Rejects with what keeps the peer from being asked, and `TREE_UNKNOWN` where it
   * shares the tree with this node no more: what is known of it then is only what was.
   */
  async hear({ tree, from }: MirrorPlace, options: { readonly refresh: boolean }): Promise<void> {
    const { shared } = await this.#options.catchUp(from, options);
    if (!shared.has(streamIdOf(from, tree))) throw notShared(tree, from);
  }

  /**
   * Brings a mirror up to date. Steps that fail, or are cancelled by the signal, are in the report. Rejects as {@link get} throws, with
   * `TREE_UNKNOWN`, what keeps the peer from being asked (`PEER_UNREACHABLE`, `PROTOCOL_TIMEOUT` …), and where the signal is aborted before the
   * first step with its reason, or `TRANSFER_CANCELLED` for one that is no PandoError. Syncs of one tree take turns.
   */
  async sync(tree: TreeName, options: SyncOptions, from?: NodeId): Promise<SyncReport> {
    const mirror = this.get(tree, from);
    return this.#turns.run(
      tree,
      options.signal,
      (signal) => this.#run(this.get(tree, mirror.from), { ...options, signal }),
      mirror.from,
    );
  }

  /**
   * Brings a dataset here that a peer has, with what it hangs off, by bringing the mirror up to date that has it; false where none has. Rejects as {@link sync} does.
   */
  async fetch(tree: TreeName, name: RelativeName, signal: AbortSignal): Promise<boolean> {
    const mirror = mirrorsOf(this.#options.admin.state, tree).find((one) => this.#brings(one, name));
    if (mirror === undefined) return false;
    const quietly = { onPlan: () => undefined, onProgress: () => undefined, refresh: false };
    await this.sync(tree, { ...quietly, signal }, mirror.from);
    return true;
  }

  /** Whether the peer of a mirror has something of that name that the mirror takes. */
  #brings(mirror: Mirror, name: RelativeName): boolean {
    const { history } = this.#options;
    const known = history.othersOf(mirror.tree).get(mirror.from)?.named(name);
    if (known === undefined || known.snapshots.length === 0) return false;
    return this.sources.isEntitled(mirror) && this.wanted(mirror).named(name) !== undefined;
  }

  /** Runs a task while nothing is synced into the tree; with a reason, what is synced now is cancelled for it. */
  async alone<Result>(
    tree: TreeName,
    task: (signal: AbortSignal) => Promise<Result>,
    cancel: PandoError | null,
  ): Promise<Result> {
    if (cancel !== null) await this.#turns.cancel(tree, cancel);
    return this.#turns.run(tree, NEVER, task);
  }

  /** Cancels what runs and resolves once it has ended. */
  stop(): Promise<void> {
    return this.#turns.stop(new PandoError('TRANSFER_CANCELLED', 'The node is stopping; sync again once it is back.'));
  }

  /** Ends the syncs that take something from a peer which may not contribute any more. */
  endUnentitled(peer: NodeId): void {
    for (const mirror of this.list()) {
      if (mirror.from !== peer || this.sources.isEntitled(mirror)) continue;
      const { tree } = mirror;
      const reason = new PandoError('TRANSFER_CANCELLED', `The peer may not contribute to "${tree}" any more.`, {
        tree,
      });
      this.#turns.end(tree, peer, reason);
    }
  }

  async #run(mirror: Mirror, options: SyncOptions): Promise<SyncReport> {
    const { tree, from } = mirror;
    if (!this.sources.isEntitled(mirror)) this.#options.onRefused(from, tree);
    await this.#catchUp(mirror, options);
    const settled = this.#settledPlan(mirror);
    if (settled !== undefined) {
      options.onPlan(settled);
      this.#tellLimits(mirror, settled);
      return { tree, from, plan: settled, steps: [], bytes: 0 };
    }
    const { made: first, isCertain } = await this.#planCertainly(mirror, options);
    const { steps, bytes, made } = await this.#resume(mirror, first, isCertain, options);
    const { plan: todo, basis, copies } = made;
    if (options.signal.aborted) return { tree, from, plan: todo, steps, bytes };
    options.onPlan(todo);
    this.#tellLimits(mirror, todo);
    if (todo.steps.length === 0) {
      if (this.#waitsForBookmarks(tree, todo).length > 0) return { tree, from, plan: todo, steps, bytes };
      const until = isCertain ? firstDue(todo.retained) : 0;
      // Graphs that nothing depends on are not to be kept alive
      const shared = keepsForOthers(todo) ? copies : [];
      this.#settled.set(mirrorKey(mirror), { basis, mirror, plan: todo, until, copies: shared });
      return { tree, from, plan: todo, steps, bytes };
    }
    const pulled = await this.#pull(mirror, todo, options);
    const report = { steps: [...steps, ...pulled.steps], bytes: bytes + pulled.bytes };
    const modified = modifiedIn(report);
    if (modified.size === 0 || options.signal.aborted) return { tree, from, plan: todo, ...report };
    // Only now it is known that these were written to: what was written is kept, and they go on
    await this.#options.look(tree);
    const again = withoutDoubtful((await this.#planKeeping(mirror, modified)).plan, isCertain);
    options.onPlan(again);
    const second = await this.#pull(mirror, again, options);
    const done = report.steps.filter(({ outcome }) => outcome.result === 'done');
    return { tree, from, plan: again, steps: [...done, ...second.steps], bytes: report.bytes + second.bytes };
  }

  /**
   * Nothing is destroyed for what the peer has no more unless the peer has just looked. Between two looks its log may tell of a dataset as gone that has another name by now, or of a
   * tree that was added again as empty. Where it cannot look, what is to be destroyed waits, and everything else goes on.
   */
  async #planCertainly(
    mirror: Mirror,
    options: SyncOptions,
  ): Promise<{ readonly made: Made; readonly isCertain: boolean }> {
    await this.#noticeDepartures(mirror);
    const made = await this.#planAnew(mirror);
    if (options.refresh || !made.plan.steps.some(isForDeparted)) return { made, isCertain: true };
    try {
      await this.#catchUp(mirror, { ...options, refresh: true });
    } catch (error) {
      if (options.signal.aborted) throw error;
      return { made: { ...made, plan: withoutDoubtful(made.plan, false) }, isCertain: false };
    }
    await this.#noticeDepartures(mirror);
    return { made: await this.#planAnew(mirror), isCertain: true };
  }

  /** Lets what was cut short go on first; what is left to do is planned anew then. */
  async #resume(
    mirror: Mirror,
    first: Made,
    isCertain: boolean,
    options: SyncOptions,
  ): Promise<PullReport & { readonly made: Made }> {
    const request = this.#pullRequest(mirror, first.plan, options);
    const interrupted = await this.#options.interrupted(request, this.sources.of(mirror).graph);
    if (interrupted === null) return { made: first, steps: [], bytes: 0 };
    options.onPlan(interrupted.plan);
    const { steps, bytes } = await this.#pull(mirror, interrupted.plan, options, interrupted);
    // What could not go on is in the new plan, from its beginning
    const done = options.signal.aborted ? steps : steps.filter(({ outcome }) => outcome.result === 'done');
    const made = this.#make(mirror);
    return { made: { ...made, plan: withoutDoubtful(made.plan, isCertain) }, steps: done, bytes };
  }

  /** What was planned last, where nothing can have changed since. */
  #settledPlan(mirror: Mirror): Plan | undefined {
    const settled = this.#settled.get(mirrorKey(mirror));
    if (settled?.mirror !== mirror || settled.basis !== this.sources.of(mirror).basis) return undefined;
    const isOver = settled.until !== null && settled.until <= this.#options.history.now();
    const haveMoved = keepsForOthers(settled.plan) && !isSame(settled.copies, this.#copies(mirror.tree));
    return isOver || haveMoved ? undefined : settled.plan;
  }

  async #noticeDepartures(mirror: Mirror): Promise<void> {
    const { departures } = this.#options;
    // What was noticed and is there again must be forgotten also while nothing is given up: its next departure is another one
    if (mirror.graceMs === null && !departures.hasNoticed(mirror)) return;
    const { graph, follows, isLent } = this.sources.of(mirror);
    const gives = (dataset: Dataset): boolean => follows(dataset) && !isLent(dataset.id);
    await departures.notice(mirror, departed(graph, this.#local(mirror.tree), gives));
  }

  async #pull(mirror: Mirror, todo: Plan, options: SyncOptions, interrupted?: Interrupted): Promise<PullReport> {
    const { tree } = mirror;
    this.#receiving.add(tree);
    this.#unsure.add(mirrorKey(mirror));
    try {
      const report = await this.#options.pull({
        ...this.#pullRequest(mirror, todo, options),
        ...(interrupted === undefined ? {} : { interrupted }),
      });
      if (report.steps.every(({ outcome }) => outcome.result !== 'failed')) this.#unsure.delete(mirrorKey(mirror));
      return report;
    } finally {
      this.#receiving.delete(tree);
    }
  }

  async #catchUp({ tree, from }: Mirror, { refresh, signal }: SyncOptions): Promise<void> {
    const { answerMsMax, timers } = this.#options;
    const inTime = { ms: answerMsMax, reason: () => silent(from, answerMsMax) };
    await withinTime(timers, inTime, (limit) =>
      uncancelled(tree, this.hear({ tree, from }, { refresh }), AbortSignal.any([signal, limit])),
    );
  }

  #pullRequest(mirror: Mirror, todo: Plan, { onProgress, signal, bytesPerSecond }: SyncOptions): PullRequest {
    const { tree, from, root } = mirror;
    const { linkMode, timers } = this.#options;
    return {
      peer: from,
      tree,
      root,
      plan: todo,
      local: () => this.#local(tree),
      // Nobody could slow a direct one
      mode: bytesPerSecond === undefined ? linkMode(from) : 'sealed',
      limit: bytesPerSecond === undefined ? null : new RateLimit(timers, bytesPerSecond),
      settle: async (...shown) => {
        await this.#options.settle(tree, ...shown);
      },
      onProgress,
      signal,
    };
  }

  /**
   * A conflict may have been resolved by hand since the observer last looked, a sync that failed may have left what it could not tell of, and nothing is moved
   * out of the way for what is no longer so: then the mirror is looked at first.
   */
  async #planAnew(mirror: Mirror): Promise<Made> {
    const first = this.#make(mirror);
    const isPlain =
      first.plan.conflicts.length === 0 && !first.plan.steps.some(({ kind }) => LOOKED_AT_FIRST.has(kind));
    if (isPlain && !this.#unsure.has(mirrorKey(mirror))) return first;
    await this.#options.look(mirror.tree);
    const bookmarked = this.#waitsForBookmarks(mirror.tree, first.plan);
    if (bookmarked.length > 0) await this.#options.look(mirror.tree, bookmarked);
    return this.#planKeeping(mirror);
  }

  /** What is kept aside counts where contributors are limited, and is asked for only where more is to be kept. */
  async #planKeeping(mirror: Mirror, modified?: ReadonlySet<DatasetId>): Promise<Made> {
    const { tree, root } = mirror;
    const made = this.#make(mirror, modified);
    if (this.#allowance(mirror) === undefined || !keepsAside(made.plan)) return made;
    this.#aside.set(tree, (await listKeptAside(this.#options.zfs, root)).length);
    return this.#make(mirror, modified);
  }

  /** How much a peer may bring; undefined for a tree that this node does not share itself, and for a peer that may take over all of it anyway. */
  #allowance({ tree, from }: MirrorPlace): Allowance | undefined {
    const { trees, grants, contributions } = this.#options.admin.state;
    if (!trees.has(tree) || isAllowed(grants, from, tree, 'take')) return undefined;
    const { allowance } = this.#options;
    const own = contributions.get(from);
    return {
      filesystems: own?.filesystems ?? allowance.filesystems,
      snapshots: own?.snapshots ?? allowance.snapshots,
    };
  }

  /** The datasets, as they are called here, of which people have to destroy bookmarks: no change token tells of that. */
  #waitsForBookmarks(tree: TreeName, { conflicts }: Plan): RelativeName[] {
    return conflicts.flatMap((conflict) => {
      const here = this.#local(tree).get(conflict.dataset);
      return conflict.reason === 'same-bookmarks' && here !== undefined ? [here.name, conflict.by] : [];
    });
  }

  #make(mirror: Mirror, modified: ReadonlySet<DatasetId> = new Set()): Made {
    const { graph, follows, contested, basis } = this.sources.of(mirror);
    const retention = this.#retention(mirror);
    const made = plan({
      source: graph,
      wanted: this.wanted(mirror),
      local: this.#local(mirror.tree),
      follows,
      allowance: this.#allowance(mirror),
      keptAside: this.#aside.get(mirror.tree),
      modified,
      retention,
      contested,
    });
    return { plan: made, basis, copies: retention.copies };
  }

  /** Of one that has been told so before, the peer is told when it holds no more. */
  #tellLimits(mirror: Mirror, plan: Plan): void {
    const names = limitedBy(plan).map(({ name }) => name);
    const key = mirrorKey(mirror);
    if (names.length === 0 && !this.#limited.has(key)) return;
    if (names.length === 0) this.#limited.delete(key);
    else this.#limited.add(key);
    this.#options.onLimited(mirror, names);
  }

  #retention(mirror: Mirror): Retention {
    const { departures, history } = this.#options;
    const { isLent, isNeeded } = this.sources.of(mirror);
    return {
      keep: mirror.keep,
      graceMs: mirror.graceMs,
      now: history.now(),
      noticedAt: (departed) => departures.noticedAt(mirror, departed),
      isLent,
      isNeeded,
      copies: this.#copies(mirror.tree),
    };
  }

  /** What each peer that has told of a tree has of it. */
  #copies(tree: TreeName): Graph[] {
    const { admin, history } = this.#options;
    const streams = Array.from(admin.state.peers.keys(), (peer) => streamIdOf(peer, tree));
    return streams.filter((stream) => history.head(stream) !== null).map((stream) => history.graph(stream));
  }

  #local(tree: TreeName): Graph {
    return this.#options.history.graph(this.#options.history.ownStream(tree));
  }
}

/** Whether a plan keeps something aside, or would if there were room. */
function keepsAside({ steps, conflicts }: Plan): boolean {
  return steps.some(({ kind }) => kind === 'preserve') || conflicts.some(({ reason }) => reason === 'aside-full');
}

function limitedBy({ conflicts }: Plan): readonly Conflict[] {
  return conflicts.filter(({ reason }) => reason === 'limit-reached');
}

/** Whether the step destroys what the owner has no more. */
function isForDeparted(step: Step): boolean {
  return step.kind === 'destroy-dataset' || (step.kind === 'destroy-snapshot' && step.because === 'departed');
}

/** The plan without what it destroys, unless that is certain. That comes last, and no other step waits for it. */
function withoutDoubtful(plan: Plan, isCertain: boolean): Plan {
  return isCertain ? plan : { ...plan, steps: plan.steps.filter((step) => !isGivingUp(step)) };
}

/** The replicas that ZFS did not receive into since they were written to. */
function modifiedIn({ steps }: PullReport): Set<DatasetId> {
  const found = steps.filter(({ outcome }) => outcome.result === 'failed' && outcome.error.code === 'ZFS_MODIFIED');
  return new Set(found.map(({ step }) => step.dataset));
}

function unknownMirror(tree: TreeName): PandoError {
  return new PandoError(
    'MIRROR_UNKNOWN',
    `This node has no mirror of "${tree}"; "pando mirror ls" lists those it has.`,
    {
      tree,
    },
  );
}

function silent(peer: NodeId, answerMsMax: number): PandoError {
  return new PandoError(
    'PROTOCOL_TIMEOUT',
    `Peer ${peer} is connected but has not answered for ${answerMsMax / 1_000} seconds; look at "pando status" there.`,
    { peer },
  );
}
