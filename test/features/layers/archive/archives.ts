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
  const pieces = entries.flatMap((entry) => {
    const content = bytesOf(entry.content ?? '');
    return [formatEntry(headerOf(entry)), content, paddingAfter(content.length)];
  });
  return Buffer.concat([...pieces, TAR_END]);
}

/** The bytes in pieces of that size, as a network may bring them. */
export async function* inChunks(bytes: Uint8Array, size = 64 * 1024): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function bytesOf(text: string | Buffer): Buffer {
  return typeof text === 'string' ? Buffer.from(text) : text;
}
