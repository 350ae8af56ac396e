/**
 * Snapshots as containerd uses them (`snapshots/snapshotter.go` there is the longer form of this page). Nothing here mounts anything: who
 * asks for the mounts of a snapshot makes them.
 *
 * Every method rejects with a PandoError: `SNAPSHOT_EXISTS` for a key that is taken, `SNAPSHOT_UNKNOWN` for a key or parent that there is not,
 * `ARGUMENT_INVALID` for a parent that is not committed, for a label that is too long or a field that cannot change, `SNAPSHOT_STATE` for what a snapshot of
 * that kind cannot do, and for removing one that others are over.
 */
import type { Labels, Mount, SnapshotInfo, SnapshotUsage } from '../../core/snapshots/snapshot.ts';

export interface SnapshotService {
  /**
   * Makes an active snapshot, gives its mounts. With the label `containerd.io/snapshot.ref`, whose layer is here or at a peer, it makes a committed one of that name
   * instead, and rejects with `SNAPSHOT_EXISTS`: that tells containerd that there is nothing to unpack.
   */
  prepare(key: string, parent: string | null, labels: Labels): Promise<readonly Mount[]>;
  /** Makes a view; its mounts are read-only. */
  view(key: string, parent: string | null, labels: Labels): Promise<readonly Mount[]>;
  /** The mounts of an active snapshot or a view. */
  mounts(key: string): Promise<readonly Mount[]>;
  /** Turns an active snapshot into a committed one of another name; its key is free then. */
  commit(name: string, key: string, labels: Labels): Promise<void>;
  remove(key: string): Promise<void>;
  stat(key: string): Promise<SnapshotInfo>;
  /**
   * Changes labels. `fields` are the paths of a field mask: `labels`, or `labels.` and the name of one; all labels are replaced where there are none. What cannot
   * change (any other path) is refused. Gives the snapshot as it is then.
   */
  update(key: string, labels: Labels, fields: readonly string[]): Promise<SnapshotInfo>;
  /** All snapshots, in the order of their keys. */
  list(): Promise<readonly SnapshotInfo[]>;
  usage(key: string): Promise<SnapshotUsage>;
  /** Destroys what is left of snapshots that were removed. */
  cleanup(): Promise<void>;
}
