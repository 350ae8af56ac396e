import { expect, it } from 'vitest';
import { allEnded } from '../../src/core/all-ended.ts';

it('gives what all bring, in their order', async () => {
  const late = new Promise<number>((resolve) => setImmediate(() => resolve(1)));
  expect(await allEnded([late, Promise.resolve(2)])).toEqual([1, 2]);
});

it('fails with the first failure, but only once all have ended and what is to come then was done', async () => {
  const order: string[] = [];
  const late = new Promise<void>((resolve) => setImmediate(resolve)).then(() => order.push('late'));
  const afterwards = async () => order.push('afterwards');
  const ending = allEnded<unknown>(
    [Promise.reject(new Error('first')), late, Promise.reject(new Error('second'))],
    afterwards,
  );
  await expect(ending).rejects.toThrow('first');
  expect(order).toEqual(['late', 'afterwards']);
});
