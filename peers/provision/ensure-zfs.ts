/**
 * Makes a ZFS available on this machine for the demo, the tests and the benchmarks: the kernel's, or zfs-fuse, which is installed
 * (Debian and its kin, as root) and started when need be.
 */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { PandoError } from '../../src/core/errors.ts';
import { hasProgram, installPackages } from './debian-packages.ts';
import { hasCode, isAlive, withSharedLock } from './shared-lock.ts';
import { startZfsFuse, stopZfsFuse, zfsAnswers } from './zfs-fuse-daemon.ts';

export interface AvailableZfs {
  readonly dialect: 'openzfs' | 'zfs-fuse';
  /** Whether this call started the daemon. */
  readonly started: boolean;
  /**
   * Says that this caller is done. Ends the daemon if this call started it, unless it has pools or other processes use it: then it
   * is left running. Calling it twice does nothing more.
   */
  stop(): Promise<void>;
}

/** Packages are downloaded while the lock is held: a slow mirror may take minutes. */
const LOCK_LIMIT_MS = 300_000;
const LOCK_PATH = join(tmpdir(), 'pando-provision.lock');
/** One empty file per user of the daemon, named by its process id. */
const USERS_DIRECTORY = join(tmpdir(), 'pando-zfs-users');

let registrations = 0;

/**
 * Finds or provides a ZFS; several processes may call it at once. Rejects with `ZFS_UNAVAILABLE` and one sentence on what to do when
 * there is none and none can be had.
 */
export function ensureZfs(): Promise<AvailableZfs> {
  return withSharedLock(LOCK_PATH, LOCK_LIMIT_MS, async () => {
    const pid = (await zfsAnswers()) ? null : await provide();
    const user = await register();
    const dialect = (await speaksOpenZfs()) ? 'openzfs' : 'zfs-fuse';
    return { dialect, started: pid !== null, stop: () => leave(user, pid) };
  });
}

/** Installs zfs-fuse if it is not there, starts it, and returns its process id; null where the package's own service came up. */
async function provide(): Promise<number | null> {
  if (process.getuid?.() !== 0) {
    throw unavailable('no ZFS answers, and only root can start one: run this as root, or load the ZFS kernel module');
  }
  if (!(await hasProgram('zfs-fuse'))) {
    if (await hasProgram('zpool')) {
      throw unavailable('OpenZFS is installed but its kernel module is not loaded: run "modprobe zfs"');
    }
    const inTheWay = await installPackages(['zfs-fuse']);
    if (inTheWay !== null) throw unavailable(inTheWay);
    if (await zfsAnswers()) return null;
  }
  return startZfsFuse();
}

/** zfs-fuse knows no `zfs version`. */
async function speaksOpenZfs(): Promise<boolean> {
  const { exitCode } = await execa('zfs', ['version'], { reject: false });
  return exitCode === 0;
}

async function register(): Promise<string> {
  registrations += 1;
  await mkdir(USERS_DIRECTORY, { recursive: true });
  const user = `${process.pid}-${registrations}`;
  await writeFile(join(USERS_DIRECTORY, user), '');
  return user;
}

async function leave(user: string, pid: number | null): Promise<void> {
  await withSharedLock(LOCK_PATH, LOCK_LIMIT_MS, async () => {
    await rm(join(USERS_DIRECTORY, user), { force: true });
    if (pid === null || (await othersUseIt()) || (await hasPools())) return;
    await stopZfsFuse(pid);
  });
}

async function othersUseIt(): Promise<boolean> {
  const users = await readdir(USERS_DIRECTORY).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  });
  const alive = users.filter((name) => isAlive(Number.parseInt(name, 10)));
  for (const gone of users.filter((name) => !alive.includes(name)))
    await rm(join(USERS_DIRECTORY, gone), { force: true });
  return alive.length > 0;
}

async function hasPools(): Promise<boolean> {
  const { exitCode, stdout } = await execa('zpool', ['list', '-H', '-o', 'name'], { reject: false });
  return exitCode === 0 && !stdout.startsWith('no pools available') && stdout.trim() !== '';
}

function unavailable(what: string): PandoError {
  return new PandoError('ZFS_UNAVAILABLE', `Cannot provide ZFS: ${what}.`);
}
