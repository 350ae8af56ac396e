/**
 * What was refused, as events, without letting anybody fill the log: the first of a kind is told at once, and those that follow within a while are counted, and told with the next one.
 */
import type { NodeId, TreeName } from '../../core/ids.ts';
import type { AccessRefused, RefusedAction } from '../../core/trust-events.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';

/** How long refusals of one kind are only counted after one was told, in ms. */
const QUIET_MS = 3_600_000;
/** Strangers that are told apart at one time; those beyond are told of together. Whoever knocks can make up as many keys as they like. */
const STRANGERS_MAX = 32;
/** Trees of which one peer is told apart at one time; it can make up as many names as it likes. */
const TREES_PER_PEER_MAX = 8;
/** What nodes are refused that are no peers; of others there are as many as peers. */
const OF_STRANGERS: ReadonlySet<RefusedAction> = new Set<RefusedAction>(['connect', 'join']);

export interface Refusal {
  readonly peer: NodeId;
  readonly action: RefusedAction;
  readonly tree: TreeName | null;
}

interface Kind {
  readonly refusal: Omit<AccessRefused, 'type' | 'times'>;
  /** When it was told, in ms of the clock that never goes back. */
  readonly toldAt: number;
  /** Since then. */
  times: number;
}

export class Refusals {
  readonly #admin: AdminJournal;
  readonly #now: () => number;
  readonly #kinds = new Map<string, Kind>();
  /** Ends with the last event on its way to the log. */
  #telling: Promise<void> = Promise.resolve();

  /** `now` gives ms and never goes back. */
  constructor(admin: AdminJournal, now: () => number) {
    this.#admin = admin;
    this.#now = now;
  }

  /** Never throws, and waits for nothing: whoever is refused must not feel how busy the log is. */
  note(refusal: Refusal): void {
    const now = this.#now();
    this.#dropOld(now);
    const told = this.#apart(refusal);
    const kind = this.#kinds.get(keyOf(told));
    if (kind !== undefined) {
      kind.times += 1;
      return;
    }
    this.#tell({ ...told, times: 1 });
    this.#kinds.set(keyOf(told), { refusal: told, toldAt: now, times: 0 });
  }

  /** Tells what was only counted so far. Resolves once all of it is in the log. */
  async close(): Promise<void> {
    for (const { refusal, times } of this.#kinds.values()) if (times > 0) this.#tell({ ...refusal, times });
    this.#kinds.clear();
    await this.#telling;
  }

  /** Kinds of which nothing was told for a while make room, and are told again when they come again. */
  #dropOld(now: number): void {
    for (const [key, { refusal, toldAt, times }] of this.#kinds) {
      if (now - toldAt < QUIET_MS) continue;
      this.#kinds.delete(key);
      if (times > 0) this.#tell({ ...refusal, times });
    }
  }

  /** As what it is told: without the stranger, or the tree, where there are too many of them already. */
  #apart(refusal: Refusal): Kind['refusal'] {
    if (this.#kinds.has(keyOf(refusal))) return refusal;
    const kinds = Array.from(this.#kinds.values(), (kind) => kind.refusal);
    if (OF_STRANGERS.has(refusal.action)) {
      const strangers = kinds.filter(({ action }) => OF_STRANGERS.has(action));
      return strangers.length >= STRANGERS_MAX ? { ...refusal, peer: null } : refusal;
    }
    const trees = kinds.filter(({ peer }) => peer === refusal.peer);
    return trees.length >= TREES_PER_PEER_MAX ? { ...refusal, tree: null } : refusal;
  }

  #tell(refusal: Omit<AccessRefused, 'type'>): void {
    const told = this.#admin.change(() => [{ type: 'access.refused', ...refusal }]);
    // A log that cannot be written is told of by whoever needs it for more than this
    this.#telling = Promise.all([this.#telling, told]).then(
      () => undefined,
      () => undefined,
    );
  }
}

function keyOf({ peer, action, tree }: Kind['refusal']): string {
  return `${peer} ${action} ${tree}`;
}
