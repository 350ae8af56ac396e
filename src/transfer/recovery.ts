import { PandoError } from '../core/errors.ts';
import type { ReceiveInterrupted, TransferStarted } from '../core/events.ts';
import { holdTagOf, type NodeId, type TreeName } from '../core/ids.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { holdsOf, releaseHolds } from './holds.ts';
import { giveUpInterrupted, PARTIAL_KEPT_MS, partialAmong } from './interruptions.ts';
import type { Intent, TransferJournal } from './journal.ts';
import { finishPreservation } from './preservation.ts';
import { markReplicas } from './replica-properties.ts';

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

  async #recoverAll(): Promise<readonly UnrecoveredTransfer[]> {
    const left: UnrecoveredTransfer[] = [];
    for (const intent of this.#journal.unfinished()) {
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
  async #recover(intent: Intent): Promise<boolean> {
    if (intent.type === 'receive.interrupted') return giveUpInterrupted(this.#zfs, intent, this.#mayGoOn(intent));
    if (intent.type === 'preservation.started') {
      await finishPreservation(intent, this.#zfs);
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
  const received = intent.targets.filter((target) =>
    present.some(
      ({ name, snapshots }) => name === target.name && snapshots.some(({ guid }) => guid === target.snapshot),
    ),
  );
  await markReplicas(zfs, received);
}
