/**
 * Origins that lie outside a tree (design §7): the owner cloned them from elsewhere, or what they grew from was kept aside. In the eyes of a mirror each is a dataset
 * of its own with that one snapshot, so that all its clones hang off one copy of it. So is an origin that lies in the tree, and cannot come with its dataset any more.
 */
import type { Origin, Snapshot } from '../events.ts';
import { type DatasetId, isLineage, lineageId, lineageName, type SnapshotName } from '../ids.ts';
import { NO_BOOKMARKS, NO_HOLDS } from './draft.ts';
import { type Dataset, Graph, snapshotOf } from './graph.ts';

/** What the snapshot of a lineage holder is called here, whatever it is called where it comes from. */
const LINEAGE_SNAPSHOT = 'origin' as SnapshotName;

/** A lineage holder carries this property where its snapshots were moved out of a dataset that is here, or was, by a promote: they were not received for its clones alone. */
export const MOVED_PROPERTY = 'pando:moved';

/** Whether it holds what was kept here before anything hung off it, and so is kept or given up by the rules of the mirror, like any dataset. */
export function isMovedHere({ properties }: Pick<Dataset, 'properties'>): boolean {
  return properties[MOVED_PROPERTY] === 'on';
}

/** The graph with a dataset for each origin that is to be had nowhere else; the graph itself where there is none. `isNowhere` is asked about the origin of each clone. */
export function withLineage(graph: Graph, isNowhere: (origin: Origin, clone: Dataset) => boolean): Graph {
  const alone = Array.from(graph.datasets.values()).filter(
    // No dataset has guid 0: it stands for an origin that could not be listed
    (clone) => clone.origin !== null && clone.origin.snapshot !== '0' && isNowhere(clone.origin, clone),
  );
  if (alone.length === 0) return graph;
  const datasets = new Map(graph.datasets);
  for (const clone of alone) {
    const origin = clone.origin as Origin;
    const id = lineageId(origin.snapshot);
    if (!datasets.has(id)) datasets.set(id, holderOf(origin, clone, graph));
    datasets.set(clone.id, { ...clone, origin: { dataset: id, snapshot: origin.snapshot } });
  }
  return new Graph(graph.root, datasets);
}

/** The lineage holders that some of these datasets hang off, directly or over another holder. One that has no snapshot waits for its first, and what it hangs off with it. */
export function neededHolders(datasets: readonly Dataset[]): ReadonlySet<DatasetId> {
  const byId = new Map(datasets.map((dataset) => [dataset.id, dataset]));
  const needed = new Set<DatasetId>();
  const need = ({ origin }: Dataset): void => {
    const holder = origin?.dataset == null ? undefined : byId.get(origin.dataset);
    if (holder === undefined || !isLineage(holder.name) || needed.has(holder.id)) return;
    needed.add(holder.id);
    need(holder);
  };
  for (const dataset of datasets) if (dataset.snapshots.length > 0 && !isLineage(dataset.name)) need(dataset);
  return needed;
}

function holderOf({ dataset: id, snapshot: guid }: Origin, clone: Dataset, graph: Graph): Dataset {
  const dataset = id === null ? undefined : graph.get(id);
  const known = dataset === undefined ? undefined : snapshotOf(dataset, guid);
  // Nobody tells how large an origin is that is not in the tree; its clone began with as much
  const referenced = (known ?? clone.snapshots[0])?.referenced ?? 0;
  const snapshot: Snapshot = { guid, name: LINEAGE_SNAPSHOT, createtxg: 0, creation: 0, referenced, written: null };
  return {
    id: lineageId(guid),
    kind: clone.kind,
    guid: '0',
    name: lineageName(guid),
    origin: null,
    owner: clone.owner,
    properties: {},
    snapshots: [snapshot],
    bookmarks: NO_BOOKMARKS,
    holds: NO_HOLDS,
    received: null,
  };
}
