import PQueue from 'p-queue';
import type { NodeId } from '../core/ids.ts';
import { TRANSFERS_PER_PEER_MAX } from './protocol.ts';

/** How many large streams run at once. */
export interface TransferLimits {
  readonly perPeer: number;
  readonly perPool: number;
  readonly overall: number;
}

/**
 * ZFS gains from a few large streams side by side, since each waits for the other end now and then; more of them only take
 * turns on the same disks.
 */
export const DEFAULT_TRANSFER_LIMITS: TransferLimits = { perPeer: 4, perPool: 4, overall: 8 };

/** Where a stream comes from and goes to. */
export interface QueuedStream {
  readonly peer: NodeId;
  readonly pool: string;
  /** As estimated. */
  readonly bytes: number;
}

/** Streams up to this size wait for transaction groups more than for disks, in bytes. */
const SMALL_STREAM_BYTES_MAX = 1024 * 1024;
/** How many times as many small streams run at once: they share transaction groups. More than eight gained nothing on zfs-fuse. */
const SMALL_STREAMS_FACTOR = 2;

/** Runs tasks within the limits per peer, per pool and overall; small streams have lanes of their own, so that none waits behind a large one. */
export class TransferQueue {
  readonly #large: Lanes;
  readonly #small: Lanes;
  readonly #transfers = new Map<NodeId, PQueue>();

  constructor(limits: TransferLimits) {
    this.#large = new Lanes(limits);
    this.#small = new Lanes({
      perPeer: limits.perPeer * SMALL_STREAMS_FACTOR,
      perPool: limits.perPool * SMALL_STREAMS_FACTOR,
      overall: limits.overall * SMALL_STREAMS_FACTOR,
    });
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

  /** Runs the stream when its peer, its pool and the node have room; rejects as it does. */
  run<Result>({ peer, pool, bytes }: QueuedStream, stream: () => Promise<Result>): Promise<Result> {
    return (bytes <= SMALL_STREAM_BYTES_MAX ? this.#small : this.#large).run(peer, pool, stream);
  }
}

/** Streams of one kind. */
class Lanes {
  readonly #limits: TransferLimits;
  readonly #overall: PQueue;
  readonly #peers = new Map<NodeId, PQueue>();
  readonly #pools = new Map<string, PQueue>();

  constructor(limits: TransferLimits) {
    this.#limits = limits;
    this.#overall = new PQueue({ concurrency: limits.overall });
  }

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
