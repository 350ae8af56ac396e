/**
 * Clones made in advance: over what two were prepared over, one that nobody has asked for yet, as long as anything is over it. `zfs clone` waits for transaction groups and mounts, and whoever
 * starts a container need not.
 *
 * A spare is somebody's once the journal says so, before its mark does. So one may be destroyed that says `spare`, and that a journal knows nothing of which knows what it is over; the rest
 * is for `repair.ts`.
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
  /** By the dataset that it is over, the one used longest ago first; null while there is none. */
  readonly #spares = new Map<RelativeName, RelativeName | null>();
  /** Making and destroying, by the dataset below. */
  readonly #turns = new Turns<RelativeName>();

  constructor(parts: SpareParts, places: Places) {
    this.#parts = parts;
    this.#places = places;
  }

  /** The spare over a dataset, from now on the caller's; undefined where there is none. */
  take(below: RelativeName): RelativeName | undefined {
    const spare = this.#spares.get(below) ?? undefined;
    if (spare !== undefined) this.#spares.set(below, null);
    return spare;
  }

  /** Hears that something was prepared over a dataset. Whoever starts a second container of an image will start a third: for that a spare is made, in nobody's way. */
  prepared(below: RelativeName): void {
    const known = this.#spares.get(below);
    this.#spares.delete(below);
    this.#spares.set(below, known ?? null);
    const [oldest] = this.#spares.keys();
    if (this.#spares.size > SPARES_MAX && oldest !== undefined) void this.release(oldest);
    // What is wrong is told by the next Prepare, which makes a clone of its own
    if (known !== undefined) void this.#turns.run(below, () => this.#make(below)).catch(() => undefined);
  }

  /** Destroys the spare over a dataset; none is made until something is prepared over it again. */
  release(below: RelativeName): Promise<void> {
    return this.#turns.run(below, async () => {
      const spare = this.#spares.get(below) ?? null;
      this.#spares.delete(below);
      if (spare !== null) await destroySpare(this.#parts, spare);
    });
  }

  /** Destroys all of them. */
  async clear(): Promise<void> {
    await Promise.all(Array.from(this.#spares.keys(), (below) => this.release(below)));
    await this.#turns.idle();
  }

  async #make(below: RelativeName): Promise<void> {
    // The answer goes first
    await setImmediate();
    // Released since, or made for somebody who asked at the same time
    if (this.#spares.get(below) !== null) return;
    const spare = this.#places.anywhere();
    await makeClone(this.#parts, { kind: 'active', below, dataset: spare, mark: SPARE_MARK });
    this.#spares.set(below, spare);
    this.#parts.lookSoon([spare]);
  }
}

/** Destroys what was made in advance; where that fails, the next start tries again. */
export async function destroySpare(
  { store, zfs, lookSoon, warn }: Pick<SnapshotParts, 'lookSoon' | 'store' | 'warn' | 'zfs'>,
  spare: RelativeName,
): Promise<void> {
  try {
    await zfs.destroy(absoluteName(store().root, spare));
    lookSoon([spare]);
  } catch (error) {
    if (isPandoError(error, 'ZFS_NOT_FOUND', 'LAYER_STORE_UNKNOWN')) return;
    warn(`${spare}, a clone made in advance, stays until the next start: ${describeError(error)}`, { dataset: spare });
  }
}
