import type { Snapshot } from '../events.ts';

/** Bytes of a full stream: what the snapshot references (an estimate: metadata and compression are not counted). */
export function fullBytes(snapshot: Snapshot): number {
  return snapshot.referenced;
}

/**
 * Bytes of an increment from `base` over the snapshots that follow, oldest first: the sum of what was `written` for each (zfsprops.7);
 * where a ZFS cannot tell, the growth of what they reference, which misses what was overwritten in place.
 */
export function incrementBytes(base: Snapshot, snapshots: readonly Snapshot[]): number {
  let previous = base;
  let bytes = 0;
  for (const snapshot of snapshots) {
    bytes += snapshot.written ?? Math.max(0, snapshot.referenced - previous.referenced);
    previous = snapshot;
  }
  return bytes;
}
