/**
 * Origins that can come only by themselves: a mirror that keeps some of the snapshots has newer ones in the dataset by the time that its owner makes a clone of one that was not kept, and
 * ZFS receives nothing behind the newest (belief 3 of the planner). Such an origin is a lineage holder, as one that lies outside of the tree.
 */
import type { Origin } from '../events.ts';
import { type Dataset, type Graph, snapshotOf } from '../graph/graph.ts';
import { withLineage } from '../graph/lineage.ts';
import { type DatasetId, lineageId, type SnapshotGuid } from '../ids.ts';
import { isPlaceholder } from './steps.ts';
import type { WorkingCopy } from './working-copy.ts';

/** What a source has, and what is wanted of that. */
export interface Sought {
  readonly source: Graph;
  readonly wanted: Graph;
}

/**
 * Both graphs with a lineage holder for each origin of that kind, which clones that are still to come hang off then; the graphs themselves where there is none. What is here already is left as
 * it is, and so is what `isBlocked`.
 */
export function withPassedOrigins(
  { source, wanted }: Sought,
  copy: WorkingCopy,
  isBlocked: (dataset: DatasetId) => boolean,
): Sought {
  const coming = Array.from(wanted.datasets.values()).filter(
    ({ id, snapshots }) => snapshots.length > 0 && copy.get(id) === undefined && !isBlocked(id),
  );
  const passed = coming.filter(({ origin }) => origin !== null && isPassed(origin, source, copy));
  if (passed.length === 0) return { source, wanted };
  const elsewhere = inOtherDatasets(copy, new Set(passed.map(guidOf)));
  const alone = new Set(passed.filter((clone) => !elsewhere.has(guidOf(clone))).map(({ id }) => id));
  const isAlone = (_: Origin, { id }: Dataset): boolean => alone.has(id);
  return { source: withLineage(source, isAlone), wanted: withLineage(wanted, isAlone) };
}

function guidOf({ origin }: Dataset): SnapshotGuid {
  return (origin as Origin).snapshot;
}

/** Whether the dataset that an origin lies in is here, and has newer snapshots of its source, but not this one. */
function isPassed({ dataset: id, snapshot: guid }: Origin, source: Graph, copy: WorkingCopy): boolean {
  const here = id === null ? undefined : copy.get(id);
  const there = id === null ? undefined : source.get(id);
  if (here === undefined || there === undefined || isPlaceholder(here)) return false;
  const origin = snapshotOf(there, guid);
  if (origin === undefined || snapshotOf(here, guid) !== undefined) return false;
  const newer = [...there.snapshots, ...there.bookmarks].filter(({ createtxg }) => createtxg > origin.createtxg);
  const guids = new Set(newer.map((one) => one.guid));
  return here.snapshots.some((one) => guids.has(one.guid));
}

/** Those of the origins that are here all the same, elsewhere than in their holders: a promote takes them to where they belong, sooner or later (`promotes.ts`). */
function inOtherDatasets(copy: WorkingCopy, origins: ReadonlySet<SnapshotGuid>): ReadonlySet<SnapshotGuid> {
  const holders = new Set(Array.from(origins, lineageId));
  const others = Array.from(copy.values()).filter(({ id }) => !holders.has(id));
  return new Set(others.flatMap(({ snapshots }) => snapshots.flatMap(({ guid }) => (origins.has(guid) ? [guid] : []))));
}
