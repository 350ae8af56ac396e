import { execa } from 'execa';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CommandLine, quotedForShell } from '../../../src/zfs/cli/command-line.ts';
import { Semaphore } from '../../../src/zfs/cli/semaphore.ts';

test('a local prefix gets the words as they are', () => {
  const line = new CommandLine({ prefix: ['sudo', '-n'] });
  expect(line.words('zfs', ['list', 'a b'])).toEqual(['sudo', '-n', 'zfs', 'list', 'a b']);
});

test('a remote shell gets each word quoted, with the locale before them', () => {
  const line = new CommandLine({ prefix: ['ssh', 'nas'], remoteShell: true, zpoolPath: '/sbin/zpool' });
  expect(line.words('zpool', ['list', "it's"])).toEqual([
    'ssh',
    'nas',
    'env',
    'LC_ALL=C',
    "'/sbin/zpool'",
    "'list'",
    "'it'\\''s'",
  ]);
});

test('a shell gives back what was quoted', async () => {
  const words = fc.array(
    fc.string({ unit: 'binary' }).filter((word) => !word.includes('\0')),
    { minLength: 1 },
  );
  await fc.assert(
    fc.asyncProperty(words, async (given) => {
      const script = `printf '%s\\0' ${given.map(quotedForShell).join(' ')}`;
      const { stdout } = await execa('sh', ['-c', script], { stripFinalNewline: false });
      expect(stdout.split('\0').slice(0, -1)).toEqual(given);
    }),
    { numRuns: 20 },
  );
});

test('long lists of names are split without losing one or its place', () => {
  const names = Array.from({ length: 5_000 }, (_, index) => `pool/some dataset of a longer name ${index}`);
  const batches = new CommandLine({}).batches(names);
  expect(batches.flat()).toEqual(names);
  expect(batches.length).toBeGreaterThan(1);
  for (const batch of batches) expect(batch.map(quotedForShell).join(' ').length).toBeLessThan(128 * 1024);
  expect(new CommandLine({}).batches([])).toEqual([]);
});

test('a semaphore lets no more in than its limit, and the others in order', async () => {
  const semaphore = new Semaphore(2);
  const order: number[] = [];
  const leave: (() => void)[] = [];
  const tasks = [0, 1, 2, 3].map((number) =>
    semaphore.run(async () => {
      order.push(number);
      await new Promise<void>((resolve) => leave.push(resolve));
    }),
  );
  await Promise.resolve();
  expect(order).toEqual([0, 1]);
  leave.shift()?.();
  await tasks[0];
  await expect.poll(() => order).toEqual([0, 1, 2]);
  leave.shift()?.();
  await expect.poll(() => order).toEqual([0, 1, 2, 3]);
  for (const each of leave) each();
  await Promise.all(tasks);
});
