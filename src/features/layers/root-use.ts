/** Who uses the files of a container root, as far as this machine's /proc tells (proc.5). */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { kill, pid as ownPid } from 'node:process';

/** A process that uses a root. */
export interface RootUser {
  readonly pid: number;
  readonly name: string;
}

/** What of a process keeps a file system busy, beside the files that it has open. */
const PLACES = ['root', 'cwd', 'exe'] as const;

/**
 * The processes that stand in the file system which is mounted at a directory, run from it, have a file of it open, or have it mounted elsewhere. None where nothing is mounted there: it would be those of the
 * file system around it.
 */
export async function usersOf(directory: string): Promise<readonly RootUser[]> {
  const { dev } = await stat(directory);
  if (dev === (await stat(dirname(directory))).dev) return [];
  const users: RootUser[] = [];
  const mounts = new MountTables(dev, directory);
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === ownPid) continue;
    if ((await usesFiles(pid, dev)) || (await mounts.hasElsewhere(pid))) users.push({ pid, name: await nameOf(pid) });
  }
  return users;
}

/** Lets processes wait while something is done, as a debugger would (signal.7). Those that were ended meanwhile are passed over. */
export async function whileStopped<T>(users: readonly RootUser[], task: () => Promise<T>): Promise<T> {
  const stopped: number[] = [];
  try {
    for (const { pid } of users) if (send(pid, 'SIGSTOP')) stopped.push(pid);
    return await task();
  } finally {
    for (const pid of stopped) send(pid, 'SIGCONT');
  }
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return kill(pid, signal);
  } catch {
    return false;
  }
}

async function usesFiles(pid: number, dev: number): Promise<boolean> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const paths = [...PLACES, ...descriptors.map((descriptor) => `fd/${descriptor}`)];
  for (const path of paths) {
    const found = await stat(`/proc/${pid}/${path}`).catch(() => undefined);
    if (found?.dev === dev) return true;
  }
  return false;
}

async function nameOf(pid: number): Promise<string> {
  return (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim();
}

/** Mount namespaces of this machine: many processes share one, which is read once. */
class MountTables {
  readonly #device: string;
  readonly #directory: string;
  readonly #known = new Map<string, boolean>();

  constructor(dev: number, directory: string) {
    // As mountinfo writes it: proc_pid_mountinfo.5, glibc's sysmacros.h for how it lies in the number
    const major = (dev >>> 8) & 0xfff;
    const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
    this.#device = `${major}:${minor}`;
    this.#directory = directory;
  }

  /** Whether the process sees the file system at another place than its own. */
  async hasElsewhere(pid: number): Promise<boolean> {
    const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(() => undefined);
    if (namespace === undefined) return false;
    const known = this.#known.get(namespace);
    if (known !== undefined) return known;
    const table = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '');
    const found = table.split('\n').some((line) => {
      const [, , device, , place] = line.split(' ');
      return device === this.#device && unescaped(place) !== this.#directory;
    });
    this.#known.set(namespace, found);
    return found;
  }
}

/** What stands in octal digits in mountinfo: spaces, tabs, line ends, backslashes. */
function unescaped(place = ''): string {
  return place.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
