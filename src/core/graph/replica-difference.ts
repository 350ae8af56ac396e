/** In what replicas differ from what is wanted of them: what `pando verify` tells of a mirror. */
import { type DatasetId, lineageId } from '../ids.ts';
import { type Difference, difference } from './difference.ts';
import { type Dataset, Graph, snapshotOf } from './graph.ts';
import { neededHolders } from './lineage.ts';

/**
 * The differences between the datasets that mirrors want and those of `local` for which `isReplica` holds. Without these: a dataset that has no snapshots, so that nothing of it could be sent, and
 * an origin that is in a lineage holder here, since its dataset is past it (`plan/passed-origins.ts`).
 */
export function replicaDifference(
  wanted: ReadonlyMap<DatasetId, Dataset>,
  local: Graph,
  isReplica: (dataset: Dataset) => boolean,
): Difference[] {
  const holders = neededHolders(Array.from(local.datasets.values()));
  const replicas = Array.from(local.datasets).filter(
    ([id, dataset]) => isReplica(dataset) && (wanted.has(id) || !holders.has(id)),
  );
  const found = difference(new Graph(null, wanted), new Graph(local.root, new Map(replicas)));
  return found.filter((one) => {
    if (one.kind === 'dataset-missing') return wanted.get(one.dataset)?.snapshots.length !== 0;
    const holder = one.kind === 'snapshot-missing' ? local.get(lineageId(one.guid)) : undefined;
    return one.kind !== 'snapshot-missing' || holder === undefined || snapshotOf(holder, one.guid) === undefined;
  });
}
