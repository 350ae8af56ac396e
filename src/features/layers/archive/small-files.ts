/** Writes small files at once: see `turns.ts`. */
import { closeSync, fchmodSync, fchownSync, fstatSync, futimesSync, openSync, writeSync } from 'node:fs';
import { fileTime, needsExactTime } from './exact-times.ts';
import type { Attributes } from './tar-entry.ts';

const PERMISSION_BITS = 0o777;
const MODE_BITS = 0o7777;

/** What a new file has of itself, as far as that is known. */
export interface NewFiles {
  readonly uid: number;
  readonly gid: number;
  /** Permissions that it does not get, whatever is asked for. */
  readonly umask: number;
}

/** What files get that this process makes where nothing else decides, such as a directory that hands on its group. */
export function ownNewFiles(): NewFiles {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, umask: process.umask() };
}

/**
 * Makes a file that is not there yet, and sets of its attributes what a new one does not have already, and its time where Node can set it. `known` is what it has when it is new, null where that was not
 * found out. Gives whether it was like `own`. Throws a system error.
 */
export function writeSmallFile(
  path: Buffer,
  pieces: readonly Buffer[],
  { mode, uid, gid, mtimeNs }: Attributes,
  { own, isOwn }: { readonly own: NewFiles; readonly isOwn: boolean | null },
): boolean {
  // Never more than it is to be allowed: it may be in a directory that others get into
  const file = openSync(path, 'wx', mode & PERMISSION_BITS);
  try {
    for (const piece of pieces) writeAll(file, piece);
    const isLikeOwn = isOwn ?? isNewLike(own, file, mode);
    // A change of owner clears the set-user-ID bit (chown(2))
    if (!isLikeOwn || uid !== own.uid || gid !== own.gid) fchownSync(file, uid, gid);
    if (!isLikeOwn || (mode & ~PERMISSION_BITS) !== 0 || (mode & own.umask) !== 0) fchmodSync(file, mode);
    if (!needsExactTime(mtimeNs)) futimesSync(file, fileTime(mtimeNs), fileTime(mtimeNs));
    return isLikeOwn;
  } finally {
    closeSync(file);
  }
}

/** Directories may hand on their group (mkdir(2), "set-group-ID") and their access control list, and file systems may decide otherwise. */
function isNewLike({ uid, gid, umask }: NewFiles, file: number, mode: number): boolean {
  const stats = fstatSync(file);
  return stats.uid === uid && stats.gid === gid && (stats.mode & MODE_BITS) === (mode & PERMISSION_BITS & ~umask);
}

function writeAll(file: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
}
