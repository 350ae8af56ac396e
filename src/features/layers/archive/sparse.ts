/** Maps of sparse files, in the four ways that GNU tar has written them (GNU tar manual, "Storing Sparse Files"). */
import type { ByteSource } from './byte-source.ts';
import { countOf, type RawHeader } from './header.ts';
import { type PaxRecord, paxCount } from './pax.ts';
import { refusedEntry } from './refusals.ts';
import { BLOCK_BYTES, type Extent } from './tar-entry.ts';

/** What tells of a sparse file besides its header. */
export interface SparseFile {
  /** Its name, where the header has another one for readers that know no sparse files. */
  readonly name: Buffer | null;
  /** As it is to be, in bytes. */
  readonly size: number;
  readonly extents: readonly Extent[];
  /** What the map took of the body, in bytes. */
  readonly mapBytes: number;
}

/** Where old GNU headers keep their map; extension blocks begin with it. */
const OLD = { map: 386, entries: 4, isExtended: 482, size: { at: 483, bytes: 12 } } as const;
const EXTENSION = { map: 0, entries: 21, isExtended: 504 } as const;
const NUMBER_BYTES = 12;
/** Largest map that is read, in bytes: tens of thousands of extents, where a layer's largest have hundreds. */
const MAP_BYTES_MAX = 1024 * 1024;
const LINE_DIGITS_MAX = 20;
const NEWLINE = 0x0a;

/** The map of an entry of type `S`: four extents in the header, 21 in each block behind it. Throws `ARCHIVE_INVALID`. */
export async function readOldSparse(header: RawHeader, source: ByteSource): Promise<SparseFile> {
  const { block, name } = header;
  const extents = extentsIn(block, OLD, name);
  let isExtended = block[OLD.isExtended] !== 0;
  for (let bytes = BLOCK_BYTES; isExtended; bytes += BLOCK_BYTES) {
    if (bytes > MAP_BYTES_MAX) throw refusedEntry(name, 'has too large a map of its holes');
    const extension = await source.read(BLOCK_BYTES);
    if (extension.length < BLOCK_BYTES) throw refusedEntry(name, 'is cut short');
    extents.push(...extentsIn(extension, EXTENSION, name));
    isExtended = extension[EXTENSION.isExtended] !== 0;
  }
  return { name: null, size: countOf(block, OLD.size, name), extents, mapBytes: 0 };
}

function extentsIn(block: Buffer, { map, entries }: { map: number; entries: number }, entry: Buffer): Extent[] {
  const extents: Extent[] = [];
  for (let index = 0; index < entries; index += 1) {
    const at = map + index * 2 * NUMBER_BYTES;
    // An empty field ends the map
    if (block[at] === 0) break;
    const offset = countOf(block, { at, bytes: NUMBER_BYTES }, entry);
    extents.push({ offset, bytes: countOf(block, { at: at + NUMBER_BYTES, bytes: NUMBER_BYTES }, entry) });
  }
  return extents;
}

/** What pax records say of a sparse file: versions 0.0 and 0.1 in records, 1.0 at the start of the body. Null where it is none. Throws `ARCHIVE_INVALID`. */
export async function readPaxSparse(
  records: readonly PaxRecord[],
  source: ByteSource,
  entry: Buffer,
): Promise<SparseFile | null> {
  const sparse = new Map(records.filter(([keyword]) => keyword.startsWith('GNU.sparse.')));
  if (sparse.size === 0) return null;
  const name = sparse.get('GNU.sparse.name') ?? null;
  const size = sparse.get('GNU.sparse.realsize') ?? sparse.get('GNU.sparse.size');
  if (size === undefined) throw refusedEntry(entry, 'is sparse and does not tell its size');
  const known = { name, size: paxCount(size, entry) };
  if (sparse.get('GNU.sparse.major')?.toString('latin1') === '1') {
    const map = await readMap(source, entry);
    return { ...known, ...map };
  }
  const listed = sparse.get('GNU.sparse.map');
  const numbers =
    listed === undefined
      ? records.filter(([keyword]) => /^GNU\.sparse\.(offset|numbytes)$/.test(keyword)).map(([, value]) => value)
      : listed
          .toString('latin1')
          .split(',')
          .filter((text) => text !== '')
          .map((text) => Buffer.from(text, 'latin1'));
  return {
    ...known,
    extents: pairs(
      numbers.map((value) => paxCount(value, entry)),
      entry,
    ),
    mapBytes: 0,
  };
}

/** Version 1.0: the count of extents, then offset and length of each, every number on a line, filled up to a block. */
async function readMap(source: ByteSource, entry: Buffer): Promise<Pick<SparseFile, 'extents' | 'mapBytes'>> {
  const numbers: number[] = [];
  let mapBytes = 0;
  let rest = Buffer.alloc(0);
  while (numbers.length === 0 || numbers.length < 1 + 2 * (numbers[0] ?? 0)) {
    const end = rest.indexOf(NEWLINE);
    if (end !== -1) {
      numbers.push(paxCount(rest.subarray(0, end), entry));
      rest = rest.subarray(end + 1);
      continue;
    }
    if (rest.length > LINE_DIGITS_MAX || mapBytes >= MAP_BYTES_MAX)
      throw refusedEntry(entry, 'has a map of its holes that is none');
    const block = await source.read(BLOCK_BYTES);
    if (block.length < BLOCK_BYTES) throw refusedEntry(entry, 'is cut short');
    mapBytes += BLOCK_BYTES;
    rest = Buffer.concat([rest, block]);
  }
  return { extents: pairs(numbers.slice(1), entry), mapBytes };
}

function pairs(numbers: readonly number[], entry: Buffer): Extent[] {
  if (numbers.length % 2 !== 0) throw refusedEntry(entry, 'has a map of its holes that is none');
  const extents: Extent[] = [];
  for (let at = 0; at < numbers.length; at += 2)
    extents.push({ offset: numbers[at] ?? 0, bytes: numbers[at + 1] ?? 0 });
  return extents;
}

/** Throws `ARCHIVE_INVALID` unless the extents ascend, lie inside the file and are what the archive stores of it. */
export function checkSparse({ extents, size }: SparseFile, storedBytes: number, entry: Buffer): void {
  let end = 0;
  let stored = 0;
  for (const { offset, bytes } of extents) {
    if (offset < end || offset + bytes > size)
      throw refusedEntry(entry, 'has a map of its holes that contradicts itself');
    end = offset + bytes;
    stored += bytes;
  }
  if (stored !== storedBytes) throw refusedEntry(entry, 'has a map of its holes that does not fit its size');
}
