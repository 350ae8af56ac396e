/** The header block of a tar entry: ustar (POSIX.1-1988), what came before it, and GNU's variant (GNU tar manual, "Basic Tar Format"). */
import { refusedEntry } from './refusals.ts';
import { BLOCK_BYTES } from './tar-entry.ts';

interface Field {
  readonly at: number;
  readonly bytes: number;
}

const FIELDS = {
  name: { at: 0, bytes: 100 },
  mode: { at: 100, bytes: 8 },
  uid: { at: 108, bytes: 8 },
  gid: { at: 116, bytes: 8 },
  size: { at: 124, bytes: 12 },
  mtime: { at: 136, bytes: 12 },
  checksum: { at: 148, bytes: 8 },
  type: { at: 156, bytes: 1 },
  linkName: { at: 157, bytes: 100 },
  magic: { at: 257, bytes: 8 },
  major: { at: 329, bytes: 8 },
  minor: { at: 337, bytes: 8 },
  prefix: { at: 345, bytes: 155 },
  /** star's own: it keeps times behind a shorter prefix. */
  starPrefix: { at: 345, bytes: 131 },
  starMagic: { at: 508, bytes: 4 },
} as const satisfies Record<string, Field>;

const USTAR = Buffer.from('ustar\0' + '00', 'latin1');
const GNU = Buffer.from('ustar  \0', 'latin1');
const STAR = Buffer.from('tar\0', 'latin1');
const SLASH = Buffer.from('/');
const SPACE = 0x20;
const BASE_256 = 0x80;
const BASE_256_NEGATIVE = 0x40;

export interface RawHeader {
  readonly name: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSeconds: bigint;
  /** The type flag as a character. */
  readonly type: string;
  readonly linkName: Buffer;
  readonly major: number;
  readonly minor: number;
  readonly isGnu: boolean;
  readonly block: Buffer;
}

/** Reads a header block. Throws `ARCHIVE_INVALID` for a wrong checksum and for numbers that are none. */
export function parseHeader(block: Buffer): RawHeader {
  const name = textOf(block, FIELDS.name);
  checkSum(block, name);
  const number = (field: Field): number => countOf(block, field, name);
  const magic = bytesOf(block, FIELDS.magic);
  const isGnu = magic.equals(GNU);
  const prefix = isGnu || !magic.subarray(0, 6).equals(USTAR.subarray(0, 6)) ? Buffer.alloc(0) : prefixOf(block);
  return {
    name: prefix.length === 0 ? name : Buffer.concat([prefix, SLASH, name]),
    mode: number(FIELDS.mode),
    uid: number(FIELDS.uid),
    gid: number(FIELDS.gid),
    size: number(FIELDS.size),
    mtimeSeconds: numberOf(bytesOf(block, FIELDS.mtime), name),
    type: String.fromCharCode(block[FIELDS.type.at] ?? 0),
    linkName: textOf(block, FIELDS.linkName),
    major: number(FIELDS.major),
    minor: number(FIELDS.minor),
    isGnu,
    block,
  };
}

/** A number of a GNU header's own fields. Throws `ARCHIVE_INVALID`. */
export function countOf(block: Buffer, field: Field, entry: Buffer): number {
  const value = numberOf(bytesOf(block, field), entry);
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER))
    throw refusedEntry(entry, 'has a number that is out of range');
  return Number(value);
}

function prefixOf(block: Buffer): Buffer {
  const isStar = bytesOf(block, FIELDS.starMagic).equals(STAR);
  return textOf(block, isStar ? FIELDS.starPrefix : FIELDS.prefix);
}

function bytesOf(block: Buffer, { at, bytes }: Field): Buffer {
  return block.subarray(at, at + bytes);
}

/** Up to the first NUL. A copy: a name outlives the chunk that it came in. */
function textOf(block: Buffer, field: Field): Buffer {
  const bytes = bytesOf(block, field);
  const end = bytes.indexOf(0);
  return Buffer.from(end === -1 ? bytes : bytes.subarray(0, end));
}

/** Octal with spaces or zeros before it and a space or NUL behind, or in base 256 with the first bit set (GNU tar, star). */
function numberOf(bytes: Buffer, entry: Buffer): bigint {
  const first = bytes[0] ?? 0;
  if ((first & BASE_256) !== 0) return base256Of(bytes);
  const text = bytes.toString('latin1').replace(/\0.*$/s, '').trim();
  if (text === '') return 0n;
  if (!/^-?[0-7]+$/.test(text)) throw refusedEntry(entry, 'has a number that is none');
  return text.startsWith('-') ? -BigInt(`0o${text.slice(1)}`) : BigInt(`0o${text}`);
}

function base256Of(bytes: Buffer): bigint {
  const copy = Buffer.from(bytes);
  const isNegative = ((copy[0] ?? 0) & BASE_256_NEGATIVE) !== 0;
  copy[0] = isNegative ? (copy[0] ?? 0) | BASE_256 : (copy[0] ?? 0) & ~BASE_256;
  return isNegative
    ? BigInt.asIntN(copy.length * 8, BigInt(`0x${copy.toString('hex')}`))
    : BigInt(`0x${copy.toString('hex')}`);
}

/** The sum of all bytes with the checksum itself as spaces; some old programs took them for signed. */
function checkSum(block: Buffer, entry: Buffer): void {
  const expected = countOf(block, FIELDS.checksum, entry);
  const { unsigned, signed } = sumsOf(block);
  if (expected !== unsigned && expected !== signed) throw refusedEntry(entry, 'has a header with a wrong checksum');
}

function sumsOf(block: Buffer): { readonly unsigned: number; readonly signed: number } {
  const { at, bytes } = FIELDS.checksum;
  let unsigned = SPACE * bytes;
  let high = 0;
  for (let index = 0; index < BLOCK_BYTES; index += 1) {
    if (index === at) index += bytes;
    const byte = block[index] ?? 0;
    unsigned += byte;
    if (byte > 0x7f) high += 1;
  }
  return { unsigned, signed: unsigned - 256 * high };
}

/** What a ustar header can say; {@link ustarName} tells whether it can say a name. */
export interface UstarFields {
  readonly name: Buffer;
  readonly prefix: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly type: string;
  readonly linkName: Buffer;
  readonly major: number;
  readonly minor: number;
}

/** The largest number that fits a field of so many bytes, the last of which is a NUL. */
export const octalMax = (bytes: 8 | 12): number => 8 ** (bytes - 1) - 1;

/** A header block. Names that are too long are cut: whoever writes one says the whole elsewhere. */
export function formatHeader(fields: UstarFields): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const text = (field: Field, value: Buffer): void =>
    void value.copy(block, field.at, 0, Math.min(field.bytes, value.length));
  const octal = (field: Field, value: number): void =>
    void block.write(value.toString(8).padStart(field.bytes - 1, '0'), field.at, 'latin1');
  text(FIELDS.name, fields.name);
  octal(FIELDS.mode, fields.mode);
  octal(FIELDS.uid, fields.uid);
  octal(FIELDS.gid, fields.gid);
  octal(FIELDS.size, fields.size);
  octal(FIELDS.mtime, fields.mtimeSeconds);
  block.write(fields.type, FIELDS.type.at, 'latin1');
  text(FIELDS.linkName, fields.linkName);
  text(FIELDS.magic, USTAR);
  octal(FIELDS.major, fields.major);
  octal(FIELDS.minor, fields.minor);
  text(FIELDS.prefix, fields.prefix);
  // Six digits, a NUL and a space (POSIX.1-1988)
  block.write(`${sumsOf(block).unsigned.toString(8).padStart(6, '0')}\0 `, FIELDS.checksum.at, 'latin1');
  return block;
}

/** How ustar says a name, cut in two at a slash where it is long; null where it cannot. */
export function ustarName(path: Buffer): { readonly name: Buffer; readonly prefix: Buffer } | null {
  if (path.length <= FIELDS.name.bytes) return { name: path, prefix: Buffer.alloc(0) };
  if (path.length > FIELDS.name.bytes + FIELDS.prefix.bytes + 1) return null;
  // The name must not be empty, so that the slash at the end of a directory's is none to cut at
  const from = Math.max(1, path.length - FIELDS.name.bytes - 1);
  const cut = path.subarray(0, -1).indexOf(SLASH, from);
  if (cut === -1 || cut > FIELDS.prefix.bytes) return null;
  return { name: path.subarray(cut + 1), prefix: path.subarray(0, cut) };
}
