/**
 * What people do to a hierarchy with plain `zfs`, on any ZFS: the random histories of `test/core/forest.ts`, played on datasets. What ZFS refuses is left
 * undone, as people leave it.
 */
import { isPandoError } from '../../src/core/errors.ts';
import type { BookmarkName, DatasetName, HoldTag, SnapshotName } from '../../src/core/ids.ts';
import type { ListedDataset, SnapshotReference, Zfs } from '../../src/zfs/zfs.ts';
import type { Action } from '../core/forest.ts';

/** Names are few, so that they come back. */
const NAMES = 6;

export interface Garden {
  readonly zfs: Zfs;
  readonly root: DatasetName;
  /** What people choose from, where that is not all at and below the root that is not hidden. */
  readonly choose?: () => Promise<readonly ListedDataset[]>;
  /** Writes a file of a dataset, and mounts it for that where need be. */
  readonly write: (dataset: DatasetName, path: string, text: string) => Promise<void>;
}

/** What there is when something is done, and the numbers that pick what it is done to. */
interface Scene {
  readonly datasets: readonly ListedDataset[];
  readonly dataset: ListedDataset;
  readonly pick: number;
  readonly second: number;
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
    this.#acts += 1;
    const { zfs, root, choose } = this.#garden;
    const all = async () => (await zfs.list(root)).filter(({ name }) => !name.includes('/.pando'));
    const datasets = await (choose ?? all)();
    const dataset = chosen(datasets, pick);
    if (dataset !== undefined) await this.#doings[kind]({ datasets, dataset, pick, second });
  }

  readonly #doings: { readonly [Kind in Action['kind']]: (scene: Scene) => Promise<void> } = {
    create: ({ datasets, dataset, second }) => this.#garden.zfs.create(freeBelow(datasets, dataset.name, second)),
    snapshot: async ({ dataset, second }) => {
      await this.#garden.write(dataset.name, `file-${second % NAMES}`, `written by act ${this.#acts}`);
      await this.#garden.zfs.snapshot([{ dataset: dataset.name, snapshot: freeSnapshot(dataset, second) }]);
    },
    clone: async ({ datasets, pick, second }) => {
      const origin = chosen(
        datasets.filter(({ snapshots }) => snapshots.length > 0),
        pick,
      );
      const at = chosen(origin?.snapshots ?? [], second);
      const parent = chosen(datasets, pick + second);
      if (origin === undefined || at === undefined || parent === undefined) return;
      const target = freeBelow(datasets, parent.name, second);
      await this.#garden.zfs.clone({ dataset: origin.name, snapshot: at.name }, target);
    },
    'destroy-snapshot': ({ dataset, second }) =>
      onSnapshot(dataset, second, (snapshot) => this.#garden.zfs.destroySnapshot(snapshot)),
    destroy: async ({ dataset }) => {
      if (dataset.name !== this.#garden.root) await this.#garden.zfs.destroy(dataset.name);
    },
    promote: async ({ datasets, pick }) => {
      const clone = chosen(
        datasets.filter(({ origin }) => origin !== null),
        pick,
      );
      if (clone !== undefined) await this.#garden.zfs.promote(clone.name);
    },
    'rename-snapshot': ({ dataset, pick, second }) =>
      onSnapshot(dataset, second, (snapshot) =>
        this.#garden.zfs.renameSnapshot(snapshot, freeSnapshot(dataset, pick + second)),
      ),
    rollback: ({ dataset, second }) =>
      onSnapshot(dataset, second, (snapshot) => this.#garden.zfs.rollback(snapshot, { destroyNewer: true })),
    // Refused where the ZFS has none
    bookmark: ({ dataset, second }) =>
      onSnapshot(dataset, second, (snapshot) => this.#garden.zfs.bookmark(snapshot, bookmarkName(second))),
    'destroy-bookmark': async ({ dataset, second }) => {
      const bookmark = chosen(dataset.bookmarks, second);
      if (bookmark === undefined) return;
      await this.#garden.zfs.destroyBookmark({ dataset: dataset.name, bookmark: bookmark.name });
    },
    // Only where it can be told afterwards whose hold it is
    hold: async ({ dataset, second }) => {
      const { listHolds } = await this.#garden.zfs.capabilities();
      if (!listHolds) return;
      await onSnapshot(dataset, second, (snapshot) => this.#garden.zfs.hold(holdTag(second), [snapshot]));
    },
    release: ({ dataset, second }) =>
      onSnapshot(dataset, second, async (snapshot) => {
        for (let pick = 0; pick < NAMES; pick += 1) await this.#garden.zfs.release(holdTag(pick), [snapshot]);
      }),
    swap: ({ datasets, dataset, second }) => this.#swap(dataset.name, chosen(datasets, second)?.name ?? dataset.name),
    rename: ({ datasets, dataset, second }) =>
      this.#rename(dataset.name, freeBelow(datasets, this.#garden.root, second)),
    move: ({ datasets, dataset, pick, second }) =>
      this.#rename(dataset.name, freeBelow(datasets, chosen(datasets, second)?.name ?? this.#garden.root, pick)),
  };

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

async function onSnapshot(
  { name, snapshots }: ListedDataset,
  pick: number,
  act: (snapshot: SnapshotReference) => Promise<void>,
): Promise<void> {
  const snapshot = chosen(snapshots, pick);
  if (snapshot !== undefined) await act({ dataset: name, snapshot: snapshot.name });
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

function bookmarkName(pick: number): BookmarkName {
  return `b${pick % NAMES}` as BookmarkName;
}

function holdTag(pick: number): HoldTag {
  return `gardener:${pick % NAMES}` as HoldTag;
}

function freeSnapshot({ snapshots }: ListedDataset, pick: number): SnapshotName {
  const taken = new Set<string>(snapshots.map(({ name }) => name));
  for (let number = pick % NAMES; ; number += 1) {
    if (!taken.has(`s${number}`)) return `s${number}` as SnapshotName;
  }
}
