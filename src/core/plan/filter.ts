import picomatch from 'picomatch';
import type { Snapshot, SnapshotRule } from '../events.ts';
import { type Dataset, Graph, newestSnapshot } from '../graph/graph.ts';
import { type DatasetId, parentOf, type RelativeName, type SnapshotGuid } from '../ids.ts';

/** What a mirror takes of a tree. */
export interface MirrorFilter {
  /** Globs on names relative to the tree's root; none means everything. */
  readonly only: readonly string[];
  /** Globs of what is left out all the same. */
  readonly except: readonly string[];
  readonly snapshots: SnapshotRule;
}

export const EVERYTHING: MirrorFilter = { only: [], except: [], snapshots: 'all' };

/** Globs match whole names; `*` stays within a component, `**` does not, and a leading dot is nothing special. */
function matcher(globs: readonly string[]): (name: string) => boolean {
  return globs.length === 0 ? () => false : picomatch([...globs], { dot: true });
}

/** Matchers by the list that they were made of: who may read what is asked for each change of each stream. */
const sharing = new WeakMap<readonly string[], (name: string) => boolean>();

/** Whether a peer that was given these globs of tree names may read the tree. The list must not be changed afterwards. */
export function sharesTree(globs: readonly string[], tree: string): boolean {
  const known = sharing.get(globs) ?? matcher(globs);
  sharing.set(globs, known);
  return known(tree);
}

function selected(view: Graph, filter: MirrorFilter): Set<DatasetId> {
  const only = filter.only.length === 0 ? () => true : matcher(filter.only);
  const except = matcher(filter.except);
  const ids = new Set<DatasetId>();
  for (const dataset of view.datasets.values()) {
    if (only(dataset.name) && !except(dataset.name)) ids.add(dataset.id);
  }
  return ids;
}

/** Datasets a selected one cannot stand without: those above it by name, and the one its origin lies in. */
function supportsOf(view: Graph, dataset: Dataset): Dataset[] {
  const parent: RelativeName | undefined = parentOf(dataset.name);
  const above = parent === undefined ? undefined : view.named(parent);
  const origin = dataset.origin?.dataset == null ? undefined : view.get(dataset.origin.dataset);
  return [above, origin].filter((support) => support !== undefined);
}

/** Adds parents and origins to the selection until nothing is missing: without them no replica can stand. */
function close(view: Graph, ids: Set<DatasetId>): void {
  const open = [...ids];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    const dataset = view.get(id);
    if (dataset === undefined) continue;
    for (const support of supportsOf(view, dataset)) {
      if (ids.has(support.id)) continue;
      ids.add(support.id);
      open.push(support.id);
    }
  }
}

function wantedSnapshots(
  dataset: Dataset,
  rule: SnapshotRule,
  origins: ReadonlySet<SnapshotGuid>,
): readonly Snapshot[] {
  if (rule === 'all') return dataset.snapshots;
  const newest = newestSnapshot(dataset);
  return dataset.snapshots.filter((snapshot) => snapshot === newest || origins.has(snapshot.guid));
}

/**
 * The part of an owner's view that a mirror wants: the datasets its globs select, with the parents and origins they need, and of
 * each the wanted snapshots. Snapshots that wanted clones hang off are wanted under every rule.
 */
export function wantedGraph(view: Graph, filter: MirrorFilter): Graph {
  if (filter.only.length === 0 && filter.except.length === 0 && filter.snapshots === 'all') return view;
  const ids = selected(view, filter);
  close(view, ids);
  const kept = Array.from(view.datasets.values()).filter(({ id }) => ids.has(id));
  const origins = new Set(kept.flatMap(({ origin }) => (origin === null ? [] : [origin.snapshot])));
  const reduced = kept.map((dataset): [DatasetId, Dataset] => [
    dataset.id,
    { ...dataset, snapshots: wantedSnapshots(dataset, filter.snapshots, origins) },
  ]);
  return new Graph(view.root, new Map(reduced));
}
