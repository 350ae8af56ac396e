import { expect, it } from 'vitest';
import { Turns } from '../../../../src/features/layers/archive/turns.ts';

/** Jobs that take these times, in milliseconds; gives after how many of them others had a turn. */
async function turnsOthersHad(...times: readonly number[]): Promise<number[]> {
  let now = 0;
  const turns = new Turns(() => now);
  const had: number[] = [];
  let done = 0;
  for (const time of times) {
    let hadTurn = false;
    setImmediate(() => {
      hadTurn = true;
    });
    await turns.take(() => {
      now += time;
      done += 1;
    });
    if (hadTurn) had.push(done);
  }
  return had;
}

it('gives others a turn every few milliseconds, and no sooner', async () => {
  expect(await turnsOthersHad(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)).toEqual([5, 10]);
  expect(await turnsOthersHad(0.1, 0.1)).toEqual([]);
});

it('has work handed over for a second once a file took long', async () => {
  let now = 0;
  const turns = new Turns(() => now);
  await turns.take(() => {
    now += 10;
  });
  expect(turns.handsOver).toBe(false);
  await turns.take(() => {
    now += 30;
  });
  expect(turns.handsOver).toBe(true);
  now += 1000;
  expect(turns.handsOver).toBe(false);
});

it('fails with its job', async () => {
  const failure = new Error('full');
  await expect(
    new Turns().take(() => {
      throw failure;
    }),
  ).rejects.toBe(failure);
});
