/** Replays what an owner did to its datasets as the same ZFS commands here: no data, one step after the other (design §7). */
import { PandoError } from '../core/errors.ts';
import type { PreservationStarted, RootExchangeStarted } from '../core/events.ts';
import { MOVED_PROPERTY } from '../core/graph/lineage.ts';
import {
  absoluteName,
  type DatasetName,
  isLineage,
  type RelativeName,
  type TransferId,
  type TreeName,
} from '../core/ids.ts';
import type { MetadataStep, PreserveStep, TakeRootStep } from '../core/plan/steps.ts';
import { chainOf } from '../core/stream-flags.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { destroyGivenUpDataset, destroyGivenUpSnapshot, wasWrittenTo } from './giving-up.ts';
import { ensureContainers } from './hidden-containers.ts';
import type { Intent, TransferJournal } from './journal.ts';
import { asideOf, finishPreservation, successorOf, undoPreservation } from './preservation.ts';
import { placeholderProperties, replicaProperties } from './replica-properties.ts';
import { finishRootExchange, outsideOf, undoRootExchange } from './root-exchange.ts';

export interface MetadataOptions {
  readonly zfs: Zfs;
  readonly journal: TransferJournal;
  readonly tree: TreeName;
  /** Where this node keeps its copy. */
  readonly root: DatasetName;
  readonly mintTransferId: () => TransferId;
}

/** Executes steps of one plan, and knows what has to be looked at afterwards. */
export class MetadataReplay {
  readonly #options: MetadataOptions;
  /** Datasets that changed since they were last looked at, by the names that they have now. */
  #changed = new Set<DatasetName>();
  /** What was destroyed, or moved out of the tree, since then. */
  #gone = new Set<DatasetName>();

  constructor(options: MetadataOptions) {
    this.#options = options;
  }

  /** Rejects as ZFS does; then nothing has changed. */
  async execute(step: MetadataStep): Promise<void> {
    const { zfs } = this.#options;
    const name = this.#name(step.name);
    // A lineage holder can come without a stream: as the clone that a promote left of it elsewhere, or from another name
    if ((step.kind === 'clone' || step.kind === 'rename') && isLineage(step.name)) await ensureContainers(zfs, name);
    switch (step.kind) {
      case 'rename':
        await zfs.rename(this.#name(step.from), name);
        this.#moved(this.#name(step.from), name);
        break;
      case 'promote':
        await zfs.promote(name);
        this.#changed.add(this.#name(step.over));
        break;
      case 'clone': {
        const origin = { dataset: this.#name(step.origin.name), snapshot: step.origin.snapshot.name };
        const [grownFrom] = await zfs.listOnly([origin.dataset]);
        const chain = chainOf(grownFrom?.properties ?? {});
        await zfs.clone(origin, name, {
          ...replicaProperties(step.dataset, chain, grownFrom?.kind),
          ...(isLineage(step.name) && { [MOVED_PROPERTY]: 'on' }),
        });
        break;
      }
      case 'rename-snapshot':
        await zfs.renameSnapshot({ dataset: name, snapshot: step.from }, step.to);
        break;
      case 'create-placeholder':
        await zfs.create(name, placeholderProperties(step.dataset));
        break;
      case 'take-root':
        await this.#takeRoot(step);
        this.#gone.add(this.#name(step.from));
        this.#changed.add(this.#name(step.former.name));
        break;
      case 'preserve':
        await this.#preserve(step);
        if (step.lastCommon === null) this.#gone.add(name);
        for (const clone of step.cutOff) this.#changed.add(this.#name(clone));
        break;
      case 'destroy-snapshot':
        await destroyGivenUpSnapshot(zfs, name, step);
        break;
      case 'destroy-dataset':
        if (await destroyGivenUpDataset(zfs, name, step)) this.#gone.add(name);
        break;
    }
    this.#changed.add(name);
  }

  /** The names of the datasets that changed since this was last asked, and of those that went. */
  takeChanged(): { readonly changed: readonly DatasetName[]; readonly gone: readonly DatasetName[] } {
    const taken = { changed: [...this.#changed], gone: [...this.#gone] };
    this.#changed = new Set();
    this.#gone = new Set();
    return taken;
  }

  #name(relative: RelativeName): DatasetName {
    return absoluteName(this.#options.root, relative);
  }

  #moved(from: DatasetName, to: DatasetName): void {
    const follow = (name: DatasetName): DatasetName =>
      name === from || name.startsWith(`${from}/`) ? (`${to}${name.slice(from.length)}` as DatasetName) : name;
    this.#changed = new Set(Array.from(this.#changed, follow));
  }

  async #preserve(step: PreserveStep): Promise<void> {
    const { zfs } = this.#options;
    const intent = this.#preservation(step);
    if (intent.outside !== null) await this.#requireFree(intent.outside);
    await this.#undertake(
      intent,
      () => finishPreservation(intent, zfs),
      () => undoPreservation(intent, zfs),
    );
    // Only now: a recovery that found neither the dataset nor its copy could not tell that nothing is missing. What ZFS will not destroy is kept like any other
    await this.#dropIfEmpty(intent.aside).catch(() => undefined);
  }

  async #takeRoot({ dataset, from, former }: TakeRootStep): Promise<void> {
    const { zfs, tree, root, mintTransferId } = this.#options;
    const transfer = mintTransferId();
    const intent: RootExchangeStarted = {
      type: 'root-exchange.started',
      transfer,
      tree,
      dataset,
      name: root,
      successor: this.#name(from),
      outside: outsideOf(root),
      former: this.#name(former.name),
    };
    await this.#requireFree(intent.outside);
    await this.#undertake(
      intent,
      () => finishRootExchange(intent, zfs),
      () => undoRootExchange(intent, zfs),
    );
  }

  /** What stands there that no intent tells of would be taken for a root that is on its way. */
  async #requireFree(outside: DatasetName): Promise<void> {
    const [there] = await this.#options.zfs.listOnly([outside]);
    if (there === undefined) return;
    throw new PandoError(
      'PLAN_CONFLICT',
      `"${outside}" stands where the root "${this.#options.root}" has to go for a moment; see what it is with "zfs list", rename or destroy it, and sync again.`,
      { outside, root: this.#options.root },
    );
  }

  /** Under a journaled intent, which ends where all is done, or as it was before. */
  async #undertake(intent: Intent, act: () => Promise<void>, undo: () => Promise<boolean>): Promise<void> {
    const { journal } = this.#options;
    await journal.start(intent);
    const end = { type: 'transfer.ended', transfer: intent.transfer, bytes: 0 } as const;
    try {
      await act();
      await journal.end({ ...end, outcome: 'completed' });
    } catch (error) {
      const isUndone = await undo().catch(() => false);
      // What was moved already is the recovery's to finish, or it would be in nobody's sight
      if (isUndone) await journal.end({ ...end, outcome: 'failed' }).catch(() => journal.leave(intent.transfer));
      else journal.leave(intent.transfer);
      throw error;
    }
  }

  /**
   * A clone without snapshots to which nothing was ever written is its origin, and that stays; a placeholder is nothing. Where ZFS cannot tell, it is kept.
   */
  async #dropIfEmpty(aside: DatasetName): Promise<void> {
    const { zfs } = this.#options;
    const [kept] = await zfs.listOnly([aside]);
    if (kept === undefined || kept.snapshots.length > 0) return;
    const isUntouched = kept.origin === null ? !(await wasWrittenTo(zfs, kept)) : kept.written === 0;
    if (isUntouched) await zfs.destroy(aside);
  }

  #preservation(step: PreserveStep): PreservationStarted {
    const { tree, root, mintTransferId } = this.#options;
    const transfer = mintTransferId();
    const name = this.#name(step.name);
    return {
      type: 'preservation.started',
      transfer,
      tree,
      dataset: step.dataset,
      name,
      aside: asideOf(root, name, transfer),
      successor: successorOf(root, transfer),
      lastCommon: step.lastCommon?.name ?? null,
      outside: name === root ? outsideOf(root) : null,
    };
  }
}
