/** Snapshots that have another name at their source: renamed by guid, swaps through a temporary name, at no cost. */
import type { Snapshot } from '../events.ts';
import type { Dataset, Graph } from '../graph/graph.ts';
import type { SnapshotGuid, SnapshotName } from '../ids.ts';
import { temporarySnapshotName } from './promotes.ts';
import type { WorkingCopy } from './working-copy.ts';

/** Longest name of a snapshot that stepped aside, in bytes: with a dataset of ordinary length before it, ZFS takes it. */
const ASIDE_BYTES_MAX = 64;

/** Plans the renames of snapshots in all datasets that both sides have. */
export function planSnapshotNames(copy: WorkingCopy, source: Graph): void {
  for (const here of [...copy.values()]) {
    const atSource = source.get(here.id);
    if (atSource === undefined || copy.isOwn(here.id) || sameNames(here, atSource)) continue;
    new DatasetNames(copy, here, atSource).plan();
  }
}

/** Whether each snapshot here has its name of the source, and nothing here has the name of one that is still to come. */
function sameNames(here: Dataset, atSource: Dataset): boolean {
  let at = 0;
  for (const { guid, name } of here.snapshots) {
    if (atSource.snapshots[at]?.guid !== guid) at = atSource.snapshots.findIndex((snapshot) => snapshot.guid === guid);
    if (at < 0 || atSource.snapshots[at]?.name !== name) return false;
    at += 1;
  }
  return true;
}

class DatasetNames {
  readonly #copy: WorkingCopy;
  readonly #here: Dataset;
  readonly #final: ReadonlyMap<SnapshotGuid, SnapshotName>;
  /** Names that the source uses, for what is here or still to come. */
  readonly #used: ReadonlySet<SnapshotName>;
  readonly #holders: Map<SnapshotName, SnapshotGuid>;
  readonly #moving = new Set<SnapshotGuid>();

  constructor(copy: WorkingCopy, here: Dataset, atSource: Dataset) {
    this.#copy = copy;
    this.#here = here;
    this.#final = new Map(atSource.snapshots.map(({ guid, name }) => [guid, name]));
    this.#used = new Set(this.#final.values());
    this.#holders = new Map(here.snapshots.map(({ guid, name }) => [name, guid]));
  }

  plan(): void {
    for (const { guid, name } of this.#here.snapshots) this.#settle(guid, name);
  }

  #settle(guid: SnapshotGuid, was: SnapshotName): void {
    const current = this.#nameOf(guid) ?? was;
    const to = this.#final.get(guid) ?? (this.#used.has(current) ? this.#aside(guid, current) : current);
    if (to === current || this.#moving.has(guid)) return;
    this.#moving.add(guid);
    const holder = this.#holders.get(to);
    if (holder !== undefined) this.#makeWay(holder, to);
    this.#rename(guid, to);
    this.#moving.delete(guid);
  }

  /** Whoever holds a name goes where it belongs, or, where that turns in a circle, to a temporary name. */
  #makeWay(holder: SnapshotGuid, name: SnapshotName): void {
    if (this.#moving.has(holder)) this.#rename(holder, temporarySnapshotName(holder));
    else this.#settle(holder, name);
  }

  #rename(guid: SnapshotGuid, to: SnapshotName): void {
    const from = this.#nameOf(guid);
    if (from === to || from === undefined) return;
    this.#copy.renameSnapshot(this.#here.id, guid, to);
    this.#holders.delete(from);
    this.#holders.set(to, guid);
  }

  #nameOf(guid: SnapshotGuid): SnapshotName | undefined {
    return this.#copy.get(this.#here.id)?.snapshots.find((snapshot: Snapshot) => snapshot.guid === guid)?.name;
  }

  /** The name of a snapshot that its source gave up, where another has its name now: rotating names do that all the time. */
  #aside(guid: SnapshotGuid, name: SnapshotName): SnapshotName {
    return `${name.slice(0, ASIDE_BYTES_MAX - guid.length - 1)}-${guid}` as SnapshotName;
  }
}
