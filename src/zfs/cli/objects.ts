import { statfs } from 'node:fs/promises';
import type { DatasetName } from '../../core/ids.ts';
import type { ZfsCapabilities } from '../zfs.ts';
import { mounted, unmount } from './mounts.ts';
import type { Runner } from './runner.ts';

/** How many objects a filesystem has: see `Zfs.objects`. */
export async function objects(runner: Runner, dialect: ZfsCapabilities['dialect'], name: DatasetName): Promise<number> {
  const counted = dialect === 'openzfs' ? await countedByOwner(runner, name) : 0;
  return counted > 0 ? counted : countedByMount(runner, dialect, name);
}

/** As OpenZFS counts them for quotas, mounted or not (zfs-userspace.8); 0 on a pool without the feature for that, since the root of the files is one. */
async function countedByOwner(runner: Runner, name: DatasetName): Promise<number> {
  const words = ['userspace', '-Hpn', '-o', 'objused', name];
  const lines = await runner.lines({ words, action: `count the files of ${name}`, names: [name] });
  return lines.reduce((sum, line) => sum + (Number.parseInt(line, 10) || 0), 0);
}

/** As the file system itself tells (statfs.2). */
async function countedByMount(runner: Runner, dialect: ZfsCapabilities['dialect'], name: DatasetName): Promise<number> {
  const { directory, wasMounted } = await mounted(runner, dialect, name);
  try {
    const { files, ffree } = await statfs(directory);
    return files - ffree;
  } finally {
    // Where somebody uses it by now, it stays
    if (!wasMounted) await unmount(runner, dialect, name).catch(() => undefined);
  }
}
