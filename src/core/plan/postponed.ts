/**
 * What a plan cannot bring yet, known before it is planned: a dataset is looked at before its parent where that grew from it (`receiving-order.ts`), and
 * must not be brought beside a place that there will not be.
 */
import { type Dataset, type Graph, snapshotOf } from '../graph/graph.ts';
import { type DatasetId, parentOf } from '../ids.ts';
import { ROOT_NAME } from './stand-in.ts';
import type { WorkingCopy } from './working-copy.ts';

/**
 * The wanted datasets that are not here and have to wait: clones without snapshots (beliefs 3 and 4 of the planner), those whose origin the source does not
 * have or that comes from elsewhere, and whatever lies below or grew from one of these. What stands in for the root gives a place to what lies below that.
 */
export function postponed(
  wanted: Graph,
  source: Graph,
  copy: WorkingCopy,
  comesFromElsewhere: (id: DatasetId) => boolean,
): ReadonlySet<DatasetId> {
  const missing = Array.from(wanted.datasets.values()).filter(({ id }) => copy.get(id) === undefined);
  const dependents = new Map<DatasetId, DatasetId[]>();
  const waiting: DatasetId[] = [];
  for (const dataset of missing) {
    for (const id of supportsOf(dataset, wanted)) {
      const known = dependents.get(id);
      if (known === undefined) dependents.set(id, [dataset.id]);
      else known.push(dataset.id);
    }
    if (hasToWait(dataset, source, copy, comesFromElsewhere)) waiting.push(dataset.id);
  }
  const found = new Set<DatasetId>();
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    if (found.has(id)) continue;
    found.add(id);
    for (const dependent of dependents.get(id) ?? []) waiting.push(dependent);
  }
  return found;
}

/** What has to be here before a dataset that is not: its parent, and the dataset that it is a clone of. */
function supportsOf({ name, origin }: Dataset, wanted: Graph): DatasetId[] {
  const above = parentOf(name);
  const parent = above === undefined || above === ROOT_NAME ? undefined : wanted.named(above);
  return [parent?.id, origin?.dataset].filter((id) => id != null);
}

function hasToWait(
  { snapshots, origin }: Dataset,
  source: Graph,
  copy: WorkingCopy,
  comesFromElsewhere: (id: DatasetId) => boolean,
): boolean {
  if (origin?.dataset == null) return false;
  if (snapshots.length === 0) return true;
  const at = source.get(origin.dataset);
  if (at === undefined || snapshotOf(at, origin.snapshot) === undefined) return true;
  const here = copy.get(origin.dataset);
  const isHere = here !== undefined && snapshotOf(here, origin.snapshot) !== undefined;
  return !isHere && comesFromElsewhere(origin.dataset);
}
