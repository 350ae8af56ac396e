/** Snapshots that have another name at their source: renamed by guid, swaps through a temporary name, at no cost. */
import type { Dataset, Graph } from '../graph/graph.ts';
import type { SnapshotGuid, SnapshotName } from '../ids.ts';
import { temporarySnapshotName } from './promotes.ts';
import type { WorkingCopy } from './working-copy.ts';

/** Longest name of a snapshot that stepped aside, in bytes: with a dataset of ordinary length before it, ZFS takes it. */
const ASIDE_BYTES_MAX = 64;

/**
 * Names that wait for each other before one takes a temporary name although they form no circle: each takes a place on the call stack, and a peer decides how many
 * there are.
 */
export const CHAIN_MAX = 500;

/** Plans the renames of snapshots in all datasets that both sides have. */
export function planSnapshotNames(copy: WorkingCopy, source: Graph): void {
  for (const here of [...copy.values()]) {
    const atSource = source.get(here.id);
    if (atSource === undefined || copy.isForeign(here.id) || sameNames(here, atSource)) continue;
    new DatasetNames(copy, here, atSource).plan();
  }
}

/**
 * Whether the snapshots here are the source's from some point on, and called alike: so it nearly always is, and nothing else has to be looked at. Both are
 * ordered by createtxg.
 */
function sameNames(here: Dataset, atSource: Dataset): boolean {
  const [first] = here.snapshots;
  const start = atSource.snapshots.findIndex(({ guid }) => guid === first?.guid);
  return here.snapshots.every(({ guid, name }, index) => {
    const other = atSource.snapshots[start + index];
    return other?.guid === guid && other.name === name;
  });
}

class DatasetNames {
  readonly #copy: WorkingCopy;
  readonly #here: Dataset;
  readonly #final: ReadonlyMap<SnapshotGuid, SnapshotName>;
  /** Names that the source uses, for what is here or still to come. */
  readonly #used: ReadonlySet<SnapshotName>;
  readonly #names: Map<SnapshotGuid, SnapshotName>;
  readonly #holders: Map<SnapshotName, SnapshotGuid>;
  readonly #moving = new Set<SnapshotGuid>();

  constructor(copy: WorkingCopy, here: Dataset, atSource: Dataset) {
    this.#copy = copy;
    this.#here = here;
    this.#final = new Map(atSource.snapshots.map(({ guid, name }) => [guid, name]));
    this.#used = new Set(this.#final.values());
    this.#names = new Map(here.snapshots.map(({ guid, name }) => [guid, name]));
    this.#holders = new Map(here.snapshots.map(({ guid, name }) => [name, guid]));
  }

  plan(): void {
    for (const { guid } of this.#here.snapshots) this.#settle(guid);
  }

  #settle(guid: SnapshotGuid): void {
    const current = this.#names.get(guid);
    if (current === undefined) return;
    const to = this.#final.get(guid) ?? (this.#used.has(current) ? this.#aside(guid, current) : current);
    if (to === current || this.#moving.has(guid)) return;
    this.#moving.add(guid);
    const holder = this.#holders.get(to);
    if (holder !== undefined) this.#makeWay(holder);
    this.#rename(guid, to);
    this.#moving.delete(guid);
  }

  /** Whoever holds a name goes where it belongs, or, where that turns in a circle, to a temporary name. */
  #makeWay(holder: SnapshotGuid): void {
    const isCircle = this.#moving.has(holder);
    if (isCircle || this.#moving.size >= CHAIN_MAX) this.#rename(holder, temporarySnapshotName(holder));
    else this.#settle(holder);
  }

  #rename(guid: SnapshotGuid, to: SnapshotName): void {
    const from = this.#names.get(guid);
    if (from === to || from === undefined) return;
    this.#copy.renameSnapshot(this.#here.id, guid, to);
    this.#names.set(guid, to);
    this.#holders.delete(from);
    this.#holders.set(to, guid);
  }

  /** The name of a snapshot that its source gave up, where another has its name now: rotating names do that all the time. */
  #aside(guid: SnapshotGuid, name: SnapshotName): SnapshotName {
    return `${name.slice(0, ASIDE_BYTES_MAX - guid.length - 1)}-${guid}` as SnapshotName;
  }
}
