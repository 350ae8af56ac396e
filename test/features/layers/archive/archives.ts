import { formatHeader } from '../../../../src/features/layers/archive/header.ts';
import { formatPax } from '../../../../src/features/layers/archive/pax.ts';
import type { TarHeader } from '../../../../src/features/layers/archive/tar-entry.ts';
import { formatEntry, paddingAfter, TAR_END } from '../../../../src/features/layers/archive/tar-writer.ts';

/** An entry as a test writes it: whatever it does not say is plain. */
export type Entry = Partial<Omit<TarHeader, 'path' | 'linkPath' | 'size'>> & {
  readonly path: string | Buffer;
  readonly to?: string | Buffer;
  readonly content?: string | Buffer;
};

/** A time with microseconds. */
const MTIME_NS = 1_700_000_000_123_456_000n;

function headerOf(entry: Entry): TarHeader {
  const { path, to = '', content = '', ...rest } = entry;
  return {
    type: 'file',
    mode: rest.type === 'directory' ? 0o755 : 0o644,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mtimeNs: MTIME_NS,
    device: { major: 0, minor: 0 },
    xattrs: new Map(),
    ...rest,
    path: bytesOf(path),
    linkPath: bytesOf(to),
    size: bytesOf(content).length,
  };
}

/** An archive of these entries, in their order. */
export function archive(...entries: readonly Entry[]): Buffer {
  return Buffer.concat([...entries.map(entryBytes), TAR_END]);
}

/** Records about the next entry, `x`, or all that follow, `g`: whatever they say. */
export function paxRecords(type: 'x' | 'g', records: Readonly<Record<string, string | Buffer>>): Buffer {
  const body = formatPax(Object.entries(records).map(([keyword, value]) => [keyword, bytesOf(value)] as const));
  const nothing = Buffer.alloc(0);
  const numbers = { mode: 0, uid: 0, gid: 0, mtimeSeconds: 0, major: 0, minor: 0 };
  const header = formatHeader({
    ...numbers,
    name: Buffer.from('records'),
    prefix: nothing,
    size: body.length,
    type,
    linkName: nothing,
  });
  return Buffer.concat([header, body, paddingAfter(body.length)]);
}

/** An entry as it is in an archive, without what ends that. */
export function entryBytes(entry: Entry): Buffer {
  const content = bytesOf(entry.content ?? '');
  return Buffer.concat([formatEntry(headerOf(entry)), content, paddingAfter(content.length)]);
}

/** The bytes in pieces of that size, as a network may bring them. */
export async function* inChunks(bytes: Uint8Array, size = 64 * 1024): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function bytesOf(text: string | Buffer): Buffer {
  return typeof text === 'string' ? Buffer.from(text) : text;
}
