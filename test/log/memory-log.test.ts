import { MemoryLog } from '../../src/log/memory-log.ts';
import { logContract } from '../suites/log-contract.ts';

logContract('MemoryLog', async () => {
  const log = new MemoryLog();
  return { log, reopen: null, dispose: () => log.close() };
});
