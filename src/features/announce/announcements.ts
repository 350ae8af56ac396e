/**
 * What this node's streams say about being kept: `tree.added` and `tree.removed`, for own trees and mirrors alike.
 *
 * The settings decide (the admin stream, written first); a tree's own stream follows. A crash between the two writes would leave a tree
 * that nobody can read, or one that peers can still read after it was removed, so that {@link Announcements.complete} runs at the start.
 */
import { rootsOf } from '../../core/admin.ts';
import { isPandoError } from '../../core/errors.ts';
import { type DatasetName, isPrivateTree, splitStreamId, type TreeName } from '../../core/ids.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';

export interface AnnouncementsOptions {
  readonly history: History;
  readonly admin: AdminJournal;
}

export class Announcements {
  readonly #history: History;
  readonly #admin: AdminJournal;

  constructor({ history, admin }: AnnouncementsOptions) {
    this.#history = history;
    this.#admin = admin;
  }

  /** Has the stream of a tree say that it is kept at `root`; writes only what it does not say yet. Rejects with `LOG_CORRUPT`. */
  async announce(tree: TreeName, root: DatasetName): Promise<void> {
    const known = this.#rootOf(tree);
    if (known === root) return;
    // What it says of datasets below another root is not true below this one.
    const removed = known === null ? [] : [{ type: 'tree.removed' } as const];
    await this.#history.record(tree, 'command', [...removed, { type: 'tree.added', root }]);
  }

  /** Has the stream of a tree say that it is not kept any more. A damaged one says nothing to anybody, and stays as it is. */
  async retract(tree: TreeName): Promise<void> {
    if (this.#isDamaged(tree) || this.#rootOf(tree) === null) return;
    await this.#history.record(tree, 'command', [{ type: 'tree.removed' }]);
  }

  /**
   * Writes what a crash kept from being written, and has damaged streams begin anew with what lies before the damage: whoever calls it has
   * the observer look at everything next. Returns the trees of the latter; those whose damage is beyond that stay in `History.faults`.
   */
  async complete(): Promise<readonly TreeName[]> {
    const mended = await this.#mend();
    const kept = rootsOf(this.#admin.state);
    for (const [tree, root] of kept) if (!this.#isDamaged(tree)) await this.announce(tree, root);
    for (const { stream } of this.#history.streams()) {
      const { node, tree } = splitStreamId(stream);
      if (node === this.#history.node && !isPrivateTree(tree) && !kept.has(tree)) await this.retract(tree);
    }
    return mended;
  }

  async #mend(): Promise<readonly TreeName[]> {
    const mended: TreeName[] = [];
    for (const { stream } of this.#history.faults()) {
      const { node, tree } = splitStreamId(stream);
      if (node !== this.#history.node || isPrivateTree(tree)) continue;
      try {
        await this.#history.startIncarnation(tree);
        mended.push(tree);
      } catch (error) {
        // Not even its head is known: nobody can tell which incarnation comes next. It stays a fault, and the others go on.
        if (!isPandoError(error, 'LOG_CORRUPT')) throw error;
      }
    }
    return mended;
  }

  #isDamaged(tree: TreeName): boolean {
    const own = this.#history.ownStream(tree);
    return this.#history.faults().some(({ stream }) => stream === own);
  }

  #rootOf(tree: TreeName): DatasetName | null {
    const stream = this.#history.ownStream(tree);
    return this.#history.head(stream) === null ? null : this.#history.graph(stream).root;
  }
}
