/**
 * A container root becomes an image. What it has is snapshotted first; the layer is computed from that snapshot, which then moves into a clone of it by a promote:
 *
 *     before    parent ── root                      after    parent ── layer ── root
 *
 * A saga (design §4): until the layer is known, a crash is undone, then completed. Either way it is found in the journal.
 */
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import { absoluteName, type TransferId } from '../../core/ids.ts';
import { type RootCommitStarted, STOPPED_MAX, type StoppedProcess } from '../../core/layer-events.ts';
import { parseDiffId } from '../../core/layers/digest.ts';
import { EXTRACTED } from '../../core/layers/layer-names.ts';
import { Turns } from '../../log/turns.ts';
import { CommitSteps, type CommitStepsOptions, type CommittedImage, configOf } from './commit-steps.ts';
import { layersBelow } from './image-origin.ts';
import type { LayerStore } from './layer-stores.ts';
import { letGoOn, type RootUse, useOf, whileStopped } from './root-use.ts';
import { type ContainerRoot, notOwned, type Roots } from './roots.ts';

export interface CommitsOptions extends CommitStepsOptions {
  readonly roots: Roots;
  readonly mintTransferId: () => TransferId;
}

export interface CommitOptions {
  /** Has processes that use the root wait while its snapshot is taken. */
  readonly freeze: boolean;
  readonly signal: AbortSignal;
}

/** Stands for a layer that is not known yet, where only the number of layers counts. */
const UNKNOWN_LAYER = parseDiffId(`sha256:${'0'.repeat(64)}`);
/** Processes, or places, that a message has room for. */
const TOLD_MAX = 5;

export class Commits {
  readonly #options: CommitsOptions;
  readonly #steps: CommitSteps;
  /** One commit of a root after the other. */
  readonly #turns = new Turns<string>();

  constructor(options: CommitsOptions) {
    this.#options = options;
    this.#steps = new CommitSteps(options);
  }

  /**
   * Makes an image of what a root has. Rejects with `ROOT_IN_USE`, naming who uses it, unless told to freeze those; `ROOT_UNKNOWN`; `DATASET_NOT_OWNED` for a replica; `ZFS_DATASET_EXISTS`
   * where somebody took a snapshot of the name that a commit needs; `IMAGE_INVALID` where nobody knows the DiffIDs of the layers below, or there would be too many.
   */
  commit(store: LayerStore, id: string, image: string, options: CommitOptions): Promise<CommittedImage> {
    return this.#turns.run(`${store.tree} ${id}`, () => this.#commit(store, id, image, options));
  }

  /** Completes or undoes what a crash cut short. What can be neither now stays for the next start, and is told. */
  async recover(): Promise<void> {
    for (const intent of this.#unfinished()) {
      try {
        await letGoOn(intent.stopped);
        await this.#end(intent, (await this.#settle(intent)) ? 'recovered' : 'failed');
      } catch (error) {
        const what = `The commit of container root "${intent.root}" could not be cleared up`;
        this.#options.parts.warn(`${what}: ${describeError(error)}`, { root: intent.root, image: intent.image });
      }
    }
  }

  async #commit(
    store: LayerStore,
    id: string,
    image: string,
    { freeze, signal }: CommitOptions,
  ): Promise<CommittedImage> {
    const { parts, roots } = this.#options;
    const root = roots.require(store, id);
    const planned = this.#intent(store, root, image);
    await this.#requireFree(planned);
    const intent: RootCommitStarted = { ...planned, stopped: await this.#toBeStopped(store, root, freeze) };
    await parts.journal.start(intent);
    try {
      await whileStopped(intent.stopped, () => parts.zfs.snapshot([this.#steps.snapshotOf(intent)]));
      const layer = await this.#steps.diffIdOf(intent, signal);
      const known: RootCommitStarted = { ...intent, layer };
      await parts.journal.start(known);
      const committed = await this.#steps.complete(known, layer);
      await this.#end(intent, 'completed');
      return committed;
    } catch (error) {
      parts.journal.leave(intent.transfer);
      await this.recover();
      throw error;
    }
  }

  #unfinished(): readonly RootCommitStarted[] {
    return this.#options.parts.journal.unfinished().filter((intent) => intent.type === 'root-commit.started');
  }

  /** What is to be done; all that could keep the image from being named is found out before anything is. */
  #intent(store: LayerStore, root: ContainerRoot, image: string): RootCommitStarted {
    const { id, layer: parent, image: from, isOwn } = root;
    if (!isOwn) throw notOwned(id);
    const { parts, catalog, mintTransferId } = this.#options;
    const { tree, base } = store;
    if (this.#unfinished().some((one) => one.tree === tree && one.root === id)) {
      throw new PandoError(
        'ROOT_IN_USE',
        `A former commit of container root "${id}" could not be cleared up yet; the node's log tells why, and its next start tries again.`,
        { id },
      );
    }
    const { below, config } = layersBelow(parts.graph(tree), store, catalog.preferred(store), { parent, image: from });
    configOf({ below, config }, UNKNOWN_LAYER);
    const known = { tree, base, root: id, image, parent, below, config };
    return { type: 'root-commit.started', transfer: mintTransferId(), ...known, layer: null, stopped: [] };
  }

  /** Nobody else may have taken the snapshot: undoing would destroy it. */
  async #requireFree(intent: RootCommitStarted): Promise<void> {
    const reference = this.#steps.snapshotOf(intent);
    const [there] = await this.#options.parts.zfs.listSnapshots([reference]);
    if (there === null) return;
    throw new PandoError(
      'ZFS_DATASET_EXISTS',
      `"${reference.dataset}@${EXTRACTED}" is there already, and a commit of "${intent.root}" takes a snapshot of that name; rename or destroy it.`,
      { id: intent.root, dataset: reference.dataset },
    );
  }

  /** Those that are to wait; without `freeze` there may be none. */
  async #toBeStopped(
    store: LayerStore,
    { id, name }: ContainerRoot,
    freeze: boolean,
  ): Promise<readonly StoppedProcess[]> {
    const use = await useOf(await this.#options.parts.zfs.mount(absoluteName(store.root, name)));
    const isUsed = use.users.length > 0 || use.places.length > 0;
    if (isUsed && !(freeze && use.users.length <= STOPPED_MAX)) throw inUse(id, use);
    return use.users.map(({ pid, startedAt }) => ({ pid, startedAt }));
  }

  /** Whether it was completed. Where the layer cannot be made any more, say since somebody has destroyed the root, what there is of it goes. */
  async #settle(intent: RootCommitStarted): Promise<boolean> {
    if (intent.layer !== null) {
      try {
        await this.#steps.complete(intent, intent.layer);
        return true;
      } catch (error) {
        if (!isPandoError(error, 'ZFS_NOT_FOUND', 'LAYER_IN_USE')) throw error;
      }
    }
    await this.#steps.undo(intent);
    return false;
  }

  async #end({ transfer }: RootCommitStarted, outcome: 'completed' | 'recovered' | 'failed'): Promise<void> {
    await this.#options.parts.journal.end({ type: 'transfer.ended', transfer, outcome, bytes: 0 });
  }
}

function inUse(id: string, { users, places }: RootUse): PandoError {
  const first = (all: readonly string[]): string => {
    const more = all.length > TOLD_MAX ? ` and ${all.length - TOLD_MAX} more` : '';
    return `${all.slice(0, TOLD_MAX).join(', ')}${more}`;
  };
  const by = users.length === 0 ? '' : ` by ${first(users.map(({ name, pid }) => `${name} (${pid})`))}`;
  const at = places.length === 0 ? '' : `, mounted at ${first(places)}`;
  return new PandoError(
    'ROOT_IN_USE',
    `Container root "${id}" is in use${by}${at}; stop what uses it, or have it wait for a moment with --freeze.`,
    { id, users, places },
  );
}
