/**
 * Containerd's snapshots on ZFS.
 *
 * 1. An active snapshot, or a view, is a clone of what it is over, below `runtime`; a key is never a name. One that is to become a layer lies in `storage` from the beginning, since a rename
 *    there would have to wait for whoever uses the pool. What containers are made over again and again has a clone in advance (`spares.ts`).
 * 2. A committed one is a dataset with `@extracted`. Where its name ends with a ChainID it is that layer, and peers can have it.
 * 3. What is committed is logged before its snapshot is taken, everything else after ZFS has done it, but for the mark of a clone made in advance: either way the next start finds out the rest (`repair.ts`).
 * 4. A removed one that was a layer stays a layer, until nothing needs it ({@link Snapshots.cleanup}).
 */
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import { absoluteName, type RelativeName } from '../../core/ids.ts';
import type { ChainId } from '../../core/layers/digest.ts';
import { EXTRACTED, layerName, SNAPSHOT_PROPERTY } from '../../core/layers/layer-names.ts';
import type { Labels, Mount, SnapshotInfo, SnapshotUsage } from '../../core/snapshots/snapshot.ts';
import { Turns } from '../../log/turns.ts';
import { Creation } from './creation.ts';
import { checkKey, checkLabels, updatedLabels } from './labels.ts';
import { Mounts } from './mounts.ts';
import type { SnapshotParts } from './parts.ts';
import { Places } from './places.ts';
import { exists, wrongState } from './refusals.ts';
import { repair } from './repair.ts';
import type { KeptSnapshot } from './snapshot-journal.ts';
import type { SnapshotService } from './snapshot-service.ts';
import { Spares } from './spares.ts';
import { Usages } from './usage.ts';

export class Snapshots implements SnapshotService {
  readonly #parts: SnapshotParts;
  readonly #places: Places;
  readonly #mounts: Mounts;
  readonly #usages: Usages;
  readonly #spares: Spares;
  readonly #creation: Creation;
  readonly #turns = new Turns<string>();
  /** How many are being made over a committed one. */
  readonly #creatingOver = new Map<string, number>();
  /** Datasets that nobody needs mounted any more. */
  readonly #tidying = new Turns<RelativeName>();

  constructor(parts: SnapshotParts) {
    this.#parts = parts;
    this.#places = new Places(parts);
    this.#mounts = new Mounts(parts);
    this.#spares = new Spares(parts, this.#places);
    this.#creation = new Creation({
      parts,
      places: this.#places,
      mounts: this.#mounts,
      spares: this.#spares,
      inTurn: (key, task) => this.#turns.run(key, task),
    });
    this.#usages = new Usages(parts, (key, task) => this.#turns.run(key, task));
  }

  /** Puts right what a crash, or somebody with `zfs`, left between datasets and what is known of them; tells the operator. */
  recover(): Promise<void> {
    return repair(this.#parts);
  }

  /** Whether a snapshot is kept in that dataset. */
  isKeptIn(dataset: RelativeName): boolean {
    return this.#places.isTaken(dataset);
  }

  prepare(key: string, parent: string | null, labels: Labels): Promise<readonly Mount[]> {
    return this.#create('active', key, parent, labels);
  }

  view(key: string, parent: string | null, labels: Labels): Promise<readonly Mount[]> {
    return this.#create('view', key, parent, labels);
  }

  async mounts(key: string): Promise<readonly Mount[]> {
    const kept = this.#require(key);
    if (kept.kind === 'committed') throw wrongState(key, 'is committed: it has no mounts; make a view of it');
    return this.#mounts.of(kept.kind, kept.dataset);
  }

  commit(name: string, key: string, labels: Labels): Promise<void> {
    checkKey(name);
    checkLabels(labels);
    return this.#alone([name, key], () => this.#commit(name, key, labels));
  }

  remove(key: string): Promise<void> {
    return this.#turns.run(key, async () => {
      const { zfs, journal, lookSoon } = this.#parts;
      const { dataset, parent } = this.#require(key);
      const children = this.#over(key);
      if (children.length > 0) throw wrongState(key, `has others over it: remove ${children.join(', ')} first`);
      if (this.#creatingOver.has(key))
        throw wrongState(key, 'has others over it that are just being made: remove those first');
      await this.#spares.release(dataset);
      // What is just being unmounted, zfs-fuse would call busy, and could for good (`unmounted.ts`)
      await this.#tidying.run(dataset, async () => undefined);
      const store = this.#parts.store();
      if (!this.#places.isLayer(dataset)) await zfs.destroy(absoluteName(store.root, dataset)).catch(passOverMissing);
      await journal.record([{ type: 'snapshotter.dropped', key }]);
      lookSoon([dataset]);
      const below = parent === null ? undefined : journal.get(parent);
      if (below !== undefined && this.#over(below.key).length === 0) {
        // What could not be destroyed now keeps its parent from being removed, and that says why
        await this.#spares.release(below.dataset).catch(() => undefined);
      }
    });
  }

  /** Keys of what is over a snapshot. */
  #over(parent: string): string[] {
    return Array.from(this.#parts.journal.all()).flatMap((kept) => (kept.parent === parent ? [kept.key] : []));
  }

  async stat(key: string): Promise<SnapshotInfo> {
    return infoOf(this.#require(key));
  }

  update(key: string, update: Labels, fields: readonly string[]): Promise<SnapshotInfo> {
    return this.#turns.run(key, async () => {
      const kept = this.#require(key);
      const labels = updatedLabels(kept.labels, update, fields);
      checkLabels(labels);
      const updated = { ...kept, labels, updatedAt: String(this.#parts.now()) };
      await this.#parts.journal.record([{ type: 'snapshotter.kept', ...updated }]);
      return infoOf(updated);
    });
  }

  async list(): Promise<readonly SnapshotInfo[]> {
    return Array.from(this.#parts.journal.all(), infoOf).sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async usage(key: string): Promise<SnapshotUsage> {
    return this.#usages.of(this.#require(key));
  }

  async cleanup(): Promise<void> {
    await this.#parts.collectGarbage();
  }

  async #create(
    kind: 'active' | 'view',
    key: string,
    parent: string | null,
    labels: Labels,
  ): Promise<readonly Mount[]> {
    checkKey(key);
    checkLabels(labels);
    // Its snapshot may just be being taken
    if (parent !== null) await this.#turns.run(parent, async () => undefined);
    return this.#turns.run(key, async () => {
      if (this.#parts.journal.get(key) !== undefined) throw exists(key);
      const origin = parent === null ? null : this.#requireCommitted(parent);
      return this.#whileOver(parent, () => this.#creation.create(kind, key, origin, labels));
    });
  }

  /** Nothing removes what something is just being made over. */
  async #whileOver<T>(parent: string | null, task: () => Promise<T>): Promise<T> {
    if (parent === null) return task();
    this.#creatingOver.set(parent, (this.#creatingOver.get(parent) ?? 0) + 1);
    try {
      return await task();
    } finally {
      const left = (this.#creatingOver.get(parent) ?? 1) - 1;
      if (left === 0) this.#creatingOver.delete(parent);
      else this.#creatingOver.set(parent, left);
    }
  }

  async #commit(name: string, key: string, labels: Labels): Promise<void> {
    const { journal, zfs, store, lookSoon } = this.#parts;
    const kept = this.#require(key);
    if (kept.kind !== 'active') {
      const kind = kept.kind === 'view' ? 'a view' : 'committed';
      throw wrongState(key, `is ${kind}: only what is active can be committed`);
    }
    if (journal.get(name) !== undefined) throw exists(name);
    const layer = this.#places.layerNamed(name, kept);
    if (layer !== undefined) return this.#parts.keeping(layer, () => this.#commitAs(layer, name, kept, labels));
    const dataset = await this.#places.forCommitted(kept, name);
    await this.#keepCommitted(name, kept, dataset, labels);
    try {
      await zfs.snapshot([{ dataset: absoluteName(store().root, dataset), snapshot: EXTRACTED }]);
    } catch (error) {
      await journal.record([
        { type: 'snapshotter.dropped', key: name },
        { type: 'snapshotter.kept', ...kept, dataset },
      ]);
      throw error;
    }
    lookSoon([dataset]);
    this.#putAway(dataset);
  }

  async #keepCommitted(name: string, kept: KeptSnapshot, dataset: RelativeName, labels: Labels): Promise<void> {
    const at = String(this.#parts.now());
    const committed = { ...kept, key: name, kind: 'committed' as const, labels, createdAt: at, updatedAt: at };
    await this.#parts.journal.record([
      { type: 'snapshotter.dropped', key: kept.key },
      { type: 'snapshotter.kept', ...committed, dataset, objects: null },
    ]);
  }

  /** What somebody has unpacked again is the layer that there is; what was unpacked goes. */
  async #commitAs(layer: ChainId, name: string, kept: KeptSnapshot, labels: Labels): Promise<void> {
    const { zfs, store } = this.#parts;
    const { base, root } = store();
    const dataset = layerName(base, layer);
    await this.#keepCommitted(name, kept, dataset, labels);
    // Where it lies there itself, its snapshot was taken, and only that was not told
    if (kept.dataset === dataset) return;
    await zfs.destroy(absoluteName(root, kept.dataset)).catch((error: unknown) => {
      this.#parts.warn(`${kept.dataset} is left of a layer that was here already: ${describeError(error)}`, { layer });
    });
    this.#parts.lookSoon([kept.dataset]);
  }

  /** What is committed is read through clones. In nobody's way, and no harm where it fails. */
  #putAway(dataset: RelativeName): void {
    const { store, zfs } = this.#parts;
    const name = absoluteName(store().root, dataset);
    void this.#tidying.run(dataset, () =>
      zfs
        .unmount(name)
        .then(() => zfs.setProperties([name], { canmount: 'noauto' }))
        .then(() => zfs.inheritProperty([name], SNAPSHOT_PROPERTY))
        .catch(() => undefined),
    );
  }

  /** Resolves once nothing is under way, and what was made in advance is gone. */
  async stop(): Promise<void> {
    await this.#turns.idle();
    await this.#spares.clear();
    await this.#tidying.idle();
  }

  /** Does something while nothing else is done to any of these keys. Always in one order, so that two never wait for each other. */
  #alone<T>(keys: readonly string[], task: () => Promise<T>): Promise<T> {
    const [first, ...others] = [...new Set(keys)].sort();
    return first === undefined ? task() : this.#turns.run(first, () => this.#alone(others, task));
  }

  #require(key: string): KeptSnapshot {
    const kept = this.#parts.journal.get(key);
    if (kept !== undefined) return kept;
    throw new PandoError(
      'SNAPSHOT_UNKNOWN',
      `There is no snapshot "${key}"; "pando snapshots ls" lists those there are.`,
      { key },
    );
  }

  #requireCommitted(parent: string): KeptSnapshot {
    const kept = this.#require(parent);
    if (kept.kind === 'committed') return kept;
    throw new PandoError('ARGUMENT_INVALID', `Snapshot "${parent}" is not committed, so nothing can be over it.`, {
      parent,
    });
  }
}

function infoOf({ key, kind, parent, labels, createdAt, updatedAt }: KeptSnapshot): SnapshotInfo {
  return { key, kind, parent, labels, createdAt: BigInt(createdAt), updatedAt: BigInt(updatedAt) };
}

function passOverMissing(error: unknown): void {
  if (!isPandoError(error, 'ZFS_NOT_FOUND')) throw error;
}
