/**
 * Reading what snapshots hold. Not every ZFS shows that below their dataset, so it is read from clones, hidden in the tree (`.pando/reading`) and destroyed once they were read.
 */
import { isPandoError } from '../../core/errors.ts';
import { type DatasetName, readingRoot } from '../../core/ids.ts';
import { ensureContainers } from '../../transfer/hidden-containers.ts';
import type { SnapshotReference, Zfs } from '../../zfs/zfs.ts';

/** Snapshots that can be read. */
export interface OpenedSnapshots {
  /** One for each that was asked for; null for null. */
  readonly directories: readonly (string | null)[];
  close(): Promise<void>;
}

export class SnapshotReading {
  readonly #zfs: Zfs;
  readonly #unique: () => string;

  /** `unique` gives another name each time. */
  constructor(zfs: Zfs, unique: () => string) {
    this.#zfs = zfs;
    this.#unique = unique;
  }

  /** Makes snapshots of one tree readable until they are closed. */
  async open(root: DatasetName, snapshots: readonly (SnapshotReference | null)[]): Promise<OpenedSnapshots> {
    const clones: DatasetName[] = [];
    const close = async (): Promise<void> => {
      for (const clone of clones.splice(0)) await this.#zfs.destroy(clone);
    };
    const directories: (string | null)[] = [];
    try {
      for (const snapshot of snapshots) {
        directories.push(snapshot === null ? null : await this.#mounted(root, snapshot, clones));
      }
    } catch (error) {
      await close();
      throw error;
    }
    return { directories, close };
  }

  /** Destroys what a crash left to read from. */
  async recover(root: DatasetName): Promise<void> {
    const place = readingRoot(root);
    const left = await this.#zfs.list(place).catch((error: unknown) => {
      if (isPandoError(error, 'ZFS_NOT_FOUND')) return [];
      throw error;
    });
    for (const { name } of left.toReversed()) if (name !== place) await this.#zfs.destroy(name);
  }

  async #mounted(root: DatasetName, snapshot: SnapshotReference, clones: DatasetName[]): Promise<string> {
    const clone = `${readingRoot(root)}/${this.#unique()}` as DatasetName;
    await ensureContainers(this.#zfs, clone);
    await this.#zfs.clone(snapshot, clone, { readonly: 'on', atime: 'off', devices: 'off', setuid: 'off' });
    clones.push(clone);
    return this.#zfs.mount(clone);
  }
}
