import type { Snapshot } from '../events.ts';
import { type Dataset, snapshotOf } from '../graph/graph.ts';

/** What one incremental stream covers. */
export interface Segment {
  /** The snapshot it starts from, there or only as a bookmark; undefined when that is the origin of a clone. */
  readonly base: Snapshot | undefined;
  readonly to: Snapshot;
  /** All that it brings, oldest first, `to` included. */
  readonly snapshots: readonly Snapshot[];
}

/** Wanted snapshots that follow each other in the source without an unwanted one between. */
interface Run {
  readonly snapshots: Snapshot[];
  /** Whether unwanted snapshots lie right before it. */
  readonly behindGap: boolean;
}

function runsOf(snapshots: readonly Snapshot[], wanted: ReadonlySet<string>, beginsBehindGap: boolean): Run[] {
  const runs: Run[] = [];
  let open: Run | undefined;
  let gap = beginsBehindGap;
  for (const snapshot of snapshots) {
    if (!wanted.has(snapshot.guid)) {
      open = undefined;
      gap = true;
    } else if (open === undefined) {
      open = { snapshots: [snapshot], behindGap: gap };
      runs.push(open);
    } else {
      open.snapshots.push(snapshot);
    }
  }
  return runs;
}

/**
 * Cuts what is wanted behind `base` (from the beginning when undefined) into the fewest streams. One `-I` brings all snapshots
 * between its ends (zfs-send.8), so it serves a run; a gap of unwanted ones is jumped with one `-i`, as is what lies behind a base that the source has only a bookmark of.
 * `base` has the `createtxg` that it has at the source.
 */
export function segmentsBehind(source: Dataset, wanted: Dataset, base: Snapshot | undefined): Segment[] {
  const isBookmark = base !== undefined && snapshotOf(source, base.guid) === undefined;
  const behind = source.snapshots.filter(({ createtxg }) => base === undefined || createtxg > base.createtxg);
  const runs = runsOf(behind, new Set(wanted.snapshots.map(({ guid }) => guid)), isBookmark);
  const segments: Segment[] = [];
  let from = base;
  const add = (snapshots: readonly Snapshot[]): void => {
    const to = snapshots.at(-1);
    if (to === undefined) return;
    segments.push({ base: from, to, snapshots });
    from = to;
  };
  for (const { snapshots, behindGap } of runs) {
    if (!behindGap) {
      add(snapshots);
      continue;
    }
    add(snapshots.slice(0, 1));
    add(snapshots.slice(1));
  }
  return segments;
}
