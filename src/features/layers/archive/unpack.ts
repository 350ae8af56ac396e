/**
 * Applies the tar of a layer to a directory, as containerd does (OCI image specification, layer.md "Applying Changesets"). What an archive may do:
 *
 * - A name is taken below the root, and nothing outside is touched: `rooted-path.ts` follows no link out, and what would need to be followed is refused.
 * - An entry replaces what is there, but a directory over a directory leaves its content and takes other attributes.
 * - Whiteouts hide what the layers below brought, and never what the same layer brings, whatever the order.
 * - Small files are written at once, or side by side where the disk is slow (`turns.ts`); all else keeps its order. Directories get their attributes at the end: their times change with their content, and nobody else gets into them before.
 *
 * Times are those of the archive, to the nanosecond: Node sets them where it can, `exact-times.ts` all others.
 */
import { link, symlink } from 'node:fs/promises';
import { unlessAborted } from '../../../core/unless-aborted.ts';
import { type FileContents, HOLE_BYTES, writeFileAt } from './contents.ts';
import { climbsOut, type EntryName, parseEntryName } from './entry-names.ts';
import { checkNotAborted, failureAt } from './failures.ts';
import { LayerRoot, setAttributes } from './layer-root.ts';
import { type DirectoryPlace, made } from './place.ts';
import { refusedEntry } from './refusals.ts';
import { isHarmlessDevice } from './special-files.ts';
import type { TarEntry } from './tar-entry.ts';
import { readTar } from './tar-reader.ts';

/** Entries of one layer: each costs memory until the end, some hundred bytes. The largest images have a tenth of it. */
const ENTRIES_MAX = 10_000_000;
/** Files up to this, in bytes, are held in memory and written side by side. */
const SMALL_FILE_BYTES_MAX = 256 * 1024;
const NO_XATTRS: ReadonlyMap<string, Buffer> = new Map();

export interface UnpackOptions {
  readonly signal: AbortSignal;
  /** Told how many bytes of the tar have been read so far. */
  readonly onProgress?: (bytes: number) => void;
  /** Most entries that are taken. @internal */
  readonly entriesMax?: number;
}

export interface Unpacked {
  readonly entries: number;
  /** Of the tar. */
  readonly bytes: number;
}

/**
 * Applies a layer over what is in `root`, an absolute path of a directory; on failure `root` is half done, and to be thrown away. Rejects with `ARCHIVE_INVALID` for an archive that is damaged or hostile,
 * `ZFS_OUT_OF_SPACE`, `ZFS_PERMISSION`, `ZFS_UNSUPPORTED` where the file system takes no extended attributes, `PROGRAM_MISSING`, `PROGRAM_FAILED`, `ZFS_FAILED`, the reason of the signal (or
 * `TRANSFER_CANCELLED`), and with what the source throws.
 */
export async function unpackLayer(
  tar: AsyncIterable<Uint8Array>,
  root: string,
  { signal, onProgress, entriesMax = ENTRIES_MAX }: UnpackOptions,
): Promise<Unpacked> {
  checkNotAborted(signal);
  const target = await LayerRoot.open(root, signal).catch((error: unknown) =>
    Promise.reject(failureAt(Buffer.from('.'), error)),
  );
  let bytes = 0;
  const counted = counting(tar, signal, (more) => {
    bytes += more;
    onProgress?.(bytes);
  });
  let entries = 0;
  try {
    for await (const entry of readTar(counted)) {
      entries += 1;
      if (entries > entriesMax) throw refusedEntry(entry.path, `is one of more than ${entriesMax} entries`);
      await apply(entry, target);
    }
    await target.finish();
  } finally {
    await target.ended();
  }
  checkNotAborted(signal);
  return { entries, bytes };
}

/** Ends with the signal also where the source says nothing any more. */
async function* counting(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  count: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await unlessAborted(chunks.next(), signal);
      checkNotAborted(signal);
      if (next.done === true) return;
      count(next.value.length);
      yield next.value;
    }
  } catch (error) {
    checkNotAborted(signal);
    throw error;
  } finally {
    const closed = Promise.resolve(chunks.return?.()).catch(() => undefined);
    // A source that hangs does not end before it is done with what it hangs on
    if (!signal.aborted) await closed;
  }
}

async function apply(entry: TarEntry, target: LayerRoot): Promise<void> {
  const { parents, name, kind } = parseEntryName(entry.path);
  const parent = await target.paths.directory(parents, entry.path);
  try {
    if (kind === 'opaque') await target.hideAllIn(parent);
    else if (kind === 'whiteout') await target.hide(parent, name);
    else if (name === '') describeRoot(entry, target);
    else await make(entry, parent, name, target);
    await target.relieve();
  } catch (error) {
    throw failureAt(entry.path, error);
  }
}

function describeRoot(entry: TarEntry, target: LayerRoot): void {
  if (entry.type !== 'directory') throw refusedEntry(entry.path, 'is the root, and no directory');
  target.describe(target.paths.root, attributesOf(entry));
}

async function make(
  entry: TarEntry,
  parent: DirectoryPlace,
  name: EntryName['name'],
  target: LayerRoot,
): Promise<void> {
  switch (entry.type) {
    case 'file':
      return makeFile(entry, parent, name, target);
    case 'directory': {
      const there = await target.vacate(parent, name, 'directory', entry.path);
      const place = there?.kind === 'directory' ? there : await target.paths.make(parent, name);
      return target.describe(place, attributesOf(entry));
    }
    case 'symlink':
      return makeLink(entry, parent, name, target);
    case 'hardlink':
      return makeHardLink(entry, parent, name, target);
    default:
      return makeSpecial(entry, parent, name, target);
  }
}

async function makeFile(entry: TarEntry, parent: DirectoryPlace, name: string, target: LayerRoot): Promise<void> {
  await target.vacate(parent, name, 'file', entry.path);
  const path = parent.pathOf(name);
  const write = async (chunks: FileContents['chunks']): Promise<void> => {
    try {
      await writeFileAt(path, { size: entry.size, sparse: entry.sparse, chunks }, entry);
    } catch (error) {
      throw failureAt(entry.path, error);
    }
  };
  target.put(parent, name, made('file', entry));
  if (entry.storedBytes > SMALL_FILE_BYTES_MAX) return write(entry.body());
  const chunks: Buffer[] = [];
  for await (const chunk of entry.body()) chunks.push(chunk);
  // Without a map, and too short for a hole
  const isPlain = entry.sparse === null && entry.size < HOLE_BYTES && !target.turns.handsOver;
  if (isPlain) await target.writeSmall(parent, name, chunks, entry);
  else await target.start(() => write(chunks));
}

async function makeLink(entry: TarEntry, parent: DirectoryPlace, name: string, target: LayerRoot): Promise<void> {
  if (climbsOut(entry.linkPath, parent.depth)) throw refusedEntry(entry.path, 'is a link that leaves the root');
  await target.vacate(parent, name, 'link', entry.path);
  const path = parent.pathOf(name);
  await symlink(entry.linkPath, path);
  await setAttributes(path, entry, 'link');
  target.put(parent, name, made('link', entry));
}

/** A hard link has the attributes of its target; those of its own header are the same in every archive that is right (pax "ustar Interchange Format", typeflag 1). */
async function makeHardLink(entry: TarEntry, parent: DirectoryPlace, name: string, target: LayerRoot): Promise<void> {
  const of = parseEntryName(entry.linkPath);
  if (of.kind !== 'entry' || of.name === '') throw refusedEntry(entry.path, 'is a hard link to a whiteout or the root');
  const directory = await target.paths.directory(of.parents, entry.path);
  const there = await target.paths.at(directory, of.name);
  if (there === null) throw refusedEntry(entry.path, 'is a hard link to nothing');
  if (there.kind === 'directory') throw refusedEntry(entry.path, 'is a hard link to a directory');
  const replaced = await target.paths.at(parent, name);
  if ((directory === parent && of.name === name) || (replaced?.kind === 'directory' && directory.isWithin(replaced))) {
    throw refusedEntry(entry.path, 'is a hard link to what it replaces');
  }
  await target.vacate(parent, name, there.kind, entry.path);
  const isSpecial = there.special !== undefined;
  if (isSpecial) await target.complete();
  else await target.settled();
  await link(directory.pathOf(of.name), parent.pathOf(name));
  // What waits is set under both names: one of them may be replaced before
  const { xattrs = NO_XATTRS, mtimeNs = 0n } = isSpecial ? {} : there;
  target.put(parent, name, made(there.kind, { xattrs, mtimeNs }));
}

async function makeSpecial(entry: TarEntry, parent: DirectoryPlace, name: string, target: LayerRoot): Promise<void> {
  const isFifo = entry.type === 'fifo';
  if (!isFifo && !isHarmlessDevice(entry.type, entry.device)) {
    const { major, minor } = entry.device;
    throw refusedEntry(entry.path, `is the device ${major}:${minor}, which no layer may bring`);
  }
  await target.vacate(parent, name, 'file', entry.path);
  const special = { device: isFifo ? null : entry.device, attributes: attributesOf(entry) };
  target.put(parent, name, made('file', { ...entry, special }));
}

/** Without what else an entry holds on to: it outlives that. */
function attributesOf({ mode, uid, gid, mtimeNs, xattrs }: TarEntry): DirectoryPlace['attributes'] & object {
  return { mode, uid, gid, mtimeNs, xattrs };
}
