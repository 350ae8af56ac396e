/** Whether two files are the same for whoever reads a layer. */
import { type FileHandle, open } from 'node:fs/promises';
import { sameXattrs } from './attributes.ts';
import { failureAt } from './failures.ts';
import type { Found, TreeSide } from './tree-side.ts';

/** How much of two files is compared at once, in bytes. */
const COMPARED_BYTES = 256 * 1024;

/** Compares attributes, and contents where it takes that. Both are of one type. */
export async function isSame(parent: TreeSide, before: Found, layer: TreeSide, after: Found): Promise<boolean> {
  const [a, b] = [before.stats, after.stats];
  const isAlike =
    a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && a.mtimeNs === b.mtimeNs && a.rdev === b.rdev;
  if (!isAlike || !sameXattrs(parent.xattrs(before.path), layer.xattrs(after.path))) return false;
  if (after.type === 'symlink')
    return (await parent.linkTarget(before.path)).equals(await layer.linkTarget(after.path));
  if (after.type !== 'file') return true;
  if (a.size !== b.size) return false;
  // A clone of ZFS keeps these until somebody writes
  return (a.ino === b.ino && a.ctimeNs === b.ctimeNs) || hasSameContent(parent, layer, after.path);
}

async function hasSameContent(parent: TreeSide, layer: TreeSide, path: Buffer): Promise<boolean> {
  const files: FileHandle[] = [];
  try {
    for (const side of [parent, layer]) files.push(await open(side.pathOf(path)));
    const [before, after] = files;
    return before !== undefined && after !== undefined && (await readsTheSame(before, after));
  } catch (error) {
    throw failureAt(path, error);
  } finally {
    for (const file of files) await file.close();
  }
}

async function readsTheSame(before: FileHandle, after: FileHandle): Promise<boolean> {
  const [a, b] = [Buffer.alloc(COMPARED_BYTES), Buffer.alloc(COMPARED_BYTES)];
  for (;;) {
    const [{ bytesRead }, other] = await Promise.all([
      before.read(a, 0, COMPARED_BYTES),
      after.read(b, 0, COMPARED_BYTES),
    ]);
    if (bytesRead !== other.bytesRead || a.compare(b, 0, bytesRead, 0, bytesRead) !== 0) return false;
    if (bytesRead === 0) return true;
  }
}
