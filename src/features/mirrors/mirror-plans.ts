/** What mirrors want, and what it takes to bring it here: by what is known, without asking anybody. */
import { type Mirror, type MirrorPlace, mirrorsOf } from '../../core/admin.ts';
import { isAllowed } from '../../core/grants.ts';
import type { Difference } from '../../core/graph/difference.ts';
import { Graph } from '../../core/graph/graph.ts';
import { neededHolders } from '../../core/graph/lineage.ts';
import { replicaDifference } from '../../core/graph/replica-difference.ts';
import { type DatasetId, isLineage, streamIdOf, type TreeName } from '../../core/ids.ts';
import { wantedGraph } from '../../core/plan/filter.ts';
import { plan } from '../../core/plan/plan.ts';
import type { Allowance, Conflict, Hidden, Plan, Retention, Waiting } from '../../core/plan/steps.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import type { DepartureJournal } from './departure-journal.ts';
import { type Source, Sources } from './sources.ts';

export interface MirrorPlansOptions {
  readonly history: History;
  readonly admin: AdminJournal;
  readonly departures: DepartureJournal;
  /** How much a peer may bring into a tree that this node shares itself. */
  readonly allowance: Allowance;
}

/** A plan, and what was known when it was made: of anything that came since it says nothing. */
export interface Made {
  readonly plan: Plan;
  readonly basis: Source['basis'];
  /** What others had then. */
  readonly copies: readonly Graph[];
}

export class MirrorPlans {
  /** What the peers say. */
  readonly sources: Sources;
  readonly #options: MirrorPlansOptions;
  /** What no graph shows of a tree, as it was when somebody last looked. */
  readonly #hidden = new Map<TreeName, Hidden>();

  constructor(options: MirrorPlansOptions) {
    this.#options = options;
    this.sources = new Sources(options);
  }

  /** The part of the peer's view that the mirror wants: of what follows the peer, that which its globs and its rule select. */
  wanted(mirror: Mirror): Graph {
    const { graph, follows, taken } = this.sources.of(mirror);
    const local = this.local(mirror.tree);
    const wanted = wantedGraph(graph, mirror, { local, now: this.#options.history.now() }, taken());
    const followed = Array.from(wanted.datasets.values()).filter(follows);
    const holders = neededHolders(followed);
    // A holder that nobody needs follows somebody only to be given up
    const kept = followed.filter(({ id, name }) => !isLineage(name) || holders.has(id));
    if (kept.length === wanted.datasets.size) return wanted;
    return new Graph(wanted.root, new Map(kept.map((dataset) => [dataset.id, dataset])));
  }

  /** Plans a mirror by what is known now; `modified` are replicas that were written to since their newest snapshot. Throws as {@link Sources.of}. */
  make(mirror: Mirror, modified: ReadonlySet<DatasetId> = new Set()): Made {
    const { graph, follows, contested, basis, unnamed } = this.sources.of(mirror);
    const retention = this.#retention(mirror);
    const made = plan({
      source: graph,
      wanted: this.wanted(mirror),
      local: this.local(mirror.tree),
      follows,
      allowance: this.allowance(mirror),
      hidden: this.#hidden.get(mirror.tree),
      modified,
      retention,
      contested,
    });
    const awaited = unnamed().map(({ id, name }): Waiting => ({ dataset: id, name, reason: 'name-waits' }));
    const waiting = [...made.waiting, ...awaited];
    return { plan: { ...made, waiting }, basis, copies: retention.copies };
  }

  /** From now on plans count with what no graph shows of a tree. */
  noteHidden(tree: TreeName, hidden: Hidden): void {
    this.#hidden.set(tree, hidden);
  }

  /** Whether something of the kind hung off a snapshot when somebody last looked. */
  hasHiddenClones(tree: TreeName): boolean {
    return (this.#hidden.get(tree)?.origins.size ?? 0) > 0;
  }

  /** In what this node's copy differs from what its mirrors want. */
  compare(tree: TreeName): Difference[] {
    const entitled = mirrorsOf(this.#options.admin.state, tree).filter((mirror) => this.sources.isEntitled(mirror));
    const wanted = new Map(entitled.flatMap((mirror) => [...this.wanted(mirror).datasets]));
    const { node } = this.#options.history;
    const found = replicaDifference(wanted, this.local(tree), ({ owner }) => owner.node !== node);
    const plans = entitled
      .filter((mirror) => this.allowance(mirror) !== undefined)
      .map((mirror) => this.make(mirror).plan);
    const limited = new Set(plans.flatMap(limitedBy).map(({ dataset }) => dataset));
    return found.filter(({ dataset }) => !limited.has(dataset));
  }

  /** How much a peer may bring; undefined for a tree that this node does not share itself, and for a peer that may take over all of it anyway. */
  allowance({ tree, from }: MirrorPlace): Allowance | undefined {
    const { trees, grants, contributions } = this.#options.admin.state;
    if (!trees.has(tree) || isAllowed(grants, from, tree, 'take')) return undefined;
    const { allowance } = this.#options;
    const own = contributions.get(from);
    return {
      filesystems: own?.filesystems ?? allowance.filesystems,
      snapshots: own?.snapshots ?? allowance.snapshots,
    };
  }

  /** What each peer that has told of a tree has of it. */
  copies(tree: TreeName): Graph[] {
    const { admin, history } = this.#options;
    const streams = Array.from(admin.state.peers.keys(), (peer) => streamIdOf(peer, tree));
    return streams.filter((stream) => history.head(stream) !== null).map((stream) => history.graph(stream));
  }

  /** What this node has of a tree. */
  local(tree: TreeName): Graph {
    return this.#options.history.graph(this.#options.history.ownStream(tree));
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
      copies: this.copies(mirror.tree),
    };
  }
}

/** What a peer has more than it may bring. */
export function limitedBy({ conflicts }: Plan): readonly Conflict[] {
  return conflicts.filter(({ reason }) => reason === 'limit-reached');
}
