/** Mirrors: trees of peers that this node follows. Added and removed by people, brought up to date by {@link Mirrors.sync}. */
import { type Mirror, type MirrorPlace, mirrorKey, mirrorsOf } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { MirrorRules } from '../../core/events.ts';
import type { Difference } from '../../core/graph/difference.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { DatasetName, NodeId, RelativeName, TreeName } from '../../core/ids.ts';
import type { Plan } from '../../core/plan/steps.ts';
import { checkMirrorPlace } from '../../core/roots.ts';
import { MirrorPlans, type MirrorPlansOptions } from './mirror-plans.ts';
import { MirrorSyncs, type MirrorSyncsOptions, type SyncOptions, type SyncReport } from './mirror-syncs.ts';
import { MirrorTurns } from './mirror-turns.ts';
import { checkReplicaPlace } from './replica-place.ts';
import type { Sources } from './sources.ts';

export interface MirrorsOptions extends MirrorPlansOptions, MirrorSyncsOptions {
  /** Has this node's stream of a tree say that it is kept at that root. */
  readonly announce: (tree: TreeName, root: DatasetName) => Promise<void>;
  /** Has it say that the tree is not kept any more. */
  readonly retract: (tree: TreeName) => Promise<void>;
}

/** For what is not cancelled by whoever asked for it. */
const NEVER = new AbortController().signal;

export class Mirrors {
  readonly #options: MirrorsOptions;
  readonly #turns = new MirrorTurns();
  readonly #plans: MirrorPlans;
  readonly #syncs: MirrorSyncs;

  constructor(options: MirrorsOptions) {
    this.#options = options;
    this.#plans = new MirrorPlans(options);
    this.#syncs = new MirrorSyncs(options, this.#plans);
  }

  /** What the peers say. */
  get sources(): Sources {
    return this.#plans.sources;
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
    return this.#syncs.isReceiving(tree);
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
      this.#syncs.forget(mirror);
    });
  }

  /** What a sync would do now, by what is known of the peer. Throws as {@link get}, `TREE_UNKNOWN` when the peer shares no such tree. */
  plan(tree: TreeName, from?: NodeId): Plan {
    return this.#plans.make(this.get(tree, from)).plan;
  }

  /** What the mirror wants of what its peer has (`MirrorPlans.wanted`). */
  wanted(mirror: Mirror): Graph {
    return this.#plans.wanted(mirror);
  }

  /** In what this node's copy differs from what its mirrors want. Throws `MIRROR_UNKNOWN` where there is none. */
  compare(tree: TreeName): Difference[] {
    if (mirrorsOf(this.#options.admin.state, tree).length === 0) throw unknownMirror(tree);
    return this.#plans.compare(tree);
  }

  /** Brings what is known of a mirrored tree up to date (`MirrorSyncs.hear`). */
  hear(mirror: MirrorPlace, options: Pick<SyncOptions, 'refresh'>): Promise<void> {
    return this.#syncs.hear(mirror, options);
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
      (signal) => this.#syncs.run(this.get(tree, mirror.from), { ...options, signal }),
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
