/**
 * Which of the mirrors of a tree brings a dataset: one at most, or they would undo each other's work. The beliefs by number are those of sources.ts.
 */
import type { Mirror } from '../../core/admin.ts';
import { type Dataset, EMPTY_GRAPH, type Graph } from '../../core/graph/graph.ts';
import { neededHolders } from '../../core/graph/lineage.ts';
import { type DatasetId, isLineage, lineageName, type NodeId } from '../../core/ids.ts';
import { FIRST_EPOCH, foremost } from '../../core/ownership.ts';
import { awaitingNames, type Elsewhere, takenBy, takesAll, withSupports } from '../../core/plan/filter.ts';

export type Views = ReadonlyMap<Mirror, Graph>;

export interface ServingOptions {
  /** This node. */
  readonly node: NodeId;
  readonly mirrors: readonly Mirror[];
  readonly local: Graph;
  readonly views: Views;
  /** Whether what belongs to a node may come into this tree. */
  readonly mayBring: (owner: NodeId) => boolean;
  /** Whether a node may take over datasets of this tree from others. */
  readonly mayTake: (claimant: NodeId) => boolean;
}

export class Serving {
  readonly #options: ServingOptions;
  readonly #peers: ReadonlySet<NodeId>;
  /** What each mirror takes, of those that were asked about. */
  readonly #taken = new Map<Mirror, ReadonlySet<DatasetId>>();
  /** What each mirror needs for what it brings. */
  readonly #needed = new Map<Mirror, ReadonlySet<DatasetId>>();
  /** The lineage holders that are for a mirror, by what its peer says, and by what is here. */
  readonly #holdersThere = new Map<Mirror, ReadonlySet<DatasetId>>();
  readonly #holdersHere = new Map<Mirror, ReadonlySet<DatasetId>>();

  constructor(options: ServingOptions) {
    this.#options = options;
    this.#peers = new Set(options.mirrors.map(({ from }) => from));
  }

  /** Whether a mirror is the one that brings a dataset, which goes by that name at its peer. */
  brings(mirror: Mirror, { id, name }: Dataset): boolean {
    if (isLineage(name) && !this.#isOrdinary(id)) return this.#isForHolder(mirror, id);
    return this.#serverOf(id) === mirror;
  }

  /** What the globs of a mirror select, which are for the names that datasets have at its peer, with all that this needs. */
  takenBy(mirror: Mirror): ReadonlySet<DatasetId> {
    let taken = this.#taken.get(mirror);
    if (taken === undefined) {
      taken = takenBy(this.#options.views.get(mirror) ?? EMPTY_GRAPH, mirror, this.#elsewhere);
      this.#taken.set(mirror, taken);
    }
    return taken;
  }

  /** What a mirror may take once its peer has given it its name. */
  unnamedFor(mirror: Mirror): Dataset[] {
    const view = this.#options.views.get(mirror);
    if (view === undefined || takesAll(mirror)) return [];
    const taken = this.takenBy(mirror);
    return awaitingNames(view, this.#elsewhere).filter(({ id }) => !taken.has(id) && this.#serverOf(id) === mirror);
  }

  get #elsewhere(): Elsewhere {
    const { node, local, mirrors, views } = this.#options;
    const ofOwner = (owner: NodeId): Graph | undefined => {
      const mirror = mirrors.find(({ from }) => from === owner);
      return owner === node ? local : mirror && views.get(mirror);
    };
    return { local, ofOwner };
  }

  /** Whether a mirror brings a dataset only since another leaves it out (belief 8): then what its peer gives up of it says nothing. */
  isLent(mirror: Mirror, id: DatasetId): boolean {
    return this.#serverOf(id) === mirror && this.#speakerFor(id) !== mirror;
  }

  /** Beliefs 1 to 4, and 8. */
  #serverOf(id: DatasetId): Mirror | undefined {
    const first = this.#speakerFor(id);
    if (first === undefined || !this.#isLeftOut(first, id)) return first;
    return this.#options.mirrors.find((mirror) => mirror !== first && this.#neededFor(mirror).has(id)) ?? first;
  }

  /** Beliefs 1 to 4. */
  #speakerFor(id: DatasetId): Mirror | undefined {
    const { node, mirrors, local, views, mayBring, mayTake } = this.#options;
    const owner = local.get(id)?.owner.node;
    if (owner === undefined) {
      const server = serverOfNew(views, id, mayTake);
      const said = server === undefined ? undefined : views.get(server)?.get(id)?.owner.node;
      return said === undefined || mayBring(said) ? server : undefined;
    }
    if (owner === node || !mayBring(owner)) return undefined;
    if (this.#peers.has(owner)) return mirrors.find(({ from }) => from === owner);
    return mirrors.find((one) => views.get(one)?.get(id) !== undefined) ?? mirrors[0];
  }

  /** Whether the peer of a mirror has a dataset that the mirror does not take. */
  #isLeftOut(mirror: Mirror, id: DatasetId): boolean {
    const view = this.#options.views.get(mirror);
    return !takesAll(mirror) && view?.get(id) !== undefined && !this.takenBy(mirror).has(id);
  }

  /** What a mirror brings by belief 1 to 4, and what that cannot stand without. */
  #neededFor(mirror: Mirror): ReadonlySet<DatasetId> {
    let needed = this.#needed.get(mirror);
    const view = this.#options.views.get(mirror);
    if (needed === undefined) {
      const brought = [...this.takenBy(mirror)].filter((id) => this.#speakerFor(id) === mirror);
      needed = view === undefined ? new Set() : withSupports(view, brought);
      this.#needed.set(mirror, needed);
    }
    return needed;
  }

  /** Whether a lineage holder was made a dataset like others, where that is taken from: somebody took it over, and gave it a name. Whoever has only clones of it calls it a holder still. */
  #isOrdinary(id: DatasetId): boolean {
    return Array.from(this.#options.views).some(([mirror, view]) => {
      const dataset = view.get(id);
      if (dataset === undefined || isLineage(dataset.name)) return false;
      return this.#speakerFor(id) === mirror && !this.#isLeftOut(mirror, id);
    });
  }

  /** Belief 7. One that nobody needs is for the first mirror to give up, or what one gives up another would bring again. */
  #isForHolder(mirror: Mirror, holder: DatasetId): boolean {
    const { views } = this.#options;
    const needing = [...views.keys()].filter(
      (one) => this.#neededBy(one).has(holder) || this.#hangingHere(one).has(holder),
    );
    return needing.length > 0 ? needing.includes(mirror) : mirror === views.keys().next().value;
  }

  /** Whether something hangs off a lineage holder that some mirror brings: until nothing does, none gives it up. */
  isNeeded(holder: DatasetId): boolean {
    return [...this.#options.views.keys()].some((mirror) => this.#neededBy(mirror).has(holder));
  }

  /** The lineage holders that something hangs off which a mirror brings, at its peer; and those that came alone for what is still to come (`plan/passed-origins.ts`). */
  #neededBy(mirror: Mirror): ReadonlySet<DatasetId> {
    let needed = this.#holdersThere.get(mirror);
    if (needed === undefined) {
      const { views, local } = this.#options;
      const there = [...(views.get(mirror)?.datasets.values() ?? [])].filter(
        ({ id, name }) => isLineage(name) || (this.#serverOf(id) === mirror && !this.#isLeftOut(mirror, id)),
      );
      const coming = there.filter(({ id, snapshots }) => snapshots.length > 0 && local.get(id) === undefined);
      const alone = coming.flatMap(({ origin }) =>
        origin === null ? [] : [local.named(lineageName(origin.snapshot))?.id],
      );
      needed = new Set([...neededHolders(there), ...alone.filter((id) => id !== undefined)]);
      this.#holdersThere.set(mirror, needed);
    }
    return needed;
  }

  /** Those that something hangs off which is here, and follows a mirror. */
  #hangingHere(mirror: Mirror): ReadonlySet<DatasetId> {
    let hanging = this.#holdersHere.get(mirror);
    if (hanging === undefined) {
      const here = [...this.#options.local.datasets.values()];
      hanging = neededHolders(here.filter(({ id, name }) => isLineage(name) || this.#serverOf(id) === mirror));
      this.#holdersHere.set(mirror, hanging);
    }
    return hanging;
  }
}

/** Belief 2: which mirror brings a dataset that is not here yet. */
export function serverOfNew(views: Views, id: DatasetId, mayTake: (node: NodeId) => boolean): Mirror | undefined {
  const having = Array.from(views).flatMap(([mirror, view]) => {
    const owner = view.get(id)?.owner;
    return owner === undefined ? [] : [{ mirror, owner }];
  });
  const claims = having.filter(({ mirror, owner }) => owner.node === mirror.from);
  const entitled = claims.filter(({ owner }) => owner.epoch === FIRST_EPOCH || mayTake(owner.node));
  const counting = entitled.length > 0 ? entitled : claims;
  const first = foremost(counting.map(({ owner }) => owner));
  return (counting.find(({ owner }) => owner === first) ?? having[0])?.mirror;
}
