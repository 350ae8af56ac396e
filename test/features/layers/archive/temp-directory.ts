import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** A directory that is gone when the test is over, however it ends. */
export async function tempDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-layer-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** A root with an outside around it that tests look at. */
export async function tempRoot(): Promise<{ readonly outside: string; readonly root: string }> {
  const outside = await tempDirectory();
  const root = join(outside, 'root');
  await mkdir(root, { mode: 0o755 });
  return { outside, root };
}
