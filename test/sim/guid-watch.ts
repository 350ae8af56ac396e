/**
 * Watches over invariant 1 on one machine: no snapshot goes from its pool unless somebody at that machine destroyed it by hand. Compares the guids
 * before and after whatever could destroy one; that nothing else does is checked when the world has come to rest.
 */
import type { DatasetName, SnapshotGuid } from '../../src/core/ids.ts';
import type { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';

/** Commands that destroy snapshots, or could. */
const DESTRUCTIVE: ReadonlySet<string> = new Set(['destroy', 'destroySnapshot', 'rollback']);

type Guids = ReadonlySet<SnapshotGuid>;

export class GuidWatch {
  readonly #zfs: MemoryZfs;
  readonly #pool: DatasetName;
  readonly #accuse: (what: string) => void;
  #known: Guids = new Set();
  readonly #givenUp = new Set<SnapshotGuid>();
  /** Datasets that somebody has told the node to destroy something of. */
  readonly #commanded = new Set<string>();

  constructor(zfs: MemoryZfs, pool: DatasetName, accuse: (what: string) => void) {
    this.#zfs = zfs;
    this.#pool = pool;
    this.#accuse = accuse;
  }

  /** Runs what somebody does by hand: what goes by it was given up here. */
  async allow(act: () => Promise<unknown>): Promise<unknown> {
    const before = await this.#guids();
    try {
      return await act();
    } finally {
      const after = await this.#guids();
      for (const guid of lost(before, after)) this.#givenUp.add(guid);
    }
  }

  /** What was destroyed here by hand. */
  get givenUp(): Guids {
    return this.#givenUp;
  }

  /** Somebody tells the node to destroy something of a dataset: it may, from now on until {@link withdraw}. */
  command(dataset: DatasetName): void {
    this.#commanded.add(dataset);
  }

  withdraw(dataset: DatasetName): void {
    this.#commanded.delete(dataset);
  }

  /** Runs what the node does. */
  async watch(command: string, given: readonly unknown[], act: () => Promise<unknown>): Promise<unknown> {
    if (!DESTRUCTIVE.has(command)) return act();
    if (this.#commanded.has(datasetOf(given[0]))) return this.allow(act);
    const before = await this.#guids();
    try {
      return await act();
    } finally {
      const after = await this.#guids();
      for (const guid of lost(before, after)) {
        this.#accuse(`snapshot ${guid} by ${command} ${JSON.stringify(given[0])}`);
      }
    }
  }

  /** What is missing of all that was there whenever this was called before, and was not given up. */
  async missing(): Promise<SnapshotGuid[]> {
    const now = await this.#guids();
    const missing = lost(this.#known, now).filter((guid) => !this.#givenUp.has(guid));
    this.#known = now ?? this.#known;
    return missing;
  }

  /** Of all snapshots in the pool; null while it is away. */
  async #guids(): Promise<Guids | null> {
    if (!(await this.#zfs.pools()).includes(this.#pool)) return null;
    const listed = await this.#zfs.list(this.#pool);
    return new Set(listed.flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid)));
  }
}

/** What a destructive command is given: a dataset, or a snapshot of one. */
function datasetOf(given: unknown): string {
  return typeof given === 'string' ? given : (given as { readonly dataset: string }).dataset;
}

function lost(before: Guids | null, after: Guids | null): SnapshotGuid[] {
  return before === null || after === null ? [] : [...before].filter((guid) => !after.has(guid));
}
