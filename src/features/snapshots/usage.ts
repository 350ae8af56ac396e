/** What a snapshot takes beyond what it is over: bytes as ZFS counts them, and the objects in it that the one below has not. */
import { absoluteName, type DatasetName } from '../../core/ids.ts';
import { SNAPSHOT_PROPERTY } from '../../core/layers/layer-names.ts';
import type { SnapshotUsage } from '../../core/snapshots/snapshot.ts';
import { markOf } from './marks.ts';
import type { SnapshotParts } from './parts.ts';
import type { KeptSnapshot } from './snapshot-journal.ts';

export class Usages {
  readonly #parts: SnapshotParts;
  readonly #inTurn: (key: string, task: () => Promise<void>) => Promise<void>;
  #running: Promise<void> = Promise.resolve();
  /** A flush that has not begun: it takes along whatever is written before. */
  #waiting: Promise<void> | null = null;

  /** `inTurn` runs a task while nothing else changes what is known of a key. */
  constructor(parts: SnapshotParts, inTurn: (key: string, task: () => Promise<void>) => Promise<void>) {
    this.#parts = parts;
    this.#inTurn = inTurn;
  }

  /** A file that took the place of another counts as none more, and what was removed as none less than nothing. */
  async of(kept: KeptSnapshot): Promise<SnapshotUsage> {
    const { zfs, store, journal } = this.#parts;
    const name = absoluteName(store().root, kept.dataset);
    if (kept.kind !== 'committed') await this.#flush(name, markOf(kept.kind, kept.key));
    const below = kept.parent === null ? undefined : journal.get(kept.parent);
    const objects = await this.#objectsIn(kept);
    const objectsBelow = below === undefined ? 0 : await this.#objectsIn(below);
    return { bytes: await zfs.used(name), inodes: Math.max(0, objects - objectsBelow) };
  }

  async #objectsIn(kept: KeptSnapshot): Promise<number> {
    if (kept.objects !== null) return kept.objects;
    const { zfs, store, journal } = this.#parts;
    const name = absoluteName(store().root, kept.dataset);
    const objects = await zfs.objects(name);
    if (kept.kind !== 'committed') return objects;
    // Of what never changes it is found out once
    await this.#inTurn(kept.key, async () => {
      const now = journal.get(kept.key);
      if (now?.dataset === kept.dataset) await journal.record([{ type: 'snapshotter.kept', ...now, objects }]);
    });
    return objects;
  }

  /**
   * ZFS counts what is on the disk, and what was just written gets there with its transaction group, which may take half a minute. A property that is set waits for that
   * (`dsl_sync_task`), whatever its value. Of many who ask at once, one sets it for all.
   */
  async #flush(name: DatasetName, mark: string): Promise<void> {
    const set = (): Promise<void> => this.#parts.zfs.setProperties([name], { [SNAPSHOT_PROPERTY]: mark });
    const shared = this.#waiting;
    // What keeps another dataset's property from being set says nothing of this one
    if (shared !== null) return shared.catch(set);
    const flushed = this.#running.then(() => {
      this.#waiting = null;
      return set();
    });
    this.#waiting = flushed;
    this.#running = flushed.catch(() => undefined);
    return flushed;
  }
}
