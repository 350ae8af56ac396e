/** Records of pax headers (POSIX.1-2001, pax "Extended Header"): `length keyword=value\n`, where the length counts itself. Values are bytes. */
import { refusedEntry } from './refusals.ts';

/** Keyword, each character for one byte, and value. */
export type PaxRecord = readonly [keyword: string, value: Buffer];

const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;
/** More digits than any record needs that is taken. */
const LENGTH_DIGITS_MAX = 10;
const NS_DIGITS = 9;
export const NS_PER_SECOND = 1_000_000_000n;

/** The records of a header, in their order. Throws `ARCHIVE_INVALID`. */
export function parsePax(bytes: Buffer, entry: Buffer | null): PaxRecord[] {
  const records: PaxRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    // GNU tar and others fill up with NULs
    if (bytes[at] === 0) break;
    const space = bytes.indexOf(SPACE, at);
    const digits = space === -1 || space - at > LENGTH_DIGITS_MAX ? '' : bytes.toString('latin1', at, space);
    const end = /^[0-9]+$/.test(digits) ? at + Number(digits) : -1;
    const equals = bytes.indexOf(EQUALS, space);
    const isWhole = equals > space + 1 && equals < end && end <= bytes.length && bytes[end - 1] === NEWLINE;
    if (!isWhole) throw refusedEntry(entry, 'has a pax header that is damaged');
    records.push([bytes.toString('latin1', space + 1, equals), Buffer.from(bytes.subarray(equals + 1, end - 1))]);
    at = end;
  }
  return records;
}

/** The records as one body, in the order of their keywords, so that the same records are the same bytes. */
export function formatPax(records: readonly PaxRecord[]): Buffer {
  const sorted = [...records].sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.concat(sorted.map(formatRecord));
}

function formatRecord([keyword, value]: PaxRecord): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${keyword}=`, 'latin1'), value, Buffer.from('\n')]);
  let length = rest.length;
  while (String(length).length + rest.length > length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** A count as pax writes it. Throws `ARCHIVE_INVALID`. */
export function paxCount(value: Buffer, entry: Buffer): number {
  const text = value.toString('latin1');
  const count = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(count)) throw refusedEntry(entry, 'has a number that is none, or out of range');
  return count;
}

/** Seconds with a fraction, in nanoseconds; what is finer is cut off. Throws `ARCHIVE_INVALID`. */
export function paxTimeNs(value: Buffer, entry: Buffer): bigint {
  const match = /^(-?)([0-9]{1,18})(?:\.([0-9]*))?$/.exec(value.toString('latin1'));
  if (match === null) throw refusedEntry(entry, 'has a time that is none');
  const [, sign = '', seconds = '0', fraction = ''] = match;
  const ns = BigInt(seconds) * NS_PER_SECOND + BigInt(fraction.slice(0, NS_DIGITS).padEnd(NS_DIGITS, '0'));
  return sign === '' ? ns : -ns;
}

/** A time as pax writes it, as short as it can be. */
export function formatPaxTime(ns: bigint): Buffer {
  const size = ns < 0n ? -ns : ns;
  const fraction = String(size % NS_PER_SECOND)
    .padStart(NS_DIGITS, '0')
    .replace(/0+$/, '');
  return Buffer.from(`${ns < 0n ? '-' : ''}${size / NS_PER_SECOND}${fraction === '' ? '' : `.${fraction}`}`);
}
