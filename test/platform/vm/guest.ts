/** Pando and containerd in the machine with OpenZFS, which has none of what they need: Node, Debian's programs and their libraries come from this host. */
import { copyFile, cp, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { execa } from 'execa';
import { installPackages } from '../../../peers/provision/debian-packages.ts';
import { quotedForShell } from '../../../src/zfs/cli/command-line.ts';
import { CHECKOUT } from '../checkout.ts';
import type { Machine } from './machine.ts';

const PACKAGES = ['attr', 'busybox-static', 'containerd', 'runc'];
const PROGRAMS = ['containerd', 'containerd-shim-runc-v2', 'ctr', 'getfattr', 'perl', 'runc', 'setfattr'];
const LIBRARIES = '/lib/x86_64-linux-gnu';
const INSTALLED = '/opt/pando';
const CONFIG = '/etc/pando.yaml';
const DATA = '/var/lib/pando';
const CONTAINERD_SOCKET = '/run/containerd.sock';
const POOL_BYTES = 1024 ** 3;

const SETTINGS = `dataDirectory: ${DATA}
listen: 127.0.0.1:0
directPort: 0
observeEverySeconds: 86400
`;
const CONTAINERD_SETTINGS = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "${CONTAINERD_SOCKET}"
[proxy_plugins.pando]
  type = "snapshot"
  address = "${DATA}/snapshotter.sock"
`;

export class Guest {
  readonly pool = 'guest';
  readonly #ssh: readonly string[];
  #starts = 0;

  private constructor(ssh: readonly string[]) {
    this.#ssh = ssh;
  }

  /** Brings everything there, makes a pool, and starts the node and containerd, which end with the machine. */
  static async install({ ssh }: Machine): Promise<Guest> {
    const missing = await installPackages(PACKAGES);
    if (missing !== null) throw new Error(missing);
    const guest = new Guest(ssh);
    const pack = await mkdtemp(join(tmpdir(), 'pando-guest-'));
    try {
      await guest.#pack(pack);
      await execa('tar', ['-C', pack, '-cf', '-', '.'], { buffer: false }).pipe(...guest.#command('tar -xf - -C /'));
    } finally {
      await rm(pack, { recursive: true });
    }
    await guest.#makePlace();
    await guest.startNode();
    await guest.#start('containerd --config /etc/containerd.toml', 'successfully booted');
    return guest;
  }

  /** Runs a script there, and gives what it prints, without the newline at its end. Rejects when it fails. */
  async shell(script: string, input: string | Uint8Array = ''): Promise<string> {
    return (await execa(...this.#command(script), { input })).stdout;
  }

  async run(...words: string[]): Promise<string> {
    return this.shell(words.map(quotedForShell).join(' '));
  }

  pando(...words: string[]): Promise<string> {
    return this.run('node', `${INSTALLED}/dist/src/main.js`, '--config', CONFIG, ...words);
  }

  /** `ctr`, with Pando's snapshots where its command has to do with them. */
  ctr(command: string, ...words: string[]): Promise<string> {
    return this.run('ctr', '--address', CONTAINERD_SOCKET, ...command.split(' '), ...words);
  }

  /** `ctr run`; the root directory of the machine is its initial RAM disk, which cannot be pivoted away from (pivot_root.2). */
  runContainer(image: string, id: string, script: string, ...flags: string[]): Promise<string> {
    const words = ['--no-pivot', '--snapshotter', 'pando', ...flags, image, id, '/bin/sh', '-c', script];
    return this.ctr('run', ...words);
  }

  /** `environment` is added to what the node would have. */
  async startNode(environment: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.#start(`node ${INSTALLED}/dist/src/main.js --config ${CONFIG} serve`, '"Ready"', environment);
  }

  /** Ends the node as a crash does. */
  async killNode(): Promise<void> {
    await this.shell('kill -9 $(cat /run/node.pid); while kill -0 $(cat /run/node.pid) 2>/dev/null; do sleep 1; done');
  }

  /** What the node has said since it was started: lines of JSON. */
  said(): Promise<string> {
    return this.shell(`cat /run/said.${this.#starts - 1}`);
  }

  /** Makes the node's socket for containerd one of this host. */
  async forwardSnapshotter(socket: string): Promise<void> {
    const [program = '', ...words] = this.#ssh;
    await execa(program, ['-O', 'forward', '-L', `${socket}:${DATA}/snapshotter.sock`, ...words]);
  }

  #command(script: string): [string, string[]] {
    const [program = '', ...words] = this.#ssh;
    return [program, [...words, script]];
  }

  async #start(command: string, ready: string, environment: Readonly<Record<string, string>> = {}): Promise<void> {
    const said = `/run/said.${this.#starts}`;
    this.#starts += 1;
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${quotedForShell(value)} `);
    await this.shell(`${variables.join('')}${command} > ${said} 2>&1 < /dev/null & pid=$!
      echo $pid > /run/${command.split(' ')[0]}.pid
      until grep -q ${quotedForShell(ready)} ${said}; do kill -0 $pid || { cat ${said} >&2; exit 1; }; sleep 1; done`);
  }

  async #makePlace(): Promise<void> {
    await this.shell(`cat > ${CONFIG}`, SETTINGS);
    await this.shell('cat > /etc/containerd.toml', CONTAINERD_SETTINGS);
    const image = `/${this.pool}.img`;
    await this.shell(`mkdir -p ${DATA} /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
      truncate -s ${POOL_BYTES} ${image} && zpool create -O atime=off -m /${this.pool} ${this.pool} ${image}`);
  }

  async #pack(pack: string): Promise<void> {
    const there = new Set((await this.shell(`ls ${LIBRARIES}`)).split('\n'));
    const [programs, libraries, installed] = ['usr/bin', LIBRARIES, INSTALLED].map((path) => join(pack, path)) as [
      string,
      string,
      string,
    ];
    for (const directory of [programs, libraries, installed]) await mkdir(directory, { recursive: true });
    const found = await Promise.all(PROGRAMS.map(async (name) => [name, await pathOf(name)] as const));
    for (const [name, path] of [...found, ['node', process.execPath] as const]) {
      await copyFile(await realpath(path), join(programs, name));
      for (const library of await librariesOf(path)) {
        // One that is there is of the same release, and others need it as it is
        if (!there.has(basename(library))) await copyFile(library, join(libraries, basename(library)));
      }
    }
    for (const path of ['package.json', 'dist', ...(await modules())]) {
      await mkdir(join(installed, dirname(path)), { recursive: true });
      await cp(join(CHECKOUT, path), join(installed, path), { recursive: true });
    }
  }
}

async function pathOf(program: string): Promise<string> {
  return (await execa('sh', ['-c', 'command -v "$1"', 'sh', program])).stdout;
}

async function librariesOf(program: string): Promise<string[]> {
  const { stdout } = await execa('ldd', [program], { reject: false });
  return Array.from(stdout.matchAll(/=> (\/\S+)/g), ([, path = '']) => path);
}

/** Directories of what Pando needs at run time, below the checkout; those within another come with it. */
async function modules(): Promise<string[]> {
  const words = ['ls', '--omit=dev', '--all', '--parseable'];
  const { stdout } = await execa('npm', words, { cwd: CHECKOUT, reject: false });
  const below = stdout.split('\n').map((path) => relative(CHECKOUT, path));
  return below.filter((path) => path.startsWith('node_modules/') && !path.includes('/node_modules/'));
}
