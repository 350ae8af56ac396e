import { lstat, readdir, rmdir, unlink } from 'node:fs/promises';
import { systemCode } from './failures.ts';

const SLASH = Buffer.from('/');

/** Removes what is at a path, with all below it, and follows no links. Nothing there is nothing to do. Names are bytes, which `rm` of Node does not promise. */
export async function removeTree(path: Buffer): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    if (!(await lstat(path)).isDirectory()) throw error;
    for (const name of await readdir(path, 'buffer')) await removeTree(Buffer.concat([path, SLASH, name]));
    await rmdir(path);
  }
}
