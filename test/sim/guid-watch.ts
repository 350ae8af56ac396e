/**
 * Watches over invariant 1 on one machine: no snapshot goes from its pool unless somebody at that machine destroyed it by hand, or a mirror need not keep it by its rules: it was
 * received longer ago than what its peer gave up is kept, or has as many behind it as are kept at all. Compares the guids before and after whatever could destroy one; that nothing
 * else does is checked when the world has come to rest.
 */
import type { MirrorRules } from '../../src/core/events.ts';
import type { DatasetName, SnapshotGuid } from '../../src/core/ids.ts';
import type { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import type { ReceiveRequest, SnapshotReference } from '../../src/zfs/zfs.ts';

/** Commands that destroy snapshots, or could. */
const DESTRUCTIVE: ReadonlySet<string> = new Set(['destroy', 'destroySnapshot', 'rollback']);

/** A lineage holder is called as the guid of what it holds. */
const LINEAGE_HOLDER = /\/\.pando\/lineage\/([0-9]+)$/;

type Guids = ReadonlySet<SnapshotGuid>;

export interface Keeping extends Pick<MirrorRules, 'keep' | 'graceMs'> {
  /** Whether others can own by now what was made here. */
  readonly isShared: boolean;
}

export interface GuidWatchOptions {
  readonly zfs: MemoryZfs;
  readonly pool: DatasetName;
  /** Virtual ms. */
  readonly now: () => number;
  /** What the mirrors keep that a dataset belongs to; none where it belongs to none. */
  readonly keepingOf: (dataset: string) => readonly Keeping[];
  readonly accuse: (what: string) => void;
}

export class GuidWatch {
  readonly #zfs: MemoryZfs;
  readonly #pool: DatasetName;
  readonly #options: GuidWatchOptions;
  /** When snapshots were received that will not be kept for ever. */
  readonly #received = new Map<SnapshotGuid, number>();
  #known: Guids = new Set();
  readonly #givenUp = new Set<SnapshotGuid>();
  readonly #cameAlone = new Set<SnapshotGuid>();
  /** How many commands to destroy something of a dataset the node has been told and has not ended. */
  readonly #commanded = new Map<string, number>();

  constructor(options: GuidWatchOptions) {
    this.#zfs = options.zfs;
    this.#pool = options.pool;
    this.#options = options;
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

  /** Origins that were received alone, into a lineage holder: a dataset that gets one by a promote can have nothing older. */
  get cameAlone(): Guids {
    return this.#cameAlone;
  }

  /** What was destroyed here by hand. */
  get givenUp(): Guids {
    return this.#givenUp;
  }

  /** Somebody tells the node to destroy something of a dataset: it may, from now on until {@link withdraw}. */
  command(dataset: DatasetName): void {
    this.#commanded.set(dataset, (this.#commanded.get(dataset) ?? 0) + 1);
  }

  withdraw(dataset: DatasetName): void {
    const others = (this.#commanded.get(dataset) ?? 0) - 1;
    if (others > 0) this.#commanded.set(dataset, others);
    else this.#commanded.delete(dataset);
  }

  /** Runs what the node does. */
  async watch(command: string, given: readonly unknown[], act: () => Promise<unknown>): Promise<unknown> {
    if (command === 'receive') return this.#watchReceive(given[0] as ReceiveRequest, act);
    if (!DESTRUCTIVE.has(command)) return act();
    if (this.#commanded.has(datasetOf(given[0]))) return this.allow(act);
    const before = await this.#guids();
    const behind = command === 'destroySnapshot' ? await this.#behind(given[0] as SnapshotReference) : 0;
    try {
      return await act();
    } finally {
      const after = await this.#guids();
      for (const guid of lost(before, after)) this.#judge({ guid, behind }, command, given[0]);
    }
  }

  /** Whether a snapshot could go that has so many behind it. */
  #judge(
    { guid, behind }: { readonly guid: SnapshotGuid; readonly behind: number },
    command: string,
    given: unknown,
  ): void {
    const { now, keepingOf, accuse } = this.#options;
    const mayGo = keepingOf(datasetOf(given)).some(({ keep, graceMs, isShared }) => {
      const since = this.#received.get(guid) ?? (isShared ? 0 : undefined);
      const isOld = graceMs !== null && since !== undefined && now() - since >= graceMs;
      return isOld || (keep !== 'all' && behind >= Math.max(1, keep.last ?? 0));
    });
    if (mayGo) this.#givenUp.add(guid);
    else accuse(`snapshot ${guid} by ${command} ${JSON.stringify(given)}`);
  }

  /** How many snapshots a dataset has that are newer than one. */
  async #behind({ dataset, snapshot }: SnapshotReference): Promise<number> {
    const [{ snapshots } = { snapshots: [] }] = await this.#zfs.listOnly([dataset]);
    return snapshots.length - 1 - snapshots.findIndex(({ name }) => name === snapshot);
  }

  async #watchReceive({ target }: ReceiveRequest, act: () => Promise<unknown>): Promise<unknown> {
    const { now, keepingOf } = this.#options;
    const [, alone] = LINEAGE_HOLDER.exec(target) ?? [];
    if (alone !== undefined) this.#cameAlone.add(alone as SnapshotGuid);
    if (keepingOf(target).every(({ graceMs }) => graceMs === null)) return act();
    const before = await this.#guids();
    try {
      return await act();
    } finally {
      for (const guid of lost(await this.#guids(), before)) this.#received.set(guid, now());
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
