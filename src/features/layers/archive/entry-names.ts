/** What names of entries mean in a layer (OCI image specification, layer.md "Whiteouts"), and which are refused. */
import { refusedEntry } from './refusals.ts';

export const WHITEOUT_PREFIX = '.wh.';
const OPAQUE = '.wh..wh..opq';
const SLASH = '/';

/** Where an entry belongs: names from the root down, each character one byte (latin1). */
export interface EntryName {
  /** The directories above it. */
  readonly parents: readonly string[];
  /** Empty for the root itself. */
  readonly name: string;
  /** What it stands for: the entry itself, the absence of another one below, or of all in its directory. */
  readonly kind: 'entry' | 'whiteout' | 'opaque';
}

/** Reads a name. Throws `ARCHIVE_INVALID` for an absolute one, one with `..`, and a whiteout of nothing, `.` or `..`. */
export function parseEntryName(path: Buffer): EntryName {
  const text = path.toString('latin1');
  if (text.startsWith(SLASH)) throw refusedEntry(path, 'has an absolute name');
  const parts = text.split(SLASH).filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw refusedEntry(path, 'has ".." in its name');
  const name = parts.pop() ?? '';
  if (parts.some((part) => part.startsWith(WHITEOUT_PREFIX))) throw refusedEntry(path, 'is below a whiteout');
  if (name === OPAQUE) return { parents: parts, name, kind: 'opaque' };
  if (!name.startsWith(WHITEOUT_PREFIX)) return { parents: parts, name, kind: 'entry' };
  const hidden = name.slice(WHITEOUT_PREFIX.length);
  if (['', '.', '..'].includes(hidden)) throw refusedEntry(path, 'is a whiteout of nothing, or of a directory above');
  return { parents: parts, name: hidden, kind: 'whiteout' };
}

/** Whether a relative target leaves the root when it is followed from `depth` directories below that. Absolute ones begin at the root, and `..` there stays. */
export function climbsOut(target: Buffer, depth: number): boolean {
  const text = target.toString('latin1');
  if (text.startsWith(SLASH)) return false;
  let level = depth;
  for (const part of text.split(SLASH)) {
    if (part === '..') level -= 1;
    else if (part !== '' && part !== '.') level += 1;
    if (level < 0) return true;
  }
  return false;
}
