import type { Hold } from '../../core/events.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { type DatasetName, isHoldOfPando, type SnapshotGuid } from '../../core/ids.ts';
import type { ListedDataset, Zfs } from '../../zfs/zfs.ts';

/** The holds that somebody placed, by dataset; null where ZFS cannot list tags. */
export type ForeignHolds = ReadonlyMap<DatasetName, readonly Hold[]> | null;

/**
 * Asks for the tags of what is held, or was: a listing only counts them. `ownHolds` says how many of this node's transfers hold a snapshot; where that is all, nobody is asked.
 * Rejects as ZFS does.
 */
export async function foreignHolds(
  zfs: Zfs,
  graph: Graph,
  listing: readonly ListedDataset[],
  ownHolds: (snapshot: SnapshotGuid) => number,
): Promise<ForeignHolds> {
  const { listHolds } = await zfs.capabilities();
  if (!listHolds) return null;
  let known: ReadonlySet<SnapshotGuid> | undefined;
  // Only what this node holds itself is asked for, which nearly always is nothing
  const isKnown = (guid: SnapshotGuid): boolean => {
    known ??= new Set(Array.from(graph.datasets.values()).flatMap(({ holds }) => holds.map((hold) => hold.guid)));
    return known.has(guid);
  };
  const doubtful = listing.flatMap(({ name: dataset, snapshots }) =>
    snapshots
      .filter(({ guid, userrefs }) => userrefs !== ownHolds(guid) || (userrefs > 0 && isKnown(guid)))
      .map(({ guid, name: snapshot }) => ({ dataset, snapshot, guid })),
  );
  if (doubtful.length === 0) return new Map();
  const tags = await zfs.holds(doubtful);
  const found = new Map<DatasetName, Hold[]>();
  for (const [index, { dataset, guid }] of doubtful.entries()) {
    const foreign = (tags[index] ?? []).filter((tag) => !isHoldOfPando(tag)).map((tag) => ({ guid, tag }));
    if (foreign.length > 0) found.set(dataset, [...(found.get(dataset) ?? []), ...foreign]);
  }
  return found;
}
