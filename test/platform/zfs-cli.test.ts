/**
 * The command line driver on a real ZFS: the one of this machine, which `ensureZfs` provides, and, if the environment variable
 * PANDO_TEST_ZFS_PREFIX is set to a JSON array of words (`["ssh", "root@nas"]`), the one of another machine through a remote shell
 * (without a shared ssh connection if dropbear answers there: see CommandLineOptions).
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import { createFilePool, type FilePool, uniquePoolName } from '../../peers/provision/file-pool.ts';
import { type DatasetName, poolOf } from '../../src/core/ids.ts';
import { CliZfs } from '../../src/zfs/cli/cli-zfs.ts';
import { zfsContract } from '../suites/zfs-contract.ts';
import type { ZfsUnderTest } from '../suites/zfs-world.ts';
import { remoteZfs } from './remote-zfs.ts';

const POOL_BYTES = 512 * 1024 * 1024;

zfsContract('CliZfs on this machine', localZfs);

const prefix = process.env.PANDO_TEST_ZFS_PREFIX;
if (prefix !== undefined) {
  zfsContract('CliZfs on another machine', () => remoteZfs(JSON.parse(prefix) as string[]));
}

/** Two pools on sparse files in a temporary directory. */
async function localZfs(): Promise<ZfsUnderTest> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-zfs-'));
  const opened: { zfs?: AvailableZfs; pools: FilePool[] } = { pools: [] };
  const cleanup = async (): Promise<void> => {
    for (const pool of opened.pools) await pool.destroy();
    await opened.zfs?.stop();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    opened.zfs = await ensureZfs();
    for (const purpose of ['a', 'b']) {
      const request = { directory: join(directory, purpose), name: uniquePoolName(purpose), sizeBytes: POOL_BYTES };
      opened.pools.push(await createFilePool(request));
    }
  } catch (error) {
    await cleanup();
    throw error;
  }
  const [pool, otherPool] = opened.pools as [FilePool, FilePool];
  // Reading a file would count as a modification
  await execa('zfs', ['set', 'atime=off', pool.name]);
  await execa('zfs', ['set', 'atime=off', otherPool.name]);
  const pathOf = (dataset: DatasetName, path: string): string => {
    const { mountpoint, name } = poolOf(dataset) === pool.name ? pool : otherPool;
    return join(mountpoint, dataset.slice(name.length), path);
  };
  return {
    zfs: new CliZfs(),
    pool: pool.name,
    otherPool: otherPool.name,
    writeFile: (dataset, path, text) => writeFile(pathOf(dataset, path), text),
    readFile: async (dataset, path) => {
      const { stdout } = await execa('zfs', ['get', '-H', '-o', 'value', 'mounted', dataset]);
      if (stdout.trim() === 'no') await execa('zfs', ['mount', dataset]);
      return readFile(pathOf(dataset, path), 'utf8');
    },
    cleanup,
  };
}
