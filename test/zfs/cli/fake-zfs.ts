import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { CliZfs, type CliZfsOptions } from '../../../src/zfs/cli/cli-zfs.ts';

/**
 * A driver whose `zfs` is a shell script, for what no ZFS does at will. It calls itself OpenZFS 2.3.2 and has a pool named `tank`; `script` is what
 * it does for any command but `version`.
 */
export async function fakeZfs(script: string, options: CliZfsOptions = {}): Promise<CliZfs> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-fake-zfs-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const program = async (name: string, body: string): Promise<string> => {
    const path = join(directory, name);
    await writeFile(path, `#!/bin/sh\n${body}\n`);
    await chmod(path, 0o755);
    return path;
  };
  const zfsPath = await program('zfs', `[ "$1" = version ] && echo zfs-2.3.2-1 && exit 0\n${script}`);
  return new CliZfs({ zfsPath, zpoolPath: await program('zpool', 'echo tank'), ...options });
}
