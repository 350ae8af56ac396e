import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LevelLog } from '../../src/log/level-log.ts';
import { logContract } from '../suites/log-contract.ts';

logContract('LevelLog', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-log-'));
  let log = await LevelLog.open(directory);
  return {
    log,
    reopen: async () => {
      await log.close();
      log = await LevelLog.open(directory);
      return log;
    },
    dispose: async () => {
      await log.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
