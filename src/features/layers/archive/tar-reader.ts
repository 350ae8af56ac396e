/**
 * Reads a tar as a stream: ustar, pax (POSIX.1-2001) and GNU, with sparse files.
 *
 * The tar libraries for Node decode names and pax values as UTF-8 text. That ruins values of `security.capability`, which are binary, and names that
 * are no UTF-8, so that the unpacked tree is another one than was packaged; and they know no sparse files. Here both are bytes from one end to the other.
 */
import { ByteSource } from './byte-source.ts';
import { parseHeader, type RawHeader } from './header.ts';
import { NS_PER_SECOND, type PaxRecord, parsePax, paxCount, paxTimeNs } from './pax.ts';
import { refusedEntry } from './refusals.ts';
import { checkSparse, readOldSparse, readPaxSparse, type SparseFile } from './sparse.ts';
import { BLOCK_BYTES, paddingOf, type TarEntry, type TarEntryType } from './tar-entry.ts';
import { xattrsOf } from './xattr-records.ts';

/** All that may tell of one entry beside its header, in bytes: attributes take up to 64 KiB each (xattr(7)), names 4 KiB. */
const METADATA_BYTES_MAX = 1024 * 1024;
/** Longest path and link target that Linux takes, without the NUL (PATH_MAX, limits.h). */
const PATH_BYTES_MAX = 4095;
/** Longest name of a file (NAME_MAX, limits.h). */
const NAME_BYTES_MAX = 255;
/** Permissions, set-user-ID, set-group-ID and sticky bit. */
const MODE_BITS = 0o7777;
const OWNER_MAX = 2 ** 32 - 2;
/** Some 292 years around 1970, as much as 64 bits of nanoseconds hold. */
const TIME_MAX_NS = 2n ** 63n - 1n;
const SLASH = 0x2f;
const ZEROS = Buffer.alloc(BLOCK_BYTES);

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '0': 'file',
  '\0': 'file',
  // Contiguous files, which no Linux has
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character-device',
  '4': 'block-device',
  '5': 'directory',
  '6': 'fifo',
};

/** What has been read ahead of the header that it is about. */
interface Ahead {
  records: PaxRecord[];
  longName: Buffer | null;
  longLink: Buffer | null;
  bytes: number;
}

const nothingAhead = (): Ahead => ({ records: [], longName: null, longLink: null, bytes: 0 });

/**
 * The entries of a tar in their order. What is not read of a body is left out when the next entry is asked for. The source is read to its end, also behind the
 * end of the archive, so that a digest over it covers everything. Throws `ARCHIVE_INVALID` for what is damaged, cut short or unknown; what the source throws
 * passes as it is.
 */
export async function* readTar(tar: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry, void, undefined> {
  const source = new ByteSource(tar);
  try {
    const globals = new Map<string, Buffer>();
    let ahead = nothingAhead();
    for (let block = await nextBlock(source); block !== null; block = await nextBlock(source)) {
      const header = parseHeader(block);
      if (await readAhead(header, source, ahead, globals)) continue;
      const body = new Body(source);
      yield await entryOf(header, { ...ahead, records: [...globals, ...ahead.records] }, source, body);
      await body.skip();
      ahead = nothingAhead();
    }
    if (ahead.bytes > 0) throw refusedEntry(null, 'ends where an entry was announced');
    await source.drain();
  } finally {
    await source.close();
  }
}

/** Null at the end: two blocks of zeros. One alone, or none, ends an archive that is cut short. */
async function nextBlock(source: ByteSource): Promise<Buffer | null> {
  const block = await source.read(BLOCK_BYTES);
  if (block.length < BLOCK_BYTES) throw refusedEntry(null, 'is cut short');
  if (!block.equals(ZEROS)) return block;
  const second = await source.read(BLOCK_BYTES);
  if (!second.equals(ZEROS)) throw refusedEntry(null, 'is cut short, or goes on behind its end');
  return null;
}

/** Whether the header is one that tells of the next entry, or of all that follow; it is read then. */
async function readAhead(
  header: RawHeader,
  source: ByteSource,
  ahead: Ahead,
  globals: Map<string, Buffer>,
): Promise<boolean> {
  const { type, name } = header;
  if (!['x', 'g', 'L', 'K'].includes(type)) return false;
  ahead.bytes += type === 'g' ? 0 : Math.max(1, header.size);
  if (Math.max(ahead.bytes, header.size) > METADATA_BYTES_MAX)
    throw refusedEntry(name, 'has more metadata than is read');
  const bytes = Buffer.from(await source.read(header.size));
  const isWhole =
    bytes.length === header.size && (await source.skip(paddingOf(header.size))) === paddingOf(header.size);
  if (!isWhole) throw refusedEntry(name, 'is cut short');
  if (type === 'x') ahead.records = [...ahead.records, ...parsePax(bytes, name)];
  else if (type === 'L') ahead.longName = untilNul(bytes);
  else if (type === 'K') ahead.longLink = untilNul(bytes);
  else addGlobals(globals, parsePax(bytes, name), name);
  return true;
}

/** An empty value takes a global one back (pax "Extended Header Keyword Precedence"). */
function addGlobals(globals: Map<string, Buffer>, records: readonly PaxRecord[], entry: Buffer): void {
  for (const [keyword, value] of records) {
    if (value.length === 0) globals.delete(keyword);
    else globals.set(keyword, value);
  }
  const bytes = Array.from(globals, ([keyword, value]) => keyword.length + value.length);
  if (bytes.reduce((sum, one) => sum + one, 0) > METADATA_BYTES_MAX)
    throw refusedEntry(entry, 'has more metadata than is read');
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

async function entryOf(header: RawHeader, ahead: Ahead, source: ByteSource, body: Body): Promise<TarEntry> {
  const pax = effective(ahead.records);
  const named = pax.get('path') ?? ahead.longName ?? header.name;
  const type = typeOf(header, named);
  // Other types have no body, whatever their size says (POSIX.1-1988; hard links of some programs tell the target's)
  const stored = type === 'file' ? numeric(pax, 'size', named, header.size) : 0;
  const sparse = type === 'file' ? await sparseOf(header, ahead.records, source, named) : null;
  const path = sparse?.name ?? named;
  const storedBytes = stored - (sparse?.mapBytes ?? 0);
  if (storedBytes < 0) throw refusedEntry(path, 'has a map of its holes that does not fit its size');
  if (sparse !== null) checkSparse(sparse, storedBytes, path);
  const linkPath = type.endsWith('link') ? (pax.get('linkpath') ?? ahead.longLink ?? header.linkName) : Buffer.alloc(0);
  checkNames(path, linkPath, type);
  body.begin(path, storedBytes);
  const time = pax.get('mtime');
  return {
    type,
    path,
    linkPath,
    mode: header.mode & MODE_BITS,
    uid: ownerOf(numeric(pax, 'uid', path, header.uid), path),
    gid: ownerOf(numeric(pax, 'gid', path, header.gid), path),
    mtimeNs: bounded(time === undefined ? header.mtimeSeconds * NS_PER_SECOND : paxTimeNs(time, path)),
    size: sparse?.size ?? storedBytes,
    device: { major: header.major, minor: header.minor },
    xattrs: xattrsOf(pax, path),
    sparse: sparse?.extents ?? null,
    storedBytes,
    body: () => body.chunks(),
  };
}

/** The last one of a keyword counts; an empty one takes back what was said before it, except for an attribute (pax "Extended Header Keyword Precedence"). */
function effective(records: readonly PaxRecord[]): Map<string, Buffer> {
  const last = new Map(records);
  for (const [keyword, value] of last) if (value.length === 0 && !keyword.includes('.xattr.')) last.delete(keyword);
  return last;
}

/** The largest number of 32 bits stands for no change where owners are set (chown(2)). */
function ownerOf(id: number, path: Buffer): number {
  if (id > OWNER_MAX) throw refusedEntry(path, 'has an owner that no system has');
  return id;
}

/** 1970 for what nobody can mean, as containerd has it. */
function bounded(ns: bigint): bigint {
  return ns > TIME_MAX_NS || ns < -TIME_MAX_NS ? 0n : ns;
}

function typeOf({ type: flag }: RawHeader, path: Buffer): TarEntryType {
  const type = TYPES[flag];
  if (type === undefined) throw refusedEntry(path, `has the unknown type ${JSON.stringify(flag)}`);
  // Before ustar a slash at the end was what told a directory
  return flag === '\0' && path.at(-1) === SLASH ? 'directory' : type;
}

function numeric(pax: ReadonlyMap<string, Buffer>, keyword: string, path: Buffer, otherwise: number): number {
  const value = pax.get(keyword);
  return value === undefined ? otherwise : paxCount(value, path);
}

function sparseOf(
  header: RawHeader,
  records: readonly PaxRecord[],
  source: ByteSource,
  path: Buffer,
): Promise<SparseFile | null> {
  return header.type === 'S' ? readOldSparse(header, source) : readPaxSparse(records, source, path);
}

function checkNames(path: Buffer, linkPath: Buffer, type: TarEntryType): void {
  if (path.length === 0) throw refusedEntry(path, 'has no name');
  if (path.includes(0) || linkPath.includes(0)) throw refusedEntry(path, 'has a NUL in its name or target');
  if (path.length > PATH_BYTES_MAX) throw refusedEntry(path, `has a name of more than ${PATH_BYTES_MAX} bytes`);
  if (linkPath.length > PATH_BYTES_MAX) throw refusedEntry(path, `has a target of more than ${PATH_BYTES_MAX} bytes`);
  if (type.endsWith('link') && linkPath.length === 0) throw refusedEntry(path, 'is a link to nothing');
  for (let at = 0; at < path.length; ) {
    const slash = path.indexOf(SLASH, at);
    const end = slash === -1 ? path.length : slash;
    if (end - at > NAME_BYTES_MAX)
      throw refusedEntry(path, `has a part of more than ${NAME_BYTES_MAX} bytes in its name`);
    at = end + 1;
  }
}

/** What follows a header, up to the next block. */
class Body {
  readonly #source: ByteSource;
  #path: Buffer = Buffer.alloc(0);
  #left = 0;
  #padding = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  begin(path: Buffer, bytes: number): void {
    this.#path = path;
    this.#left = bytes;
    this.#padding = paddingOf(bytes);
  }

  async *chunks(): AsyncGenerator<Buffer, void, undefined> {
    while (this.#left > 0) {
      const chunk = await this.#source.some(this.#left);
      if (chunk === null) throw refusedEntry(this.#path, 'is cut short');
      this.#left -= chunk.length;
      yield chunk;
    }
  }

  async skip(): Promise<void> {
    const bytes = this.#left + this.#padding;
    if ((await this.#source.skip(bytes)) < bytes) throw refusedEntry(this.#path, 'is cut short');
  }
}
