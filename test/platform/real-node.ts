/** A node on the real adapters, in this process: LevelDB, TLS on loopback, and a ZFS pool of its own on a file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createFilePool, type FilePool, uniquePoolName } from '../../peers/provision/file-pool.ts';
import type { DatasetName, TreeName } from '../../src/core/ids.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import { openAdapters, settingsOf } from '../../src/main/adapters.ts';
import { parseConfig } from '../../src/main/config.ts';
import { PandoNode } from '../../src/main/node.ts';
import type { Sealing } from '../../src/sync/sealing/sealing.ts';
import type { TransferProgress } from '../../src/transfer/progress.ts';
import type { Zfs } from '../../src/zfs/zfs.ts';

const POOL_BYTES = 512 * 1024 * 1024;
/** Built before these tests run (`build.mjs`), since what runs here is not compiled. */
const PROGRAMS = {
  sealing: fileURLToPath(new URL('../../dist/src/sync/sealing/program.js', import.meta.url)),
  launching: fileURLToPath(new URL('../../dist/src/zfs/cli/children/program.js', import.meta.url)),
};
/** Observers look when they are told to. */
const NEVER_SECONDS = 86_400;

/** Puts something between a node and its ZFS. */
type AroundZfs = (zfs: Zfs) => Zfs;

interface Running {
  readonly node: PandoNode;
  readonly sealing: Sealing;
}

export interface RealNode extends Running {
  readonly name: string;
  readonly pool: FilePool;
  readonly directory: string;
  readonly warnings: string[];
  /** Stops the daemon and leaves pool and data for {@link reopen}. */
  halt(): Promise<void>;
  /** Stops the daemon and removes all it had. */
  remove(): Promise<void>;
}

async function open(directory: string, warnings: string[], around: AroundZfs): Promise<Running> {
  const config = parseConfig(
    `dataDirectory: data\nlisten: 127.0.0.1:0\ndirectPort: 0\nfollow: false\nobserveEverySeconds: ${NEVER_SECONDS}\n`,
    join(directory, 'pando.yaml'),
  );
  const adapters = await openAdapters(config, (name) => warnings.push(`skipped ${name}`), PROGRAMS);
  const node = await PandoNode.open({
    adapters: { ...adapters, zfs: around(adapters.zfs) },
    settings: settingsOf(config),
    reporter: { info: () => undefined, warn: (message) => warnings.push(message) },
  });
  await node.start();
  return { node, sealing: adapters.sealing as Sealing };
}

function handle(
  { node, sealing }: Running,
  name: string,
  pool: FilePool,
  directory: string,
  warnings: string[],
): RealNode {
  let running: Promise<void> | undefined;
  const halt = (): Promise<void> => {
    running ??= node.stop();
    return running;
  };
  const remove = async (): Promise<void> => {
    await halt();
    await pool.destroy();
    await rm(directory, { recursive: true, force: true });
  };
  return { node, sealing, name, pool, directory, warnings, halt, remove };
}

export async function startRealNode(name: string, around: AroundZfs = (zfs) => zfs): Promise<RealNode> {
  const directory = await mkdtemp(join(tmpdir(), `pando-test-${name}-`));
  const poolRequest = { directory: join(directory, 'pool'), name: uniquePoolName(name), sizeBytes: POOL_BYTES };
  const pool = await createFilePool(poolRequest);
  const warnings: string[] = [];
  try {
    return handle(await open(directory, warnings, around), name, pool, directory, warnings);
  } catch (error) {
    await pool.destroy();
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

/** Starts a halted node again on what it left. */
export async function reopen(former: RealNode, around: AroundZfs = (zfs) => zfs): Promise<RealNode> {
  const warnings: string[] = [];
  const running = await open(former.directory, warnings, around);
  return handle(running, former.name, former.pool, former.directory, warnings);
}

/** Makes two nodes know each other at their current addresses; the owner shares all its trees. */
export async function introduceReal(owner: RealNode, follower: RealNode, trustedLink: boolean): Promise<void> {
  const theirs = { peer: follower.node.id, name: follower.name, address: follower.node.address };
  const ours = { peer: owner.node.id, name: owner.name, address: owner.node.address };
  await owner.node.peers.add({ ...theirs, trustedLink }, [{ trees: '*', role: 'reader' }]);
  await follower.node.peers.add({ ...ours, trustedLink });
}

export function syncTree(
  { node }: RealNode,
  tree: TreeName,
  { signal = new AbortController().signal, onProgress = (_: TransferProgress): void => undefined } = {},
): Promise<SyncReport> {
  return node.mirrors.sync(tree, { signal, onProgress, onPlan: () => undefined, refresh: true });
}

export function below(pool: FilePool, name: string): DatasetName {
  return `${pool.name}/${name}` as DatasetName;
}
