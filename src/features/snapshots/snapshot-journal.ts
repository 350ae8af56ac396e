import { SNAPSHOTTER_TREE, type TreeName } from '../../core/ids.ts';
import type { SnapshotDropped, SnapshotKept } from '../../core/layer-events.ts';
import type { SnapshotInfo } from '../../core/snapshots/snapshot.ts';
import type { History } from '../../log/history.ts';
import { Turns } from '../../log/turns.ts';

/** Events behind those that still count before the journal is written anew. */
const EVENTS_BEHIND_MAX = 5_000;

export type KeptSnapshot = Omit<SnapshotKept, 'type'>;

/**
 * What containerd knows of the snapshots here, as events in a private stream of its own (design §4): the datasets are the truth of what they hold, this of what they are called.
 */
export class SnapshotJournal {
  readonly #history: History;
  readonly #turns = new Turns<'journal'>();
  readonly #snapshots = new Map<SnapshotInfo['key'], KeptSnapshot>();
  #events = 0;

  private constructor(history: History) {
    this.#history = history;
  }

  /** Reads the journal of this node. Of a damaged one nothing is known: what the datasets themselves tell is found at the next start (see `repair.ts`). */
  static async open(history: History, warn: (message: string) => void): Promise<SnapshotJournal> {
    const journal = new SnapshotJournal(history);
    const stream = history.ownStream(SNAPSHOTTER_TREE);
    if (history.faults().some((fault) => fault.stream === stream)) {
      await history.startIncarnation(SNAPSHOTTER_TREE);
      warn(
        'The damaged journal of snapshots begins anew with what their datasets tell; labels are lost, and so are committed ones that are no layers.',
      );
      return journal;
    }
    if (history.head(stream) === null) return journal;
    for await (const events of history.events(stream, await history.oldest(stream))) {
      for (const event of events) {
        if (event.type === 'snapshotter.kept' || event.type === 'snapshotter.dropped') journal.#apply(event);
      }
    }
    return journal;
  }

  get(key: string): KeptSnapshot | undefined {
    return this.#snapshots.get(key);
  }

  all(): IterableIterator<KeptSnapshot> {
    return this.#snapshots.values();
  }

  /** The tree in which snapshots are kept; null as long as there are none. */
  get tree(): TreeName | null {
    for (const { tree } of this.#snapshots.values()) return tree;
    return null;
  }

  /** Writes these facts at once; they hold when this resolves. */
  record(facts: readonly (SnapshotKept | SnapshotDropped)[]): Promise<void> {
    return this.#turns.run('journal', async () => {
      await this.#history.record(SNAPSHOTTER_TREE, 'command', facts);
      for (const fact of facts) this.#apply(fact);
      await this.#writeAnew();
    });
  }

  #apply(fact: SnapshotKept | SnapshotDropped): void {
    this.#events += 1;
    if (fact.type === 'snapshotter.dropped') {
      this.#snapshots.delete(fact.key);
      return;
    }
    const { key, tree, kind, parent, labels, createdAt, updatedAt, dataset, objects } = fact;
    this.#snapshots.set(key, { key, tree, kind, parent, labels, createdAt, updatedAt, dataset, objects });
  }

  /** Writes what counts once more, and forgets all before. Cut short between the two, it says the same twice. */
  async #writeAnew(): Promise<void> {
    if (this.#events - this.#snapshots.size < Math.max(EVENTS_BEHIND_MAX, this.#snapshots.size)) return;
    const stream = this.#history.ownStream(SNAPSHOTTER_TREE);
    const newest = this.#history.head(stream)?.seq ?? 0;
    const facts = Array.from(this.#snapshots.values(), (kept) => ({ type: 'snapshotter.kept' as const, ...kept }));
    await this.#history.record(SNAPSHOTTER_TREE, 'command', facts);
    this.#events = this.#snapshots.size;
    await this.#history.compact(stream, newest);
  }
}
