/** What `zfs diff` tells of two snapshots (zfs-diff.8), as far as paths can say it. */
import { isPandoError } from '../../core/errors.ts';
import type { SnapshotReference } from '../zfs.ts';
import type { MomentaryMounts, MountedPlace } from './momentary-mounts.ts';
import type { Runner } from './runner.ts';
import { writtenName } from './streams.ts';

/** File types as `-F` prints them: a directory. */
const DIRECTORY = '/';
/** Where ZFS keeps attributes that are files of their own; it says so in place of a path. */
const ATTRIBUTE_DIRECTORY = '<xattrdir>';

/** See `Zfs.changedPaths`. It compares what is mounted, on both sides, which they are for as long as it takes. */
export async function changedPaths(
  runner: Runner,
  mounts: MomentaryMounts,
  from: SnapshotReference,
  to: SnapshotReference,
): Promise<readonly Buffer[] | null> {
  const action = `compare ${writtenName(from)} with ${writtenName(to)}`;
  const words = ['diff', '-FH', writtenName(from), writtenName(to)];
  const compare = async ({ mountpoint }: MountedPlace): Promise<readonly Buffer[] | null> =>
    pathsIn(await runner.lines({ words, action, names: [to.dataset] }), mountpoint);
  try {
    if (from.dataset === to.dataset) return await mounts.during(to.dataset, compare);
    return await mounts.during(from.dataset, () => mounts.during(to.dataset, compare));
  } catch (error) {
    if (isPandoError(error, 'ZFS_UNSUPPORTED')) return null;
    throw error;
  }
}

/**
 * The paths of all lines; null for what they do not tell in full: of a hard link that came or went only the file is named, and of a directory that was renamed nothing below.
 *
 * @internal Exported for tests.
 */
export function pathsIn(lines: readonly string[], mountpoint: string): readonly Buffer[] | null {
  const paths: Buffer[] = [];
  for (const line of lines) {
    const [change, type, ...columns] = line.split('\t');
    const isPlain = columns.length === (change === 'R' ? 2 : 1);
    if (!isPlain || (change === 'R' && type === DIRECTORY)) return null;
    for (const column of columns) {
      const path = below(mountpoint, unescaped(column));
      if (path === null) return null;
      paths.push(path);
    }
  }
  return paths;
}

/** Relative to the root; null for what is no path below it. */
function below(mountpoint: string, path: string): Buffer | null {
  if (path.includes(ATTRIBUTE_DIRECTORY)) return null;
  const root = Buffer.from(mountpoint).toString('latin1');
  const prefix = root === '/' ? root : `${root}/`;
  if (path !== root && !path.startsWith(prefix)) return null;
  return Buffer.from(path.slice(prefix.length), 'latin1');
}

/** Bytes that are no plain characters stand as a backslash and four octal digits (`stream_bytes` in libzfs_diff.c). In latin1: each character is a byte. */
function unescaped(text: string): string {
  return text.replace(/\\(0[0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
