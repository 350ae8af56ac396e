/** Mirrors: trees of peers that this node follows. Added and removed by people, brought up to date by {@link Mirrors.sync}. */
import type { Mirror } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { MirrorRules, Ownership } from '../../core/events.ts';
import { difference } from '../../core/graph/difference.ts';
import { EMPTY_GRAPH, type Graph } from '../../core/graph/graph.ts';
import { withLineage } from '../../core/graph/lineage.ts';
import {
  type DatasetId,
  type DatasetName,
  type NodeId,
  type SnapshotGuid,
  type StreamId,
  streamIdOf,
  type TreeName,
} from '../../core/ids.ts';
import { departures as departed } from '../../core/plan/departures.ts';
import { wantedGraph } from '../../core/plan/filter.ts';
import { plan } from '../../core/plan/plan.ts';
import { firstDue } from '../../core/plan/retention.ts';
import type { Plan, Retention, Step } from '../../core/plan/steps.ts';
import { checkRootIsFree } from '../../core/roots.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import type { Settle } from '../../transfer/completion.ts';
import { isGivingUp } from '../../transfer/giving-up.ts';
import type { ProgressListener, PullReport } from '../../transfer/progress.ts';
import type { LinkMode } from '../../transfer/protocol.ts';
import type { PullRequest } from '../../transfer/puller.ts';
import type { Zfs } from '../../zfs/zfs.ts';
import type { DepartureJournal } from './departure-journal.ts';
import { MirrorTurns, uncancelled } from './mirror-turns.ts';
import { checkReplicaPlace } from './replica-place.ts';

export interface MirrorsOptions {
  readonly history: History;
  readonly admin: AdminJournal;
  readonly departures: DepartureJournal;
  readonly zfs: Zfs;
  /** Brings what is known of the peer's trees up to date; `refresh` lets the peer look at its ZFS first. */
  readonly catchUp: (peer: NodeId, options: { readonly refresh: boolean }) => Promise<unknown>;
  /** How long a peer that is connected may take to answer, in ms. */
  readonly answerMsMax: number;
  readonly pull: (request: PullRequest) => Promise<PullReport>;
  /** Whether streams from this peer may go outside TLS. */
  readonly linkMode: (peer: NodeId) => LinkMode;
  /** Has this node's stream of a tree say that it is kept at that root. */
  readonly announce: (tree: TreeName, root: DatasetName) => Promise<void>;
  /** Has it say that the tree is not kept any more. */
  readonly retract: (tree: TreeName) => Promise<void>;
  /** Lets the observer look at the whole mirror now. */
  readonly look: (tree: TreeName) => Promise<unknown>;
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
}

/** What a sync did. */
export interface SyncReport extends PullReport {
  readonly tree: TreeName;
  readonly plan: Plan;
}

/** What a sync was made from, to tell in no time that there is nothing to do. */
interface Settled {
  readonly source: Graph;
  readonly local: Graph;
  readonly mirror: Mirror;
  readonly plan: Plan;
  /** When time alone gives something to do, in Unix ms; null for never. */
  readonly until: number | null;
}

/**
 * How long a peer that is connected may take to answer, in ms: minutes, since it may have to list a large pool first. What comes later is stored all
 * the same, and then followed.
 */
export const ANSWER_MS_MAX = 600_000;

/** Steps that are planned against what ZFS shows now, not against what was last seen. */
const LOOKED_AT_FIRST: ReadonlySet<Step['kind']> = new Set(['preserve', 'destroy-snapshot', 'destroy-dataset']);

/** For what is not cancelled by whoever asked for it. */
const NEVER = new AbortController().signal;

export class Mirrors {
  readonly #options: MirrorsOptions;
  readonly #turns = new MirrorTurns();
  readonly #views = new WeakMap<Graph, Graph>();
  readonly #receiving = new Set<TreeName>();
  readonly #settled = new Map<TreeName, Settled>();
  /** Mirrors whose last sync failed in part: more may be there than was logged. */
  readonly #unsure = new Set<TreeName>();

  constructor(options: MirrorsOptions) {
    this.#options = options;
  }

  list(): readonly Mirror[] {
    return [...this.#options.admin.state.mirrors.values()];
  }

  /** Throws `MIRROR_UNKNOWN`. */
  get(tree: TreeName): Mirror {
    const mirror = this.#options.admin.state.mirrors.get(tree);
    if (mirror !== undefined) return mirror;
    throw new PandoError(
      'MIRROR_UNKNOWN',
      `This node has no mirror of "${tree}"; "pando mirror ls" lists those it has.`,
      {
        tree,
      },
    );
  }

  /** Whether a sync is writing into the tree now. */
  isReceiving(tree: TreeName): boolean {
    return this.#receiving.has(tree);
  }

  /**
   * Adds a mirror; a replica that is there from before is gone on with. Rejects with `TREE_EXISTS`, `TREE_OVERLAP`, `PEER_UNKNOWN`,
   * `TREE_ROOT_MISSING` when the dataset above `root` does not exist, and `ZFS_DATASET_EXISTS` when `root` does and is no replica: nothing is
   * ever received over it.
   */
  async add(mirror: Mirror): Promise<void> {
    const { admin, announce, look, zfs } = this.#options;
    const { tree, root } = mirror;
    // Said at once, rather than behind a sync of the mirror that there is.
    checkRootIsFree(admin.state, tree, root);
    // In a turn of its own: whoever hears of the new mirror and syncs it does so once it has been looked at.
    return this.#turns.run(tree, NEVER, async () => {
      await checkReplicaPlace(zfs, root);
      await admin.change((state) => {
        checkRootIsFree(state, tree, root);
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

  /** Changes what a mirror takes and keeps; the next sync goes by it. Rejects with `MIRROR_UNKNOWN`. */
  async change(tree: TreeName, rules: Partial<MirrorRules>): Promise<void> {
    await this.#options.admin.change(() => {
      const { only, except, keep, graceMs } = { ...this.get(tree), ...rules };
      return [{ type: 'mirror.changed', tree, only, except, keep, graceMs }];
    });
  }

  /** Cancels its syncs and stops following; what was received stays as it is. Rejects with `MIRROR_UNKNOWN`. */
  async remove(tree: TreeName): Promise<void> {
    this.get(tree);
    const removed = new PandoError('TRANSFER_CANCELLED', `The mirror of "${tree}" was removed; its sync ended.`, {
      tree,
    });
    await this.#turns.cancel(tree, removed);
    await this.#turns.run(tree, NEVER, async () => {
      this.get(tree);
      await this.#options.admin.change(() => [{ type: 'mirror.removed', tree }]);
      await this.#options.departures.notice(tree, []);
      await this.#options.retract(tree);
      this.#settled.delete(tree);
      this.#unsure.delete(tree);
    });
  }

  /** What a sync would do now, by what is known of the peer. Throws `MIRROR_UNKNOWN`, `TREE_UNKNOWN` when the peer shares no such tree. */
  plan(tree: TreeName): Plan {
    const mirror = this.get(tree);
    return this.#make(mirror, this.source(mirror));
  }

  /** The peer's view of the tree. Throws `TREE_UNKNOWN` when it shares none. */
  source({ tree, from }: Mirror): Graph {
    const { history } = this.#options;
    const stream = streamIdOf(from, tree);
    const graph = history.head(stream) === null ? EMPTY_GRAPH : this.#view(stream);
    if (graph.root !== null) return graph;
    throw new PandoError(
      'TREE_UNKNOWN',
      `Peer ${from} shares no tree "${tree}" with this node; share it there with "pando peer add … --share ${tree}".`,
      { tree, peer: from },
    );
  }

  /**
   * Who owns a dataset according to the mirror's peer, or undefined when the peer does not have it. As long as nothing is known of the peer's view,
   * whatever is there counts as the peer's: nobody may change it here.
   */
  ownerOf({ tree, from }: Mirror, dataset: DatasetId): Ownership | undefined {
    const { history } = this.#options;
    const stream = streamIdOf(from, tree);
    return history.head(stream) === null ? { node: from, epoch: 1 } : this.#view(stream).get(dataset)?.owner;
  }

  /** The snapshots that the peer has of a dataset, as far as known; none of what belongs to this node. */
  atOwner({ tree, from }: Mirror, dataset: DatasetId): ReadonlySet<SnapshotGuid> {
    const { history } = this.#options;
    const stream = streamIdOf(from, tree);
    const there = history.head(stream) === null ? undefined : this.#view(stream).get(dataset);
    if (there === undefined || this.#local(tree).get(dataset)?.owner.node === history.node) return new Set();
    return new Set(there.snapshots.map(({ guid }) => guid));
  }

  /** The part of the peer's view that the mirror wants. */
  wanted(mirror: Mirror): Graph {
    const context = { local: this.#local(mirror.tree), now: this.#options.history.now() };
    return wantedGraph(this.source(mirror), mirror, context);
  }

  /** In what this node's copy differs from what the mirror wants. */
  compare(tree: TreeName) {
    return difference(this.wanted(this.get(tree)), this.#local(tree));
  }

  /**
   * Brings a mirror up to date. Steps that fail, or are cancelled by the signal, are in the report. Rejects with `MIRROR_UNKNOWN`,
   * `TREE_UNKNOWN`, what keeps the peer from being asked (`PEER_UNREACHABLE`, `PROTOCOL_TIMEOUT` …), and where the signal is aborted before the
   * first step with its reason, or `TRANSFER_CANCELLED` for one that is no PandoError. Syncs of one tree take turns.
   */
  async sync(tree: TreeName, options: SyncOptions): Promise<SyncReport> {
    this.get(tree);
    return this.#turns.run(tree, options.signal, (signal) => this.#run(tree, { ...options, signal }));
  }

  /** Cancels what runs and resolves once it has ended. */
  stop(): Promise<void> {
    return this.#turns.stop(new PandoError('TRANSFER_CANCELLED', 'The node is stopping; sync again once it is back.'));
  }

  async #run(tree: TreeName, options: SyncOptions): Promise<SyncReport> {
    const mirror = this.get(tree);
    await this.#catchUp(mirror, options);
    const source = this.source(mirror);
    const settled = this.#settledPlan(mirror, source);
    if (settled !== undefined) {
      options.onPlan(settled);
      return { tree, plan: settled, steps: [], bytes: 0 };
    }
    const { view, todo, isCertain } = await this.#planCertainly(mirror, source, options);
    options.onPlan(todo);
    if (todo.steps.length === 0) {
      const until = isCertain ? firstDue(todo.retained) : 0;
      this.#settled.set(tree, { source: view, local: this.#local(tree), mirror, plan: todo, until });
      return { tree, plan: todo, steps: [], bytes: 0 };
    }
    const report = await this.#pull(mirror, todo, options);
    const modified = modifiedIn(report);
    if (modified.size === 0 || options.signal.aborted) return { tree, plan: todo, ...report };
    // Only now it is known that these were written to: what was written is kept, and they go on
    await this.#options.look(tree);
    const again = withoutDoubtful(this.#make(mirror, view, modified), isCertain);
    options.onPlan(again);
    const second = await this.#pull(mirror, again, options);
    const done = report.steps.filter(({ outcome }) => outcome.result === 'done');
    return { tree, plan: again, steps: [...done, ...second.steps], bytes: report.bytes + second.bytes };
  }

  /**
   * Nothing is destroyed for what the peer has no more unless the peer has just looked. Between two looks its log may tell of a dataset as gone that has another name by now, or of a
   * tree that was added again as empty. Where it cannot look, what is to be destroyed waits, and everything else goes on.
   */
  async #planCertainly(
    mirror: Mirror,
    source: Graph,
    options: SyncOptions,
  ): Promise<{ readonly view: Graph; readonly todo: Plan; readonly isCertain: boolean }> {
    await this.#noticeDepartures(mirror, source);
    const todo = await this.#planAnew(mirror, source);
    if (options.refresh || !todo.steps.some(isForDeparted)) return { view: source, todo, isCertain: true };
    try {
      await this.#catchUp(mirror, { ...options, refresh: true });
    } catch (error) {
      if (options.signal.aborted) throw error;
      return { view: source, todo: withoutDoubtful(todo, false), isCertain: false };
    }
    const view = this.source(mirror);
    await this.#noticeDepartures(mirror, view);
    return { view, todo: await this.#planAnew(mirror, view), isCertain: true };
  }

  /** A peer's copy of a tree, with what its clones grew from. */
  #view(stream: StreamId): Graph {
    const graph = this.#options.history.graph(stream);
    const known = this.#views.get(graph);
    if (known !== undefined) return known;
    const view = withLineage(graph);
    this.#views.set(graph, view);
    return view;
  }

  /** What was planned last, where nothing can have changed since. */
  #settledPlan(mirror: Mirror, source: Graph): Plan | undefined {
    const settled = this.#settled.get(mirror.tree);
    const isSame =
      settled?.source === source && settled.local === this.#local(mirror.tree) && settled.mirror === mirror;
    const isOver = settled?.until != null && settled.until <= this.#options.history.now();
    return isSame && !isOver ? settled.plan : undefined;
  }

  async #noticeDepartures({ tree, graceMs }: Mirror, source: Graph): Promise<void> {
    const { departures, history } = this.#options;
    if (graceMs !== null) await departures.notice(tree, departed(source, this.#local(tree), history.node));
  }

  async #pull(mirror: Mirror, todo: Plan, options: SyncOptions): Promise<PullReport> {
    const { tree } = mirror;
    this.#receiving.add(tree);
    this.#unsure.add(tree);
    try {
      const report = await this.#options.pull(this.#pullRequest(mirror, todo, options));
      if (report.steps.every(({ outcome }) => outcome.result !== 'failed')) this.#unsure.delete(tree);
      return report;
    } finally {
      this.#receiving.delete(tree);
    }
  }

  async #catchUp({ tree, from }: Mirror, { refresh, signal }: SyncOptions): Promise<void> {
    const { catchUp, answerMsMax } = this.#options;
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(silent(from, answerMsMax)), answerMsMax);
    try {
      await uncancelled(tree, catchUp(from, { refresh }), AbortSignal.any([signal, limit.signal]));
    } finally {
      clearTimeout(timer);
    }
  }

  #pullRequest(mirror: Mirror, todo: Plan, { onProgress, signal }: SyncOptions): PullRequest {
    const { tree, from, root } = mirror;
    return {
      peer: from,
      tree,
      root,
      plan: todo,
      local: () => this.#local(tree),
      mode: this.#options.linkMode(from),
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
  async #planAnew(mirror: Mirror, source: Graph): Promise<Plan> {
    const first = this.#make(mirror, source);
    const isPlain = first.conflicts.length === 0 && !first.steps.some(({ kind }) => LOOKED_AT_FIRST.has(kind));
    if (isPlain && !this.#unsure.has(mirror.tree)) return first;
    await this.#options.look(mirror.tree);
    return this.#make(mirror, source);
  }

  #make(mirror: Mirror, source: Graph, modified: ReadonlySet<DatasetId> = new Set()): Plan {
    const { history } = this.#options;
    return plan({
      source,
      wanted: this.wanted(mirror),
      local: this.#local(mirror.tree),
      self: history.node,
      modified,
      retention: this.#retention(mirror),
    });
  }

  #retention({ tree, keep, graceMs }: Mirror): Retention {
    const { admin, departures, history } = this.#options;
    const streams = Array.from(admin.state.peers.keys(), (peer) => streamIdOf(peer, tree));
    return {
      keep,
      graceMs,
      now: history.now(),
      noticedAt: (departed) => departures.noticedAt(tree, departed),
      copies: streams.filter((stream) => history.head(stream) !== null).map((stream) => history.graph(stream)),
    };
  }

  #local(tree: TreeName): Graph {
    return this.#options.history.graph(this.#options.history.ownStream(tree));
  }
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

function silent(peer: NodeId, answerMsMax: number): PandoError {
  return new PandoError(
    'PROTOCOL_TIMEOUT',
    `Peer ${peer} is connected but has not answered for ${answerMsMax / 1_000} seconds; look at "pando status" there.`,
    { peer },
  );
}
