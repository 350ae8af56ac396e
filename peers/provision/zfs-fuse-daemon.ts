import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { PandoError } from '../../src/core/errors.ts';
import { isAlive } from './shared-lock.ts';

/** How long the daemon may take until it answers, and to end. It was seen to need 0.3 s; a busy machine takes longer. */
const START_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 30_000;
const POLL_MS = 50;

/** Whether `zpool` finds a ZFS to talk to. */
export async function zfsAnswers(): Promise<boolean> {
  const { exitCode } = await execa('zpool', ['list', '-H', '-o', 'name'], { reject: false });
  return exitCode === 0;
}

/**
 * Starts zfs-fuse in a process group of its own, so that a Ctrl-C at the terminal does not take it down under mounted pools, and
 * waits until it answers. Returns its process id. Rejects with `ZFS_UNAVAILABLE` and what the daemon said when it does not come up.
 */
export async function startZfsFuse(): Promise<number> {
  for (const directory of ['/run/zfs', '/var/lock/zfs']) await mkdir(directory, { recursive: true });
  const logPath = join(tmpdir(), `pando-zfs-fuse-${process.pid}.log`);
  const log = await open(logPath, 'w');
  try {
    const daemon = spawn('zfs-fuse', ['--no-daemon', '--no-kstat-mount'], {
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    });
    await once(daemon, 'spawn');
    daemon.unref();
    const { pid } = daemon;
    if (pid === undefined || !(await comesUp(pid))) {
      const output = (await readFile(logPath, 'utf8')).trim();
      throw new PandoError(
        'ZFS_UNAVAILABLE',
        `zfs-fuse does not start (it needs root and /dev/fuse): ${output || 'it said nothing'}.`,
      );
    }
    return pid;
  } finally {
    await log.close();
    await rm(logPath, { force: true });
  }
}

async function comesUp(pid: number): Promise<boolean> {
  const deadline = Date.now() + START_LIMIT_MS;
  while (Date.now() < deadline && isAlive(pid)) {
    if (await zfsAnswers()) return true;
    await delay(POLL_MS);
  }
  return false;
}

/** Ends the daemon of that id and waits until it is gone; its pools stay on their disks. */
export async function stopZfsFuse(pid: number): Promise<void> {
  if (!isAlive(pid)) return;
  process.kill(pid, 'SIGTERM');
  const deadline = Date.now() + STOP_LIMIT_MS;
  while (isAlive(pid)) {
    if (Date.now() > deadline) {
      throw new PandoError(
        'ZFS_BUSY',
        `zfs-fuse (process ${pid}) does not end; something is still using its filesystems.`,
      );
    }
    await delay(POLL_MS);
  }
}
