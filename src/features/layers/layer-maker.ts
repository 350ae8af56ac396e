/**
 * How a dataset becomes a layer. It is cloned from its parent under its own name, filled, and only then gets the snapshot that makes it one: whatever is cut short
 * before leaves a dataset that nobody takes for a layer, and that the next start clears up.
 */
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import type { Properties } from '../../core/events.ts';
import { absoluteName, type DatasetName, ID_PROPERTY } from '../../core/ids.ts';
import type { ChainId, DiffId } from '../../core/layers/digest.ts';
import {
  DIFF_ID_PROPERTY,
  isExtracted,
  LAYER_PROPERTY,
  layerName,
  SNAPSHOT_PROPERTY,
  storageName,
} from '../../core/layers/layer-names.ts';
import type { ListedDataset } from '../../zfs/zfs.ts';
import { makeTraversable } from './directory.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayerParts } from './parts.ts';

/** A layer that is to be. */
export interface LayerPlan {
  readonly layer: ChainId;
  /** The one below; null for the lowest. */
  readonly parent: ChainId | null;
  readonly diffId: DiffId;
}

export class LayerMaker {
  readonly #parts: LayerParts;
  readonly #stores: LayerStores;
  /** By the name of the dataset. */
  readonly #making = new Map<DatasetName, Promise<unknown>>();
  readonly #tidying = new Set<Promise<void>>();

  constructor(parts: LayerParts, stores: LayerStores) {
    this.#parts = parts;
    this.#stores = stores;
  }

  /**
   * Makes a layer of what `fill` puts into its directory; resolves with false where it is here already. Who asks for one that is being made waits for that, and makes it itself
   * where that failed. Rejects as `fill` does, and then leaves nothing behind.
   */
  async make(store: LayerStore, plan: LayerPlan, fill: (directory: string) => Promise<void>): Promise<boolean> {
    const dataset = absoluteName(store.root, layerName(store.base, plan.layer));
    for (let running = this.#making.get(dataset); running !== undefined; running = this.#making.get(dataset)) {
      await running.catch(() => undefined);
    }
    if (this.#stores.has(store, plan.layer)) return false;
    const making = this.#make(store, plan, dataset, fill).finally(() => this.#making.delete(dataset));
    this.#making.set(dataset, making);
    await making;
    return true;
  }

  /** Resolves once nothing is being made or put away any more. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#making.values(), ...this.#tidying]);
  }

  /** Destroys what a crash left half made. Gives the names. */
  async recover(store: LayerStore): Promise<readonly DatasetName[]> {
    const { zfs } = this.#parts;
    const left = (await zfs.list(absoluteName(store.root, storageName(store.base)))).filter(isHalfMade);
    for (const { name } of left) await zfs.destroy(name);
    return left.map(({ name }) => name);
  }

  async #make(
    store: LayerStore,
    { layer, parent, diffId }: LayerPlan,
    dataset: DatasetName,
    fill: (directory: string) => Promise<void>,
  ): Promise<unknown> {
    const { zfs, look, mintDatasetId } = this.#parts;
    const properties: Properties = {
      readonly: 'off',
      [LAYER_PROPERTY]: layer,
      [DIFF_ID_PROPERTY]: diffId,
      [ID_PROPERTY]: mintDatasetId(),
    };
    if (!(await this.#clone(store, parent, dataset, properties)))
      return look(store.tree, [layerName(store.base, layer)]);
    try {
      const directory = await zfs.mount(dataset);
      await fill(directory);
      await makeTraversable(directory);
      await zfs.snapshot([this.#stores.snapshotOf(store, layer)]);
    } catch (error) {
      await zfs.destroy(dataset).catch((trouble: unknown) => {
        this.#parts.warn(`${dataset} is left of a layer that was not made: ${describeError(trouble)}`, { dataset });
      });
      throw error;
    }
    await look(store.tree, [layerName(store.base, layer)]);
    return this.#putAway(dataset);
  }

  /** False where the layer is here already, and the log does not know yet. */
  async #clone(
    store: LayerStore,
    parent: ChainId | null,
    dataset: DatasetName,
    properties: Properties,
  ): Promise<boolean> {
    const { zfs } = this.#parts;
    const origin = this.#stores.snapshotOf(store, parent);
    try {
      await zfs.clone(origin, dataset, properties);
    } catch (error) {
      if (!isPandoError(error, 'ZFS_DATASET_EXISTS')) throw error;
      const [there] = await zfs.listOnly([dataset]);
      if (isExtracted(there)) return false;
      if (there?.properties[SNAPSHOT_PROPERTY] !== undefined) throw beingUnpacked(dataset);
      if (there === undefined || !isHalfMade(there)) throw error;
      await zfs.destroy(dataset);
      await zfs.clone(origin, dataset, properties);
    }
    return true;
  }

  /** Nobody needs its files any more: clones are made of its snapshot. In nobody's way, and no harm where it fails. */
  #putAway(dataset: DatasetName): void {
    const { zfs } = this.#parts;
    const done = zfs
      .unmount(dataset)
      .then(() => zfs.setProperties([dataset], { canmount: 'noauto' }))
      .catch(() => undefined)
      .finally(() => this.#tidying.delete(done));
    this.#tidying.add(done);
  }
}

/** Whether a dataset was to become a layer, by Pando alone, and did not. */
function isHalfMade({ properties, snapshots }: ListedDataset): boolean {
  const isLayer = properties[LAYER_PROPERTY] !== undefined && properties[SNAPSHOT_PROPERTY] === undefined;
  return isLayer && snapshots.length === 0;
}

function beingUnpacked(dataset: DatasetName): PandoError {
  return new PandoError('LAYER_IN_USE', `containerd is unpacking ${dataset} now; try again once it has.`, { dataset });
}
