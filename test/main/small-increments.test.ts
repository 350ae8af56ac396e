import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { heldIn } from '../../src/transfer/holds.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

const DATASETS = 40;

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
/** What `zfs` was called with at either node. */
const commands = { alpha: [] as string[], beta: [] as string[] };
const names = Array.from({ length: DATASETS }, (_, number) => `alpha/images/d${number}`);

beforeEach(async () => {
  world = new MemoryWorld();
  const heard = (name: keyof typeof commands) => ({
    onCommand: (words: readonly string[]): void => void commands[name].push(words.join(' ')),
  });
  alpha = await world.start('alpha', undefined, heard('alpha'));
  beta = await world.start('beta', undefined, heard('beta'));
  await introduce(alpha, beta);
  await alpha.zfs.create(dataset('alpha/images'));
  for (const name of names) await alpha.zfs.create(dataset(name));
  await snapshotAll('1');
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING });
  await syncImages(beta);
  commands.alpha.length = 0;
  commands.beta.length = 0;
});

afterEach(() => world.stop());

async function snapshotAll(snapshot: string): Promise<void> {
  for (const name of names) alpha.zfs.write(name, 'file', snapshot);
  await alpha.zfs.snapshot(['alpha/images', ...names].map((name) => at(name, snapshot)));
}

function called(name: keyof typeof commands, word: string): string[] {
  return commands[name]
    .filter((words) => words.startsWith(`zfs ${word} `))
    .map((words) => words.replaceAll(/pando:[^ ]+/g, 'TAG'));
}

describe('an increment of each of many datasets', () => {
  it('is held by one command at either end, for each snapshot name, and released by one', async () => {
    await snapshotAll('2');
    const { steps } = await syncImages(beta);
    expect(steps.map(({ outcome }) => outcome.result)).toEqual(Array.from({ length: DATASETS + 1 }, () => 'done'));
    const ends = '-r alpha/images@2 -r alpha/images@1';
    expect(called('alpha', 'hold')).toEqual([`zfs hold TAG ${ends}`]);
    expect(called('alpha', 'release')).toEqual([`zfs release TAG ${ends}`]);
    expect(called('beta', 'hold')).toEqual(['zfs hold TAG -r beta/copy@1']);
    expect(called('beta', 'release')).toEqual(['zfs release TAG -r beta/copy@1']);
    expect([
      ...heldIn(await alpha.zfs.list(dataset('alpha'))),
      ...heldIn(await beta.zfs.list(dataset('beta'))),
    ]).toEqual([]);
  });

  it('is not received where its base was destroyed just before it was to be held, and all others are', async () => {
    await snapshotAll('2');
    await beta.zfs.destroySnapshot(at('beta/copy/d7', '1'));
    const receive = vi.spyOn(beta.zfs, 'receive');
    const { steps } = await syncImages(beta);
    expect(steps.filter(({ outcome }) => outcome.result !== 'done').map(({ step }) => step.name)).toEqual(['d7']);
    // ZFS would look for the base elsewhere: the driver has to see first that the dataset is there
    const unheld = receive.mock.calls.filter(([request]) => !request.baseHeld);
    expect(unheld.map(([request]) => request.target)).toEqual(['beta/copy/d7']);
    expect(receive).toHaveBeenCalledTimes(DATASETS + 1);
    expect(heldIn(await beta.zfs.list(dataset('beta')))).toEqual([]);
  });

  it('is released wherever a dataset is moved meanwhile', async () => {
    await snapshotAll('2');
    let moved: Promise<void> | undefined;
    await syncImages(beta, {
      onProgress: () => {
        if (called('alpha', 'hold').length > 0)
          moved ??= alpha.zfs.rename(dataset('alpha/images/d39'), dataset('alpha/away'));
      },
    });
    await moved;
    expect(moved).toBeDefined();
    expect(heldIn(await alpha.zfs.list(dataset('alpha')))).toEqual([]);
    expect(heldIn(await beta.zfs.list(dataset('beta')))).toEqual([]);
  });
});
