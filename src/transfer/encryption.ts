import { PandoError } from '../core/errors.ts';
import type { DatasetName } from '../core/ids.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';

/** A dataset, and what it is known by however it is called: its own guid, or that of a snapshot in it. */
export interface KnownDataset {
  readonly name: DatasetName;
  readonly guid: string;
}

/** Remembers which datasets are encrypted: none ever changes in that, so that each is looked at once. */
export class EncryptionMemory {
  readonly #zfs: Zfs;
  readonly #encrypted = new Map<string, boolean>();

  constructor(zfs: Zfs) {
    this.#zfs = zfs;
  }

  /** Whether each of the datasets is encrypted, by guid. Rejects as ZFS does, and with `TRANSFER_REFUSED` for one that is gone. */
  async look(datasets: readonly KnownDataset[]): Promise<ReadonlyMap<string, boolean>> {
    const isAsked = (await this.#zfs.capabilities()).streamFlags.raw;
    const unknown = isAsked ? datasets.filter(({ guid }) => !this.#encrypted.has(guid)) : [];
    if (unknown.length > 0) {
      const listed = await this.#zfs.listOnly([...new Set(unknown.map(({ name }) => name))]);
      const byName = new Map(listed.map((dataset) => [dataset.name, dataset]));
      for (const { name, guid } of unknown) {
        const found = byName.get(name);
        // Another dataset can have the name by now
        if (found === undefined || !isKnownBy(found, guid)) throw gone(name);
        this.#encrypted.set(guid, found.encrypted);
      }
    }
    return new Map(datasets.map(({ guid }) => [guid, this.#encrypted.get(guid) ?? false]));
  }
}

function isKnownBy({ guid, snapshots }: ListedDataset, known: string): boolean {
  return guid === known || snapshots.some((snapshot) => snapshot.guid === known);
}

function gone(name: DatasetName): PandoError {
  return new PandoError('TRANSFER_REFUSED', `"${name}" is not here any more; sync again to see what is.`, { name });
}
