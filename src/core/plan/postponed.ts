/**
 * What a plan cannot bring yet, known before it is planned: a dataset is looked at before its parent where that grew from it (`receiving-order.ts`), and
 * must not be brought beside a place that there will not be.
 */
import { type Dataset, type Graph, snapshotOf } from '../graph/graph.ts';
import { type DatasetId, parentOf, type SnapshotGuid } from '../ids.ts';
import { ROOT_NAME } from './stand-in.ts';
import type { WorkingCopy } from './working-copy.ts';

interface PostponedOptions {
  readonly wanted: Graph;
  readonly source: Graph;
  /** What is here once all that is metadata was replayed. */
  readonly copy: WorkingCopy;
  /** Whether a dataset of the source follows somebody else, and has not come from there yet. */
  readonly comesFromElsewhere: (id: DatasetId) => boolean;
  /** Whether a snapshot is here, in whatever dataset. */
  readonly isHere: (guid: SnapshotGuid) => boolean;
}

/**
 * The wanted datasets that have to wait: clones without snapshots (beliefs 3 and 4 of the planner), those whose parent or origin comes from elsewhere or whose origin the source does not
 * have, and whatever is to lie below or grow from one of these. What is here waits for its place only.
 */
export function postponed(options: PostponedOptions): ReadonlySet<DatasetId> {
  const { wanted, copy } = options;
  const dependents = new Map<DatasetId, DatasetId[]>();
  const waiting: DatasetId[] = [];
  for (const dataset of wanted.datasets.values()) {
    if (copy.nameOf(dataset.id) === dataset.name && copy.get(dataset.id) !== undefined) continue;
    for (const id of supportsOf(dataset, options)) {
      const known = dependents.get(id);
      if (known === undefined) dependents.set(id, [dataset.id]);
      else known.push(dataset.id);
    }
    if (copy.get(dataset.id) === undefined && hasToWait(dataset, options)) waiting.push(dataset.id);
  }
  return withDependents(waiting, dependents);
}

function withDependents(
  first: readonly DatasetId[],
  dependents: ReadonlyMap<DatasetId, readonly DatasetId[]>,
): ReadonlySet<DatasetId> {
  const found = new Set(first);
  // What is added meanwhile is visited as well (ECMA-262, Set.prototype.values)
  for (const id of found) for (const dependent of dependents.get(id) ?? []) found.add(dependent);
  return found;
}

/** What has to be here before a dataset is in its place: its parent, but for a root, in which anything can stand in; and where it comes as a clone, what it is one of. */
function supportsOf({ id, name, origin }: Dataset, { wanted, copy }: PostponedOptions): DatasetId[] {
  const above = parentOf(name);
  const isUnderRoot = above === ROOT_NAME && copy.names.holder(ROOT_NAME) !== undefined;
  const parent = above === undefined || isUnderRoot ? undefined : wanted.named(above)?.id;
  const isClone = origin?.dataset != null && copy.get(id) === undefined && copy.get(origin.dataset) === undefined;
  return [parent, isClone ? origin.dataset : undefined].filter((one) => one != null);
}

function hasToWait(dataset: Dataset, options: PostponedOptions): boolean {
  return isParentElsewhere(dataset, options) || isOriginAway(dataset, options);
}

function isParentElsewhere({ name }: Dataset, { wanted, source, copy, comesFromElsewhere }: PostponedOptions): boolean {
  const above = parentOf(name);
  if (above === undefined || above === ROOT_NAME || wanted.named(above) !== undefined) return false;
  const parent = source.named(above);
  return parent !== undefined && copy.names.holder(above) !== parent.id && comesFromElsewhere(parent.id);
}

function isOriginAway({ snapshots, origin }: Dataset, options: PostponedOptions): boolean {
  const { source, comesFromElsewhere, isHere } = options;
  if (origin?.dataset == null) return false;
  if (snapshots.length === 0) return true;
  const at = source.get(origin.dataset);
  if (at === undefined || snapshotOf(at, origin.snapshot) === undefined) return true;
  return comesFromElsewhere(origin.dataset) && !isHere(origin.snapshot);
}
