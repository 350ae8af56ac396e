/** Machines as tests need them: with other programs, and with a file system that has no extended attributes. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { tempDirectory } from './temp-directory.ts';

/** Runs with these shell scripts before the programs of the machine; null has none of those. */
export async function withPrograms(
  scripts: Readonly<Record<string, string>> | null,
  run: () => Promise<void>,
): Promise<void> {
  const directory = await tempDirectory();
  for (const [name, script] of Object.entries(scripts ?? {})) {
    writeFileSync(join(directory, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(directory, name), 0o755);
  }
  const path = process.env.PATH ?? '';
  process.env.PATH = scripts === null ? directory : `${directory}:${path}`;
  try {
    await run();
  } finally {
    process.env.PATH = path;
  }
}

/** A directory on a file system that takes no extended attributes. */
export async function ramfs(): Promise<string> {
  const directory = join(await tempDirectory(), 'ramfs');
  mkdirSync(directory);
  execFileSync('mount', ['-t', 'ramfs', '-o', 'mode=755', 'none', directory]);
  onTestFinished(() => void execFileSync('umount', [directory]));
  return directory;
}
