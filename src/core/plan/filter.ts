import picomatch from 'picomatch';
import type { KeepRule, MirrorRules, Snapshot } from '../events.ts';
import { type Dataset, Graph } from '../graph/graph.ts';
import {
  type DatasetId,
  isLineage,
  isNameInBetween,
  type NodeId,
  parentOf,
  type RelativeName,
  type SnapshotGuid,
} from '../ids.ts';
import { keptSnapshots } from '../keep.ts';

/** Everything that the owner has, and for ever. */
export const EVERYTHING: MirrorRules = { only: [], except: [], keep: 'all', graceMs: null };

/** What a mirror takes of a tree. */
type Globs = Pick<MirrorRules, 'only' | 'except'>;

/** How datasets of a view are called where that does not tell. */
export interface Elsewhere {
  /** What is here. */
  readonly local: Graph;
  /** What a node that owns datasets has of the tree, as far as known. */
  readonly ofOwner: (owner: NodeId) => Graph | undefined;
}

/** What a keep rule is held against. */
export interface KeepContext {
  /** What is here: snapshots that the owner has no more count as well. */
  readonly local: Graph;
  /** Unix ms. */
  readonly now: number;
}

/** Globs match whole names; `*` stays within a component, `**` does not, and a leading dot is nothing special. */
function matcher(globs: readonly string[]): (name: string) => boolean {
  return globs.length === 0 ? () => false : picomatch([...globs], { dot: true });
}

/** Whether a dataset, or what it lies below, is on its way from one name to another at its peer. What its owner calls so is: somebody took it over on its way. */
function isInBetween(view: Graph, { name }: Dataset, ofOwner: Elsewhere['ofOwner']): boolean {
  const [label] = name.split('/', 1) as [RelativeName];
  const top = view.named(label);
  if (top === undefined || !isNameInBetween(label, top.id)) return false;
  return ofOwner(top.owner.node)?.get(top.id)?.name !== label;
}

function selected(view: Graph, filter: Globs, { local, ofOwner }: Elsewhere): Set<DatasetId> {
  const only = filter.only.length === 0 ? () => true : matcher(filter.only);
  const except = matcher(filter.except);
  const ids = new Set<DatasetId>();
  for (const dataset of view.datasets.values()) {
    // Nobody wrote a glob for a name in between. What is here is called as it was before that; what is new comes when it has its name
    const named = isInBetween(view, dataset, ofOwner) ? local.get(dataset.id) : dataset;
    // Lineage holders come with the clones that need them
    if (named === undefined || isLineage(named.name)) continue;
    if (only(named.name) && !except(named.name)) ids.add(dataset.id);
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

/** Some datasets of a view with the parents and origins they need: without them no replica can stand. What the view does not have is passed over. */
export function withSupports(view: Graph, ids: Iterable<DatasetId>): ReadonlySet<DatasetId> {
  const found = new Set<DatasetId>();
  const open = [...ids];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    const dataset = view.get(id);
    if (dataset === undefined || found.has(id)) continue;
    found.add(id);
    for (const support of supportsOf(view, dataset)) open.push(support.id);
  }
  return found;
}

export function takesAll({ only, except }: Globs): boolean {
  return only.length === 0 && except.length === 0;
}

/** What of a view no glob can select yet: what is not here, and is on its way from one name to another at its peer. */
export function awaitingNames(view: Graph, { local, ofOwner }: Elsewhere): Dataset[] {
  return Array.from(view.datasets.values()).filter(
    (one) => local.get(one.id) === undefined && isInBetween(view, one, ofOwner),
  );
}

/** The datasets of a view that the globs of a mirror select, with the parents and origins they need. */
export function takenBy(view: Graph, rules: Globs, elsewhere: Elsewhere): ReadonlySet<DatasetId> {
  return takesAll(rules) ? new Set(view.datasets.keys()) : withSupports(view, selected(view, rules, elsewhere));
}

/**
 * A dataset's snapshots as they will be here: those up to the newest that is here already, and what the owner has behind it. What only this node has behind that one is
 * nobody's to keep or give up.
 */
function snapshotsTogether(atOwner: Dataset, here: Dataset | undefined): readonly Snapshot[] {
  if (here === undefined) return atOwner.snapshots;
  const positions = new Map(atOwner.snapshots.map(({ guid }, index) => [guid, index]));
  const last = here.snapshots.findLastIndex(({ guid }) => positions.has(guid));
  if (last < 0) return atOwner.snapshots;
  const behind = positions.get((here.snapshots[last] as Snapshot).guid) as number;
  return [...here.snapshots.slice(0, last + 1), ...atOwner.snapshots.slice(behind + 1)];
}

function wantedSnapshots(
  dataset: Dataset,
  rule: KeepRule,
  { local, now }: KeepContext,
  origins: ReadonlySet<SnapshotGuid>,
): readonly Snapshot[] {
  if (rule === 'all') return dataset.snapshots;
  const kept = keptSnapshots(rule, snapshotsTogether(dataset, local.get(dataset.id)), now);
  return dataset.snapshots.filter(({ guid }) => kept.has(guid) || origins.has(guid));
}

/**
 * The part of an owner's view that a mirror wants: the datasets its globs select, with the parents and origins they need, and of
 * each the snapshots to keep. Those that wanted clones hang off are wanted under every rule. Where it is not the view of all their owners, or datasets have other names in it than those that the
 * globs are for, `taken` says what these select.
 */
export function wantedGraph(
  view: Graph,
  rules: Omit<MirrorRules, 'graceMs'>,
  context: KeepContext,
  taken?: ReadonlySet<DatasetId>,
): Graph {
  if (takesAll(rules) && rules.keep === 'all') return view;
  const ids = taken ?? takenBy(view, rules, { local: context.local, ofOwner: () => view });
  const kept = Array.from(view.datasets.values()).filter(({ id }) => ids.has(id));
  const origins = new Set(kept.flatMap(({ origin }) => (origin === null ? [] : [origin.snapshot])));
  const reduced = kept.map((dataset): [DatasetId, Dataset] => [
    dataset.id,
    { ...dataset, snapshots: wantedSnapshots(dataset, rules.keep, context, origins) },
  ]);
  return new Graph(view.root, new Map(reduced));
}
