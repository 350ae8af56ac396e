import { PandoError } from '../core/errors.ts';
import type { PreservationStarted, ReceiveInterrupted, RootExchangeStarted, TransferStarted } from '../core/events.ts';
import { type HoldTag, holdTagOf, type NodeId, type TreeName, transferOfTag } from '../core/ids.ts';
import type { RootCommitStarted } from '../core/layer-events.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';
import { heldIn, holdsOf, releaseHolds } from './holds.ts';
import { giveUpInterrupted, PARTIAL_KEPT_MS, partialAmong } from './interruptions.ts';
import type { Intent, TransferJournal } from './journal.ts';
import { finishPreservation, undoPreservation } from './preservation.ts';
import { markReplicas } from './replica-properties.ts';
import { finishRootExchange, undoRootExchange } from './root-exchange.ts';

/** A transfer that a crash cut short, and what kept it from being cleared up. */
export interface UnrecoveredTransfer {
  readonly intent: Intent;
  readonly error: unknown;
}

/**
 * Clears up what a crash, or a pool that was away, left of transfers (invariants 5 and 6): releases their holds, and marks what they had received in
 * full but not yet marked, so that the next sync goes on from there. Runs at the start, and again before each new transfer while something is left.
 */
export class TransferRecovery {
  readonly #journal: TransferJournal;
  readonly #zfs: Zfs;
  readonly #node: NodeId;
  readonly #isMirrored: (tree: TreeName) => boolean;
  #running: Promise<readonly UnrecoveredTransfer[]> | undefined;

  /** `isMirrored`: whether something that was cut short for a tree could still go on. */
  constructor(journal: TransferJournal, zfs: Zfs, node: NodeId, isMirrored: (tree: TreeName) => boolean = () => true) {
    this.#isMirrored = isMirrored;
    this.#journal = journal;
    this.#zfs = zfs;
    this.#node = node;
  }

  /** Idempotent. Resolves to those that could not be cleared up, say because their pool is not imported; their intents stay open. */
  run(): Promise<readonly UnrecoveredTransfer[]> {
    this.#running ??= this.#recoverAll().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /**
   * Clears up before a tree is looked at. Rejects with what keeps the root of the tree from being put where it belongs: whatever lies below would be taken
   * for destroyed.
   */
  async prepareLook(tree: TreeName): Promise<void> {
    const stuck = (await this.run()).find(({ intent }) => intent.tree === tree && movesRoot(intent));
    if (stuck !== undefined) throw stuck.error;
  }

  /**
   * Releases those of this node's holds that belong to no transfer in the journal: where some of the log was lost, nobody else knows of them
   * (invariant 6). Where ZFS cannot list holds, they stay. Rejects as ZFS does.
   */
  async releaseStray(listed: readonly ListedDataset[]): Promise<void> {
    const { listHolds } = await this.#zfs.capabilities();
    if (!listHolds) return;
    const held = heldIn(listed);
    if (held.length === 0) return;
    for (const [index, tags] of (await this.#zfs.holds(held)).entries()) {
      for (const tag of tags.filter((each) => this.#isStray(each))) {
        await this.#zfs.release(tag, held.slice(index, index + 1));
      }
    }
  }

  #isStray(tag: HoldTag): boolean {
    const transfer = transferOfTag(tag, this.#node);
    return transfer !== undefined && !this.#journal.isOpen(transfer);
  }

  async #recoverAll(): Promise<readonly UnrecoveredTransfer[]> {
    const left: UnrecoveredTransfer[] = [];
    for (const intent of this.#journal.unfinished()) {
      // Layers know themselves what became of theirs
      if (intent.type === 'root-commit.started') continue;
      try {
        if (!(await this.#recover(intent))) continue;
        await this.#journal.end({ type: 'transfer.ended', transfer: intent.transfer, outcome: 'recovered', bytes: 0 });
      } catch (error) {
        if (!(error instanceof PandoError)) throw error;
        left.push({ intent, error });
      }
    }
    return left;
  }

  /** Whether that is the end of it. */
  async #recover(intent: Exclude<Intent, RootCommitStarted>): Promise<boolean> {
    if (intent.type === 'receive.interrupted') return giveUpInterrupted(this.#zfs, intent, this.#mayGoOn(intent));
    if (intent.type === 'preservation.started' || intent.type === 'root-exchange.started') {
      await finishOrUndo(intent, this.#zfs);
      return true;
    }
    await recover(intent, this.#zfs, this.#node);
    const { transfer, peer, tree, resumable } = intent;
    const targets = (await partialAmong(this.#zfs, resumable)).map(({ name }) => name);
    if (targets.length === 0) return true;
    await this.#journal.interrupt({ transfer, peer, tree, targets }, PARTIAL_KEPT_MS);
    return false;
  }

  #mayGoOn(intent: ReceiveInterrupted): boolean {
    return this.#journal.isInTime(intent) && this.#isMirrored(intent.tree);
  }
}

async function recover(intent: TransferStarted, zfs: Zfs, node: NodeId): Promise<void> {
  await releaseHolds(zfs, holdTagOf(node, intent.transfer), holdsOf(intent));
  if (intent.targets.length === 0) return;
  const present = await zfs.listOnly(intent.targets.map(({ name }) => name));
  // By guid, not by name: whatever else has the name now is none of this transfer's.
  const received = intent.targets.flatMap(({ name, dataset, snapshot }) => {
    const found = present.find((one) => one.name === name && one.snapshots.some(({ guid }) => guid === snapshot));
    return found === undefined ? [] : [{ name, dataset, kind: found.kind }];
  });
  await markReplicas(zfs, received);
}

/** What cannot be finished is taken back where it can be: the next sync plans anew. */
async function finishOrUndo(intent: PreservationStarted | RootExchangeStarted, zfs: Zfs): Promise<void> {
  const isExchange = intent.type === 'root-exchange.started';
  try {
    await (isExchange ? finishRootExchange(intent, zfs) : finishPreservation(intent, zfs));
  } catch (error) {
    const undone = isExchange ? undoRootExchange(intent, zfs) : undoPreservation(intent, zfs);
    if (!(await undone.catch(() => false))) throw error;
  }
}

/** Whether the root of the tree, and with it all that lies below, may not be where it belongs until the intent has an end. */
function movesRoot(intent: Intent): boolean {
  return intent.type === 'root-exchange.started' || (intent.type === 'preservation.started' && intent.outside !== null);
}
