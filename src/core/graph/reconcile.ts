/**
 * From what ZFS shows to what happened (design §4: the disk is the truth, the log its history).
 *
 * What this module believes:
 *
 * 1. A dataset is the one it was when its own guid is; then another name is a rename, not a destroy and a create.
 * 2. A clone that now holds its former origin snapshot was promoted.
 * 3. A dataset that is new, shows snapshots of a known one, and has got what hung off that, was cloned from it and promoted.
 * 4. A dataset whose last snapshots are gone, and that is as the newest one left it, was rolled back.
 * 5. Where only some datasets were looked at, what hangs off what is told as far as they show it: a promote moves snapshots of two datasets, and half of one
 *    would be a graph that cannot be. The whole tree shows the rest.
 * 6. Whatever else differs is a create, a destroy or a change; the events are such that folding them gives what was seen (invariant 4).
 *
 * Works on a graph that it folds along, so that each event is found against what the ones before have made of it.
 */
import {
  type Bookmark,
  type DatasetCreated,
  EVENT_VERSION,
  type Hold,
  type Ownership,
  type Snapshot,
  type TreeEventBody,
} from '../events.ts';
import {
  type BookmarkName,
  type DatasetId,
  type NodeId,
  nameInBetween,
  type RelativeName,
  type SnapshotGuid,
} from '../ids.ts';
import { markedOwner, supersedes } from '../ownership.ts';
import { hasReplicaMarks } from '../replica-marks.ts';
import { GraphDraft } from './draft.ts';
import { fold } from './fold.ts';
import { compareNames, type Dataset, type Graph, snapshotOf } from './graph.ts';
import { NameTree } from './name-tree.ts';
import type { ObservationScope, ObservedDataset } from './observed.ts';

/** What the caller decides about datasets that were not known before. */
export interface ReconcileOptions {
  readonly scope: ObservationScope;
  /** A fresh id for a dataset that carries none. */
  readonly mint: () => DatasetId;
  /** Who owns a dataset that appeared. */
  readonly ownerOf: (id: DatasetId, seen: ObservedDataset) => Ownership;
  /** Who is said elsewhere to own a dataset, by whoever should know; undefined where nobody says anything. */
  readonly saidOwnerOf: (id: DatasetId) => Ownership | undefined;
  /** What a peer that may take it over claims of a dataset; undefined where none does. */
  readonly claimOf: (id: DatasetId) => Ownership | undefined;
  /** The node whose copy this is: what it owns itself it hands over on nobody's word, only to a claim, and only once nobody can write to it here any more. */
  readonly self: NodeId;
}

/** What was found: the events, and the ids that still have to be put on datasets as `pando:id`. */
export interface Reconciliation {
  readonly events: readonly TreeEventBody[];
  readonly unmarked: readonly { readonly name: RelativeName; readonly dataset: DatasetId }[];
}

/** An observed dataset and the id by which the graph knows it, or will. */
interface Identified {
  readonly id: DatasetId;
  readonly observed: ObservedDataset;
}

/** A graph and the events that made it, growing together. */
class Narration {
  readonly events: TreeEventBody[] = [];
  graph: Graph;

  constructor(graph: Graph) {
    this.graph = graph;
  }

  tell(bodies: readonly TreeEventBody[]): void {
    if (bodies.length === 0) return;
    const place = { v: EVENT_VERSION, at: 0, cause: 'observed' } as const;
    this.graph = fold(
      this.graph,
      bodies.map((body, index) => ({ ...place, seq: this.events.length + index + 1, ...body })),
    );
    for (const body of bodies) this.events.push(body);
  }
}

/** Gives each observed dataset the id it has in the graph, carries as a property, or gets now. An id is used once. */
function identify(graph: Graph, observed: readonly ObservedDataset[], mint: () => DatasetId): Identified[] {
  const byGuid = new Map(Array.from(graph.datasets.values(), ({ guid, id }) => [guid, id]));
  const used = new Set(observed.map(({ guid }) => byGuid.get(guid)).filter((id) => id !== undefined));
  return observed.map((dataset) => {
    const known = byGuid.get(dataset.guid);
    if (known !== undefined) return { id: known, observed: dataset };
    // `zfs send -p | zfs receive` copies user properties too: a second dataset with the same id is another dataset.
    const carried = dataset.id !== null && !used.has(dataset.id) ? dataset.id : undefined;
    const id = carried ?? mint();
    used.add(id);
    return { id, observed: dataset };
  });
}

/** Datasets that are gone; children first, as ZFS must have destroyed them. */
function destroyed(graph: Graph, found: readonly Identified[], scope: ObservationScope): TreeEventBody[] {
  const guids = new Set(found.map(({ observed }) => observed.guid));
  return Array.from(graph.datasets.values())
    .filter(({ guid, name }) => !guids.has(guid) && (scope === 'tree' || scope.has(name)))
    .sort((a, b) => compareNames(b.name, a.name))
    .map(({ id, name }) => ({ type: 'dataset.destroyed', dataset: id, name }));
}

/** Where a dataset came from that was cloned and promoted since the graph was as it is. */
interface NewPromoted {
  /** What it was cloned from, and by which snapshot. */
  readonly former: DatasetId;
  readonly snapshot: SnapshotGuid;
  /** Snapshots of that one, the last of them the origin, that were taken since as well. */
  readonly taken: readonly Snapshot[];
}

/**
 * Tells of datasets that were cloned and promoted since (belief 3), one after the other, since one can hang off the next. Told as if it had come with all its snapshots, each would
 * leave the other clones of what it was promoted over without their origins.
 */
function tellNewPromoted(narration: Narration, found: readonly Identified[], options: ReconcileOptions): void {
  const added = new Map(
    found.filter(({ id }) => narration.graph.get(id) === undefined).map((one) => [one.observed.name, one]),
  );
  if (added.size === 0) return;
  const hanging = new Map<Identified, Identified[]>();
  const hang = (one: Identified): void => {
    const { origin } = one.observed;
    const clone = origin?.dataset == null ? undefined : added.get(origin.dataset);
    const isThere = clone?.observed.snapshots.some(({ guid }) => guid === origin?.snapshot) === true;
    if (clone !== undefined && isThere) hanging.set(clone, [...(hanging.get(clone) ?? []), one]);
  };
  for (const one of found) if (narration.graph.get(one.id) !== undefined) hang(one);
  for (const [clone, ones] of hanging) {
    const promoted = newPromoted(narration.graph, clone, ones, found);
    if (promoted === undefined) continue;
    const { former, snapshot, taken } = promoted;
    const created = creation(clone, { dataset: former, snapshot }, ownerOfNew(clone, options));
    const name = narration.graph.named(created.name) === undefined ? created.name : nameInBetween(clone.id);
    narration.tell([
      ...taken.map(
        (one): TreeEventBody => ({ type: 'snapshot.created', dataset: former, snapshot: plainSnapshot(one) }),
      ),
      { ...created, name },
      { type: 'dataset.promoted', dataset: clone.id },
    ]);
    // What it hangs off itself may be new as well
    hang(clone);
  }
}

/** From what it was cloned, by the known datasets that hang off it now. */
function newPromoted(
  graph: Graph,
  { observed: { snapshots } }: Identified,
  hanging: readonly Identified[],
  found: readonly Identified[],
): NewPromoted | undefined {
  const formers = Array.from(new Set(hanging.flatMap(({ id }) => [id, graph.get(id)?.origin?.dataset ?? id])));
  const hangsAt = (id: DatasetId | undefined): number => {
    const guid = hanging.find((one) => one.id === id)?.observed.origin?.snapshot;
    return snapshots.findIndex((snapshot) => snapshot.guid === guid);
  };
  const holders = snapshots.map(({ guid }) => formers.find((id) => hasGivenUp(graph.get(id), guid, found)));
  const known = holders.findLastIndex((holder) => holder !== undefined);
  // All that it shows can have been taken since
  const latest = hanging.toSorted((a, b) => hangsAt(b.id) - hangsAt(a.id))[0]?.id;
  const former = holders[known] ?? latest;
  const at = Math.max(known, hangsAt(former));
  const origin = snapshots[at];
  if (former === undefined || origin === undefined) return undefined;
  return { former, snapshot: origin.guid, taken: snapshots.slice(known + 1, at + 1) };
}

/** Whether a dataset was known to have a snapshot, and does not show it any more, as far as it was looked at. */
function hasGivenUp(known: Dataset | undefined, guid: SnapshotGuid, found: readonly Identified[]): boolean {
  if (known === undefined || snapshotOf(known, guid) === undefined) return false;
  return !shows(found, known.id, guid);
}

function shows(found: readonly Identified[], dataset: DatasetId, guid: SnapshotGuid): boolean {
  const seen = found.find(({ id }) => id === dataset);
  return seen?.observed.snapshots.some((snapshot) => snapshot.guid === guid) === true;
}

function wasPromoted(graph: Pick<Graph, 'get'>, { id, observed }: Identified, found: readonly Identified[]): boolean {
  const origin = graph.get(id)?.origin;
  const parent = origin?.dataset == null ? undefined : graph.get(origin.dataset);
  // Where only some datasets were looked at, the graph may not have their origins where they are by now
  if (origin == null || parent === undefined || snapshotOf(parent, origin.snapshot) === undefined) return false;
  if (!observed.snapshots.some(({ guid }) => guid === origin.snapshot)) return false;
  // Somebody made a copy: the snapshot is in both, and neither was promoted over the other
  return !shows(found, parent.id, origin.snapshot);
}

/**
 * Tells promotes until no clone holds its former origin. It ends: a promote needs a parent that does not show the origin any more, so that this is never promoted back over
 * the same.
 */
function tellPromotes(narration: Narration, found: readonly Identified[]): void {
  const clones = found.filter(({ id }) => narration.graph.get(id)?.origin != null);
  const draft = new GraphDraft(narration.graph);
  const events: TreeEventBody[] = [];
  for (let before = -1; before !== events.length; ) {
    before = events.length;
    for (const clone of clones) {
      if (!wasPromoted(draft, clone, found)) continue;
      draft.promote(clone.id);
      events.push({ type: 'dataset.promoted', dataset: clone.id });
    }
  }
  narration.tell(events);
}

/** Names as they change, and the events that say so. */
class Renaming {
  readonly events: TreeEventBody[] = [];
  readonly #names: NameTree;
  readonly #found: ReadonlySet<DatasetId>;

  constructor(graph: Graph, found: readonly Identified[]) {
    this.#names = new NameTree(graph.datasets.values());
    this.#found = new Set(found.map(({ id }) => id));
  }

  /**
   * Gives a dataset its name, or sees that this is free for one that is new. Whoever holds it steps aside first, as does what is left below it where nothing holds it any more,
   * and what goes below its own former name.
   */
  place({ id, observed: { name } }: Identified): void {
    const holder = this.#names.holder(name);
    if (holder === id) return;
    if (holder !== undefined) this.#stepAside(holder);
    if (!this.#names.has(id)) return;
    // Below the root others lie already, whoever has it: what comes along must not have the same names
    const below = name === '' ? (this.#names.nameOf(id) as RelativeName) : name;
    for (const left of this.#names.nearestBelow(below)) if (this.#found.has(left)) this.#stepAside(left);
    if (name.startsWith(`${this.#names.nameOf(id)}/`)) this.#stepAside(id);
    this.#rename(id, name);
  }

  #stepAside(id: DatasetId): void {
    this.#rename(id, nameInBetween(id));
  }

  #rename(dataset: DatasetId, to: RelativeName): void {
    this.events.push({ type: 'dataset.renamed', dataset, from: this.#names.nameOf(dataset) ?? to, to });
    this.#names.move(dataset, to);
  }
}

/** Renames, parents first since they take their children along. */
function tellRenames(narration: Narration, found: readonly Identified[]): void {
  const { graph } = narration;
  const isElsewhere = ({ id, observed }: Identified): boolean => {
    const known = graph.get(id);
    return known !== undefined && known.name !== observed.name;
  };
  if (!found.some(isElsewhere)) return;
  const renaming = new Renaming(graph, found);
  // All of them: what has its name already can be taken along by what lies above it, and what is new needs its name free before anything goes below it
  for (const dataset of found.toSorted((a, b) => compareNames(a.observed.name, b.observed.name))) {
    renaming.place(dataset);
  }
  narration.tell(renaming.events);
}

/** Maps what an observation says about origins to ids. */
function originResolver(graph: Graph, found: readonly Identified[]) {
  const ids = new Map(found.map(({ id, observed }) => [observed.name, id]));
  return ({ observed: { origin } }: Identified): Dataset['origin'] => {
    if (origin === null) return null;
    const dataset =
      origin.dataset === null ? null : (ids.get(origin.dataset) ?? graph.named(origin.dataset)?.id ?? null);
    return { dataset, snapshot: origin.snapshot };
  };
}

function sameOrigin(a: Dataset['origin'], b: Dataset['origin']): boolean {
  return a?.dataset === b?.dataset && a?.snapshot === b?.snapshot;
}

/**
 * The event of a rollback, if that is what happened: all that is gone stood at the end, and the dataset is as its newest snapshot left it. Where nothing was
 * written in between, that is no other than a destroy of the last snapshots, and comes to the same.
 */
function rolledBack({ id, observed }: Identified, before: readonly Snapshot[]): TreeEventBody[] {
  const present = new Set<SnapshotGuid>(observed.snapshots.map(({ guid }) => guid));
  const last = before.findLastIndex(({ guid }) => present.has(guid));
  const to = before[last];
  if (to === undefined || last === before.length - 1 || observed.snapshots.at(-1)?.guid !== to.guid) return [];
  const asLeft = observed.written === null ? observed.referenced === to.referenced : observed.written === 0;
  return asLeft ? [{ type: 'dataset.rolled-back', dataset: id, to: to.guid, name: to.name }] : [];
}

function snapshotEvents(dataset: DatasetId, before: readonly Snapshot[], now: readonly Snapshot[]): TreeEventBody[] {
  if (
    before.length === now.length &&
    before.every(({ guid, name }, at) => now[at]?.guid === guid && now[at].name === name)
  ) {
    return [];
  }
  const known = new Map(before.map((snapshot) => [snapshot.guid, snapshot]));
  const present = new Set<SnapshotGuid>(now.map(({ guid }) => guid));
  const gone = before.filter(({ guid }) => !present.has(guid));
  const events: TreeEventBody[] = gone.map(({ guid, name }) => ({ type: 'snapshot.destroyed', dataset, guid, name }));
  for (const snapshot of now) {
    const former = known.get(snapshot.guid);
    if (former === undefined) events.push({ type: 'snapshot.created', dataset, snapshot: plainSnapshot(snapshot) });
    else if (former.name !== snapshot.name) {
      events.push({ type: 'snapshot.renamed', dataset, guid: snapshot.guid, from: former.name, to: snapshot.name });
    }
  }
  return events;
}

function upTo(snapshots: readonly Snapshot[], guid: SnapshotGuid | undefined): readonly Snapshot[] {
  return snapshots.slice(0, snapshots.findIndex((snapshot) => snapshot.guid === guid) + 1);
}

/** What a snapshot that was seen in a dataset says that the graph does not know: an event, or none. */
export function reconcileArrival({ id, snapshots }: Dataset, seen: Snapshot): TreeEventBody[] {
  if (snapshots.some(({ guid }) => guid === seen.guid)) return [];
  return [{ type: 'snapshot.created', dataset: id, snapshot: plainSnapshot(seen) }];
}

/** The fields that an event carries, whatever else a driver lists with a snapshot. */
function plainSnapshot({ guid, name, createtxg, creation, referenced, written }: Snapshot): Snapshot {
  return { guid, name, createtxg, creation, referenced, written };
}

function propertyEvents({ id, observed }: Identified, known: Dataset): TreeEventBody[] {
  const changed: Record<string, string | null> = {};
  for (const [name, value] of Object.entries(observed.properties)) {
    if (known.properties[name] !== value) changed[name] = value;
  }
  for (const name of Object.keys(known.properties)) {
    if (observed.properties[name] === undefined) changed[name] = null;
  }
  return Object.keys(changed).length === 0 ? [] : [{ type: 'dataset.properties-changed', dataset: id, changed }];
}

/**
 * Whether this node took it for its own when it found it, though it came from elsewhere: it carries the marks of a replica, and whose it is the log has forgotten. Nobody could write to
 * it here, so that nothing is lost by giving it up.
 */
function isForgottenReplica({ owner, kind }: Dataset, { properties }: ObservedDataset, self: NodeId): boolean {
  return owner.node === self && owner.isGuess === true && hasReplicaMarks(kind, properties);
}

/** What this node took over and its log forgot; a claim that goes before what is known; else the word of whoever should know, unless it is of an earlier epoch (invariant 2). */
function ownerNow(known: Dataset, seen: ObservedDataset, { self, saidOwnerOf, claimOf }: ReconcileOptions): Ownership {
  const { id, owner } = known;
  const { properties } = seen;
  const marked = markedOwner(properties, self);
  if (marked !== undefined && supersedes(marked, owner)) return marked;
  const claim = claimOf(id);
  const mayGo = owner.node !== self || properties.readonly === 'on';
  if (claim !== undefined && mayGo && supersedes(claim, owner)) return claim;
  const said = saidOwnerOf(id);
  const isOwn = owner.node === self && !isForgottenReplica(known, seen, self);
  if (said === undefined || isOwn || said.epoch < owner.epoch) return owner;
  // What somebody only guesses corrects nothing that was said
  return said.isGuess === true && owner.isGuess !== true ? owner : said;
}

function ownerOfNew({ id, observed }: Identified, { self, ownerOf, claimOf }: ReconcileOptions): Ownership {
  const marked = markedOwner(observed.properties, self);
  if (marked === undefined) return ownerOf(id, observed);
  const claim = claimOf(id);
  const mayGo = observed.properties.readonly === 'on';
  return claim !== undefined && mayGo && supersedes(claim, marked) ? claim : marked;
}

function ownershipEvents(known: Dataset, observed: ObservedDataset, options: ReconcileOptions): TreeEventBody[] {
  const { id, owner } = known;
  const now = ownerNow(known, observed, options);
  return now.node === owner.node && now.epoch === owner.epoch && now.isGuess === owner.isGuess
    ? []
    : [{ type: 'ownership.claimed', dataset: id, owner: now }];
}

function creation({ id, observed }: Identified, origin: Dataset['origin'], owner: Ownership): DatasetCreated {
  const { kind, guid, name, properties } = observed;
  return { type: 'dataset.created', dataset: id, kind, guid, name, origin, owner, properties };
}

/** An origin that changed without a promote cannot be told as one fact: the dataset is told anew. */
function toldAnew(known: Dataset | undefined, created: DatasetCreated): TreeEventBody[] {
  return known === undefined
    ? [created]
    : [{ type: 'dataset.destroyed', dataset: known.id, name: known.name }, created];
}

function guidsByName(bookmarks: readonly Bookmark[]): Map<BookmarkName, SnapshotGuid> {
  return new Map(bookmarks.map(({ guid, name }) => [name, guid]));
}

/** What is different once everything else is told: a promote and a rollback take bookmarks along. A bookmark is never changed, only destroyed and made anew. */
function tellBookmarks(narration: Narration, found: readonly Identified[]): void {
  const events: TreeEventBody[] = [];
  for (const { id, observed } of found) {
    const before = narration.graph.get(id)?.bookmarks ?? [];
    if (before.length === 0 && observed.bookmarks.length === 0) continue;
    const [known, seen] = [guidsByName(before), guidsByName(observed.bookmarks)];
    for (const { guid, name } of before) {
      if (seen.get(name) !== guid) events.push({ type: 'bookmark.destroyed', dataset: id, guid, name });
    }
    for (const { guid, name, createtxg } of observed.bookmarks) {
      if (known.get(name) === guid) continue;
      events.push({ type: 'bookmark.created', dataset: id, bookmark: { guid, name, createtxg } });
    }
  }
  narration.tell(events);
}

/** As with bookmarks: what is different once everything else is told. */
function tellHolds(narration: Narration, found: readonly Identified[]): void {
  narration.tell(
    found.flatMap(({ id, observed }) => {
      const known = narration.graph.get(id);
      return known === undefined || observed.holds === null ? [] : holdEvents(known, observed.holds);
    }),
  );
}

function holdEvents({ id, holds, snapshots }: Dataset, now: readonly Hold[]): TreeEventBody[] {
  if (holds.length === 0 && now.length === 0) return [];
  const key = ({ guid, tag }: Hold) => `${guid} ${tag}`;
  const [before, seen] = [new Set(holds.map(key)), new Set(now.map(key))];
  const present = new Set(snapshots.map(({ guid }) => guid));
  const released = holds.filter((hold) => !seen.has(key(hold)));
  const placed = now.filter((hold) => !before.has(key(hold)) && present.has(hold.guid));
  return [
    ...released.map(({ guid, tag }): TreeEventBody => ({ type: 'hold.released', dataset: id, guid, tag })),
    ...placed.map(({ guid, tag }): TreeEventBody => ({ type: 'hold.placed', dataset: id, guid, tag })),
  ];
}

/** What happened between what the graph says and what ZFS shows. Empty when they agree. */
export function reconcile(
  graph: Graph,
  observed: readonly ObservedDataset[],
  options: ReconcileOptions,
): Reconciliation {
  const { scope, mint } = options;
  const found = identify(graph, observed, mint);
  const narration = new Narration(graph);
  // What held the origin of a clone can only have gone after that was promoted over it
  tellNewPromoted(narration, found, options);
  tellPromotes(narration, found);
  narration.tell(destroyed(graph, found, scope));
  tellRenames(narration, found);
  const resolve = originResolver(narration.graph, found);
  const changes: TreeEventBody[] = [];
  const seen = new Set(observed.map(({ name }) => name));
  for (const dataset of found) {
    const { id, observed: now } = dataset;
    const origin = resolve(dataset);
    const known = narration.graph.get(id);
    const isHalf = scope !== 'tree' && now.origin?.dataset != null && !seen.has(now.origin.dataset);
    // What came in its place under its id is another dataset, whatever is known of that one
    const isThat = known?.guid === now.guid;
    if (isThat && isHalf && known.origin?.snapshot !== origin?.snapshot) continue;
    if (isThat && (isHalf || sameOrigin(known.origin, origin))) {
      const back = rolledBack(dataset, known.snapshots);
      const left = back.length === 0 ? known.snapshots : upTo(known.snapshots, now.snapshots.at(-1)?.guid);
      changes.push(...propertyEvents(dataset, known), ...ownershipEvents(known, now, options));
      changes.push(...back, ...snapshotEvents(id, left, now.snapshots));
      continue;
    }
    const owner = known === undefined ? ownerOfNew(dataset, options) : ownerNow(known, now, options);
    changes.push(...toldAnew(known, creation(dataset, origin, owner)), ...snapshotEvents(id, [], now.snapshots));
  }
  narration.tell(changes);
  tellBookmarks(narration, found);
  tellHolds(narration, found);
  const unmarked = found.filter(({ id, observed: { id: carried } }) => id !== carried);
  return {
    events: narration.events,
    unmarked: unmarked.map(({ id, observed: { name } }) => ({ name, dataset: id })),
  };
}
