/** Random histories of clone forests: what people do to a hierarchy, as events that are folded into graphs. */
import fc from 'fast-check';
import { EVENT_VERSION, type TreeEventBody } from '../../src/core/events.ts';
import { fold } from '../../src/core/graph/fold.ts';
import { type Dataset, dependentsOf, EMPTY_GRAPH, type Graph } from '../../src/core/graph/graph.ts';
import type { BookmarkName, HoldTag, RelativeName, SnapshotGuid, SnapshotName } from '../../src/core/ids.ts';
import { datasetGuid, datasetId, OWNER, ROOT, snapshot } from './graph-language.ts';

const GROWING = ['create', 'snapshot', 'snapshot', 'snapshot', 'clone', 'clone', 'rename'] as const;
const EVERYTHING = [
  ...GROWING,
  'destroy-snapshot',
  'destroy',
  'promote',
  'promote',
  'rename-snapshot',
  'rollback',
  'bookmark',
  'destroy-bookmark',
  'hold',
  'release',
  'swap',
  'move',
] as const;

/** One thing somebody does; the numbers pick what it is done to, modulo what there is. */
export interface Action {
  readonly kind: (typeof EVERYTHING)[number];
  readonly pick: number;
  readonly second: number;
}

function histories(kinds: readonly Action['kind'][], length: number): fc.Arbitrary<Action[]> {
  const action = fc.record({ kind: fc.constantFrom(...kinds), pick: fc.nat(1000), second: fc.nat(1000) });
  return fc.array(action, { maxLength: length, size: 'max' });
}

/** Histories in which anything may happen. */
export function arbitraryHistory(length: number): fc.Arbitrary<Action[]> {
  return histories(EVERYTHING, length);
}

/** Histories in which nothing is destroyed, promoted or rolled back. */
export function growingHistory(length: number): fc.Arbitrary<Action[]> {
  return histories(GROWING, length);
}

export interface Forest {
  graph: Graph;
  seq: number;
}

function tell(forest: Forest, body: TreeEventBody): void {
  forest.seq += 1;
  forest.graph = fold(forest.graph, [
    { v: EVENT_VERSION, seq: forest.seq, at: forest.seq, cause: 'observed', ...body },
  ]);
}

function create(forest: Forest, name: RelativeName, origin: Dataset['origin']): void {
  const label = `${name}-${forest.seq}`;
  tell(forest, {
    type: 'dataset.created',
    dataset: datasetId(label),
    kind: 'filesystem',
    guid: datasetGuid(label),
    name,
    origin,
    owner: OWNER,
    properties: {},
  });
}

export function startForest(): Forest {
  const forest: Forest = { graph: EMPTY_GRAPH, seq: 0 };
  tell(forest, { type: 'tree.added', root: ROOT });
  create(forest, '' as RelativeName, null);
  return forest;
}

function chosen<T>(items: readonly T[], pick: number): T | undefined {
  return items[pick % Math.max(1, items.length)];
}

/** Names are few, so that they come back. */
const NAMES = 6;

/** A free name below a dataset. */
function child(forest: Forest, parent: Dataset, pick: number): RelativeName {
  const prefix = parent.name === '' ? '' : `${parent.name}/`;
  for (let number = pick % NAMES; ; number += 1) {
    const name = `${prefix}d${number}` as RelativeName;
    if (forest.graph.named(name) === undefined) return name;
  }
}

function snapshotName(dataset: Dataset, pick: number): SnapshotName {
  for (let number = pick % NAMES; ; number += 1) {
    const name = `s${number}` as SnapshotName;
    if (!dataset.snapshots.some((one) => one.name === name)) return name;
  }
}

function clone(forest: Forest, datasets: readonly Dataset[], { pick, second }: Action): void {
  const origin = chosen(
    datasets.filter(({ snapshots }) => snapshots.length > 0),
    pick,
  );
  const at = origin === undefined ? undefined : chosen(origin.snapshots, second);
  const parent = chosen(datasets, pick + second);
  if (origin === undefined || at === undefined || parent === undefined) return;
  create(forest, child(forest, parent, second), { dataset: origin.id, snapshot: at.guid });
}

function takeSnapshot(forest: Forest, { id, snapshots }: Dataset, name: SnapshotName, written: number): void {
  const taken = { ...snapshot(id, `@s${forest.seq}`, written), name };
  const newest = snapshots.at(-1)?.createtxg ?? 0;
  const fresh = { ...taken, createtxg: Math.max(taken.createtxg, newest + 1) };
  tell(forest, { type: 'snapshot.created', dataset: id, snapshot: fresh });
}

function isHeld({ holds }: Dataset, guid: SnapshotGuid): boolean {
  return holds.some((hold) => hold.guid === guid);
}

function destroySnapshot(forest: Forest, dataset: Dataset, second: number): void {
  const at = chosen(dataset.snapshots, second);
  if (at === undefined || forest.graph.clonesOf(at.guid).length > 0 || isHeld(dataset, at.guid)) return;
  tell(forest, { type: 'snapshot.destroyed', dataset: dataset.id, guid: at.guid, name: at.name });
}

function rename(forest: Forest, { id, name }: Dataset, to: RelativeName): void {
  if (name === '' || to === name || to.startsWith(`${name}/`)) return;
  tell(forest, { type: 'dataset.renamed', dataset: id, from: name, to });
}

/** The names of two datasets change places, as people do it: through a third. */
function swap(forest: Forest, one: Dataset, other: Dataset | undefined): void {
  if (other === undefined || one.name === '' || other.name === '') return;
  if (`${one.name}/`.startsWith(`${other.name}/`) || `${other.name}/`.startsWith(`${one.name}/`)) return;
  rename(forest, one, `between${forest.seq}` as RelativeName);
  rename(forest, other, one.name);
  const moved = forest.graph.get(one.id);
  if (moved !== undefined) rename(forest, moved, other.name);
}

/** Refused, as by ZFS, where both have a snapshot or a bookmark of the same name. */
function promote(forest: Forest, dataset: Dataset): void {
  const parent = dataset.origin?.dataset == null ? undefined : forest.graph.get(dataset.origin.dataset);
  if (parent === undefined) return;
  const cut = parent.snapshots.findIndex(({ guid }) => guid === dataset.origin?.snapshot) + 1;
  const names = new Set(dataset.snapshots.map(({ name }) => name));
  if (parent.snapshots.slice(0, cut).some(({ name }) => names.has(name))) return;
  const bookmarks = new Set(dataset.bookmarks.map(({ name }) => name));
  if (parent.bookmarks.some(({ name }) => bookmarks.has(name))) return;
  tell(forest, { type: 'dataset.promoted', dataset: dataset.id });
}

function rollBack(forest: Forest, dataset: Dataset, second: number): void {
  const to = chosen(dataset.snapshots, second);
  if (to === undefined) return;
  const gone = dataset.snapshots.slice(dataset.snapshots.indexOf(to) + 1);
  if (gone.some(({ guid }) => forest.graph.clonesOf(guid).length > 0 || isHeld(dataset, guid))) return;
  tell(forest, { type: 'dataset.rolled-back', dataset: dataset.id, to: to.guid, name: to.name });
}

/** Refused, as by ZFS, where there is one of that name. */
function bookmark(forest: Forest, dataset: Dataset, second: number): void {
  const of = chosen(dataset.snapshots, second);
  const name = `b${second % NAMES}` as BookmarkName;
  if (of === undefined || dataset.bookmarks.some((one) => one.name === name)) return;
  const { guid, createtxg } = of;
  tell(forest, { type: 'bookmark.created', dataset: dataset.id, bookmark: { guid, name, createtxg } });
}

function hold(forest: Forest, { id, snapshots, holds }: Dataset, second: number): void {
  const at = chosen(snapshots, second);
  const tag = `tag${second % NAMES}` as HoldTag;
  if (at === undefined || holds.some((one) => one.guid === at.guid && one.tag === tag)) return;
  tell(forest, { type: 'hold.placed', dataset: id, guid: at.guid, tag });
}

function release(forest: Forest, { id, holds }: Dataset, second: number): void {
  const one = chosen(holds, second);
  if (one !== undefined) tell(forest, { type: 'hold.released', dataset: id, ...one });
}

function act(forest: Forest, action: Action): void {
  const datasets = forest.graph.sorted();
  const { pick, second } = action;
  const dataset = chosen(datasets, pick);
  if (dataset === undefined) return;
  switch (action.kind) {
    case 'create':
      create(forest, child(forest, dataset, second), null);
      return;
    case 'snapshot':
      takeSnapshot(forest, dataset, snapshotName(dataset, second), second);
      return;
    case 'clone':
      clone(forest, datasets, action);
      return;
    case 'destroy-snapshot':
      destroySnapshot(forest, dataset, second);
      return;
    case 'destroy':
      if (dataset.name === '' || dependentsOf(forest.graph, dataset).length > 0 || dataset.holds.length > 0) return;
      tell(forest, { type: 'dataset.destroyed', dataset: dataset.id, name: dataset.name });
      return;
    case 'promote': {
      const clones = datasets.filter(({ origin }) => origin !== null);
      const one = chosen(clones, pick);
      if (one !== undefined) promote(forest, one);
      return;
    }
    case 'rename-snapshot': {
      const at = chosen(dataset.snapshots, second);
      if (at === undefined) return;
      const to = snapshotName(dataset, pick + second);
      tell(forest, { type: 'snapshot.renamed', dataset: dataset.id, guid: at.guid, from: at.name, to });
      return;
    }
    case 'rollback':
      rollBack(forest, dataset, second);
      return;
    case 'bookmark':
      bookmark(forest, dataset, second);
      return;
    case 'destroy-bookmark': {
      const one = chosen(dataset.bookmarks, second);
      if (one === undefined) return;
      tell(forest, { type: 'bookmark.destroyed', dataset: dataset.id, guid: one.guid, name: one.name });
      return;
    }
    case 'hold':
      hold(forest, dataset, second);
      return;
    case 'release':
      release(forest, dataset, second);
      return;
    case 'swap':
      swap(forest, dataset, chosen(datasets, second));
      return;
    case 'rename':
      rename(forest, dataset, child(forest, datasets[0] as Dataset, second));
      return;
    case 'move':
      rename(forest, dataset, child(forest, chosen(datasets, second) as Dataset, pick));
      return;
  }
}

/** Lets the history happen to the forest; gives the graph it leads to. */
export function grow(forest: Forest, history: readonly Action[]): Graph {
  for (const action of history) act(forest, action);
  return forest.graph;
}
