import { chmod } from 'node:fs/promises';

/** Everybody may enter the root of a container's file system; what lies in it says itself who may do what. */
const ROOT_MODE = 0o755;

export async function makeTraversable(directory: string): Promise<void> {
  await chmod(directory, ROOT_MODE);
}
