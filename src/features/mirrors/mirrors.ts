/** Mirrors: trees of peers that this node follows. Added and removed by people, brought up to date by {@link Mirrors.sync}. */
import type { Mirror } from '../../core/admin.ts';
import { isPandoError, PandoError } from '../../core/errors.ts';
import type { Ownership } from '../../core/events.ts';
import { difference } from '../../core/graph/difference.ts';
import { EMPTY_GRAPH, type Graph } from '../../core/graph/graph.ts';
import type { ObservedDataset } from '../../core/graph/observed.ts';
import { type DatasetId, type DatasetName, type NodeId, streamIdOf, type TreeName } from '../../core/ids.ts';
import { wantedGraph } from '../../core/plan/filter.ts';
import { plan } from '../../core/plan/plan.ts';
import type { Plan } from '../../core/plan/steps.ts';
import { checkRootIsFree } from '../../core/roots.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import { type Timers, withinTime } from '../../sync/timers.ts';
import type { Settle } from '../../transfer/completion.ts';
import type { ProgressListener, PullReport } from '../../transfer/progress.ts';
import type { LinkMode } from '../../transfer/protocol.ts';
import type { PullRequest } from '../../transfer/puller.ts';
import type { Zfs } from '../../zfs/zfs.ts';
import { MirrorTurns, uncancelled } from './mirror-turns.ts';
import { checkReplicaPlace } from './replica-place.ts';

export interface MirrorsOptions {
  readonly history: History;
  readonly admin: AdminJournal;
  readonly zfs: Zfs;
  /** Brings what is known of the peer's trees up to date; `refresh` lets the peer look at its ZFS first. */
  readonly catchUp: (peer: NodeId, options: { readonly refresh: boolean }) => Promise<unknown>;
  readonly timers: Timers;
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
}

/**
 * How long a peer that is connected may take to answer, in ms: minutes, since it may have to list a large pool first. What comes later is stored all
 * the same, and then followed.
 */
export const ANSWER_MS_MAX = 600_000;

/** For what is not cancelled by whoever asked for it. */
const NEVER = new AbortController().signal;

export class Mirrors {
  readonly #options: MirrorsOptions;
  readonly #turns = new MirrorTurns();
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
    const graph = history.head(stream) === null ? EMPTY_GRAPH : history.graph(stream);
    if (graph.root !== null) return graph;
    throw new PandoError(
      'TREE_UNKNOWN',
      `Peer ${from} shares no tree "${tree}" with this node; share it there with "pando peer add … --share ${tree}".`,
      { tree, peer: from },
    );
  }

  /** What is known of the peer's view of the tree, be it that it shares none any more; undefined as long as that is nothing, or damaged. */
  knownSource({ tree, from }: Mirror): Graph | undefined {
    const { history } = this.#options;
    const stream = streamIdOf(from, tree);
    try {
      return history.head(stream) === null ? undefined : history.graph(stream);
    } catch (error) {
      if (isPandoError(error, 'LOG_CORRUPT')) return undefined;
      throw error;
    }
  }

  /**
   * Who owns a dataset that was not known to be in the mirror: whoever the peer says, or, where the peer does not have it, undefined. A replica that the peer does
   * not have (any more), and whatever is there as long as nothing is known of the peer's view, counts as the peer's: nobody may change it here.
   */
  ownerOf(mirror: Mirror, dataset: DatasetId, seen: ObservedDataset): Ownership | undefined {
    const source = this.knownSource(mirror);
    const unknown = { node: mirror.from, epoch: 1 };
    return source === undefined ? unknown : (source.get(dataset)?.owner ?? (isReplica(seen) ? unknown : undefined));
  }

  /** The part of the peer's view that the mirror wants. */
  wanted(mirror: Mirror): Graph {
    return wantedGraph(this.source(mirror), mirror);
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
    const settled = this.#settled.get(tree);
    if (settled?.source === source && settled.local === this.#local(tree) && settled.mirror === mirror) {
      options.onPlan(settled.plan);
      return { tree, plan: settled.plan, steps: [], bytes: 0 };
    }
    const todo = await this.#planAnew(mirror, source);
    options.onPlan(todo);
    if (todo.steps.length === 0) {
      this.#settled.set(tree, { source, local: this.#local(tree), mirror, plan: todo });
      return { tree, plan: todo, steps: [], bytes: 0 };
    }
    const report = await this.#pull(mirror, todo, options);
    const modified = modifiedIn(report);
    if (modified.size === 0 || options.signal.aborted) return { tree, plan: todo, ...report };
    // Only now it is known that these were written to: what was written is kept, and they go on
    await this.#options.look(tree);
    const again = this.#make(mirror, source, modified);
    options.onPlan(again);
    const second = await this.#pull(mirror, again, options);
    const done = report.steps.filter(({ outcome }) => outcome.result === 'done');
    return { tree, plan: again, steps: [...done, ...second.steps], bytes: report.bytes + second.bytes };
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
    const { catchUp, answerMsMax, timers } = this.#options;
    const inTime = { ms: answerMsMax, reason: () => silent(from, answerMsMax) };
    await withinTime(timers, inTime, (limit) =>
      uncancelled(tree, catchUp(from, { refresh }), AbortSignal.any([signal, limit])),
    );
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
    const isPlain = first.conflicts.length === 0 && first.steps.every(({ kind }) => kind !== 'preserve');
    if (isPlain && !this.#unsure.has(mirror.tree)) return first;
    await this.#options.look(mirror.tree);
    return this.#make(mirror, source);
  }

  #make(mirror: Mirror, source: Graph, modified: ReadonlySet<DatasetId> = new Set()): Plan {
    const wanted = this.wanted(mirror);
    return plan({ source, wanted, local: this.#local(mirror.tree), self: this.#options.history.node, modified });
  }

  #local(tree: TreeName): Graph {
    return this.#options.history.graph(this.#options.history.ownStream(tree));
  }
}

/** Whether it is marked as replicas are: nobody writes to it, and it has the id that it has at its owner. */
function isReplica({ id, properties }: ObservedDataset): boolean {
  return id !== null && properties.readonly === 'on';
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
