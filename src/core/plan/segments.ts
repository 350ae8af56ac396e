import type { Snapshot } from '../events.ts';
import type { Dataset } from '../graph/graph.ts';

/** What one incremental stream covers. */
export interface Segment {
  /** The snapshot it starts from; undefined when that is the origin of a clone. */
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

function runsOf(snapshots: readonly Snapshot[], wanted: ReadonlySet<string>): Run[] {
  const runs: Run[] = [];
  let open: Run | undefined;
  let gap = false;
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
 * between its ends (zfs-send.8), so it serves a run; a gap of unwanted ones is jumped with one `-i`.
 */
export function segmentsBehind(source: Dataset, wanted: Dataset, base: Snapshot | undefined): Segment[] {
  const start = base === undefined ? 0 : source.snapshots.findIndex(({ guid }) => guid === base.guid) + 1;
  const runs = runsOf(source.snapshots.slice(start), new Set(wanted.snapshots.map(({ guid }) => guid)));
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
