import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import { splitStreamId, type TreeName } from '../../core/ids.ts';
import type { History } from '../../log/history.ts';
import type { HistoryChange } from '../../log/stream-table.ts';
import type { Timers } from '../../sync/timers.ts';
import type { Mirrors, SyncReport } from './mirrors.ts';

/** After a sync that failed, or did only a part, in ms, before it is tried again without anything new: long enough for a person to mend what is wrong. */
const RETRY_MS = 60_000;

export interface FollowerOptions {
  readonly history: History;
  readonly mirrors: Pick<Mirrors, 'list' | 'sync'>;
  readonly timers: Timers;
  /** Told what a sync did by itself, or what kept it from it. */
  readonly onSynced: (tree: TreeName, result: SyncReport | PandoError) => void;
}

/**
 * Keeps mirrors up to date by itself: syncs each once at the start, whenever its peer reports something new, and when somebody here changed the mirror
 * behind its back.
 */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #stopping = new AbortController();
  /** Trees whose sync is running, and whether something new came meanwhile. */
  readonly #busy = new Map<TreeName, { again: boolean }>();
  readonly #runs = new Set<Promise<void>>();
  /** How to call off the retries that are to come. */
  readonly #retries = new Map<TreeName, () => void>();
  #unsubscribe: () => void = () => undefined;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#unsubscribe = this.#options.history.onChange((change) => this.#heard(change));
    for (const { tree } of this.#options.mirrors.list()) this.follow(tree);
  }

  async stop(): Promise<void> {
    this.#unsubscribe();
    this.#stopping.abort();
    for (const cancel of this.#retries.values()) cancel();
    await Promise.all(this.#runs);
  }

  /** Syncs a mirror soon; once more after the running sync when there is one. */
  follow(tree: TreeName): void {
    const busy = this.#busy.get(tree);
    if (busy !== undefined) {
      busy.again = true;
      return;
    }
    const run = this.#sync(tree).finally(() => this.#runs.delete(run));
    this.#runs.add(run);
  }

  #heard({ head, events }: HistoryChange): void {
    const { history, mirrors } = this.#options;
    const { node, tree } = splitStreamId(head.stream);
    const mirror = mirrors.list().find((one) => one.tree === tree);
    const isMeddled = node === history.node && events?.some(({ cause }) => cause === 'observed') === true;
    if (mirror?.from === node || (mirror !== undefined && isMeddled)) this.follow(tree);
  }

  #isMirrored(tree: TreeName): boolean {
    return this.#options.mirrors.list().some((mirror) => mirror.tree === tree);
  }

  async #sync(tree: TreeName): Promise<void> {
    const state = { again: false };
    let isSecondLook = false;
    this.#busy.set(tree, state);
    this.#retries.get(tree)?.();
    const quiet = { onProgress: () => undefined, onPlan: () => undefined };
    try {
      do {
        state.again = false;
        const report = await this.#options.mirrors.sync(tree, {
          ...quiet,
          signal: this.#stopping.signal,
          refresh: false,
        });
        this.#options.onSynced(tree, report);
        // Steps that were skipped had a connection that was lost, or need what failed
        const isDone = report.steps.every(({ outcome }) => outcome.result === 'done');
        if (!isDone) this.#retryLater(tree);
        // What somebody did here meanwhile, the sync may have met with and told of as its own
        isSecondLook = isDone && report.steps.length > 0 && !isSecondLook;
        state.again ||= isSecondLook;
      } while (state.again && !this.#stopping.signal.aborted);
    } catch (error) {
      if (this.#stopping.signal.aborted || !this.#isMirrored(tree)) return;
      this.#retryLater(tree);
      // Somebody here ended it, and knows
      if (isPandoError(error, 'TRANSFER_CANCELLED')) return;
      const known = error instanceof PandoError ? error : new PandoError('INTERNAL', describeError(error));
      this.#options.onSynced(tree, known);
    } finally {
      this.#busy.delete(tree);
    }
  }

  #retryLater(tree: TreeName): void {
    if (this.#stopping.signal.aborted) return;
    this.#retries.get(tree)?.();
    this.#retries.set(
      tree,
      this.#options.timers.after(RETRY_MS, () => {
        if (this.#isMirrored(tree)) this.follow(tree);
      }),
    );
  }
}
