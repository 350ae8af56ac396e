/** Mirrors: trees of peers that this node follows. Added and removed by people, brought up to date by {@link Mirrors.sync}. */
import type { Mirror } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { Ownership } from '../../core/events.ts';
import { difference } from '../../core/graph/difference.ts';
import { EMPTY_GRAPH, type Graph } from '../../core/graph/graph.ts';
import {
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  type NodeId,
  streamIdOf,
  type TreeName,
} from '../../core/ids.ts';
import { wantedGraph } from '../../core/plan/filter.ts';
import { plan } from '../../core/plan/plan.ts';
import type { Plan } from '../../core/plan/steps.ts';
import { checkRootIsFree } from '../../core/roots.ts';
import { unlessAborted } from '../../core/unless-aborted.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import type { Settle } from '../../transfer/completion.ts';
import type { ProgressListener, PullReport } from '../../transfer/progress.ts';
import type { LinkMode } from '../../transfer/protocol.ts';
import type { PullRequest } from '../../transfer/puller.ts';
import type { Zfs } from '../../zfs/zfs.ts';

export interface MirrorsOptions {
  readonly history: History;
  readonly admin: AdminJournal;
  readonly zfs: Zfs;
  /** Brings what is known of the peer's trees up to date; `refresh` lets the peer look at its ZFS first. */
  readonly catchUp: (peer: NodeId, options: { readonly refresh: boolean }) => Promise<unknown>;
  /** After how long a peer that is connected but does not answer is given up, in ms. */
  readonly answerLimitMs?: number;
  readonly pull: (request: PullRequest) => Promise<PullReport>;
  /** Whether streams from this peer may go outside TLS. */
  readonly linkMode: (peer: NodeId) => LinkMode;
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

/** A sync on its way. */
interface RunningSync {
  readonly done: Promise<unknown>;
  readonly abort: AbortController;
}

/** A peer that has to look at a large pool first takes minutes; one that takes longer than this, in ms, is not going to answer. */
const ANSWER_LIMIT_MS = 600_000;

export class Mirrors {
  readonly #options: MirrorsOptions;
  readonly #running = new Map<TreeName, RunningSync>();
  readonly #receiving = new Set<TreeName>();
  readonly #stopping = new AbortController();
  readonly #settled = new Map<TreeName, Settled>();

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
   * Adds a mirror. Rejects with `TREE_EXISTS`, `TREE_OVERLAP`, `PEER_UNKNOWN`, `TREE_ROOT_MISSING` when the dataset above `root` does
   * not exist, and `ZFS_DATASET_EXISTS` when `root` does and is no replica: nothing is ever received over it.
   */
  async add(mirror: Mirror): Promise<void> {
    const { admin, history } = this.#options;
    await this.#checkPlace(mirror.root);
    await admin.change((state) => {
      checkRootIsFree(state, mirror.tree, mirror.root);
      if (!state.peers.has(mirror.from)) {
        throw new PandoError(
          'PEER_UNKNOWN',
          `There is no peer ${mirror.from} here; add it first with "pando peer add".`,
        );
      }
      return [{ type: 'mirror.added', ...mirror }];
    });
    await history.record(mirror.tree, 'command', [{ type: 'tree.added', root: mirror.root }]);
    // A replica that is there from before is gone on with
    await this.#options.look(mirror.tree);
  }

  /** Ends the running sync and stops following; what was received stays as it is. Rejects with `MIRROR_UNKNOWN`. */
  async remove(tree: TreeName): Promise<void> {
    this.get(tree);
    const running = this.#running.get(tree);
    running?.abort.abort(cancelled(tree));
    await running?.done.catch(() => undefined);
    await this.#options.admin.change(() => [{ type: 'mirror.removed', tree }]);
    await this.#options.history.record(tree, 'command', [{ type: 'tree.removed' }]);
    this.#settled.delete(tree);
  }

  /** What a sync would do now, by what is known of the peer. Throws `MIRROR_UNKNOWN`, `TREE_UNKNOWN` when the peer shares no such tree. */
  plan(tree: TreeName): Plan {
    const mirror = this.get(tree);
    return plan({ source: this.source(mirror), wanted: this.wanted(mirror), local: this.#local(tree) });
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

  /** Who owns a dataset according to the mirror's peer, or undefined when the peer does not have it. */
  ownerOf({ tree, from }: Mirror, dataset: DatasetId): Ownership | undefined {
    const { history } = this.#options;
    const stream = streamIdOf(from, tree);
    return history.head(stream) === null ? undefined : history.graph(stream).get(dataset)?.owner;
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
   * Brings a mirror up to date. Steps that fail are in the report. Rejects with `MIRROR_UNKNOWN`, `TREE_UNKNOWN`, and what keeps the
   * peer from being asked (`PEER_UNREACHABLE` …), or `TRANSFER_CANCELLED` when the signal is aborted before anything began. Syncs of one tree
   * take turns.
   */
  async sync(tree: TreeName, options: SyncOptions): Promise<SyncReport> {
    this.get(tree);
    const abort = new AbortController();
    const signal = AbortSignal.any([options.signal, this.#stopping.signal, abort.signal]);
    for (let running = this.#running.get(tree); running !== undefined; running = this.#running.get(tree)) {
      await this.#unlessCancelled(
        tree,
        running.done.catch(() => undefined),
        signal,
      );
    }
    const done = this.#run(tree, { ...options, signal }).finally(() => this.#running.delete(tree));
    this.#running.set(tree, { done, abort });
    return done;
  }

  async #unlessCancelled<Value>(tree: TreeName, promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
    try {
      return await unlessAborted(promise, signal);
    } catch (error) {
      throw signal.aborted ? cancelled(tree) : error;
    }
  }

  /** Cancels what runs and resolves once it has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.allSettled(Array.from(this.#running.values(), ({ done }) => done));
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
    this.#receiving.add(tree);
    try {
      const report = await this.#options.pull(this.#pullRequest(mirror, todo, options));
      return { tree, plan: todo, ...report };
    } finally {
      this.#receiving.delete(tree);
    }
  }

  async #catchUp({ tree, from }: Mirror, { refresh, signal }: SyncOptions): Promise<void> {
    const limitMs = this.#options.answerLimitMs ?? ANSWER_LIMIT_MS;
    const limit = AbortSignal.timeout(limitMs);
    try {
      await unlessAborted(this.#options.catchUp(from, { refresh }), AbortSignal.any([signal, limit]));
    } catch (error) {
      if (signal.aborted) throw cancelled(tree);
      if (!limit.aborted) throw error;
      throw new PandoError(
        'PEER_UNREACHABLE',
        `Peer ${from} is connected but has not answered for ${limitMs / 1_000} seconds; look at "pando status" there.`,
        { peer: from, tree },
      );
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

  /** A conflict may have been resolved by hand since the observer last looked, so it is looked at before it is believed. */
  async #planAnew(mirror: Mirror, source: Graph): Promise<Plan> {
    const make = () => plan({ source, wanted: this.wanted(mirror), local: this.#local(mirror.tree) });
    const first = make();
    if (first.conflicts.length === 0) return first;
    await this.#options.look(mirror.tree);
    return make();
  }

  #local(tree: TreeName): Graph {
    return this.#options.history.graph(this.#options.history.ownStream(tree));
  }

  async #checkPlace(root: DatasetName): Promise<void> {
    const slash = root.lastIndexOf('/');
    const parent = slash < 0 ? null : (root.slice(0, slash) as DatasetName);
    if (parent === null) {
      throw new PandoError('ARGUMENT_INVALID', `"${root}" is a pool; name a dataset in it, say ${root}/mirror.`, {
        root,
      });
    }
    const listed = await this.#options.zfs.listOnly([parent, root]);
    if (!listed.some(({ name }) => name === parent)) {
      throw new PandoError(
        'TREE_ROOT_MISSING',
        `There is no dataset "${parent}" to keep the mirror in; create it with "zfs create -p ${parent}".`,
        { root, parent },
      );
    }
    const occupant = listed.find(({ name }) => name === root);
    if (occupant === undefined || occupant.properties[ID_PROPERTY] !== undefined) return;
    throw new PandoError(
      'ZFS_DATASET_EXISTS',
      `"${root}" exists and is not a replica; nothing is received over it. Name a dataset that does not exist.`,
      { root },
    );
  }
}

function cancelled(tree: TreeName): PandoError {
  return new PandoError('TRANSFER_CANCELLED', `The sync of "${tree}" was cancelled.`, { tree });
}
