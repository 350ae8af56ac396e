/**
 * Re-rooting of clone families, as metadata (zfs-promote.8).
 *
 * Snapshots form trees in which a promote moves nothing: where paths fork it only decides which of the datasets below owns what lies above. So each
 * promote settles one fork for good, their order does not matter, and as many as forks differ are the fewest that there can be.
 *
 * 1. What a dataset alone owns at its source, it must own here. If an ancestor of its origin is among that, it is promoted, until none is.
 *    Where a promote would take along what another dataset alone owns there, both cannot be had, and the one would be promoted back over the other for ever:
 *    then neither is, and the plan tells of the origin that differs.
 * 2. What hangs off a dataset that its source gave up, by a snapshot that it gave up as well, is promoted over it: what is left of that keeps nobody from
 *    standing alone, and can go one day.
 * 3. A dataset that is not here yet, though snapshots of it are (it was cloned and promoted at its source), is cloned here from the newest of these, and
 *    then promoted like the others.
 */
import type { Snapshot } from '../events.ts';
import { type Dataset, type Graph, snapshotOf } from '../graph/graph.ts';
import {
  type BookmarkName,
  type DatasetId,
  parentOf,
  type RelativeName,
  type SnapshotGuid,
  type SnapshotName,
} from '../ids.ts';
import type { Conflict } from './steps.ts';
import type { WorkingCopy } from './working-copy.ts';

export interface PlannedPromotes {
  /** Datasets that a promote would take from another owner. */
  readonly conflicts: readonly Conflict[];
  /** Datasets that own at their source what another one has here, and that alone as well: see 1. */
  readonly torn: ReadonlySet<DatasetId>;
}

/** Plans the promotes, and the clones before them. */
export function planPromotes(copy: WorkingCopy, source: Graph, wanted: Graph): PlannedPromotes {
  const conflicts: Conflict[] = [];
  const torn = new Set<DatasetId>();
  for (const { dataset, origin, guid } of movedToNewDatasets(copy, source, wanted)) {
    if (copy.isForeign(origin.id)) conflicts.push(notOwned(copy, dataset, origin.id));
    else copy.clone(dataset, origin, guid, nameForClone(copy, dataset));
  }
  const copies = inSeveral(source);
  for (const dataset of source.datasets.values()) {
    const reason = promoteUntilOwning(copy, dataset, { source, copies });
    if (reason === 'torn') torn.add(dataset.id);
    else if (reason !== undefined) conflicts.push(reason);
  }
  promoteOverGivenUp(copy, source);
  return { conflicts, torn };
}

/** Snapshots that several datasets have, since what was a clone elsewhere was received as a copy: no promote could give each of them its own. */
function inSeveral(source: Graph): ReadonlySet<SnapshotGuid> {
  const seen = new Set<SnapshotGuid>();
  const again = new Set<SnapshotGuid>();
  for (const { snapshots } of source.datasets.values()) {
    for (const { guid } of snapshots) {
      if (seen.has(guid)) again.add(guid);
      seen.add(guid);
    }
  }
  return again;
}

/** Gives why it cannot own here all that it owns there; undefined when it does. */
function promoteUntilOwning(
  copy: WorkingCopy,
  atSource: Dataset,
  { source, copies }: { readonly source: Graph; readonly copies: ReadonlySet<SnapshotGuid> },
): Conflict | 'torn' | undefined {
  const { id } = atSource;
  let here = copy.get(id);
  if (here === undefined || here.origin?.dataset == null || sameOrigin(here, atSource) || copy.isForeign(id))
    return undefined;
  const owns = new Set(atSource.snapshots.flatMap(({ guid }) => (copies.has(guid) ? [] : [guid])));
  while (here !== undefined && ancestorAmong(copy, here, owns)) {
    const below = originOf(copy, here);
    if (below === undefined) return undefined;
    const { over, moved } = below;
    if (copy.isForeign(over.id)) return notOwned(copy, atSource, over.id);
    if (ownsAny(source.get(over.id), moved, copies)) return 'torn';
    const bookmarks = bookmarksTwice(here, below);
    if (bookmarks.length > 0) {
      return { dataset: id, name: atSource.name, reason: 'same-bookmarks', by: copy.nameOf(over.id), bookmarks };
    }
    avoidCollisions(copy, here, below, atSource);
    copy.promote(id);
    here = copy.get(id);
  }
  return undefined;
}

/** Whether a dataset alone has one of these snapshots. */
function ownsAny(
  dataset: Dataset | undefined,
  snapshots: readonly Snapshot[],
  copies: ReadonlySet<SnapshotGuid>,
): boolean {
  if (dataset === undefined) return false;
  return snapshots.some(({ guid }) => !copies.has(guid) && snapshotOf(dataset, guid) !== undefined);
}

function promoteOverGivenUp(copy: WorkingCopy, source: Graph): void {
  const left = [...copy.values()].filter(
    ({ id, origin }) => origin?.dataset != null && !copy.isForeign(id) && source.get(id)?.origin === null,
  );
  if (left.length === 0) return;
  const guids = new Set(
    Array.from(source.datasets.values()).flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid)),
  );
  for (const { id } of left) {
    const here = copy.get(id);
    const below = here === undefined ? undefined : originOf(copy, here);
    const atSource = source.get(id);
    if (here === undefined || below === undefined || atSource === undefined) continue;
    if (copy.isForeign(below.over.id) || source.get(below.over.id) !== undefined) continue;
    if (below.moved.some(({ guid }) => guids.has(guid)) || bookmarksTwice(here, below).length > 0) continue;
    avoidCollisions(copy, here, below, atSource);
    copy.promote(id);
  }
}

function sameOrigin(a: Dataset, b: Dataset): boolean {
  return a.origin?.dataset === b.origin?.dataset && a.origin?.snapshot === b.origin?.snapshot;
}

/** Whether the origin of a dataset, or a snapshot before it, is one of these. */
function ancestorAmong(copy: WorkingCopy, dataset: Dataset, guids: ReadonlySet<SnapshotGuid>): boolean {
  for (let below = originOf(copy, dataset); below !== undefined; below = originOf(copy, below.over)) {
    if (below.moved.some(({ guid }) => guids.has(guid))) return true;
  }
  return false;
}

/** What a promote goes over. */
interface OriginHere {
  readonly over: Dataset;
  /** The snapshots that it moves: the origin and all before it. */
  readonly moved: readonly Snapshot[];
}

/**
 * Where a dataset hangs here. Undefined for what is no clone of this tree; and for one of which the origin was seen to go before the clone was: somebody
 * destroys both, and the next look will tell.
 */
function originOf(copy: WorkingCopy, { origin }: Dataset): OriginHere | undefined {
  const over = origin?.dataset == null ? undefined : copy.get(origin.dataset);
  if (origin === null || over === undefined) return undefined;
  const at = over.snapshots.findIndex(({ guid }) => guid === origin.snapshot);
  return at < 0 ? undefined : { over, moved: over.snapshots.slice(0, at + 1) };
}

/** Names of bookmarks that a promote would bring together, which ZFS cannot (`Zfs.promote`). Which of them is to go is for people to say: they made them. */
function bookmarksTwice(clone: Dataset, { over, moved }: OriginHere): BookmarkName[] {
  const upTo = moved.at(-1)?.createtxg ?? 0;
  const names = new Set(clone.bookmarks.map(({ name }) => name));
  return over.bookmarks.filter(({ name, createtxg }) => createtxg <= upTo && names.has(name)).map(({ name }) => name);
}

/**
 * A promote fails where both have a snapshot of the same name. One of the two gets its name at the source already, if it has another there
 * and that is free; otherwise a temporary one.
 */
function avoidCollisions(copy: WorkingCopy, clone: Dataset, { over, moved }: OriginHere, atSource: Dataset): void {
  const names = new Set(clone.snapshots.map(({ name }) => name));
  const taken = new Set([...names, ...over.snapshots.map(({ name }) => name)]);
  const final = new Map(atSource.snapshots.map(({ guid, name }) => [guid, name]));
  for (const { guid, name } of moved) {
    if (!names.has(name)) continue;
    const free = (wanted: SnapshotName | undefined) => (wanted === undefined || taken.has(wanted) ? undefined : wanted);
    const other = clone.snapshots.find((snapshot) => snapshot.name === name) as Snapshot;
    const movedTo = free(final.get(guid));
    const to = movedTo ?? free(final.get(other.guid)) ?? temporarySnapshotName(other.guid);
    if (movedTo === undefined) copy.renameSnapshot(clone.id, other.guid, to);
    else copy.renameSnapshot(over.id, guid, to);
    taken.add(to);
  }
}

/** A name that a snapshot has for a moment, while another takes its own. */
export function temporarySnapshotName(guid: SnapshotGuid): SnapshotName {
  return `renaming-${guid}` as SnapshotName;
}

interface MovedSnapshot {
  readonly dataset: Dataset;
  /** Where its newest snapshot that is here lies here. */
  readonly origin: Dataset;
  readonly guid: SnapshotGuid;
}

/** Wanted datasets that are not here, of which snapshots are, in datasets that do not have them at the source. */
function movedToNewDatasets(copy: WorkingCopy, source: Graph, wanted: Graph): MovedSnapshot[] {
  const missing = Array.from(wanted.datasets.keys(), (id) => source.get(id)).filter(
    (dataset) => dataset !== undefined && copy.get(dataset.id) === undefined,
  ) as Dataset[];
  const located = locate(copy, source, new Set(missing.flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid))));
  if (located.size === 0) return [];
  return missing.flatMap((dataset): MovedSnapshot[] => {
    const newest = dataset.snapshots.findLast(({ guid }) => located.has(guid));
    const origin = newest === undefined ? undefined : copy.get(located.get(newest.guid) as DatasetId);
    return newest === undefined || origin === undefined ? [] : [{ dataset, origin, guid: newest.guid }];
  });
}

function locate(copy: WorkingCopy, source: Graph, guids: ReadonlySet<SnapshotGuid>): Map<SnapshotGuid, DatasetId> {
  const located = new Map<SnapshotGuid, DatasetId>();
  if (guids.size === 0) return located;
  for (const { id, snapshots } of copy.values()) {
    for (const { guid } of snapshots) {
      if (guids.has(guid) && !hasAtSource(source, id, guid)) located.set(guid, id);
    }
  }
  return located;
}

/** A guid can be twice in a tree: somebody sent a dataset into the same tree again. Then nothing moved. */
function hasAtSource(source: Graph, id: DatasetId, guid: SnapshotGuid): boolean {
  const dataset = source.get(id);
  return dataset !== undefined && snapshotOf(dataset, guid) !== undefined;
}

function nameForClone(copy: WorkingCopy, { id, name }: Dataset): RelativeName {
  const parent = parentOf(name);
  const isFree = copy.names.holder(name) === undefined;
  const hasParent = parent !== undefined && copy.names.holder(parent) !== undefined;
  return isFree && hasParent ? name : copy.temporaryName(id);
}

function notOwned(copy: WorkingCopy, { id, name }: Dataset, other: DatasetId): Conflict {
  return { dataset: id, name, reason: 'not-owned-together', by: copy.nameOf(other) };
}
