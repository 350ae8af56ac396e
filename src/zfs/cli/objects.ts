import { statfs } from 'node:fs/promises';
import type { DatasetName } from '../../core/ids.ts';
import type { ZfsCapabilities } from '../zfs.ts';
import type { MomentaryMounts } from './momentary-mounts.ts';
import { directoryOf, requireHere } from './mounts.ts';
import type { Runner } from './runner.ts';

/** How many objects a filesystem has: see `Zfs.objects`. */
export async function objects(
  runner: Runner,
  mounts: MomentaryMounts,
  dialect: ZfsCapabilities['dialect'],
  name: DatasetName,
): Promise<number> {
  const counted = dialect === 'openzfs' ? await countedByOwner(runner, name) : 0;
  if (counted > 0) return counted;
  requireHere(runner, name);
  return mounts.during(name, async (place) => {
    // As the file system itself tells (statfs.2)
    const { files, ffree } = await statfs(await directoryOf(name, place));
    return files - ffree;
  });
}

/** As OpenZFS counts them for quotas, mounted or not (zfs-userspace.8); 0 on a pool without the feature for that, since the root of the files is one. */
async function countedByOwner(runner: Runner, name: DatasetName): Promise<number> {
  const words = ['userspace', '-Hpn', '-o', 'objused', name];
  const lines = await runner.lines({ words, action: `count the files of ${name}`, names: [name] });
  return lines.reduce((sum, line) => sum + (Number.parseInt(line, 10) || 0), 0);
}
