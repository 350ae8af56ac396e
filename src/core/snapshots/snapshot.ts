/**
 * What containerd calls a snapshot: one state of a file system, known by a key that its caller chose (containerd, `snapshots/snapshotter.go`).
 *
 * - An **active** one can be written to, a **view** cannot; both are over a committed one, or over nothing, and both can be mounted.
 * - A **committed** one came from an active one, never changes, and is what others are over.
 * - A key is any text, often an absolute path with a namespace: never the name of a dataset.
 */

export const SNAPSHOT_KINDS = ['view', 'active', 'committed'] as const;
export type SnapshotKind = (typeof SNAPSHOT_KINDS)[number];

export type Labels = Readonly<Record<string, string>>;

/** Longest label, key and value together, in bytes: containerd's own limit (`labels/validate.go`). */
export const LABEL_BYTES_MAX = 4096;

/** The label by which containerd asks for a layer that may be there already; its value is a ChainID. */
export const SNAPSHOT_REF_LABEL = 'containerd.io/snapshot.ref';

export interface SnapshotInfo {
  readonly kind: SnapshotKind;
  readonly key: string;
  /** Key of the committed one that it is over; null for none. */
  readonly parent: string | null;
  readonly labels: Labels;
  /** Unix time in nanoseconds. */
  readonly createdAt: bigint;
  /** Unix time in nanoseconds. */
  readonly updatedAt: bigint;
}

/** What mount(2) needs for one step of mounting a snapshot. */
export interface Mount {
  /** `bind` or `zfs`. */
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** What a snapshot takes that those below it do not. */
export interface SnapshotUsage {
  readonly bytes: number;
  readonly inodes: number;
}
