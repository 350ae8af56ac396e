/** The hierarchy that the demo builds with plain `zfs`, as an image builder would. */
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import type { DemoNode } from './stage.ts';

const KIB = 1024;
const BASE_FILES = 24;
const BASE_FILE_BYTES = 512 * KIB;
const LAYER_FILE_BYTES = 1024 * KIB;
const CONTAINER_FILE_BYTES = 64 * KIB;
const LAYERS = ['runtime', 'libraries', 'application'];
const CONTAINERS = ['web-1', 'web-2', 'worker-1', 'worker-2', 'cron'];

export const TREE_ROOT = 'images';

async function zfs(...words: readonly string[]): Promise<void> {
  await execa('zfs', words);
}

/** Writes a file below a dataset's mountpoint; random bytes, so that nothing compresses away. */
async function write(node: DemoNode, dataset: string, path: string, bytes: number): Promise<void> {
  const file = join(node.pool.mountpoint, TREE_ROOT, dataset, path);
  await mkdir(join(file, '..'), { recursive: true });
  await writeFile(file, randomBytes(bytes));
}

/** A base image with real files, three layers stacked on it as clones, five container roots cloned from the top, snapshots on each. */
export async function buildHierarchy(node: DemoNode): Promise<void> {
  const name = (dataset: string): string => `${node.pool.name}/${TREE_ROOT}${dataset === '' ? '' : `/${dataset}`}`;
  await zfs('create', name(''));
  await zfs('snapshot', `${name('')}@begin`);
  await zfs('create', name('base'));
  for (let file = 0; file < BASE_FILES; file += 1) await write(node, 'base', `usr/lib/file-${file}`, BASE_FILE_BYTES);
  await zfs('snapshot', `${name('base')}@unpacked`);
  await write(node, 'base', 'etc/patched', BASE_FILE_BYTES);
  await zfs('snapshot', `${name('base')}@patched`);
  let below = 'base@patched';
  for (const layer of LAYERS) {
    await zfs('clone', name(below), name(layer));
    await write(node, layer, `opt/${layer}`, LAYER_FILE_BYTES);
    await zfs('snapshot', `${name(layer)}@extracted`);
    below = `${layer}@extracted`;
  }
  for (const container of CONTAINERS) {
    await zfs('clone', name(below), name(container));
    for (const snapshot of ['started', 'warm']) {
      await write(node, container, `var/${snapshot}`, CONTAINER_FILE_BYTES);
      await zfs('snapshot', `${name(container)}@${snapshot}`);
    }
  }
}

/** New snapshots on two containers, and a new container. */
export async function changeHierarchy(node: DemoNode): Promise<void> {
  for (const container of ['web-1', 'worker-2']) {
    await write(node, container, 'var/today', CONTAINER_FILE_BYTES);
    await node.show('snapshot', `${TREE_ROOT}/${container}@today`);
  }
  await node.show('clone', `${TREE_ROOT}/application@extracted`, 'web-3');
  await write(node, 'web-3', 'var/started', CONTAINER_FILE_BYTES);
  await node.show('snapshot', `${TREE_ROOT}/web-3@started`);
}
