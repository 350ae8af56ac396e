import {
  DATASET_NAME_BYTES_MAX,
  type DatasetName,
  parseSnapshotGuid,
  poolOf,
  type SnapshotGuid,
} from '../../core/ids.ts';
import type { SnapshotReference } from '../zfs.ts';
import {
  type MemoryDataset,
  type MemoryKey,
  type MemoryPool,
  type MemorySnapshot,
  newDataset,
  parentName,
  usedBytes,
} from './model.ts';
import { Refusal } from './refusal.ts';

/** A dataset with the pool that it lives in. */
export interface Located {
  readonly pool: MemoryPool;
  readonly dataset: MemoryDataset;
}

/** All pools of one MemoryZfs: finds things by name or refuses, and hands out what is new (guids, transaction groups, times). */
export class MemoryPools {
  readonly #pools = new Map<string, MemoryPool>();
  readonly #random: () => bigint;
  readonly #now: () => number;

  /** `random` gives 64 random bits, `now` Unix milliseconds. */
  constructor(random: () => bigint, now: () => number) {
    this.#random = random;
    this.#now = now;
  }

  add(name: DatasetName, capacityBytes: number | null): MemoryPool {
    if (this.#pools.has(name)) throw new Refusal('ZFS_DATASET_EXISTS', `pool '${name}' already exists`);
    const pool: MemoryPool = {
      name,
      capacityBytes,
      txg: 0,
      imported: true,
      datasets: new Map(),
      arriving: new Set(),
    };
    this.#pools.set(name, pool);
    this.addDataset(pool, { name, origin: null, key: null, content: new Map() });
    return pool;
  }

  /** Names of the pools that are imported. */
  names(): string[] {
    return Array.from(this.#pools.values()).flatMap((pool) => (pool.imported ? [pool.name] : []));
  }

  /** A pool, imported or not. */
  known(name: string): MemoryPool {
    const pool = this.#pools.get(name);
    if (pool === undefined) throw new Refusal('ZFS_NO_POOL', `no such pool '${name}'`);
    return pool;
  }

  poolFor(name: DatasetName): MemoryPool {
    const pool = this.known(poolOf(name));
    if (!pool.imported) throw new Refusal('ZFS_NO_POOL', `no such pool '${pool.name}'`);
    return pool;
  }

  find(name: DatasetName): Located | undefined {
    const pool = this.poolFor(name);
    const dataset = pool.datasets.get(name);
    return dataset === undefined ? undefined : { pool, dataset };
  }

  dataset(name: DatasetName): Located {
    const located = this.find(name);
    if (located === undefined) throw new Refusal('ZFS_NOT_FOUND', `'${name}' does not exist`);
    return located;
  }

  snapshot(reference: SnapshotReference): Located & { readonly snapshot: MemorySnapshot } {
    const located = this.dataset(reference.dataset);
    const snapshot = located.dataset.snapshots.find(({ name }) => name === reference.snapshot);
    if (snapshot === undefined) {
      throw new Refusal('ZFS_NOT_FOUND', `'${reference.dataset}@${reference.snapshot}' does not exist`);
    }
    return { ...located, snapshot };
  }

  /** The snapshots of that guid in all pools that are imported. */
  snapshotsOf(guid: SnapshotGuid): MemorySnapshot[] {
    return Array.from(this.#pools.values())
      .filter(({ imported }) => imported)
      .flatMap(({ datasets }) => Array.from(datasets.values()))
      .flatMap(({ snapshots }) => snapshots.filter((snapshot) => snapshot.guid === guid));
  }

  /** The pool in which `name` can be created now; refuses a taken name and a missing parent. */
  poolForNew(name: DatasetName): MemoryPool {
    const parent = parentName(name);
    if (parent === undefined) throw new Refusal('ZFS_NAME_REFUSED', `'${name}' is the name of a pool`);
    const pool = this.poolFor(name);
    if (!pool.datasets.has(parent)) throw new Refusal('ZFS_NOT_FOUND', `the parent '${parent}' does not exist`);
    if (pool.datasets.has(name) || pool.arriving.has(name)) {
      throw new Refusal('ZFS_DATASET_EXISTS', `'${name}' exists`);
    }
    return pool;
  }

  addDataset(pool: MemoryPool, fields: Pick<MemoryDataset, 'name' | 'origin' | 'key' | 'content'>): MemoryDataset {
    const dataset = newDataset({ ...fields, guid: this.newGuid(), createtxg: nextTxg(pool) });
    pool.datasets.set(dataset.name, dataset);
    return dataset;
  }

  newGuid(): SnapshotGuid {
    return parseSnapshotGuid(BigInt.asUintN(64, this.#random()).toString());
  }

  /** Unix time in seconds. */
  nowSeconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

/** Starts the next transaction group and returns its number. */
export function nextTxg(pool: MemoryPool): number {
  pool.txg += 1;
  return pool.txg;
}

/** Refuses what cannot be done without the key. */
export function requireKey(key: MemoryKey | null, name: DatasetName): void {
  if (key?.isLoaded === false) throw new Refusal('ZFS_KEY_MISSING', `the key of '${name}' must be loaded`);
}

/** Refuses to store `bytes` more than fit. */
export function requireSpace(pool: MemoryPool, bytes: number): void {
  if (pool.capacityBytes === null) return;
  if (usedBytes(pool) + bytes > pool.capacityBytes) throw new Refusal('ZFS_OUT_OF_SPACE', 'out of space');
}

export function requireShortName(name: string): void {
  if (name.length > DATASET_NAME_BYTES_MAX) throw new Refusal('ZFS_NAME_REFUSED', 'the name is too long');
}
