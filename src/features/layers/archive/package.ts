/**
 * Packages what a tree changes over its parent as the tar of a layer (OCI image specification, layer.md "Representing Changes"). Applied to the parent, by `unpack.ts` or by another reader that follows
 * the specification, it gives the tree again.
 *
 * - Entries are sorted by the bytes of their paths, directories before what is in them. The whiteouts of a directory come before all else in it: readers that apply entries as they come would remove what was just made.
 * - What became another type is one entry: it replaces what was there. What was renamed is gone under one name and new under another.
 * - Sockets are left out, as by every packager. The label of SELinux is left out: it comes from the machine.
 * - The same trees give the same bytes on every machine, however the differences were found.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { PandoError } from '../../../core/errors.ts';
import { type Differences, findDifferences, split, whiteoutOf } from './differences.ts';
import { climbsOut } from './entry-names.ts';
import { checkNotAborted, failureAt } from './failures.ts';
import { shownName, unpackable } from './refusals.ts';
import { isHarmlessDevice } from './special-files.ts';
import type { TarHeader } from './tar-entry.ts';
import { formatEntry, paddingAfter, TAR_END } from './tar-writer.ts';
import { deviceOf, type Found, TreeSide } from './tree-side.ts';

/** How much of a file is read at once, and how much of the tar is handed on at least, in bytes. */
const CHUNK_BYTES = 256 * 1024;
const MODE_BITS = 0o7777n;
const SLASH = Buffer.from('/');
/** Sorts behind the directory itself and before all names in it: no name has one. */
const FIRST_IN_DIRECTORY = Buffer.from([0]);
const NOTHING = Buffer.alloc(0);

export interface PackageOptions {
  /** Absolute path of the tree below; null for the lowest layer, whose parent is an empty directory. */
  readonly parent: string | null;
  /** Absolute path of the tree. Neither changes meanwhile: both are snapshots. */
  readonly layer: string;
  /** Paths relative to the root outside of which nothing differs, as `zfs diff` tells them; null has both trees compared. */
  readonly candidates: readonly Buffer[] | null;
  readonly signal: AbortSignal;
}

/**
 * The tar, in chunks. Throws `ARCHIVE_INVALID` for what no layer can say, or no node would unpack: names that begin with `.wh.`, links that leave the root, devices; `PROGRAM_MISSING` without getfattr,
 * `PROGRAM_FAILED`, `ZFS_MODIFIED` where a file changed meanwhile, `ZFS_PERMISSION`, `ZFS_FAILED`, and the reason of the signal (or `TRANSFER_CANCELLED`).
 */
export async function* packageLayer(options: PackageOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const { candidates, signal } = options;
  checkNotAborted(signal);
  const parent = options.parent === null ? null : new TreeSide(options.parent, signal);
  const layer = new TreeSide(options.layer, signal);
  const differences = await findDifferences({ parent, layer }, candidates, signal);
  let held: Buffer[] = [];
  let bytes = 0;
  for await (const piece of writeLayer(layer, differences)) {
    checkNotAborted(signal);
    held.push(piece);
    bytes += piece.length;
    if (bytes < CHUNK_BYTES) continue;
    yield Buffer.concat(held);
    held = [];
    bytes = 0;
  }
  yield Buffer.concat(held);
}

async function* writeLayer(layer: TreeSide, { changed, gone }: Differences): AsyncGenerator<Buffer> {
  const items = [
    ...changed.map((found) => ({ key: keyOf(found), found, path: found.path })),
    ...gone.map((path) => ({ key: whiteoutKey(path), found: null, path })),
  ].sort((a, b) => a.key.compare(b.key));
  /** The first name of each inode that has several. */
  const firstNames = new Map<bigint, Buffer>();
  for (const { found, path } of items) {
    if (found === null) yield formatEntry({ ...whiteout, path: whiteoutOf(path) });
    else yield* writeFound(layer, found, firstNames);
  }
  yield TAR_END;
}

const whiteout: Omit<TarHeader, 'path'> = {
  type: 'file',
  linkPath: NOTHING,
  mode: 0,
  uid: 0,
  gid: 0,
  mtimeNs: 0n,
  size: 0,
  device: { major: 0, minor: 0 },
  xattrs: new Map(),
};

/** The name as it is in the archive: a slash ends that of a directory. The root's is empty here, and comes first. */
function keyOf({ type, path }: Found): Buffer {
  return type === 'directory' && path.length > 0 ? Buffer.concat([path, SLASH]) : path;
}

function whiteoutKey(path: Buffer): Buffer {
  const [directory, name] = split(path);
  const above = directory.length === 0 ? NOTHING : Buffer.concat([directory, SLASH]);
  return Buffer.concat([above, FIRST_IN_DIRECTORY, name]);
}

async function* writeFound(layer: TreeSide, found: Found, firstNames: Map<bigint, Buffer>): AsyncGenerator<Buffer> {
  const { type, path, stats } = found;
  const first = firstNames.get(stats.ino);
  const header = headerOf(layer, found);
  if (first !== undefined) {
    yield formatEntry({ ...header, type: 'hardlink', linkPath: first, size: 0, xattrs: new Map() });
    return;
  }
  if (type !== 'directory' && stats.nlink > 1n) firstNames.set(stats.ino, path);
  const linkPath = type === 'symlink' ? await targetOf(layer, found) : NOTHING;
  yield formatEntry({ ...header, linkPath });
  if (type === 'file') yield* contentOf(layer, found);
}

function headerOf(layer: TreeSide, found: Found): TarHeader {
  const { type, path, stats } = found;
  const isDevice = type.endsWith('device');
  const device = isDevice ? deviceOf(stats) : { major: 0, minor: 0 };
  if (isDevice && !isHarmlessDevice(type, device)) {
    throw unpackable(path, `is the device ${device.major}:${device.minor}, which no layer may bring`);
  }
  return {
    type,
    path: path.length === 0 ? Buffer.from('./') : keyOf(found),
    linkPath: NOTHING,
    mode: Number(stats.mode & MODE_BITS),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    mtimeNs: stats.mtimeNs,
    size: type === 'file' ? Number(stats.size) : 0,
    device,
    xattrs: layer.xattrs(path),
  };
}

async function targetOf(layer: TreeSide, { path }: Found): Promise<Buffer> {
  const target = await layer.linkTarget(path);
  const depth = path.filter((byte) => byte === SLASH[0]).length;
  if (climbsOut(target, depth)) throw unpackable(path, 'is a link that leaves the root');
  return target;
}

async function* contentOf(layer: TreeSide, { path, stats }: Found): AsyncGenerator<Buffer> {
  const size = Number(stats.size);
  if (size === 0) return;
  const file = await open(layer.pathOf(path)).catch((error: unknown) => Promise.reject(failureAt(path, error)));
  try {
    for (let at = 0; at < size; ) {
      const piece = await pieceOf(file, path, Math.min(CHUNK_BYTES, size - at));
      yield piece;
      at += piece.length;
    }
    yield paddingAfter(size);
  } finally {
    await file.close();
  }
}

async function pieceOf(file: FileHandle, path: Buffer, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  const { bytesRead } = await file
    .read(buffer, 0, bytes)
    .catch((error: unknown) => Promise.reject(failureAt(path, error)));
  if (bytesRead > 0) return buffer.subarray(0, bytesRead);
  const entry = shownName(path);
  throw new PandoError('ZFS_MODIFIED', `"${entry}" became shorter while it was packaged; package a snapshot instead.`, {
    entry,
  });
}
