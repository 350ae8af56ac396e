import PQueue from 'p-queue';
import type { NodeId } from '../core/ids.ts';
import { TRANSFERS_PER_PEER_MAX } from './protocol.ts';

/** How many streams run at once. */
export interface TransferLimits {
  readonly perPeer: number;
  readonly perPool: number;
  readonly overall: number;
}

/**
 * ZFS gains from a few streams side by side, since each waits for the other end now and then; more of them only take
 * turns on the same disks.
 */
export const DEFAULT_TRANSFER_LIMITS: TransferLimits = { perPeer: 4, perPool: 4, overall: 8 };

/** Runs tasks within the limits per peer, per pool and overall. */
export class TransferQueue {
  readonly #limits: TransferLimits;
  readonly #overall: PQueue;
  readonly #peers = new Map<NodeId, PQueue>();
  readonly #pools = new Map<string, PQueue>();
  readonly #transfers = new Map<NodeId, PQueue>();

  constructor(limits: TransferLimits) {
    this.#limits = limits;
    this.#overall = new PQueue({ concurrency: limits.overall });
  }

  /**
   * Runs a transfer, with all its streams, when the peer takes another one: it refuses more than TRANSFERS_PER_PEER_MAX. Whoever aborts the signal
   * while it waits is not kept waiting, and it is never run; once it runs it ends by itself.
   */
  async transfer(peer: NodeId, signal: AbortSignal, task: () => Promise<void>): Promise<void> {
    const begun = new AbortController();
    const turn = queueOf(this.#transfers, peer, TRANSFERS_PER_PEER_MAX).add(async () => {
      if (signal.aborted) return;
      begun.abort();
      await task();
    });
    await untilAborted(AbortSignal.any([signal, begun.signal]));
    if (begun.signal.aborted) await turn;
  }

  /** Runs the task when its peer, its pool and the node have room; rejects as the task does. */
  run<Result>(peer: NodeId, pool: string, task: () => Promise<Result>): Promise<Result> {
    // Narrowest first: a task that waits for a busy pool must not keep others from the node's slots.
    return queueOf(this.#pools, pool, this.#limits.perPool).add(() =>
      queueOf(this.#peers, peer, this.#limits.perPeer).add(() => this.#overall.add(task)),
    );
  }
}

/** Resolves once the signal is aborted. */
async function untilAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
}

function queueOf<Key>(queues: Map<Key, PQueue>, key: Key, concurrency: number): PQueue {
  const known = queues.get(key);
  if (known !== undefined) return known;
  const queue = new PQueue({ concurrency });
  queues.set(key, queue);
  return queue;
}
