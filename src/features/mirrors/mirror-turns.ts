import { isPandoError, PandoError } from '../../core/errors.ts';
import type { NodeId, TreeName } from '../../core/ids.ts';
import { unlessAborted } from '../../core/unless-aborted.ts';

/** What is done to a mirror now: a sync, or its being added or removed. */
interface Turn {
  readonly ending: AbortController;
  /** Resolves once it is over, however it ended. */
  readonly over: Promise<void>;
  /** The peer that a sync takes something from. */
  readonly from: NodeId | undefined;
}

/** Has what is done to one mirror run one after the other, each under a signal of its own, so that nobody waits longer than they want to. */
export class MirrorTurns {
  readonly #current = new Map<TreeName, Turn>();
  readonly #stopping = new AbortController();

  /**
   * Runs a task once nothing else is done to the mirror. Its signal is aborted with the one that is handed in, by {@link cancel} and by
   * {@link stop}; while it waits for its turn, it ends with them at once. Rejects as {@link uncancelled}, and as the task does.
   */
  async run<Result>(
    tree: TreeName,
    given: AbortSignal,
    task: (signal: AbortSignal) => Promise<Result>,
    from?: NodeId,
  ): Promise<Result> {
    const ending = new AbortController();
    const signal = AbortSignal.any([given, ending.signal, this.#stopping.signal]);
    for (let before = this.#current.get(tree); before !== undefined; before = this.#current.get(tree)) {
      await uncancelled(tree, before.over, signal);
    }
    const work = uncancelled(tree, Promise.resolve(), signal).then(() => task(signal));
    const leave = (): void => void this.#current.delete(tree);
    this.#current.set(tree, { ending, over: work.then(leave, leave), from });
    return work;
  }

  /** Cancels what is done to a mirror, and what waits for that, and resolves once it has ended. */
  async cancel(tree: TreeName, reason: PandoError): Promise<void> {
    for (let turn = this.#current.get(tree); turn !== undefined; turn = this.#current.get(tree)) {
      turn.ending.abort(reason);
      await turn.over;
    }
  }

  /** Ends what is taken from a peer now; whatever waits goes on in its turn. */
  end(tree: TreeName, from: NodeId, reason: PandoError): void {
    const turn = this.#current.get(tree);
    if (turn !== undefined && turn.from === from) turn.ending.abort(reason);
  }

  /** Cancels everything, now and later, and resolves once it has ended. */
  async stop(reason: PandoError): Promise<void> {
    this.#stopping.abort(reason);
    while (this.#current.size > 0) await Promise.all(Array.from(this.#current.values(), ({ over }) => over));
  }
}

/**
 * What the promise brings, unless the signal is aborted before: then a rejection at once, with the signal's reason or, where that is no PandoError,
 * with `TRANSFER_CANCELLED`.
 */
export function uncancelled<Value>(tree: TreeName, promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return unlessAborted(promise, signal).catch((error: unknown) => {
    if (!signal.aborted || isPandoError(error)) throw error;
    throw new PandoError('TRANSFER_CANCELLED', `The sync of "${tree}" was cancelled.`, { tree });
  });
}
