/** Nodes in one process, each with its API on a socket, and `pando` run against them as people would, without a process. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import type { CliDependencies } from '../../src/interfaces/cli/dependencies.ts';
import { runProgram } from '../../src/interfaces/cli/program.ts';
import { HttpClient } from '../../src/interfaces/http/client.ts';
import { type HttpServer, startHttpServer } from '../../src/interfaces/http/server.ts';
import type { DaemonServices } from '../../src/interfaces/http/services.ts';
import { introduce, MemoryWorld, type WorldNode } from '../main/memory-world.ts';
import { MemorySnapshots } from './memory-snapshots.ts';

export class TextSink extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    this.emit('text', this.text);
    done();
  }

  /** Resolves once what was written contains the words. */
  async contains(words: string): Promise<void> {
    while (!this.text.includes(words)) await new Promise((resolve) => this.once('text', resolve));
  }
}

export interface CliRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly isTTY?: boolean;
  readonly overrides?: Partial<CliDependencies>;
  readonly stdout?: TextSink;
}

/** Runs `pando` with these words and no node of its own: `overrides` say what it finds. */
export async function pando(words: readonly string[], { isTTY = false, overrides = {}, stdout }: CliOptions = {}) {
  const out = stdout ?? new TextSink();
  const err = new TextSink();
  const code = await runProgram(words, {
    version: '1.2.3',
    serve: async () => undefined,
    client: (socket) => new HttpClient(socket),
    readIdentity: async () => null,
    rotateKey: async () => 2,
    loadConfig: async () => ({ socket: join(tmpdir(), 'no-such-pando.sock'), dataDirectory: '/nowhere' }),
    stdout: out,
    stderr: err,
    isTTY,
    columns: () => 120,
    now: Date.now,
    onInterrupt: () => () => undefined,
    ...overrides,
  });
  return { code, stdout: out.text, stderr: err.text } satisfies CliRun;
}

export interface ServedNode extends WorldNode {
  readonly socket: string;
  readonly client: HttpClient;
  readonly server: HttpServer;
  /** Errors that the API kept from its clients. */
  readonly reports: unknown[];
  /** Runs `pando` against this node. */
  pando(words: readonly string[], options?: CliOptions): Promise<CliRun>;
}

export function servicesOf({ node, zfs, pool }: WorldNode): DaemonServices {
  return {
    node: node.id,
    version: '1.2.3',
    startedAt: node.startedAt,
    dataDirectory: '/var/lib/pando',
    rotateKey: async () => 2,
    address: node.address,
    history: node.history,
    trees: node.trees,
    operators: node.operators,
    mirrors: node.mirrors,
    ownership: node.ownership,
    diverged: node.diverged,
    peers: node.peers,
    grants: node.grants,
    invitations: node.invitations,
    limits: node.limits,
    notices: node.notices,
    presence: { name: pool, address: node.address, publicAddress: node.address },
    verifier: node.verifier,
    observer: node.observer,
    layers: node.layers,
    snapshots: new MemorySnapshots(),
    links: () => node.hub.status(),
    linkUses: node.linkUses,
    zfsCapabilities: () => zfs.capabilities(),
  };
}

type StartOptions = Parameters<MemoryWorld['start']> extends [string, ...infer Rest] ? Rest : never;

export class ServedWorld {
  readonly #world = new MemoryWorld();
  readonly #directory: string;
  readonly #servers: HttpServer[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async create(): Promise<ServedWorld> {
    return new ServedWorld(await mkdtemp(join(tmpdir(), 'pando-interfaces-')));
  }

  /** Starts a node as {@link MemoryWorld.start}, with its API. */
  async start(name: string, ...how: StartOptions): Promise<ServedNode> {
    const worldNode = await this.#world.start(name, ...how);
    const socket = join(this.#directory, `${name}.sock`);
    const reports: unknown[] = [];
    const server = await startHttpServer({
      socket,
      services: servicesOf(worldNode),
      report: (error) => reports.push(error),
    });
    this.#servers.push(server);
    return {
      ...worldNode,
      socket,
      server,
      reports,
      client: new HttpClient(socket),
      pando: (words, options) => pando([...words, '--socket', socket], options),
    };
  }

  /** Two nodes that know each other; `build` shares all its trees with `backup`. */
  async startPair(zfsOptions?: StartOptions[1]): Promise<{ readonly build: ServedNode; readonly backup: ServedNode }> {
    const build = await this.start('build');
    const backup = await this.start('backup', undefined, zfsOptions);
    await introduce(build, backup);
    return { build, backup };
  }

  async stop(): Promise<void> {
    for (const server of this.#servers.splice(0)) await server.close();
    await this.#world.stop();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
