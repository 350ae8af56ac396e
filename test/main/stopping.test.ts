import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { stopInTime } from '../../src/main/stop-in-time.ts';
import { at, dataset, gate, IMAGES, introduce, MemoryWorld } from './memory-world.ts';

describe('a stop', () => {
  it('gives up after its limit when a part does not end, and has begun to stop the others', async () => {
    const [stuck, given] = [gate(), gate()];
    const begun: string[] = [];
    const stopping = stopInTime(
      [
        () => {
          begun.push('one');
          return stuck.opened;
        },
        async () => {
          begun.push('other');
        },
      ],
      { limitMs: 1, giveUp: given.open },
    );
    await given.opened;
    expect(begun).toEqual(['one', 'other']);
    stuck.open();
    await stopping;
  });

  it('that fails in one part waits for the others, and tells', async () => {
    const slow = gate();
    let isOver = false;
    const failing = async (): Promise<void> => {
      throw new Error('no');
    };
    const stopping = stopInTime([failing, () => slow.opened], {
      limitMs: 1_000_000,
      giveUp: () => undefined,
    }).finally(() => {
      isOver = true;
    });
    const outcome = stopping.then(
      () => 'resolved',
      (error: unknown) => String(error),
    );
    await new Promise((resolve) => setImmediate(resolve));
    expect(isOver).toBe(false);
    slow.open();
    expect(await outcome).toBe('Error: no');
  });
});

describe('a node that stops', () => {
  let world: MemoryWorld;
  beforeEach(() => {
    world = new MemoryWorld();
  });
  afterEach(() => world.stop());

  it('releases what it holds for others though its own sync does not end', async () => {
    const [receiving, go] = [gate(), gate()];
    const [serving, serve] = [gate(), gate()];
    const alpha = await world.start('alpha');
    const middle = await world.start('middle', undefined, {
      onCommand: async (command) => {
        if (!command.includes('receive')) return;
        receiving.open();
        await go.opened;
      },
    });
    const last = await world.start('last', undefined, {
      onCommand: async (command) => {
        if (!command.includes('receive')) return;
        serving.open();
        await serve.opened;
      },
    });
    await introduce(alpha, middle);
    await introduce(middle, last);
    const homes = 'homes' as typeof IMAGES;
    for (const [{ zfs, node, pool }, tree] of [
      [alpha, IMAGES],
      [middle, homes],
    ] as const) {
      await zfs.create(dataset(`${pool}/${tree}`));
      await zfs.snapshot([at(`${pool}/${tree}`, '1')]);
      await node.trees.add({ tree, root: dataset(`${pool}/${tree}`) });
    }
    const sync = {
      signal: new AbortController().signal,
      refresh: false,
      onPlan: () => undefined,
      onProgress: () => undefined,
    };
    await middle.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('middle/copy'), ...EVERYTHING });
    await last.node.mirrors.add({ tree: homes, from: middle.node.id, root: dataset('last/copy'), ...EVERYTHING });
    const syncs = [middle.node.mirrors.sync(IMAGES, sync), last.node.mirrors.sync(homes, sync)];
    await Promise.all([receiving.opened, serving.opened]);
    const holds = async (): Promise<number> => {
      const [listed] = await middle.zfs.listOnly([dataset('middle/homes')]);
      return listed?.snapshots[0]?.userrefs ?? 0;
    };
    expect(await holds()).toBe(1);
    const stopping = middle.node.stop();
    await expect.poll(holds).toBe(0);
    go.open();
    serve.open();
    await Promise.allSettled([stopping, ...syncs]);
  });
});
