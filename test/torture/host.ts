/**
 * A host of its own on this machine: a mount and a network namespace, with a zfs-fuse, a pool and a running node in it. What is killed or cut here is really
 * killed and cut, and nobody else notices. Needs root, /dev/fuse, util-linux and iproute2.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import type { DatasetName } from '../../src/core/ids.ts';
import { CliZfs } from '../../src/zfs/cli/cli-zfs.ts';

/** The built program, whether this file is built itself or run as it is. */
const CHECKOUT = new URL('../../', import.meta.url);
const BUILT = ['src/main.js', 'dist/src/main.js'].map((path) => fileURLToPath(new URL(path, CHECKOUT)));
/** What the process that starts a node's commands calls itself (`zfs/cli/children/program.ts`). */
const LAUNCHER_TITLE = 'pando: starts zfs';
/** zfs-fuse keeps its socket, locks, pool cache and keys there; with those of another daemon it would import that one's pools. */
const ZFS_DIRECTORIES = ['/run/zfs', '/var/lock/zfs', '/var/lib/zfs', '/etc/zfs'];
const POOL_BYTES = 3 * 1024 ** 3;
/** A program that is not ready by then, in ms, will not be. */
const START_LIMIT_MS = 60_000;
const POLL_MS = 50;
/** What a node said last, in characters. */
const SAID_KEPT = 64 * 1024;

export interface HostOptions {
  readonly name: string;
  /** Its address on the link, and how it is called there. */
  readonly address: string;
  readonly interface: string;
  /** Lines of YAML that its node is configured with beside those that every one is. */
  readonly settings?: string;
}

/** One program in the namespaces of a host. */
interface Program {
  readonly process: ChildProcess;
  readonly pid: number;
}

/** Where datasets are mounted, without what is mounted below those: unmounted lazily they take that along, also where the daemon behind them is gone. */
async function zfsMounts(enter: readonly string[]): Promise<string[]> {
  const { stdout } = await execa('nsenter', [...enter, 'cat', '/proc/self/mounts']);
  const mounts = stdout.split('\n').map((line) => line.split(' '));
  const paths = mounts.flatMap(([, path, type]) => (path !== undefined && type === 'fuse.zfs' ? [path] : []));
  return paths.filter((path) => !paths.some((other) => path.startsWith(`${other}/`)));
}

export class Host {
  readonly name: string;
  readonly pool: string;
  readonly address: string;
  readonly zfs: CliZfs;
  readonly directory: string;
  readonly #interface: string;
  /** Keeps the namespaces alive. */
  readonly #anchor: Program;
  readonly #zfsFuse: Program;
  #node: Program | undefined;
  #said = '';

  private constructor(options: HostOptions, directory: string, anchor: Program, zfsFuse: Program) {
    this.name = options.name;
    this.pool = `torture-${options.name}`;
    this.address = options.address;
    this.directory = directory;
    this.#interface = options.interface;
    this.#anchor = anchor;
    this.#zfsFuse = zfsFuse;
    this.zfs = new CliZfs({ prefix: this.#inside() });
  }

  static async start(options: HostOptions): Promise<Host> {
    for (const path of ZFS_DIRECTORIES) await mkdir(path, { recursive: true });
    const directory = await mkdtemp(join(tmpdir(), `pando-torture-${options.name}-`));
    const anchor = started('unshare', ['--mount', '--net', '--propagation', 'private', 'sleep', 'infinity']);
    await untilTrue(async () => (await namespaceOf(anchor.pid)) !== (await namespaceOf(process.pid)));
    const enter = insideOf(anchor.pid);
    // A dataset that other tests have mounted would stay in use here for as long as this host lives
    for (const path of await zfsMounts(enter)) await execa('nsenter', [...enter, 'umount', '--lazy', path]);
    for (const path of ZFS_DIRECTORIES) await execa('nsenter', [...enter, 'mount', '-t', 'tmpfs', 'tmpfs', path]);
    const zfsFuse = started('nsenter', [...enter, 'zfs-fuse', '--no-daemon', '--no-kstat-mount']);
    const answers = async () => (await execa('nsenter', [...enter, 'zpool', 'list'], { reject: false })).exitCode === 0;
    await untilTrue(answers);
    const host = new Host(options, directory, anchor, zfsFuse);
    await host.#createPool(options.settings ?? '');
    return host;
  }

  get pid(): number {
    return this.#anchor.pid;
  }

  /** Where the files of a dataset are, in the mount namespace of the host. */
  pathOf(dataset: string, ...below: string[]): string {
    return join(this.directory, 'mnt', dataset.slice(this.pool.length), ...below);
  }

  /** Runs a program in the host and gives what it prints. */
  async run(program: string, ...words: string[]): Promise<string> {
    return (await execa('nsenter', [...insideOf(this.pid), program, ...words], { stdin: 'ignore' })).stdout;
  }

  /** Writes a file of a dataset; not where it cannot be mounted, say because something else stands in the place. */
  async write(dataset: DatasetName, path: string, content: Buffer): Promise<void> {
    const isMounted = (await this.run('zfs', 'get', '-H', '-o', 'value', 'mounted', dataset)).trim() === 'yes';
    if (!isMounted && (await this.#tried('zfs', 'mount', dataset)) !== 0) return;
    const words = [...insideOf(this.pid), 'tee', this.pathOf(dataset, path)];
    const written = await execa('nsenter', words, { input: content, stdout: 'ignore', reject: false });
    // A rename that was killed between unmounting and mounting can leave a dataset at a place that is gone
    if (written.failed && !written.stderr.includes('No such file or directory')) throw new Error(written.stderr);
  }

  /** Runs a `pando` command against this host's node. Resolves to its exit code and what it printed, however it ends. */
  async pando(
    ...words: string[]
  ): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
    const all = [...insideOf(this.pid), process.execPath, builtProgram(), '--config', this.#config, ...words];
    const { exitCode, stdout, stderr } = await execa('nsenter', all, { reject: false, stdin: 'ignore' });
    return { code: exitCode ?? -1, stdout, stderr };
  }

  /** `environment` is added to that of this process. */
  async startNode(environment: NodeJS.ProcessEnv = {}): Promise<void> {
    if (this.#node !== undefined && isRunning(this.#node)) return;
    const words = [...insideOf(this.pid), process.execPath, builtProgram(), '--config', this.#config, 'serve'];
    const env = { ...process.env, ...environment };
    const node = spawn('nsenter', words, { stdio: ['ignore', 'ignore', 'pipe'], detached: true, env });
    this.#said = '';
    node.stderr?.on('data', (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString()).slice(-SAID_KEPT);
    });
    this.#node = { process: node, pid: node.pid ?? 0 };
    await untilTrue(async () => {
      if (!isRunning(this.#node as Program)) throw new Error(`The node of ${this.name} did not start: ${this.#said}`);
      return this.#said.includes('"Ready"');
    });
  }

  /** What the node has said since it was started: lines of JSON. */
  get said(): string {
    return this.#said;
  }

  /** Starts a program in the host, whose standard error is for the caller to read. */
  spawn(program: string, ...words: string[]): ChildProcess {
    return spawn('nsenter', [...insideOf(this.pid), program, ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
  }

  /** As a power cut does. */
  async killNode(): Promise<void> {
    await end(this.#node, 'SIGKILL');
  }

  /** Kills one of the `zfs` processes of the host; false when none is running. */
  async killZfs(pick: number): Promise<boolean> {
    const running = await this.zfsProcesses();
    return killed(running[pick % Math.max(1, running.length)]);
  }

  /** Kills the process that starts the node's commands; false when there is none. */
  async killLauncher(): Promise<boolean> {
    const [pid] = await this.#processesThat('cmdline', (words) => words.startsWith(LAUNCHER_TITLE));
    return killed(pid);
  }

  /** Process ids of what runs as `zfs` in the host. */
  zfsProcesses(): Promise<number[]> {
    return this.#processesThat('comm', (command) => command.trim() === 'zfs');
  }

  /** Process ids of what says so of itself in a file below `/proc/PID`. */
  async #processesThat(file: 'comm' | 'cmdline', isMeant: (content: string) => boolean): Promise<number[]> {
    const found: number[] = [];
    for (const pid of await this.#processes()) {
      if (isMeant(await readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => ''))) found.push(pid);
    }
    return found;
  }

  /** What a process is, for people: its state and its words. */
  async describeProcess(pid: number): Promise<string> {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0').join(' ');
    const [, state = 'gone'] = /^State:\s+(.*)$/m.exec(status) ?? [];
    const [, parent = ''] = /^PPid:\s+(.*)$/m.exec(status) ?? [];
    return `process ${pid} (${words.trim()}; ${state}, child of ${parent})`;
  }

  async setLink(state: 'up' | 'down'): Promise<void> {
    await this.run('ip', 'link', 'set', this.#interface, state);
  }

  /** Ends everything and removes what it left. */
  async remove(): Promise<void> {
    await end(this.#node, 'SIGTERM');
    await this.#endOthers();
    await execa('nsenter', [...insideOf(this.pid), 'zpool', 'destroy', '-f', this.pool], { reject: false });
    await end(this.#zfsFuse, 'SIGTERM');
    await end(this.#anchor, 'SIGKILL');
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Ends what programs in the host have started and left. */
  async #endOthers(): Promise<void> {
    for (const pid of await this.#processes()) {
      if (pid === this.#anchor.pid || pid === this.#zfsFuse.pid) continue;
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended in this moment
      }
    }
  }

  /** Process ids of all that runs in the host, and of nothing else: nobody but it has these namespaces. */
  async #processes(): Promise<number[]> {
    const own = await namespaceOf(this.pid);
    if (own === '') return [];
    const found: number[] = [];
    for (const entry of await readdir('/proc')) {
      if (/^[0-9]+$/.test(entry) && (await namespaceOf(Number(entry))) === own) found.push(Number(entry));
    }
    return found;
  }

  async #tried(program: string, ...words: string[]): Promise<number> {
    const { exitCode } = await execa('nsenter', [...insideOf(this.pid), program, ...words], { reject: false });
    return exitCode ?? -1;
  }

  get #config(): string {
    return join(this.directory, 'pando.yaml');
  }

  #inside(): string[] {
    return ['nsenter', ...insideOf(this.#anchor.pid)];
  }

  async #createPool(settings: string): Promise<void> {
    const image = join(this.directory, 'pool.img');
    await writeFile(image, '');
    await truncate(image, POOL_BYTES);
    await this.run('zpool', 'create', '-O', 'atime=off', '-m', join(this.directory, 'mnt'), this.pool, image);
    const listen = `listen: "${this.address}:7380"`;
    await writeFile(this.#config, `dataDirectory: data\n${listen}\nfollow: false\nlog: { format: json }\n${settings}`);
  }
}

/** Joins two hosts by a link that can be cut at either end. */
export async function connect(one: Host, other: Host, interfaces: readonly [string, string]): Promise<void> {
  const [first, second] = interfaces;
  const peer = ['peer', 'name', second, 'netns', String(other.pid)];
  await execa('ip', ['link', 'add', first, 'netns', String(one.pid), 'type', 'veth', ...peer]);
  for (const [host, name] of [
    [one, first],
    [other, second],
  ] as const) {
    await host.run('ip', 'link', 'set', 'lo', 'up');
    await host.run('ip', 'address', 'add', `${host.address}/24`, 'dev', name);
    await host.setLink('up');
  }
}

function insideOf(pid: number): string[] {
  return ['--target', String(pid), '--mount', '--net', '--'];
}

/** The daemon and its commands, as `npm run build` makes them. */
export function builtProgram(): string {
  const program = BUILT.find((path) => existsSync(path));
  if (program === undefined) throw new Error('There is no built program; "npm run build" makes it.');
  return program;
}

function started(program: string, words: readonly string[]): Program {
  const child = spawn(program, words, { stdio: 'ignore', detached: true });
  return { process: child, pid: child.pid ?? 0 };
}

function isRunning({ process: child }: Program): boolean {
  return child.exitCode === null && child.signalCode === null;
}

async function end(program: Program | undefined, signal: NodeJS.Signals): Promise<void> {
  if (program === undefined || !isRunning(program)) return;
  const ended = once(program.process, 'exit');
  process.kill(program.pid, signal);
  await ended;
}

async function namespaceOf(pid: number): Promise<string> {
  return readlink(`/proc/${pid}/ns/mnt`).catch(() => '');
}

export async function untilTrue(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + START_LIMIT_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('It did not come about in time.');
    await delay(POLL_MS);
  }
}

function killed(pid: number | undefined): boolean {
  if (pid === undefined) return false;
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch {
    // It ended in this moment
    return false;
  }
}
