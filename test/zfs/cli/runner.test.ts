/** What a short command comes to whose output does not reach its end. */
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import type { Starter } from '../../../src/zfs/cli/children/child.ts';
import { CommandLine } from '../../../src/zfs/cli/command-line.ts';
import { Runner } from '../../../src/zfs/cli/runner.ts';

/** Starts commands that print one pool, end well, and whose output is then finished or taken away. */
function printing(finish: (stdout: PassThrough) => void): Starter {
  return {
    start: async (command) => {
      const stdout = new PassThrough();
      stdout.write('tank\n');
      stdout.once('data', () => finish(stdout));
      const ended = Promise.resolve({ exitCode: 0, stderr: '', started: true });
      return { command, stdin: null, stdout, ended, end: async () => void (await ended) };
    },
    close: async () => undefined,
  };
}

function runnerOn(starter: Starter): Runner {
  return new Runner(new CommandLine({}), starter, 1);
}

it('A listing that was heard to its end is what there is', async () => {
  const runner = runnerOn(printing((stdout) => void stdout.end()));
  expect(await runner.pools()).toEqual(['tank']);
});

it('A listing that was taken away in its middle has failed, however its command ended: what was not heard is not gone', async () => {
  const runner = runnerOn(printing((stdout) => void stdout.destroy()));
  await expect(runner.pools()).rejects.toMatchObject({ code: 'ZFS_FAILED' });
});
