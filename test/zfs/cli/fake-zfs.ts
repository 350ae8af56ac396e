import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { CliZfs, type CliZfsOptions } from '../../../src/zfs/cli/cli-zfs.ts';

const VERSIONS = {
  openzfs: { zfs: 'echo zfs-2.3.2-1; exit 0', zpool: '' },
  'zfs-fuse': {
    zfs: `echo "unrecognized command 'version'" >&2; exit 2`,
    zpool: '[ "$1" = upgrade ] && echo "This system is currently running ZFS pool version 23." && exit 0',
  },
};

interface FakeOptions extends CliZfsOptions {
  /** Which ZFS it passes for (default: OpenZFS 2.3.2). */
  readonly dialect?: keyof typeof VERSIONS;
}

/**
 * A driver whose `zfs` is a shell script, for what no ZFS does at will. It has a pool named `tank`; `script` is what it does for any command but
 * `version`.
 */
export async function fakeZfs(script: string, { dialect = 'openzfs', ...options }: FakeOptions = {}): Promise<CliZfs> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-fake-zfs-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const program = async (name: string, body: string): Promise<string> => {
    const path = join(directory, name);
    await writeFile(path, `#!/bin/sh\n${body}\n`);
    await chmod(path, 0o755);
    return path;
  };
  const { zfs, zpool } = VERSIONS[dialect];
  const zfsPath = await program('zfs', `if [ "$1" = version ]; then ${zfs}; fi\n${script}`);
  return new CliZfs({ zfsPath, zpoolPath: await program('zpool', `${zpool}\necho tank`), ...options });
}
