import { open, readFile, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { PandoError } from '../../src/core/errors.ts';

/** How often a lock that someone else holds is looked at again. */
const RETRY_MS = 100;

/**
 * Runs `work` while this process alone holds the lock file, waiting for it at most `limitMs`. A lock whose owner has died is taken
 * over. Rejects with `ZFS_UNAVAILABLE` when the wait gets too long.
 */
export async function withSharedLock<T>(path: string, limitMs: number, work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + limitMs;
  while (!(await tryLock(path))) {
    if (Date.now() > deadline) {
      throw new PandoError(
        'ZFS_UNAVAILABLE',
        `Another process has been setting up ZFS for too long; end it or delete ${path}.`,
      );
    }
    await delay(RETRY_MS);
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

async function tryLock(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    await file.writeFile(String(process.pid));
    await file.close();
    return true;
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  const owner = Number(await readFile(path, 'utf8').catch(() => ''));
  // An empty file is one whose owner is about to write its pid
  if (owner > 0 && !isAlive(owner)) await rm(path, { force: true });
  return false;
}

/** Whether a process of that id runs. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return hasCode(error, 'EPERM');
  }
}

export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
