/**
 * What people do to a hierarchy with plain `zfs`, on any ZFS: the random histories of `test/core/forest.ts`, played on datasets. What ZFS refuses is left
 * undone, as people leave it.
 */
import { isPandoError } from '../../src/core/errors.ts';
import type { DatasetName, SnapshotName } from '../../src/core/ids.ts';
import type { ListedDataset, Zfs } from '../../src/zfs/zfs.ts';
import type { Action } from '../core/forest.ts';

/** Names are few, so that they come back. */
const NAMES = 6;

export interface Garden {
  readonly zfs: Zfs;
  readonly root: DatasetName;
  /** Writes a file of a dataset, and mounts it for that where need be. */
  readonly write: (dataset: DatasetName, path: string, text: string) => Promise<void>;
}

export class Gardener {
  readonly #garden: Garden;
  #acts = 0;

  constructor(garden: Garden) {
    this.#garden = garden;
  }

  async live(history: readonly Action[]): Promise<void> {
    for (const action of history) {
      try {
        await this.#act(action);
      } catch (error) {
        if (!isPandoError(error) || !error.code.startsWith('ZFS_')) throw error;
      }
    }
  }

  async #act({ kind, pick, second }: Action): Promise<void> {
    const { zfs, root } = this.#garden;
    this.#acts += 1;
    const datasets = (await zfs.list(root)).filter(({ name }) => !name.includes('/.pando'));
    const dataset = chosen(datasets, pick);
    if (dataset === undefined) return;
    const { name } = dataset;
    switch (kind) {
      case 'create':
        await zfs.create(freeBelow(datasets, name, second));
        return;
      case 'snapshot':
        await this.#garden.write(name, `file-${second % NAMES}`, `written by act ${this.#acts}`);
        await zfs.snapshot([{ dataset: name, snapshot: freeSnapshot(dataset, second) }]);
        return;
      case 'clone': {
        const origin = chosen(
          datasets.filter(({ snapshots }) => snapshots.length > 0),
          pick,
        );
        const at = chosen(origin?.snapshots ?? [], second);
        const parent = chosen(datasets, pick + second);
        if (origin === undefined || at === undefined || parent === undefined) return;
        await zfs.clone({ dataset: origin.name, snapshot: at.name }, freeBelow(datasets, parent.name, second));
        return;
      }
      case 'destroy-snapshot': {
        const at = chosen(dataset.snapshots, second);
        if (at !== undefined) await zfs.destroySnapshot({ dataset: name, snapshot: at.name });
        return;
      }
      case 'destroy':
        if (name !== root) await zfs.destroy(name);
        return;
      case 'promote': {
        const clone = chosen(
          datasets.filter(({ origin }) => origin !== null),
          pick,
        );
        if (clone !== undefined) await zfs.promote(clone.name);
        return;
      }
      case 'rename-snapshot': {
        const at = chosen(dataset.snapshots, second);
        if (at === undefined) return;
        await zfs.renameSnapshot({ dataset: name, snapshot: at.name }, freeSnapshot(dataset, pick + second));
        return;
      }
      case 'rollback': {
        const to = chosen(dataset.snapshots, second);
        if (to !== undefined) await zfs.rollback({ dataset: name, snapshot: to.name });
        return;
      }
      case 'swap':
        await this.#swap(name, chosen(datasets, second)?.name ?? name);
        return;
      case 'rename':
        await this.#rename(name, freeBelow(datasets, root, second));
        return;
      case 'move':
        await this.#rename(name, freeBelow(datasets, chosen(datasets, second)?.name ?? root, pick));
        return;
    }
  }

  async #rename(from: DatasetName, to: DatasetName): Promise<void> {
    if (from !== this.#garden.root && !to.startsWith(`${from}/`)) await this.#garden.zfs.rename(from, to);
  }

  /** Through a third name, as people do it. */
  async #swap(one: DatasetName, other: DatasetName): Promise<void> {
    const { zfs, root } = this.#garden;
    if (one === root || other === root) return;
    if (`${one}/`.startsWith(`${other}/`) || `${other}/`.startsWith(`${one}/`)) return;
    const between = `${root}/between-${this.#acts}` as DatasetName;
    await zfs.rename(one, between);
    await zfs.rename(other, one);
    await zfs.rename(between, other);
  }
}

function chosen<T>(items: readonly T[], pick: number): T | undefined {
  return items[pick % Math.max(1, items.length)];
}

function freeBelow(datasets: readonly ListedDataset[], parent: DatasetName, pick: number): DatasetName {
  const taken = new Set<string>(datasets.map(({ name }) => name));
  for (let number = pick % NAMES; ; number += 1) {
    const name = `${parent}/d${number}`;
    if (!taken.has(name)) return name as DatasetName;
  }
}

function freeSnapshot({ snapshots }: ListedDataset, pick: number): SnapshotName {
  const taken = new Set<string>(snapshots.map(({ name }) => name));
  for (let number = pick % NAMES; ; number += 1) {
    if (!taken.has(`s${number}`)) return `s${number}` as SnapshotName;
  }
}
