/** Making a snapshot over a committed one: out of a layer that there is, out of a clone made in advance, or out of one of its own. */
import { setImmediate } from 'node:timers/promises';
import { describeError, isPandoError } from '../../core/errors.ts';
import { absoluteName, type RelativeName } from '../../core/ids.ts';
import { type ChainId, isDigest } from '../../core/layers/digest.ts';
import { layerName, SNAPSHOT_PROPERTY } from '../../core/layers/layer-names.ts';
import { type Labels, type Mount, SNAPSHOT_REF_LABEL, type SnapshotInfo } from '../../core/snapshots/snapshot.ts';
import { makeClone } from './clones.ts';
import { markOf } from './marks.ts';
import type { Mounts } from './mounts.ts';
import type { SnapshotParts } from './parts.ts';
import type { Places } from './places.ts';
import { exists } from './refusals.ts';
import type { KeptSnapshot } from './snapshot-journal.ts';
import type { Spares } from './spares.ts';

interface CreationOptions {
  readonly parts: SnapshotParts;
  readonly places: Places;
  readonly mounts: Mounts;
  readonly spares: Spares;
  /** Runs a task once nothing else is done to a key. */
  readonly inTurn: (key: string, task: () => Promise<void>) => Promise<void>;
}

export class Creation {
  readonly #parts: SnapshotParts;
  readonly #places: Places;
  readonly #mounts: Mounts;
  readonly #spares: Spares;
  readonly #inTurn: CreationOptions['inTurn'];

  constructor({ parts, places, mounts, spares, inTurn }: CreationOptions) {
    this.#parts = parts;
    this.#places = places;
    this.#mounts = mounts;
    this.#spares = spares;
    this.#inTurn = inTurn;
  }

  /** Rejects with `SNAPSHOT_EXISTS` where it is a layer that there is, which is committed then, as ZFS does, and with `LAYER_STORE_UNKNOWN`. */
  async create(
    kind: 'active' | 'view',
    key: string,
    origin: KeptSnapshot | null,
    labels: Labels,
  ): Promise<readonly Mount[]> {
    const asked = kind === 'active' ? labels[SNAPSHOT_REF_LABEL] : undefined;
    if (asked !== undefined && isDigest(asked)) {
      const layer = asked as ChainId;
      await this.#parts.keeping(layer, () => this.#adopt(layer, origin, labels));
    }
    const isForContainer = kind === 'active' && this.#places.forLayer(key, origin, labels) === undefined;
    if (!isForContainer || origin === null) return this.#keepCloned(kind, key, origin, labels);
    const mounts =
      (await this.#keepSpare(key, origin, labels)) ?? (await this.#keepCloned('active', key, origin, labels));
    this.#spares.prepared(origin.dataset);
    return mounts;
  }

  /** Undefined where there is no clone made in advance. */
  async #keepSpare(key: string, origin: KeptSnapshot, labels: Labels): Promise<readonly Mount[] | undefined> {
    const below = origin.dataset;
    const dataset = await this.#spares.take(below);
    if (dataset === undefined) return undefined;
    try {
      // Somebody may have destroyed it
      if (!(await this.#mounts.isThere(dataset))) return undefined;
      await this.#keep('active', key, { parent: origin.key, labels, dataset });
    } catch (error) {
      this.#spares.discard(below, dataset);
      throw error;
    }
    // Behind the answer, since starting a process keeps this one busy for milliseconds
    void this.#inTurn(key, async () => {
      await setImmediate();
      await this.#setMark(key, dataset);
    });
    return this.#mounts.of('active', dataset);
  }

  async #setMark(key: string, dataset: RelativeName): Promise<void> {
    const { journal, store, warn, zfs } = this.#parts;
    try {
      await zfs.setProperties([absoluteName(store().root, dataset)], { [SNAPSHOT_PROPERTY]: markOf('active', key) });
    } catch (error) {
      if (journal.get(key)?.dataset !== dataset) return;
      const why = describeError(error);
      warn(`Snapshot "${key}" is in ${dataset}, which does not say so until the next start: ${why}`, { key, dataset });
    }
  }

  async #keepCloned(
    kind: 'active' | 'view',
    key: string,
    origin: KeptSnapshot | null,
    labels: Labels,
  ): Promise<readonly Mount[]> {
    const dataset = await this.#cloneSomewhere(kind, key, origin, labels);
    await this.#keep(kind, key, { parent: origin?.key ?? null, labels, dataset });
    return this.#mounts.of(kind, dataset);
  }

  /** Commits a layer that is here, or that a peer has, under its own name; then it rejects with `SNAPSHOT_EXISTS`. */
  async #adopt(layer: ChainId, parent: KeptSnapshot | null, labels: Labels): Promise<void> {
    const { hasLayer, fetchLayer, layerBelow, journal, store } = this.#parts;
    const below = this.#places.layerIn(parent);
    if (below === undefined || !(hasLayer(layer) || (await fetchLayer(layer)))) return;
    // A layer over something else would not be what the caller is building
    if (layerBelow(layer) !== below) return;
    const dataset = layerName(store().base, layer);
    const over = parent?.key ?? null;
    const isKept = (kept: KeptSnapshot): boolean =>
      kept.dataset === dataset && kept.parent === over && kept.labels[SNAPSHOT_REF_LABEL] === layer;
    // Containerd then looks for one with this label and parent (`metadata/snapshot.go`)
    if (!Array.from(journal.all()).some(isKept)) {
      await this.#keep('committed', this.#freeKey(layer), { parent: over, labels, dataset });
    }
    throw exists(layer);
  }

  /** The ChainID itself, or with a number behind it where that is taken, by what lies over another parent. */
  #freeKey(layer: ChainId): string {
    const { journal } = this.#parts;
    if (journal.get(layer) === undefined) return layer;
    let number = 2;
    while (journal.get(`${layer} ${number}`) !== undefined) number += 1;
    return `${layer} ${number}`;
  }

  /** Where a layer belongs that it will be, or elsewhere where somebody else is just making that: whose is committed first is the layer. */
  async #cloneSomewhere(
    kind: 'active' | 'view',
    key: string,
    origin: KeptSnapshot | null,
    labels: Labels,
  ): Promise<RelativeName> {
    const below = origin?.dataset ?? layerName(this.#parts.store().base, null);
    const clone = async (dataset: RelativeName): Promise<RelativeName> => {
      await this.#makeRoomFor(() => makeClone(this.#parts, { kind, below, dataset, mark: markOf(kind, key) }));
      return dataset;
    };
    const place = kind === 'active' ? this.#places.forLayer(key, origin, labels) : undefined;
    try {
      return await clone(place ?? this.#places.anywhere());
    } catch (error) {
      if (place === undefined || !isPandoError(error, 'ZFS_DATASET_EXISTS')) throw error;
    }
    return clone(this.#places.anywhere());
  }

  /** What was made in advance takes no room that somebody needs. */
  async #makeRoomFor(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      if (!isPandoError(error, 'ZFS_OUT_OF_MOUNTS')) throw error;
      await this.#spares.clear();
      await task();
    }
  }

  async #keep(
    kind: SnapshotInfo['kind'],
    key: string,
    { parent, labels, dataset }: Pick<KeptSnapshot, 'parent' | 'labels' | 'dataset'>,
  ): Promise<void> {
    const at = String(this.#parts.now());
    const { tree } = this.#parts.store();
    const kept = { key, tree, kind, parent, labels, createdAt: at, updatedAt: at, dataset, objects: null };
    await this.#parts.journal.record([{ type: 'snapshotter.kept', ...kept }]);
    this.#parts.lookSoon([dataset]);
  }
}
