/** Who has the observer look at what: itself every so often, peers before they sync, and whatever has just changed a tree. */
import { rootsOf } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { Cause } from '../../core/events.ts';
import type { ObservedDataset } from '../../core/graph/observed.ts';
import { type DatasetId, type NodeId, parseDatasetId, type RelativeName, type TreeName } from '../../core/ids.ts';
import type { Mirrors } from '../../features/mirrors/mirrors.ts';
import { Observer, type WatchedTree } from '../../features/observe/observer.ts';
import type { TransferRecovery } from '../../transfer/recovery.ts';
import type { NodeBase } from './base.ts';

interface LooksOptions {
  readonly recovery: TransferRecovery;
  /** They need looks themselves, and are there once the first one comes. */
  readonly mirrors: () => Mirrors;
  readonly mayRead: (peer: NodeId, tree: TreeName) => boolean;
}

export class Looks {
  readonly observer: Observer;
  readonly #base: NodeBase;
  readonly #options: LooksOptions;

  constructor(base: NodeBase, options: LooksOptions) {
    this.#base = base;
    this.#options = options;
    this.observer = this.#createObserver();
  }

  /** A tree that this node shares or mirrors. Throws `TREE_UNKNOWN`. */
  watched(tree: TreeName): WatchedTree {
    const watched = this.#watched().find((one) => one.tree === tree);
    if (watched !== undefined) return watched;
    throw new PandoError('TREE_UNKNOWN', `This node keeps no tree "${tree}"; "pando tree ls" lists those it keeps.`, {
      tree,
    });
  }

  /** Looks at some datasets of a tree, or all, and logs what has changed. */
  async at(tree: TreeName, names: readonly RelativeName[] | 'all', cause: Cause) {
    const watched = this.watched(tree);
    return names === 'all' ? this.observer.look(watched, cause) : this.observer.lookAt(watched, names, cause);
  }

  /**
   * Looks at what the peer may read, and rejects with the first failure once all of it was looked at. Of trees that it may not read the peer learns
   * nothing, not even that they are in trouble, nor can it have this node look at them.
   */
  async forPeer(peer: NodeId): Promise<void> {
    const failures: unknown[] = [];
    for (const watched of this.#watched().filter(({ tree }) => this.#options.mayRead(peer, tree))) {
      await this.observer.look(watched).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  #watched(): WatchedTree[] {
    const { state } = this.#base.admin;
    const { sources } = this.#options.mirrors();
    return Array.from(rootsOf(state), ([tree, root]) => ({
      tree,
      root,
      // What a mirror brought belongs to whom its peer says; what appeared beside it belongs to this node.
      ownerOf: (id: DatasetId, seen: ObservedDataset) =>
        sources.ownerOf(tree, id, seen) ?? { node: this.#base.id, epoch: 1 },
      saidOwnerOf: (id: DatasetId) => sources.saidOwnerOf(tree, id),
      claims: () => sources.claims(tree),
      atOwner: (id: DatasetId) => sources.atOwner(tree, id),
      heard: () => sources.heard(tree),
      mayBeAbsent: !state.trees.has(tree),
    }));
  }

  #createObserver(): Observer {
    const { adapters, history, settings, surroundings, reporter, transfers, mintUuid } = this.#base;
    const { recovery, mirrors } = this.#options;
    return new Observer({
      history,
      zfs: adapters.zfs,
      trees: () => this.#watched(),
      isReceiving: (tree) => mirrors().isReceiving(tree),
      clearUp: (tree, root) => recovery.prepareLook(tree, root),
      onFirstListing: (tree, listing) => recovery.takeStray(tree, listing),
      ownHolds: (snapshot) => transfers.holdsOn(snapshot),
      mintDatasetId: () => parseDatasetId(mintUuid()),
      timers: surroundings.timers,
      now: surroundings.now,
      intervalMs: settings.observeEveryMs,
      onTrouble: (tree, error) => {
        if (error === null) reporter.info(`Tree "${tree}" can be looked at again`, { tree });
        else reporter.warn(`Tree "${tree}" cannot be looked at: ${error.message}`, { tree, ...error.evidence });
      },
    });
  }
}
