import { expect, it } from 'vitest';
import type { RelativeName, TreeName } from '../../../src/core/ids.ts';
import { LookSoon } from '../../../src/main/wiring/look-soon.ts';
import { FakeTimers } from '../../sync/fake-timers.ts';

const tree = 'images' as TreeName;
const names = (...all: string[]) => all as RelativeName[];

function looking(fail = false) {
  const looks: string[][] = [];
  const timers = new FakeTimers();
  const lookSoon = new LookSoon(timers, async (_tree, seen) => {
    looks.push([...seen]);
    if (fail) throw new Error('the pool is away');
  });
  return { looks, timers, lookSoon };
}

it('what changes within a moment is looked at together, each once', async () => {
  const { looks, timers, lookSoon } = looking();
  lookSoon.add(tree, names('a'));
  lookSoon.add(tree, names('b', 'a'));
  expect(looks).toEqual([]);
  await timers.advance(1_000);
  expect(looks).toEqual([['a', 'b']]);
});

it('who changes something all the time is looked at now and then all the same', async () => {
  const { looks, timers, lookSoon } = looking();
  for (let index = 0; index < 50; index += 1) {
    lookSoon.add(tree, names(`n${index}`));
    await timers.advance(100);
  }
  expect(looks).toHaveLength(1);
  expect(looks[0]?.length).toBeGreaterThan(20);
});

it('a look that fails does not keep later ones from happening', async () => {
  const { looks, timers, lookSoon } = looking(true);
  lookSoon.add(tree, names('a'));
  await timers.advance(1_000);
  lookSoon.add(tree, names('b'));
  await timers.advance(1_000);
  expect(looks).toEqual([['a'], ['b']]);
});

it('what was gathered is looked at before the node stops', async () => {
  const { looks, lookSoon } = looking();
  lookSoon.add(tree, names('a'));
  await lookSoon.settle();
  expect(looks).toEqual([['a']]);
});
