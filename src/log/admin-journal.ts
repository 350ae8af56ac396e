import { type AdminState, EMPTY_ADMIN_STATE, foldAdmin } from '../core/admin.ts';
import type { AdminEventBody } from '../core/events.ts';
import { ADMIN_TREE } from '../core/ids.ts';
import type { History } from './history.ts';
import { notify } from './notify.ts';
import { Turns } from './turns.ts';

/**
 * The node's own settings as a log: who was added as a peer, which trees and mirrors, and when. Never compacted, since its state is folded
 * from the beginning; people write it, and refusals are counted (`features/peers/refusals.ts`), so it stays small.
 */
export class AdminJournal {
  readonly #history: History;
  readonly #turns = new Turns<'admin'>();
  readonly #listeners = new Set<(state: AdminState) => void>();
  #state: AdminState = EMPTY_ADMIN_STATE;

  private constructor(history: History) {
    this.#history = history;
  }

  /** Reads the journal of this node. Rejects with `LOG_CORRUPT` when it is damaged. */
  static async open(history: History): Promise<AdminJournal> {
    const journal = new AdminJournal(history);
    const stream = history.ownStream(ADMIN_TREE);
    if (history.head(stream) === null) return journal;
    for await (const events of history.events(stream, 1)) journal.#state = foldAdmin(journal.#state, events);
    return journal;
  }

  get state(): AdminState {
    return this.#state;
  }

  /**
   * Decides and records in one turn: `decide` sees the state as it is then and gives the events, or throws to refuse. The state shows them
   * once they are on disk.
   */
  change(decide: (state: AdminState) => readonly AdminEventBody[]): Promise<void> {
    return this.#turns.run('admin', async () => {
      const events = await this.#history.record(ADMIN_TREE, 'command', decide(this.#state));
      this.#state = foldAdmin(this.#state, events);
      notify(this.#listeners, this.#state);
    });
  }

  /** Calls the listener after each change. What it throws becomes a process warning. Returns how to stop it. */
  onChange(listener: (state: AdminState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
