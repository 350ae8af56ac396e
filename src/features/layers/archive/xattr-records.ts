/** Extended attributes as pax records: `SCHILY.xattr.` of star, which everyone writes, and `LIBARCHIVE.xattr.` of libarchive, in base64. */
import type { PaxRecord } from './pax.ts';
import { refusedEntry, unpackable } from './refusals.ts';

const SCHILY = 'SCHILY.xattr.';
const LIBARCHIVE = 'LIBARCHIVE.xattr.';

/** The attributes that records tell. Where both tell of one, star's counts: it is the value as it is. Throws `ARCHIVE_INVALID`. */
export function xattrsOf(pax: ReadonlyMap<string, Buffer>, entry: Buffer): ReadonlyMap<string, Buffer> {
  const xattrs = new Map<string, Buffer>();
  for (const [keyword, value] of pax) if (keyword.startsWith(SCHILY)) xattrs.set(keyword.slice(SCHILY.length), value);
  for (const [keyword, value] of pax) {
    if (!keyword.startsWith(LIBARCHIVE)) continue;
    const name = keyword
      .slice(LIBARCHIVE.length)
      .replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
    if (!xattrs.has(name)) xattrs.set(name, Buffer.from(value.toString('latin1'), 'base64'));
  }
  for (const name of xattrs.keys())
    if (!isNameSayable(name)) throw refusedEntry(entry, 'has an attribute whose name is none');
  return xattrs;
}

/** The records of attributes. Throws `ARCHIVE_INVALID` for a name with `=`, which ends a keyword: no reader would find it again. */
export function xattrRecords(xattrs: ReadonlyMap<string, Buffer>, path: Buffer): PaxRecord[] {
  return Array.from(xattrs, ([name, value]) => {
    if (!isNameSayable(name)) throw unpackable(path, 'has an attribute with "=" in its name');
    return [`${SCHILY}${name}`, value] as const;
  });
}

function isNameSayable(name: string): boolean {
  return name !== '' && !name.includes('=') && !name.includes('\0');
}
