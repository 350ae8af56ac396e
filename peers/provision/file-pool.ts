import { randomBytes } from 'node:crypto';
import { mkdir, open, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { describeError, PandoError } from '../../src/core/errors.ts';

/** A mount may be in use for a moment after its last reader has gone: how often and how long apart a destroy is tried. */
const DESTROY_ATTEMPTS = 20;
const DESTROY_RETRY_MS = 250;

export interface FilePoolRequest {
  /** Where the pool's file and its mountpoint go; created if missing, and removed with the pool if then empty. */
  readonly directory: string;
  /** See {@link uniquePoolName}. */
  readonly name: string;
  /** Size of the sparse file in bytes; ZFS wants 64 MiB at least. */
  readonly sizeBytes: number;
}

/** A pool on a sparse file. */
export interface FilePool {
  readonly name: string;
  /** Where its root dataset is mounted. */
  readonly mountpoint: string;
  /** Destroys the pool and deletes its file. Calling it twice does nothing more. */
  destroy(): Promise<void>;
}

/** A pool name that no other run uses: `pando-<purpose>-<random>`. */
export function uniquePoolName(purpose: string): string {
  return `pando-${purpose}-${randomBytes(4).toString('hex')}`;
}

/** Creates a pool on a sparse file; on failure nothing is left. Rejects with `ZFS_FAILED` and what `zpool` said. */
export async function createFilePool({ directory, name, sizeBytes }: FilePoolRequest): Promise<FilePool> {
  await mkdir(directory, { recursive: true });
  const path = join(directory, 'pool.img');
  const mountpoint = join(directory, 'mnt');
  const removeFiles = async (): Promise<void> => {
    await rm(path, { force: true });
    // rmdir, never a recursive delete: a filesystem that is still mounted here must not be emptied
    for (const each of [mountpoint, directory]) await rmdir(each).catch(() => undefined);
  };
  try {
    const file = await open(path, 'wx');
    await file.truncate(sizeBytes);
    await file.close();
    await execa('zpool', ['create', '-m', mountpoint, name, path]);
  } catch (error) {
    await removeFiles();
    throw new PandoError(
      'ZFS_FAILED',
      `Cannot create the pool ${name}: ${describeError(error)}.`,
      {},
      { cause: error },
    );
  }
  let destroyed: Promise<void> | undefined;
  const destroy = (): Promise<void> => {
    destroyed ??= destroyPool(name).then(removeFiles);
    return destroyed;
  };
  return { name, mountpoint, destroy };
}

async function destroyPool(name: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const { exitCode, stderr } = await execa('zpool', ['destroy', '-f', name], { reject: false });
    if (exitCode === 0 || /no such pool/.test(stderr)) return;
    if (attempt === DESTROY_ATTEMPTS) {
      throw new PandoError('ZFS_BUSY', `Cannot destroy the pool ${name}: ${stderr.trim()}.`, { stderr });
    }
    await delay(DESTROY_RETRY_MS);
  }
}
