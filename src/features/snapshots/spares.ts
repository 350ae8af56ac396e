/**
 * Clones made in advance: over what two were prepared over, one that nobody has asked for yet, as long as anything is over it. `zfs clone` waits for transaction groups and mounts, and whoever
 * starts a container need not.
 *
 * A spare is somebody's once the journal says so, before its mark does. What is left of them after a crash is for `repair.ts`.
 */
import { setImmediate } from 'node:timers/promises';
import { describeError, isPandoError } from '../../core/errors.ts';
import { absoluteName, type RelativeName } from '../../core/ids.ts';
import { Turns } from '../../log/turns.ts';
import { makeClone } from './clones.ts';
import { SPARE_MARK } from './marks.ts';
import type { SnapshotParts } from './parts.ts';
import type { Places } from './places.ts';

/** Over how many snapshots there are spares, those that were used last: each is a dataset more, and on zfs-fuse a mount. */
const SPARES_MAX = 8;

type SpareParts = Pick<SnapshotParts, 'lookSoon' | 'mintUuid' | 'store' | 'warn' | 'zfs'>;

export class Spares {
  readonly #parts: SpareParts;
  readonly #places: Places;
  /** What can be had, by the dataset that it is over, the one used longest ago first; null while there is nothing. */
  readonly #ready = new Map<RelativeName, RelativeName | null>();
  /** All that are nobody's, with what they are over: those that are ready, being made, and that could not be destroyed. */
  readonly #all = new Map<RelativeName, RelativeName>();
  /** Settles once the next spare over a dataset is there, or could not be made; none where somebody waits for that. */
  readonly #making = new Map<RelativeName, Promise<void>>();
  /** What one is being made over, whoever waits for it. */
  readonly #underWay = new Set<RelativeName>();
  /** Making and destroying, by the dataset below. */
  readonly #turns = new Turns<RelativeName>();

  constructor(parts: SpareParts, places: Places) {
    this.#parts = parts;
    this.#places = places;
  }

  /** The spare over a dataset, from now on the caller's; undefined where there is none. One that is being made is there sooner than another would be: one caller waits for it. */
  async take(below: RelativeName): Promise<RelativeName | undefined> {
    const making = this.#ready.get(below) === null ? this.#making.get(below) : undefined;
    this.#making.delete(below);
    await making;
    const spare = this.#ready.get(below) ?? undefined;
    if (spare === undefined) return undefined;
    this.#ready.set(below, null);
    this.#all.delete(spare);
    return spare;
  }

  /** Destroys what the caller was given and has given to nobody. Where that fails it is tried again with the others over that dataset. */
  discard(below: RelativeName, spare: RelativeName): void {
    this.#all.set(spare, below);
    void this.#turns.run(below, () => this.#destroy(spare)).catch(() => undefined);
  }

  /** Hears that something was prepared over a dataset. Whoever starts a second container of an image will start a third: for that a spare is made, in nobody's way. */
  prepared(below: RelativeName): void {
    const known = this.#ready.get(below);
    this.#ready.delete(below);
    this.#ready.set(below, known ?? null);
    for (const oldest of this.#ready.keys()) {
      if (this.#ready.size <= SPARES_MAX) break;
      void this.release(oldest).catch((error: unknown) => this.#parts.warn(describeError(error), { dataset: oldest }));
    }
    if (known !== undefined) this.#begin(below);
  }

  /** Has one made, unless one is being made: behind that it would be there no sooner than one of the caller's own. */
  #begin(below: RelativeName): void {
    if (this.#underWay.has(below)) return;
    this.#underWay.add(below);
    // What is wrong is told by the next Prepare, which makes a clone of its own
    const making = this.#turns.run(below, () => this.#make(below)).catch(() => undefined);
    this.#making.set(below, making);
    void making.then(() => {
      this.#underWay.delete(below);
      this.#making.delete(below);
    });
  }

  /** Destroys the spares over a dataset; none is made until something is prepared over it again. Rejects as ZFS does, and knows them still then. */
  release(below: RelativeName): Promise<void> {
    this.#ready.delete(below);
    return this.#turns.run(below, async () => {
      for (const spare of [...this.#all.keys()]) {
        // Since then something may have been prepared over it, and this be ready for the next, or given away
        if (this.#all.get(spare) === below && this.#ready.get(below) !== spare) await this.#destroy(spare);
      }
    });
  }

  /** Destroys all of them; what cannot be is told. */
  async clear(): Promise<void> {
    for (const below of new Set([...this.#ready.keys(), ...this.#all.values()])) {
      await this.release(below).catch((error: unknown) => this.#parts.warn(describeError(error), { dataset: below }));
    }
  }

  async #make(below: RelativeName): Promise<void> {
    // The answer goes first
    await setImmediate();
    // Released since, or made for somebody who asked at the same time
    if (this.#ready.get(below) !== null) return;
    const spare = this.#places.anywhere();
    this.#all.set(spare, below);
    try {
      await makeClone(this.#parts, { kind: 'active', below, dataset: spare, mark: SPARE_MARK });
    } catch (error) {
      await this.#destroy(spare).catch(() => undefined);
      throw error;
    }
    if (this.#ready.get(below) !== null) return this.#destroy(spare);
    this.#ready.set(below, spare);
    this.#parts.lookSoon([spare]);
  }

  async #destroy(spare: RelativeName): Promise<void> {
    await destroySpare(this.#parts, spare);
    this.#all.delete(spare);
  }
}

/** Destroys what was made in advance, if it is there. Rejects as ZFS does. */
export async function destroySpare(
  { store, zfs, lookSoon }: Pick<SnapshotParts, 'lookSoon' | 'store' | 'zfs'>,
  spare: RelativeName,
): Promise<void> {
  try {
    await zfs.destroy(absoluteName(store().root, spare));
    lookSoon([spare]);
  } catch (error) {
    // Of a tree that is shared no more nothing is destroyed
    if (!isPandoError(error, 'ZFS_NOT_FOUND', 'LAYER_STORE_UNKNOWN')) throw error;
  }
}
