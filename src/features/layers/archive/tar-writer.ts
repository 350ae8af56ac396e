/**
 * Writes a tar as ustar, with pax records for what that cannot say: the same entries give the same bytes on every machine. Owners are numbers; names of users, and
 * times of access and change, are left out, because they tell of the machine and not of the tree.
 *
 * Sparse files are written whole: every reader reads that, few read GNU's maps, compression shrinks zeros to next to nothing, and `unpack.ts` makes holes of them again.
 */
import { isUtf8 } from 'node:buffer';
import { formatHeader, octalMax, ustarName } from './header.ts';
import { formatPax, formatPaxTime, NS_PER_SECOND, type PaxRecord } from './pax.ts';
import { BLOCK_BYTES, paddingOf, type TarEntryType, type TarHeader } from './tar-entry.ts';
import { xattrRecords } from './xattr-records.ts';

const TYPE_FLAGS: Readonly<Record<TarEntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
};
/** The name of what is no file; readers that know no pax make one of it. */
const PAX_NAME = Buffer.from('././@PaxHeader');
const NOTHING = Buffer.alloc(0);
const PAX_MODE = 0o644;

/** What ends an archive: two blocks of zeros. */
export const TAR_END: Buffer = Buffer.alloc(2 * BLOCK_BYTES);

/** All that comes before the body of an entry. Throws `ARCHIVE_INVALID` for an attribute that a tar cannot say. */
export function formatEntry(entry: TarHeader): Buffer {
  const records = recordsOf(entry);
  const header = formatHeader({
    ...(ustarName(entry.path) ?? { name: entry.path, prefix: NOTHING }),
    mode: entry.mode,
    uid: within(entry.uid, 8),
    gid: within(entry.gid, 8),
    size: within(entry.size, 12),
    mtimeSeconds: within(Number(entry.mtimeNs / NS_PER_SECOND), 12),
    type: TYPE_FLAGS[entry.type],
    linkName: entry.linkPath,
    major: entry.device.major,
    minor: entry.device.minor,
  });
  if (records.length === 0) return header;
  const pax = formatPax(records);
  const paxHeader = formatHeader({
    name: PAX_NAME,
    prefix: NOTHING,
    mode: PAX_MODE,
    uid: 0,
    gid: 0,
    size: pax.length,
    mtimeSeconds: 0,
    type: 'x',
    linkName: NOTHING,
    major: 0,
    minor: 0,
  });
  return Buffer.concat([paxHeader, pax, Buffer.alloc(paddingOf(pax.length)), header]);
}

/** Zeros up to the next block. */
export function paddingAfter(bytes: number): Buffer {
  return Buffer.alloc(paddingOf(bytes));
}

/** Zero where pax tells the number, because the field cannot. */
function within(value: number, bytes: 8 | 12): number {
  return fits(value, bytes) ? value : 0;
}

function fits(value: number, bytes: 8 | 12): boolean {
  return value >= 0 && value <= octalMax(bytes);
}

function recordsOf(entry: TarHeader): PaxRecord[] {
  const records = xattrRecords(entry.xattrs, entry.path);
  const names: PaxRecord[] = [];
  if (ustarName(entry.path) === null || !isAscii(entry.path)) names.push(['path', entry.path]);
  if (entry.linkPath.length > 100 || !isAscii(entry.linkPath)) names.push(['linkpath', entry.linkPath]);
  // Names are UTF-8 unless this says that they are bytes
  if (names.some(([, name]) => !isUtf8(name))) names.push(['hdrcharset', Buffer.from('BINARY')]);
  if (!fits(entry.uid, 8)) records.push(['uid', Buffer.from(String(entry.uid))]);
  if (!fits(entry.gid, 8)) records.push(['gid', Buffer.from(String(entry.gid))]);
  if (!fits(entry.size, 12)) records.push(['size', Buffer.from(String(entry.size))]);
  const isWholeSecond = entry.mtimeNs % NS_PER_SECOND === 0n && fits(Number(entry.mtimeNs / NS_PER_SECOND), 12);
  if (!isWholeSecond) records.push(['mtime', formatPaxTime(entry.mtimeNs)]);
  return [...records, ...names];
}

function isAscii(bytes: Buffer): boolean {
  return bytes.every((byte) => byte < 0x80);
}
