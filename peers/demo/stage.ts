/** What the demo stands on: two pools, two running nodes, and the way back from all of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { describeError, PandoError } from '../../src/core/errors.ts';
import { ensureZfs } from '../provision/ensure-zfs.ts';
import { createFilePool, type FilePool, uniquePoolName } from '../provision/file-pool.ts';

const POOL_BYTES = 1024 * 1024 * 1024;
const PANDO = new URL('../../src/main.js', import.meta.url).pathname;
/** A node that is not ready by then, in ms, will not be. */
const START_LIMIT_MS = 30_000;
/** A node drains in seconds; see `serve`. */
const STOP_LIMIT_MS = 15_000;
/** What a node that does not start said last. */
const SAID_CHARACTERS_KEPT = 4096;

/** Things to be undone, last first, however the demo ends. */
export class Stage {
  readonly #undo: (() => Promise<unknown>)[] = [];
  #clearing: Promise<void> | undefined;

  /** Remembers how to undo what was just done. */
  defer(undo: () => Promise<unknown>): void {
    this.#undo.push(undo);
  }

  /** Undoes everything; each part even when another fails. Calling it twice does it once. */
  clear(): Promise<void> {
    this.#clearing ??= this.#clear();
    return this.#clearing;
  }

  async #clear(): Promise<void> {
    for (const undo of this.#undo.splice(0).reverse()) {
      await undo().catch((error: unknown) => {
        process.stderr.write(`Not cleaned up: ${describeError(error)}\n`);
      });
    }
  }
}

/** A node of the demo: a process of its own, with a pool of its own. */
export interface DemoNode {
  readonly name: string;
  readonly pool: FilePool;
  readonly address: string;
  /** Runs a `pando` command against this node and gives what it prints. */
  pando(...words: readonly string[]): Promise<string>;
  /** Runs it with its output going straight to the person. */
  show(...words: readonly string[]): Promise<void>;
}

/** Resolves once the node says that it is ready; rejects with what it said instead. */
function ready(node: ChildProcess, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    const refuse = (): void => reject(new PandoError('INTERNAL', `Node "${name}" did not start: ${said.trim()}`));
    const limit = setTimeout(refuse, START_LIMIT_MS);
    node.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-SAID_CHARACTERS_KEPT);
      if (!said.includes('"Ready"')) return;
      clearTimeout(limit);
      resolve();
    });
    node.once('exit', () => {
      clearTimeout(limit);
      refuse();
    });
  });
}

async function stop(node: ChildProcess): Promise<void> {
  if (node.exitCode !== null || node.signalCode !== null) return;
  const ended = once(node, 'exit', { signal: AbortSignal.timeout(STOP_LIMIT_MS) });
  node.kill('SIGTERM');
  await ended;
}

async function startNode(stage: Stage, name: string): Promise<DemoNode> {
  const directory = await mkdtemp(join(tmpdir(), `pando-demo-${name}-`));
  stage.defer(() => rm(directory, { recursive: true, force: true }));
  const pool = await createFilePool({
    directory: join(directory, 'pool'),
    name: uniquePoolName(name),
    sizeBytes: POOL_BYTES,
  });
  stage.defer(() => pool.destroy());
  const config = join(directory, 'pando.yaml');
  await writeFile(config, 'dataDirectory: data\nlisten: 127.0.0.1:0\nfollow: false\nlog: { format: json }\n');
  const common = ['--config', config];
  // In a process group of its own: Ctrl-C is for the demo, which then stops its nodes in order.
  const node = spawn(process.execPath, [PANDO, ...common, 'serve'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  stage.defer(() => stop(node));
  await ready(node, name);
  const run = (words: readonly string[], stdout: 'pipe' | 'inherit') =>
    execa(process.execPath, [PANDO, ...common, ...words], { stdin: 'ignore', stdout, stderr: 'inherit' });
  const pando = async (...words: readonly string[]) => (await run(words, 'pipe')).stdout ?? '';
  const status = JSON.parse(await pando('status', '--json')) as { address: string };
  return {
    name,
    pool,
    address: status.address,
    pando,
    show: async (...words) => {
      process.stdout.write(`\n  ${name}$ pando ${words.join(' ')}\n`);
      await run(words, 'inherit');
    },
  };
}

/** Provides ZFS and starts both nodes. Rejects with `ZFS_UNAVAILABLE` and what to do where there is none and none can be had. */
export async function setUp(stage: Stage): Promise<{ readonly studio: DemoNode; readonly laptop: DemoNode }> {
  const zfs = await ensureZfs();
  stage.defer(() => zfs.stop());
  process.stdout.write(`ZFS: ${zfs.dialect}${zfs.started ? ', started for this demo' : ''}\n`);
  const studio = await startNode(stage, 'studio');
  const laptop = await startNode(stage, 'laptop');
  return { studio, laptop };
}
