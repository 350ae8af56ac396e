import { describe, expect, it } from 'vitest';
import type { NodeId } from '../../src/core/ids.ts';
import { type TransferLimits, TransferQueue } from '../../src/transfer/limits.ts';
import { TRANSFERS_PER_PEER_MAX } from '../../src/transfer/protocol.ts';

/** Counts how many tasks of a kind run at once, and how many did at most. */
class Gauge {
  most = 0;
  #now = 0;

  async during(): Promise<void> {
    this.#now += 1;
    this.most = Math.max(this.most, this.#now);
    await new Promise(setImmediate);
    this.#now -= 1;
  }
}

const [ANNA, BEN] = ['anna', 'ben'] as NodeId[] as [NodeId, NodeId];
const PLENTY = 99;
const [SMALL, LARGE] = [1000, 1_000_000_000];
const ANY_STREAM = { peer: ANNA, pool: 'tank', bytes: LARGE };
const { signal } = new AbortController();

/** How many of 60 streams, of two peers and for two pools, ran at once at most: for one peer, for one pool, and in all. */
async function mostAtOnce(
  limits: Partial<TransferLimits>,
  bytes = LARGE,
): Promise<{ peer: number; pool: number; all: number }> {
  const queue = new TransferQueue({ perPeer: PLENTY, perPool: PLENTY, overall: PLENTY, ...limits });
  const gauges = { anna: new Gauge(), ben: new Gauge(), tank: new Gauge(), ssd: new Gauge(), all: new Gauge() };
  let done = 0;
  const tasks = Array.from({ length: 60 }, (_, index) => {
    const [peer, peerGauge] = index % 2 === 0 ? ([ANNA, gauges.anna] as const) : ([BEN, gauges.ben] as const);
    const [pool, poolGauge] = index % 3 === 0 ? (['tank', gauges.tank] as const) : (['ssd', gauges.ssd] as const);
    return queue.run({ peer, pool, bytes }, async () => {
      await Promise.all([peerGauge.during(), poolGauge.during(), gauges.all.during()]);
      done += 1;
    });
  });
  await Promise.all(tasks);
  expect(done).toBe(60);
  return {
    peer: Math.max(gauges.anna.most, gauges.ben.most),
    pool: Math.max(gauges.tank.most, gauges.ssd.most),
    all: gauges.all.most,
  };
}

describe('the transfer queue', () => {
  it('runs as many streams of one peer as its limit allows, and no more', async () => {
    expect(await mostAtOnce({ perPeer: 3 })).toMatchObject({ peer: 3, all: 6 });
  });

  it('runs as many streams into one pool as its limit allows, and no more', async () => {
    expect(await mostAtOnce({ perPool: 2 })).toMatchObject({ pool: 2, all: 4 });
  });

  it('runs as many streams in all as its limit allows, and no more', async () => {
    expect(await mostAtOnce({ overall: 5 })).toMatchObject({ all: 5 });
  });

  it('runs twice as many small streams, which share transaction groups', async () => {
    expect(await mostAtOnce({ perPeer: 3 }, SMALL)).toMatchObject({ peer: 6, all: 12 });
    expect(await mostAtOnce({ perPool: 2 }, SMALL)).toMatchObject({ pool: 4, all: 8 });
    expect(await mostAtOnce({ overall: 5 }, SMALL)).toMatchObject({ all: 10 });
  });

  it('lets no small stream wait for a large one', async () => {
    const queue = new TransferQueue({ perPeer: 1, perPool: 1, overall: 1 });
    const smallOnes = new AbortController();
    const large = queue.run(
      ANY_STREAM,
      () => new Promise<void>((resolve) => smallOnes.signal.addEventListener('abort', () => resolve())),
    );
    await Promise.all([1, 2, 3].map(() => queue.run({ ...ANY_STREAM, bytes: SMALL }, async () => undefined)));
    smallOnes.abort();
    await large;
  });

  it('goes on after a stream that failed', async () => {
    const queue = new TransferQueue({ perPeer: 1, perPool: 1, overall: 1 });
    await expect(queue.run(ANY_STREAM, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await queue.run(ANY_STREAM, async () => 'yes')).toBe('yes');
  });

  it('has no more transfers with a peer at a time than the peer takes, and lets the others wait', async () => {
    const queue = new TransferQueue({ perPeer: 1, perPool: 1, overall: 1 });
    const gauge = new Gauge();
    const transfers = Array.from({ length: 3 * TRANSFERS_PER_PEER_MAX }, () =>
      queue.transfer(ANNA, signal, () => gauge.during()),
    );
    await queue.transfer(BEN, signal, async () => undefined);
    await Promise.all(transfers);
    expect(gauge.most).toBe(TRANSFERS_PER_PEER_MAX);
  });

  it('does not keep whoever gives a transfer up waiting, and never runs it', async () => {
    const queue = new TransferQueue({ perPeer: 1, perPool: 1, overall: 1 });
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const running = Array.from({ length: TRANSFERS_PER_PEER_MAX }, () => queue.transfer(ANNA, signal, () => ended));
    const cancel = new AbortController();
    let ran = false;
    const waiting = queue.transfer(ANNA, cancel.signal, async () => {
      ran = true;
    });
    cancel.abort();
    await waiting;
    end();
    await Promise.all(running);
    await queue.transfer(ANNA, signal, async () => undefined);
    expect(ran).toBe(false);
  });
});
