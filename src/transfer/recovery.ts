import { PandoError } from '../core/errors.ts';
import type { PreservationStarted, ReceiveInterrupted, RootExchangeStarted, TransferStarted } from '../core/events.ts';
import {
  type DatasetId,
  type DatasetName,
  type HoldTag,
  holdTagOf,
  ID_PROPERTY,
  type NodeId,
  type TransferId,
  type TreeName,
  transferOfTag,
} from '../core/ids.ts';
import type { RootCommitStarted } from '../core/layer-events.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';
import { heldIn, holdsOf, releaseHolds } from './holds.ts';
import { giveUpInterrupted, isBegun, PARTIAL_KEPT_MS, partialAmong } from './interruptions.ts';
import type { Intent, TransferJournal } from './journal.ts';
import { finishPreservation, undoPreservation } from './preservation.ts';
import { markReplicas } from './replica-properties.ts';
import { finishRootExchange, undoRootExchange } from './root-exchange.ts';
import { settleStrayedAside } from './strayed-aside.ts';
import { bringRootHome } from './strayed-root.ts';

/** A transfer that a crash cut short, and what kept it from being cleared up. */
export interface UnrecoveredTransfer {
  readonly intent: Intent;
  readonly error: unknown;
}

export interface TransferRecoveryOptions {
  readonly node: NodeId;
  readonly zfs: Zfs;
  readonly journal: TransferJournal;
  /** Whether something that was cut short for a tree could still go on. */
  readonly isMirrored: (tree: TreeName) => boolean;
  /** From which peer it could go on: of those that the tree is mirrored from, the first that has the dataset, or else the first; undefined where there is none. */
  readonly peerWith: (tree: TreeName, dataset: DatasetId) => NodeId | undefined;
  readonly mintTransferId: () => TransferId;
  /** Told what could not be put right now; it is tried again with the next look, or at the next start. */
  readonly report: (error: PandoError) => void;
}

/**
 * Clears up what a crash, or a pool that was away, left of transfers (invariants 5 and 6): releases their holds, and marks what they had received in
 * full but not yet marked, so that the next sync goes on from there. Runs at the start, and again before each new transfer while something is left.
 */
export class TransferRecovery {
  readonly #options: TransferRecoveryOptions;
  #running: Promise<readonly UnrecoveredTransfer[]> | undefined;
  /** Roots that were seen in their places since this node runs. */
  readonly #home = new Set<DatasetName>();
  /** What was said last of what keeps one from being all there. */
  readonly #told = new Map<DatasetName, string>();

  constructor(options: TransferRecoveryOptions) {
    this.#options = options;
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
  async prepareLook(tree: TreeName, root: DatasetName): Promise<void> {
    const stuck = (await this.run()).find(({ intent }) => intent.tree === tree && movesRoot(intent));
    if (stuck !== undefined) throw stuck.error;
    await this.#bringHome(tree, root);
  }

  /** Where some of the log was lost, no intent tells of a root that was changing places, or of what was being kept aside; by the first look all of it is where it belongs. */
  async #bringHome(tree: TreeName, root: DatasetName): Promise<void> {
    const { journal, isMirrored, mintTransferId, zfs } = this.#options;
    const isKnown = journal.open().some((intent) => intent.tree === tree && movesRoot(intent));
    if (isKnown || !isMirrored(tree) || this.#home.has(root)) return;
    const finish = await bringRootHome(root, zfs);
    const known = new Set(journal.open().flatMap(namesAside));
    try {
      if (finish !== null) await finish(mintTransferId());
      await settleStrayedAside(root, zfs, (name) => known.has(name));
      this.#home.add(root);
    } catch (error) {
      // The root is there, so that the tree can be looked at; the next look tries again
      this.#tellOnce(root, error);
    }
  }

  #tellOnce(root: DatasetName, error: unknown): void {
    if (!(error instanceof PandoError)) throw error;
    if (this.#told.get(root) === error.message) return;
    this.#told.set(root, error.message);
    this.#options.report(error);
  }

  /**
   * Takes care of what belongs to no transfer in the journal, as a listing of the whole tree shows it: where some of the log was lost, nobody else knows of it
   * (invariant 6). Rejects as ZFS and the log do.
   */
  async takeStray(tree: TreeName, listed: readonly ListedDataset[]): Promise<void> {
    await this.#releaseStray(listed);
    await this.#adoptStray(tree, listed);
  }

  /** This node's holds are released. Where ZFS cannot list holds, they stay. */
  async #releaseStray(listed: readonly ListedDataset[]): Promise<void> {
    const { zfs } = this.#options;
    const { listHolds } = await zfs.capabilities();
    if (!listHolds) return;
    const held = heldIn(listed);
    if (held.length === 0) return;
    for (const [index, tags] of (await zfs.holds(held)).entries()) {
      for (const tag of tags.filter((each) => this.#isStray(each))) {
        await zfs.release(tag, held.slice(index, index + 1));
      }
    }
  }

  #isStray(tag: HoldTag): boolean {
    const { node, journal } = this.#options;
    const transfer = transferOfTag(tag, node);
    return transfer !== undefined && !journal.isOpen(transfer);
  }

  /** What came of first streams that were cut short is written down as that again: the next sync goes on with it, or gives it up. */
  async #adoptStray(tree: TreeName, listed: readonly ListedDataset[]): Promise<void> {
    const { journal, peerWith, mintTransferId } = this.#options;
    const known = new Set(journal.open().flatMap(mayHaveBegun));
    const targets = new Map<NodeId, DatasetName[]>();
    for (const { name, properties } of listed.filter((one) => isBegun(one) && !known.has(one.name))) {
      const peer = peerWith(tree, properties[ID_PROPERTY] as DatasetId);
      if (peer !== undefined) targets.set(peer, [...(targets.get(peer) ?? []), name]);
    }
    for (const [peer, names] of targets) {
      const cut = { transfer: mintTransferId(), peer, tree, targets: names };
      await this.#ifPossible(journal.interrupt(cut, PARTIAL_KEPT_MS));
    }
  }

  /** For what nothing else has to wait for. */
  async #ifPossible(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (!(error instanceof PandoError)) throw error;
      this.#options.report(error);
    }
  }

  async #recoverAll(): Promise<readonly UnrecoveredTransfer[]> {
    const { journal } = this.#options;
    const left: UnrecoveredTransfer[] = [];
    for (const intent of journal.unfinished()) {
      // Layers know themselves what became of theirs
      if (intent.type === 'root-commit.started') continue;
      try {
        if (!(await this.#recover(intent))) continue;
        await journal.end({ type: 'transfer.ended', transfer: intent.transfer, outcome: 'recovered', bytes: 0 });
      } catch (error) {
        if (!(error instanceof PandoError)) throw error;
        left.push({ intent, error });
      }
    }
    return left;
  }

  /** Whether that is the end of it. */
  async #recover(intent: Exclude<Intent, RootCommitStarted>): Promise<boolean> {
    const { zfs, node, journal } = this.#options;
    if (intent.type === 'receive.interrupted') return giveUpInterrupted(zfs, intent, this.#mayGoOn(intent));
    if (intent.type === 'preservation.started' || intent.type === 'root-exchange.started') {
      await finishOrUndo(intent, zfs);
      return true;
    }
    await recover(intent, zfs, node);
    const { transfer, peer, tree, resumable } = intent;
    const targets = (await partialAmong(zfs, resumable)).map(({ name }) => name);
    if (targets.length === 0) return true;
    await journal.interrupt({ transfer, peer, tree, targets }, PARTIAL_KEPT_MS);
    return false;
  }

  #mayGoOn(intent: ReceiveInterrupted): boolean {
    const { journal, isMirrored } = this.#options;
    return journal.isInTime(intent) && isMirrored(intent.tree);
  }
}

/** Where a transfer may have begun a dataset, or left it half there. */
function mayHaveBegun(intent: Intent): readonly DatasetName[] {
  if (intent.type === 'receive.interrupted') return intent.targets;
  return intent.type === 'transfer.started' ? [...intent.resumable, ...intent.targets.map(({ name }) => name)] : [];
}

/** What a preservation that has not ended has among what is kept aside. */
function namesAside(intent: Intent): readonly DatasetName[] {
  return intent.type === 'preservation.started' ? [intent.aside, intent.successor] : [];
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
