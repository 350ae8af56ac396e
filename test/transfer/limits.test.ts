import { describe, expect, it } from 'vitest';
import type { NodeId } from '../../src/core/ids.ts';
import { TransferQueue } from '../../src/transfer/limits.ts';

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

describe('the transfer queue', () => {
  it('keeps to the limits per peer, per pool and overall, and runs everything', async () => {
    const queue = new TransferQueue({ perPeer: 3, perPool: 2, overall: 4 });
    const gauges = { anna: new Gauge(), ben: new Gauge(), tank: new Gauge(), ssd: new Gauge(), all: new Gauge() };
    let done = 0;
    const tasks = Array.from({ length: 60 }, (_, index) => {
      const [peer, peerGauge] = index % 2 === 0 ? ([ANNA, gauges.anna] as const) : ([BEN, gauges.ben] as const);
      const [pool, poolGauge] = index % 3 === 0 ? (['tank', gauges.tank] as const) : (['ssd', gauges.ssd] as const);
      return queue.run(peer, pool, async () => {
        await Promise.all([peerGauge.during(), poolGauge.during(), gauges.all.during()]);
        done += 1;
      });
    });
    await Promise.all(tasks);
    expect(done).toBe(60);
    expect(Math.max(gauges.anna.most, gauges.ben.most)).toBeLessThanOrEqual(3);
    expect(Math.max(gauges.tank.most, gauges.ssd.most)).toBe(2);
    expect(gauges.all.most).toBe(4);
  });

  it('goes on after a task that failed', async () => {
    const queue = new TransferQueue({ perPeer: 1, perPool: 1, overall: 1 });
    await expect(queue.run(ANNA, 'tank', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await queue.run(ANNA, 'tank', async () => 'yes')).toBe('yes');
  });
});
