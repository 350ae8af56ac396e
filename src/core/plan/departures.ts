/** What the owner of a mirror has destroyed of that which is kept here. */
import type { Departed } from '../events.ts';
import type { Dataset, Graph } from '../graph/graph.ts';
import { isMovedHere } from '../graph/lineage.ts';
import { type DatasetId, isLineage, type SnapshotGuid } from '../ids.ts';

/** Identity of a departure: a snapshot is the same in whichever dataset a promote has put it. */
export function departureKey({ dataset, snapshot }: Departed): DatasetId | SnapshotGuid {
  return snapshot ?? dataset;
}

/**
 * Datasets here that the source has no more, and of those that it has the snapshots that it has nowhere. What does not follow the source does not
 * count, nor what only this node has behind the newest snapshot in common (the source may have but a bookmark of that): it never came from there.
 */
export function departures(source: Graph, local: Graph, follows: (dataset: Dataset) => boolean): Departed[] {
  const found: Departed[] = [];
  const atSource = new Set<SnapshotGuid>();
  for (const { snapshots } of source.datasets.values()) for (const { guid } of snapshots) atSource.add(guid);
  for (const dataset of local.datasets.values()) {
    if (!follows(dataset)) continue;
    const there = source.get(dataset.id);
    if (there === undefined) {
      if (dataset.name !== '' && (!isLineage(dataset.name) || isMovedHere(dataset)))
        found.push({ dataset: dataset.id, snapshot: null });
    } else {
      found.push(...departedSnapshots(dataset, atSource, there));
    }
  }
  return found;
}

function departedSnapshots(
  { id, snapshots }: Dataset,
  atSource: ReadonlySet<SnapshotGuid>,
  there: Dataset,
): Departed[] {
  const bookmarks = new Set(there.bookmarks.map(({ guid }) => guid));
  const newestCommon = snapshots.findLastIndex(({ guid }) => atSource.has(guid) || bookmarks.has(guid));
  return snapshots
    .slice(0, newestCommon + 1)
    .filter(({ guid }) => !atSource.has(guid))
    .map(({ guid }) => ({ dataset: id, snapshot: guid }));
}
