/**
 * What the peers of a mirrored tree say, as this node sees it (design §7: wanted is, for each dataset, its owner's view).
 *
 * What this module believes:
 *
 * 1. A dataset that is here follows the peer that owns it. One whose owner is not mirrored from follows the first peer that has it.
 * 2. A dataset that is not here yet follows the peer that says it is its own; where several do, the one with the higher epoch, or the smaller id (invariant 2). An epoch behind the first
 *    counts where the peer may take over others' datasets, or where nobody else has a claim.
 * 3. What belongs to this node follows nobody.
 * 4. Into a tree that this node shares itself comes only what belongs to who may contribute to it, from its owner or from another such.
 * 5. What a peer claims that may take it over is the peer's, whoever owned it before (core/ownership.ts).
 * 6. An origin that is nowhere to be had in this tree is a lineage holder: it lies outside, or its owner has destroyed it.
 * 7. A lineage holder belongs to nobody, whatever it says: it comes with what hangs off it, and goes once no mirror needs it. Where its owner gave it a name, it is none any more.
 * 8. What the mirror that should bring it leaves out comes with whatever another mirror brings that cannot stand without it.
 */
import { type Mirror, mirrorsOf } from '../../core/admin.ts';
import { isPandoError, PandoError } from '../../core/errors.ts';
import type { Origin, Ownership } from '../../core/events.ts';
import { isAllowed } from '../../core/grants.ts';
import { type Dataset, EMPTY_GRAPH, type Graph, snapshotOf } from '../../core/graph/graph.ts';
import { withLineage } from '../../core/graph/lineage.ts';
import type { ObservedDataset } from '../../core/graph/observed.ts';
import {
  type DatasetId,
  isLineage,
  type NodeId,
  type SnapshotGuid,
  streamIdOf,
  type TreeName,
} from '../../core/ids.ts';
import { FIRST_EPOCH, foremost } from '../../core/ownership.ts';
import { type Contested, settleNames } from '../../core/plan/settled-names.ts';
import { hasReplicaMarks } from '../../core/replica-marks.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import { Serving, serverOfNew } from './serving.ts';

export interface SourcesOptions {
  readonly history: History;
  readonly admin: AdminJournal;
}

/** One peer's view of a tree, ready to be planned from. */
export interface Source {
  /** All that the peer has, under the names that it is to have here. */
  readonly graph: Graph;
  readonly follows: (dataset: Dataset) => boolean;
  /** What the mirror's globs select of it, with all that this needs. */
  readonly taken: () => ReadonlySet<DatasetId>;
  /** What these may select once the peer has given it its name. */
  readonly unnamed: () => readonly Dataset[];
  /** Of what it follows, that which the owner has, whose mirror leaves it out: what this peer gives up of it says nothing. */
  readonly isLent: (dataset: DatasetId) => boolean;
  /** Whether a lineage holder is needed for what this mirror, or another of the tree, brings. */
  readonly isNeeded: (holder: DatasetId) => boolean;
  /** What has another name here than at its owner. */
  readonly contested: readonly Contested[];
  /** What this was made from: as long as that is the same, so is this. */
  readonly basis: readonly unknown[];
}

/** What is known of a tree at one moment. */
interface Knowledge {
  readonly basis: Source['basis'];
  readonly mirrors: readonly Mirror[];
  readonly local: Graph;
  /** What each peer has told, with lineage holders; nothing of one that shares no such tree. */
  readonly views: ReadonlyMap<Mirror, Graph>;
  sources: ReadonlyMap<Mirror, Source> | undefined;
}

export class Sources {
  readonly #options: SourcesOptions;
  readonly #known = new Map<TreeName, Knowledge>();
  readonly #heard = new Map<TreeName, readonly (Graph | undefined)[]>();

  constructor(options: SourcesOptions) {
    this.#options = options;
  }

  /** Throws `TREE_UNKNOWN` when the peer shares no such tree, and `GRANT_MISSING` when it may not contribute to one of this node's own. */
  of(mirror: Mirror): Source {
    const { tree, from } = mirror;
    const known = this.#knowledge(tree);
    known.sources ??= this.#settle(tree, known);
    const source = known.sources.get(mirror);
    if (source !== undefined) return source;
    if (!this.isEntitled(mirror)) throw this.#notEntitled(mirror);
    throw notShared(tree, from);
  }

  /** Whether anything is taken from the peer at all (belief 4). */
  isEntitled({ tree, from }: Mirror): boolean {
    return this.#mayBring(from, tree);
  }

  /**
   * Who owns a dataset that was not known to be in the tree: whoever the peers say, and undefined where they have no such dataset. A replica that they do not have
   * (any more), and whatever is there as long as nothing is known of a peer's view, counts as the peer's, unless this node shares the tree itself: nobody may
   * change it here.
   */
  ownerOf(tree: TreeName, id: DatasetId, seen: ObservedDataset): Ownership | undefined {
    const known = this.#knowledge(tree);
    const { mirrors, views } = known;
    const server = serverOfNew(views, id, (peer) => this.#mayTake(peer, tree));
    if (server !== undefined) return views.get(server)?.get(id)?.owner;
    if (this.#options.admin.state.trees.has(tree)) {
      const told = isReplica(seen) ? this.#ownerByAnybody(mirrors, id) : undefined;
      const isForgotten = hasReplicaMarks(seen.kind, seen.properties) && this.#mayHaveForgotten(known, tree);
      return told ?? (isForgotten ? guess(this.#options.history.node) : undefined);
    }
    const unheard = mirrors.find((mirror) => !this.#isHeard(mirror)) ?? (isReplica(seen) ? mirrors[0] : undefined);
    return unheard === undefined ? undefined : guess(unheard.from);
  }

  /** Whether others can have brought it. Not where people make a tree of their own of what was a mirror, and the log knows that it was. */
  #mayHaveForgotten({ mirrors, local }: Knowledge, tree: TreeName): boolean {
    const { history } = this.#options;
    return mirrors.length > 0 || local.datasets.size > 0 || (history.head(history.ownStream(tree))?.seq ?? 0) <= 1;
  }

  /** A replica does not become this node's own because its owner may not contribute any more. */
  #ownerByAnybody(mirrors: readonly Mirror[], id: DatasetId): Ownership | undefined {
    const told = mirrors.map((mirror) => this.#raw(mirror)?.get(id)?.owner).filter((owner) => owner !== undefined);
    return told.find(({ node }) => node !== this.#options.history.node);
  }

  /** Who owns a dataset that is here, by what the peer says now that it follows; undefined where that says nothing. */
  saidOwnerOf(tree: TreeName, id: DatasetId): Ownership | undefined {
    const { mirrors, views, local } = this.#knowledge(tree);
    const { node } = this.#options.history;
    const known = local.get(id)?.owner;
    if (known?.node === node) return known.isGuess === true ? this.#knownBetter(tree, id, known) : undefined;
    const own = mirrors.find(({ from }) => from === known?.node);
    const server = own ?? mirrors.find((mirror) => views.get(mirror)?.get(id) !== undefined);
    const said = server === undefined ? undefined : views.get(server)?.get(id)?.owner;
    if (own !== undefined && known !== undefined && said === undefined)
      return views.has(own) ? this.#ownerInstead(tree, id, known) : undefined;
    // What is only guessed there is asked of all
    if (known?.isGuess === true && said?.isGuess === true) return this.#knownBetter(tree, id, known);
    // Of a tree that this node shares itself it knows best what is its own: no contributor makes it the owner of anything
    const isOwn = this.#options.admin.state.trees.has(tree);
    return isOwn && said?.node === node ? undefined : said;
  }

  /**
   * Who owns what its owner has no more. That it has none is no news where it was more than a guess that this is its, unless it took that over: then it goes to whoever took it over at the same time, and lost it
   * to nobody now.
   */
  #ownerInstead(tree: TreeName, id: DatasetId, known: Ownership): Ownership | undefined {
    if (known.isGuess === true) return this.#knownBetter(tree, id, known);
    const claim = known.epoch > FIRST_EPOCH ? this.claims(tree)(id) : undefined;
    return claim?.epoch === known.epoch ? claim : undefined;
  }

  /**
   * Who owns a dataset whose owner was guessed: the peer that says it is its own, else whoever those say that may be believed about others. In a tree of this node's own these are the peers that could take it over
   * anyway, and not even they make this node the owner of anything. Only in the epoch that is known: in a later one that would be a claim. Undefined where everybody guesses, and this guess is as good
   * (invariant 2); it is not where it is about somebody who guesses otherwise.
   */
  #knownBetter(tree: TreeName, id: DatasetId, known: Ownership): Ownership | undefined {
    const { views } = this.#knowledge(tree);
    const { trees } = this.#options.admin.state;
    const believed = trees.has(tree) ? new Set(this.#claimants(tree)) : undefined;
    const told = Array.from(views, ([{ from }, view]) => ({ from, owner: view.get(id)?.owner })).flatMap(
      ({ from, owner }) => (owner?.epoch === known.epoch ? [{ from, owner }] : []),
    );
    const own = told.filter(({ from, owner }) => owner.node === from).map(({ owner }) => owner);
    const others = told.filter(({ from, owner }) => {
      const isSure = owner.isGuess !== true && owner.node !== from;
      return isSure && (believed === undefined || (believed.has(from) && owner.node !== this.#options.history.node));
    });
    const sure = own.filter(({ isGuess }) => isGuess !== true);
    const better = foremost(sure.length > 0 ? sure : others.length > 0 ? others.map(({ owner }) => owner) : own);
    if (better === undefined) return undefined;
    const isDenied = told.some(({ from, owner }) => from === known.node && owner.node !== from);
    return isDenied || foremost([better, known]) === better ? better : undefined;
  }

  /** What peers that may take over datasets of the tree claim of each (belief 5), as it is now; undefined where none claims it. */
  claims(tree: TreeName): (id: DatasetId) => Ownership | undefined {
    const views = this.#claimants(tree).map((peer) => ({ peer, view: this.#told(peer, tree) }));
    if (views.length === 0) return () => undefined;
    return (id) =>
      foremost(
        views.flatMap(({ peer, view }) => {
          const owner = view?.get(id)?.owner;
          return owner?.node === peer ? [owner] : [];
        }),
      );
  }

  /** Peers that may take over datasets of the tree, whether it is mirrored from them or not. */
  #claimants(tree: TreeName): NodeId[] {
    return Array.from(this.#options.admin.state.peers.keys()).filter((peer) => this.#mayTake(peer, tree));
  }

  #mayTake(peer: NodeId, tree: TreeName): boolean {
    return isAllowed(this.#options.admin.state.grants, peer, tree, 'take');
  }

  /** What the peers have told of the tree: the same value as long as they say the same. */
  heard(tree: TreeName): unknown {
    const mirrors = mirrorsOf(this.#options.admin.state, tree);
    const claims = this.#claimants(tree).map((peer) => this.#told(peer, tree));
    const raws = [...mirrors.map((mirror) => this.#raw(mirror)), ...claims];
    const last = this.#heard.get(tree);
    if (last !== undefined && isSame(last, raws)) return last;
    this.#heard.set(tree, raws);
    return raws;
  }

  /** The snapshots that peers have of a dataset, as far as known; none of what belongs to this node. */
  atOwner(tree: TreeName, id: DatasetId): ReadonlySet<SnapshotGuid> {
    const { views, local } = this.#knowledge(tree);
    if (local.get(id)?.owner.node === this.#options.history.node) return new Set();
    const known = Array.from(views.values()).flatMap((view) => view.get(id)?.snapshots ?? []);
    return new Set(known.map(({ guid }) => guid));
  }

  #knowledge(tree: TreeName): Knowledge {
    const mirrors = mirrorsOf(this.#options.admin.state, tree);
    const local = this.#local(tree);
    const raws = mirrors.map((mirror) => this.#raw(mirror));
    const { grants, contributions } = this.#options.admin.state;
    const basis = [local, grants, contributions, ...raws];
    const last = this.#known.get(tree);
    if (last !== undefined && isSame(last.basis, basis) && isSame(last.mirrors, mirrors)) return last;
    const views = new Map<Mirror, Graph>();
    mirrors.forEach((mirror, index) => {
      const raw = raws[index];
      if (raw === undefined || !this.isEntitled(mirror)) return;
      views.set(
        mirror,
        withLineage(raw, (origin) => this.#isNowhere(mirror, origin, local, mirrors)),
      );
    });
    const known: Knowledge = { basis, mirrors, local, views, sources: undefined };
    this.#known.set(tree, known);
    return known;
  }

  /** What this node owned, and has no more, is brought back by nobody: it may have destroyed it. */
  #mayBring(owner: NodeId, tree: TreeName): boolean {
    const { trees, grants } = this.#options.admin.state;
    if (owner === this.#options.history.node) return false;
    return !trees.has(tree) || isAllowed(grants, owner, tree, 'contribute');
  }

  #notEntitled({ tree, from }: Mirror): PandoError {
    const name = this.#options.admin.state.peers.get(from)?.name ?? from;
    return new PandoError(
      'GRANT_MISSING',
      `Peer "${name}" may not contribute to "${tree}", which this node shares; grant it with "pando grant add ${name} ${tree} --role contributor" if that is meant.`,
      { peer: from, tree },
    );
  }

  #settle(tree: TreeName, { basis, mirrors, local, views }: Knowledge): Map<Mirror, Source> {
    const { node } = this.#options.history;
    const mayBring = (owner: NodeId): boolean => this.#mayBring(owner, tree);
    const mayTake = (claimant: NodeId): boolean => this.#mayTake(claimant, tree);
    const serving = new Serving({ node, mirrors, local, views, mayBring, mayTake });
    const heard = Array.from(views, ([mirror, graph]) => {
      return { mirror, graph, follows: (dataset: Dataset) => serving.brings(mirror, dataset) };
    });
    const { graphs, contested } = settleNames(heard, local, ({ owner }) => owner.node === node);
    return new Map(
      heard.map(({ mirror, follows }, index): [Mirror, Source] => {
        const graph = graphs[index] as Graph;
        const here = contested.filter(({ dataset }) => graph.get(dataset) !== undefined);
        const taken = () => serving.takenBy(mirror);
        const unnamed = () => serving.unnamedFor(mirror);
        const isLent = (id: DatasetId) => serving.isLent(mirror, id);
        const isNeeded = (id: DatasetId) => serving.isNeeded(id);
        return [mirror, { graph, follows, taken, unnamed, isLent, isNeeded, contested: here, basis }];
      }),
    );
  }

  /** Belief 6. */
  #isNowhere(mirror: Mirror, { dataset, snapshot }: Origin, local: Graph, mirrors: readonly Mirror[]): boolean {
    if (dataset === null) return true;
    const here = local.get(dataset);
    // What this node owned does not come back
    if (here === undefined) return this.#raw(mirror)?.get(dataset)?.owner.node === this.#options.history.node;
    if (here.owner.node === mirror.from || snapshotOf(here, snapshot) !== undefined) return false;
    if (here.owner.node === this.#options.history.node) return true;
    const owner = mirrors.find(({ from }) => from === here.owner.node);
    const there = owner === undefined ? undefined : this.#raw(owner)?.get(dataset);
    return there !== undefined && snapshotOf(there, snapshot) === undefined && !isInDataset(local, snapshot);
  }

  #isHeard({ tree, from }: Mirror): boolean {
    return this.#options.history.head(streamIdOf(from, tree)) !== null;
  }

  #raw({ tree, from }: Mirror): Graph | undefined {
    return this.#told(from, tree);
  }

  /** What a peer has told of the tree; undefined when it shares none, or its log is damaged. */
  #told(peer: NodeId, tree: TreeName): Graph | undefined {
    const { history } = this.#options;
    const stream = streamIdOf(peer, tree);
    try {
      if (history.head(stream) === null) return undefined;
      const graph = history.graph(stream);
      return graph.root === null ? undefined : graph;
    } catch (error) {
      if (isPandoError(error, 'LOG_CORRUPT')) return undefined;
      throw error;
    }
  }

  #local(tree: TreeName): Graph {
    const { history } = this.#options;
    const stream = history.ownStream(tree);
    return history.head(stream) === null ? EMPTY_GRAPH : history.graph(stream);
  }
}

function guess(node: NodeId): Ownership {
  return { node, epoch: FIRST_EPOCH, isGuess: true };
}

/** Whether two lists hold the same values, by identity. */
export function isSame(before: readonly unknown[], now: readonly unknown[]): boolean {
  return before.length === now.length && before.every((one, index) => one === now[index]);
}

/** Whether a snapshot is here in a dataset like others: what was promoted at its owner has moved, and is nowhere else for that. */
function isInDataset(local: Graph, guid: SnapshotGuid): boolean {
  return Array.from(local.datasets.values()).some(
    ({ name, snapshots }) => !isLineage(name) && snapshots.some((snapshot) => snapshot.guid === guid),
  );
}

/** Whether it is marked as replicas are: nobody writes to it, and it has the id that it has at its owner. */
function isReplica({ id, properties }: ObservedDataset): boolean {
  return id !== null && properties.readonly === 'on';
}

/** The peer has no such tree, or does not let this node read it (any more): which of the two it does not say. */
export function notShared(tree: TreeName, peer: NodeId): PandoError {
  return new PandoError(
    'TREE_UNKNOWN',
    `Peer ${peer} shares no tree "${tree}" with this node; grant it there with "pando grant add … ${tree}".`,
    { tree, peer },
  );
}
