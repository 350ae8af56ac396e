/** Who uses the files of a container root, as far as this machine's /proc tells (proc.5). */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { kill, pid as ownPid } from 'node:process';
import type { StoppedProcess } from '../../core/layer-events.ts';
import { parseMountTable } from '../../zfs/mount-table.ts';

/** A process that uses a root. */
export interface RootUser extends StoppedProcess {
  readonly name: string;
}

export interface RootUse {
  /** Processes that stand in its file system, run from it, or have a file of it open. */
  readonly users: readonly RootUser[];
  /** Where else than at its own place it is mounted, in any namespace. */
  readonly places: readonly string[];
}

interface ProcessState {
  readonly name: string;
  /** `T` for one that is stopped (proc_pid_stat.5). */
  readonly state: string;
  /** When it began, in ticks since the machine did: with the number, what no other process has. */
  readonly startedAt: string;
}

/** What of a process keeps a file system busy, beside the files that it has open. */
const PLACES = ['root', 'cwd', 'exe'] as const;
/** Fields of `/proc/PID/stat` behind the name: the state is the first, the time of the start the twentieth. */
const STARTED_AT = 19;
/** The first process: it cannot be stopped, and everything would wait for it. */
const INIT = 1;

/** Who uses the file system that is mounted at a directory. Nobody where nothing is mounted there: it would be those of the file system around it. */
export async function useOf(directory: string): Promise<RootUse> {
  const { dev } = await stat(directory);
  if (dev === (await stat(dirname(directory))).dev) return { users: [], places: [] };
  const users: RootUser[] = [];
  const mounts = new MountTables(dev, directory);
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === ownPid || pid === INIT) continue;
    await mounts.read(pid);
    if (!(await usesFiles(pid, dev))) continue;
    const state = await stateOf(pid);
    if (state !== undefined) users.push({ pid, startedAt: state.startedAt, name: state.name });
  }
  return { users, places: mounts.places() };
}

/** Lets processes wait while something is done, as a debugger would (signal.7). Those that were ended, or stopped by somebody else, are left as they are. */
export async function whileStopped<T>(processes: readonly StoppedProcess[], task: () => Promise<T>): Promise<T> {
  const stopped: StoppedProcess[] = [];
  try {
    for (const process of processes) {
      const state = await stateOf(process.pid);
      if (state?.startedAt !== process.startedAt || state.state === 'T') continue;
      if (send(process.pid, 'SIGSTOP')) stopped.push(process);
    }
    return await task();
  } finally {
    await letGoOn(stopped);
  }
}

/** Has processes go on that were stopped, where they still are the same. */
export async function letGoOn(processes: readonly StoppedProcess[]): Promise<void> {
  for (const { pid, startedAt } of processes) {
    if ((await stateOf(pid))?.startedAt === startedAt) send(pid, 'SIGCONT');
  }
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return kill(pid, signal);
  } catch {
    return false;
  }
}

/** Undefined for a process that there is not. */
async function stateOf(pid: number): Promise<ProcessState | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const [, name = '?', rest = ''] = /^\d+ \((.*)\) (.*)$/s.exec(text) ?? [];
  const fields = rest.trim().split(' ');
  const [state = '', startedAt] = [fields[0], fields[STARTED_AT]];
  return startedAt === undefined ? undefined : { name, state, startedAt };
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

/** Mount namespaces of this machine: many processes share one, which is read once. */
class MountTables {
  readonly #device: string;
  readonly #directory: string;
  readonly #read = new Set<string>();
  readonly #places = new Set<string>();

  constructor(dev: number, directory: string) {
    // As mountinfo writes it: proc_pid_mountinfo.5, glibc's sysmacros.h for how it lies in the number
    const major = (dev >>> 8) & 0xfff;
    const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
    this.#device = `${major}:${minor}`;
    this.#directory = directory;
  }

  places(): readonly string[] {
    return [...this.#places];
  }

  /** Looks where the namespace of a process has the file system. One that sees the whole machine below another directory has it at its own place, too. */
  async read(pid: number): Promise<void> {
    const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(() => undefined);
    if (namespace === undefined || this.#read.has(namespace)) return;
    this.#read.add(namespace);
    const table = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '');
    for (const { device, place } of parseMountTable(table)) {
      if (device === this.#device && !place.endsWith(this.#directory)) this.#places.add(place);
    }
  }
}
