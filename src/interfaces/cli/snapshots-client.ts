/** What the commands ask of a node about snapshots as containerd has them; see `daemon-client.ts`. */
import type { Mount, SnapshotUsage } from '../../core/snapshots/snapshot.ts';
import type { WrittenSnapshot } from '../../core/snapshots/written-snapshot.ts';

interface NewSnapshot {
  readonly key: string;
  /** Null for an empty one. */
  readonly parent: string | null;
}

/** Every call rejects with `LAYER_STORE_UNKNOWN` where the node keeps no layers, and with what `SnapshotService` rejects with. */
export interface SnapshotsClient {
  /** Those that match any of the filters; all without one. */
  list(filters: readonly string[]): Promise<readonly WrittenSnapshot[]>;
  stat(key: string): Promise<WrittenSnapshot>;
  mounts(key: string): Promise<readonly Mount[]>;
  usage(key: string): Promise<SnapshotUsage>;
  prepare(snapshot: NewSnapshot): Promise<readonly Mount[]>;
  view(snapshot: NewSnapshot): Promise<readonly Mount[]>;
  commit(request: { readonly name: string; readonly key: string }): Promise<void>;
  /** `fields` are the paths of what changes (`labels.NAME`); one without a label is taken away. Gives the snapshot as it is then. */
  label(request: {
    readonly key: string;
    readonly labels: Record<string, string>;
    readonly fields: string[];
  }): Promise<WrittenSnapshot>;
  remove(key: string): Promise<void>;
}
