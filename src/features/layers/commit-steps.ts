/** The steps of a commit. Each looks first whether it was taken: it may be done again from wherever it was cut short (invariant 5). */
import { createHash } from 'node:crypto';
import { PandoError } from '../../core/errors.ts';
import { absoluteName, type DatasetName, ID_PROPERTY } from '../../core/ids.ts';
import type { RootCommitStarted } from '../../core/layer-events.ts';
import { type ChainId, chainIdOf, type DiffId, parseDiffId } from '../../core/layers/digest.ts';
import { configWithLayers } from '../../core/layers/image-config.ts';
import {
  DIFF_ID_PROPERTY,
  EXTRACTED,
  isExtracted,
  LAYER_PROPERTY,
  layerName,
  rootName,
} from '../../core/layers/layer-names.ts';
import type { ListedDataset, SnapshotReference } from '../../zfs/zfs.ts';
import type { ImageCatalog } from './image-catalog.ts';
import { emptyConfig } from './image-origin.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayersInUse } from './layers-in-use.ts';
import type { SnapshotDifference } from './packaging.ts';
import type { LayerParts } from './parts.ts';

/** The bytes of a layer. See `Packaging.difference`. */
export type Packager = (difference: SnapshotDifference, signal: AbortSignal) => AsyncIterable<Uint8Array>;

export interface CommitStepsOptions {
  readonly parts: LayerParts;
  readonly stores: LayerStores;
  readonly catalog: ImageCatalog;
  readonly packaged: Packager;
  readonly inUse: LayersInUse;
}

export interface CommittedImage {
  readonly image: string;
  readonly layer: ChainId;
  readonly diffId: DiffId;
  /** Whether the layer was here before. */
  readonly isReused: boolean;
}

export class CommitSteps {
  readonly #options: CommitStepsOptions;

  constructor(options: CommitStepsOptions) {
    this.#options = options;
  }

  /** The snapshot that a commit takes of its root. */
  snapshotOf(intent: RootCommitStarted): SnapshotReference {
    return {
      dataset: absoluteName(this.#storeOf(intent).root, rootName(intent.base, intent.root)),
      snapshot: EXTRACTED,
    };
  }

  /** The DiffID of what the snapshot changes of the layer below. */
  async diffIdOf(intent: RootCommitStarted, signal: AbortSignal): Promise<DiffId> {
    const { stores, packaged } = this.#options;
    const store = this.#storeOf(intent);
    const below = intent.parent === null ? null : stores.snapshotOf(store, intent.parent);
    const digest = createHash('sha256');
    const tar = packaged({ root: store.root, below, snapshot: this.snapshotOf(intent) }, signal);
    for await (const chunk of tar) digest.update(chunk);
    return parseDiffId(`sha256:${digest.digest('hex')}`);
  }

  /** Destroys the snapshot, if it was taken. */
  async undo(intent: RootCommitStarted): Promise<void> {
    const { zfs } = this.#options.parts;
    const snapshot = this.snapshotOf(intent);
    const [there] = await zfs.listSnapshots([snapshot]);
    if (there !== null) await zfs.destroySnapshot(snapshot);
  }

  /**
   * Makes the layer, unless it is here, and names the image. Rejects with `ZFS_NOT_FOUND` where root or snapshot are gone, `LAYER_IN_USE` while somebody else makes that very layer.
   */
  complete(intent: RootCommitStarted, diffId: DiffId): Promise<CommittedImage> {
    const layer = chainIdOf(intent.parent, diffId);
    return this.#options.inUse.during([layer], () => this.#complete(intent, diffId, layer));
  }

  async #complete(intent: RootCommitStarted, diffId: DiffId, layer: ChainId): Promise<CommittedImage> {
    const { parts, stores, catalog } = this.#options;
    const store = this.#storeOf(intent);
    const isReused = stores.has(store, layer);
    if (isReused) await this.undo(intent);
    else await this.#hangBelow(intent, layer, diffId);
    await parts.look(intent.tree, [layerName(intent.base, layer), rootName(intent.base, intent.root)]);
    const config = configOf(intent, diffId);
    await catalog.tag(store, { name: intent.image, manifest: null, config, layers: [...intent.below, diffId] });
    return { image: intent.image, layer, diffId, isReused };
  }

  /** Clones the snapshot as the layer, and has it take the snapshot over with all that lies before it. */
  async #hangBelow(intent: RootCommitStarted, layer: ChainId, diffId: DiffId): Promise<void> {
    const { zfs, mintDatasetId } = this.#options.parts;
    const taken = this.snapshotOf(intent);
    const { dataset } = this.#options.stores.snapshotOf(this.#storeOf(intent), layer);
    const [there] = await zfs.listOnly([dataset]);
    if (isExtracted(there)) return;
    // What somebody else makes of that very layer holds something else than what was taken here
    if (there !== undefined && !isCloneOf(there, taken)) throw beingMade(dataset);
    if (there === undefined) {
      await zfs.clone(taken, dataset, {
        readonly: 'off',
        canmount: 'noauto',
        [LAYER_PROPERTY]: layer,
        [DIFF_ID_PROPERTY]: diffId,
        [ID_PROPERTY]: mintDatasetId(),
      });
    }
    await zfs.promote(dataset);
  }

  #storeOf({ tree, base }: RootCommitStarted): LayerStore {
    return { tree, base, root: this.#options.parts.rootOf(tree) };
  }
}

/** The configuration of the image, with the new layer on top. Throws `IMAGE_INVALID` where there cannot be one. */
export function configOf({ below, config }: Pick<RootCommitStarted, 'below' | 'config'>, layer: DiffId): string {
  return configWithLayers(config ?? emptyConfig(), [...below, layer], [{ created_by: 'pando root commit' }]);
}

function isCloneOf({ origin }: ListedDataset, { dataset, snapshot }: SnapshotReference): boolean {
  return origin?.reference.dataset === dataset && origin.reference.snapshot === snapshot;
}

function beingMade(dataset: DatasetName): PandoError {
  return new PandoError('LAYER_IN_USE', `${dataset} is being made by somebody else; commit again once it is there.`, {
    dataset,
  });
}
