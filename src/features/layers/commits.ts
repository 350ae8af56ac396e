/**
 * A container root becomes an image. What it has is snapshotted first; the layer is computed from that snapshot, which then moves into a clone of it by a promote:
 *
 *     before    parent ── root                      after    parent ── layer ── root
 *
 * A saga (design §4): until the layer is known, a crash is undone, then completed. Either way it is found in the journal.
 */
import { createHash } from 'node:crypto';
import { describeError, PandoError } from '../../core/errors.ts';
import { absoluteName, type DatasetName, ID_PROPERTY, type TransferId } from '../../core/ids.ts';
import type { RootCommitStarted } from '../../core/layer-events.ts';
import { type ChainId, chainIdOf, type DiffId, parseDiffId } from '../../core/layers/digest.ts';
import { configWithLayers } from '../../core/layers/image-config.ts';
import { DIFF_ID_PROPERTY, EXTRACTED, LAYER_PROPERTY, layerName, rootName } from '../../core/layers/layer-names.ts';
import type { SnapshotReference } from '../../zfs/zfs.ts';
import type { ImageCatalog } from './image-catalog.ts';
import { emptyConfig, layersBelow } from './image-origin.ts';
import type { LayerStore, LayerStores } from './layer-stores.ts';
import type { LayersInUse } from './layers-in-use.ts';
import type { LayerParts } from './parts.ts';
import type { SnapshotReading } from './reading.ts';
import { type RootUser, usersOf, whileStopped } from './root-use.ts';
import { type ContainerRoot, notOwned, type Roots } from './roots.ts';

/** The bytes of a layer: what `layer` changes of `parent`, both directories. See `packageLayer`. */
export type Packager = (request: {
  readonly parent: string | null;
  readonly layer: string;
  readonly candidates: readonly Buffer[] | null;
  readonly signal: AbortSignal;
}) => AsyncIterable<Uint8Array>;

export interface CommitsOptions {
  readonly parts: LayerParts;
  readonly stores: LayerStores;
  readonly roots: Roots;
  readonly catalog: ImageCatalog;
  readonly reading: SnapshotReading;
  readonly packaged: Packager;
  readonly inUse: LayersInUse;
  readonly mintTransferId: () => TransferId;
}

export interface CommittedImage {
  readonly image: string;
  readonly layer: ChainId;
  readonly diffId: DiffId;
  /** Whether the layer was here before. */
  readonly isReused: boolean;
}

export interface CommitOptions {
  /** Has processes that use the root wait while its snapshot is taken. */
  readonly freeze: boolean;
  readonly signal: AbortSignal;
}

/** Processes that a message has room for. */
const USERS_TOLD_MAX = 5;

export class Commits {
  readonly #options: CommitsOptions;

  constructor(options: CommitsOptions) {
    this.#options = options;
  }

  /**
   * Makes an image of what a root has. Rejects with `ROOT_IN_USE`, naming who uses it, unless told to freeze those; `ROOT_UNKNOWN`; `DATASET_NOT_OWNED` for a replica; `ZFS_DATASET_EXISTS`
   * where somebody took a snapshot of the name that a commit needs; `IMAGE_INVALID` where nobody knows the DiffIDs of the layers below.
   */
  async commit(
    store: LayerStore,
    id: string,
    image: string,
    { freeze, signal }: CommitOptions,
  ): Promise<CommittedImage> {
    const { parts, roots, mintTransferId } = this.#options;
    const root = roots.require(store, id);
    const intent = this.#intent(store, root, image, mintTransferId());
    await this.#requireFree(store, root);
    const users = await this.#users(store, root, freeze);
    await parts.journal.start(intent);
    try {
      await whileStopped(users, () => parts.zfs.snapshot([this.#snapshotOf(intent)]));
      const layer = await this.#diffIdOf(intent, signal);
      const known: RootCommitStarted = { ...intent, layer };
      await parts.journal.start(known);
      const committed = await this.#complete(known, layer);
      await this.#end(intent, 'completed');
      return committed;
    } catch (error) {
      await this.#giveUp(intent.transfer);
      throw error;
    }
  }

  /** Completes or undoes what a crash cut short. What cannot be now stays for the next start, and is told. */
  async recover(): Promise<void> {
    for (const intent of this.#open()) {
      try {
        await this.#settle(intent);
        await this.#end(intent, 'recovered');
      } catch (error) {
        this.#options.parts.warn(
          `The commit of container root "${intent.root}" could not be cleared up: ${describeError(error)}`,
          { ...intent },
        );
      }
    }
  }

  #open(): readonly RootCommitStarted[] {
    return this.#options.parts.journal.unfinished().filter((intent) => intent.type === 'root-commit.started');
  }

  #intent(
    store: LayerStore,
    { id, layer: parent, image: from, isOwn }: ContainerRoot,
    image: string,
    transfer: TransferId,
  ): RootCommitStarted {
    if (!isOwn) throw notOwned(id);
    const { parts, catalog } = this.#options;
    const { tree, base } = store;
    const running = this.#open().concat(this.#active(tree, id));
    if (running.some((one) => one.tree === tree && one.root === id)) {
      throw new PandoError(
        'ROOT_IN_USE',
        `Container root "${id}" is being committed already; wait until that is over.`,
        { id },
      );
    }
    const { below, config } = layersBelow(parts.graph(tree), store, catalog.list(store), { parent, image: from });
    return { type: 'root-commit.started', transfer, tree, base, root: id, image, parent, below, config, layer: null };
  }

  /** Those that run now. */
  #active(tree: RootCommitStarted['tree'], id: string): readonly RootCommitStarted[] {
    return this.#options.parts.journal
      .running()
      .filter((intent) => intent.type === 'root-commit.started')
      .filter((intent) => intent.tree === tree && intent.root === id);
  }

  /** Nobody else may have taken the snapshot: undoing would destroy it. */
  async #requireFree(store: LayerStore, { id, name }: ContainerRoot): Promise<void> {
    const reference = { dataset: absoluteName(store.root, name), snapshot: EXTRACTED };
    const [there] = await this.#options.parts.zfs.listSnapshots([reference]);
    if (there === null) return;
    throw new PandoError(
      'ZFS_DATASET_EXISTS',
      `"${reference.dataset}@${EXTRACTED}" is there already, and a commit of "${id}" takes a snapshot of that name; rename or destroy it.`,
      { id, dataset: reference.dataset },
    );
  }

  async #users(store: LayerStore, { id, name }: ContainerRoot, freeze: boolean): Promise<readonly RootUser[]> {
    const users = await usersOf(await this.#options.parts.zfs.mount(absoluteName(store.root, name)));
    if (users.length === 0 || freeze) return users;
    const told = users.slice(0, USERS_TOLD_MAX).map((user) => `${user.name} (${user.pid})`);
    const more = users.length > USERS_TOLD_MAX ? ` and ${users.length - USERS_TOLD_MAX} more` : '';
    throw new PandoError(
      'ROOT_IN_USE',
      `Container root "${id}" is in use by ${told.join(', ')}${more}; stop them, or have them wait for a moment with --freeze.`,
      { id, users },
    );
  }

  async #diffIdOf(intent: RootCommitStarted, signal: AbortSignal): Promise<DiffId> {
    const { parts, stores, reading, packaged } = this.#options;
    const store = this.#storeOf(intent);
    const below = intent.parent === null ? null : stores.snapshotOf(store, intent.parent);
    const taken = this.#snapshotOf(intent);
    const candidates = below === null ? null : await parts.zfs.changedPaths(below, taken);
    const opened = await reading.open(store.root, [below, taken]);
    try {
      const [parent = null, directory] = opened.directories as [string | null, string];
      const digest = createHash('sha256');
      for await (const chunk of packaged({ parent, layer: directory, candidates, signal })) digest.update(chunk);
      return parseDiffId(`sha256:${digest.digest('hex')}`);
    } finally {
      await opened.close();
    }
  }

  async #settle(intent: RootCommitStarted): Promise<void> {
    if (intent.layer === null) await this.#undo(intent);
    else await this.#complete(intent, intent.layer);
  }

  async #undo(intent: RootCommitStarted): Promise<void> {
    const { zfs } = this.#options.parts;
    const snapshot = this.#snapshotOf(intent);
    const [there] = await zfs.listSnapshots([snapshot]);
    if (there !== null) await zfs.destroySnapshot(snapshot);
  }

  /** Each step looks first whether it was taken: it may be done again from wherever it was cut short (invariant 5). */
  #complete(intent: RootCommitStarted, diffId: DiffId): Promise<CommittedImage> {
    const { inUse } = this.#options;
    const layer = chainIdOf(intent.parent, diffId);
    return inUse.during([layer], () => this.#completeWith(intent, diffId, layer));
  }

  async #completeWith(intent: RootCommitStarted, diffId: DiffId, layer: ChainId): Promise<CommittedImage> {
    const { parts, stores, catalog } = this.#options;
    const store = this.#storeOf(intent);
    const isReused = stores.has(store, layer);
    if (isReused) await this.#undo(intent);
    else await this.#hangBelow(intent, layer, diffId);
    await parts.look(intent.tree, [layerName(intent.base, layer), rootName(intent.base, intent.root)]);
    const layers = [...intent.below, diffId];
    const config = configWithLayers(intent.config ?? emptyConfig(), layers, [{ created_by: 'pando root commit' }]);
    await catalog.tag(store, { name: intent.image, manifest: null, config, layers });
    return { image: intent.image, layer, diffId, isReused };
  }

  /** Clones the snapshot as the layer, and has it take the snapshot over with all that lies before it. */
  async #hangBelow(intent: RootCommitStarted, layer: ChainId, diffId: DiffId): Promise<void> {
    const { zfs, mintDatasetId } = this.#options.parts;
    const store = this.#storeOf(intent);
    const taken = this.#snapshotOf(intent);
    const { dataset } = this.#options.stores.snapshotOf(store, layer);
    const [there] = await zfs.listOnly([dataset]);
    if (there === undefined) {
      await zfs.clone(taken, dataset, {
        readonly: 'off',
        canmount: 'noauto',
        [LAYER_PROPERTY]: layer,
        [DIFF_ID_PROPERTY]: diffId,
        [ID_PROPERTY]: mintDatasetId(),
      });
    } else if (there.snapshots.some(({ name }) => name === EXTRACTED)) return;
    await zfs.promote(dataset);
  }

  async #end({ transfer }: RootCommitStarted, outcome: 'completed' | 'recovered'): Promise<void> {
    await this.#options.parts.journal.end({ type: 'transfer.ended', transfer, outcome, bytes: 0 });
  }

  /** Settles what failed in the middle; what cannot be settled now is left for the next start. */
  async #giveUp(transfer: TransferId): Promise<void> {
    this.#options.parts.journal.leave(transfer);
    await this.recover();
  }

  #storeOf({ tree, base }: RootCommitStarted): LayerStore {
    return { tree, base, root: this.#options.parts.rootOf(tree) };
  }

  #snapshotOf(intent: RootCommitStarted): SnapshotReference {
    const dataset: DatasetName = absoluteName(this.#storeOf(intent).root, rootName(intent.base, intent.root));
    return { dataset, snapshot: EXTRACTED };
  }
}
