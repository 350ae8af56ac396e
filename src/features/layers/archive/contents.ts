/** Writes the contents of files; long runs of zeros become holes. */
import { type FileHandle, open } from 'node:fs/promises';
import { fileTime, needsExactTime } from './exact-times.ts';
import type { Attributes, Extent } from './tar-entry.ts';

/** Zeros that become a hole, in bytes: shorter ones save next to nothing where the file system compresses. */
export const HOLE_BYTES = 64 * 1024;
/** What is written at once, in bytes; chunks as they come are smaller than a hole. */
const WRITE_BYTES = 1024 * 1024;
const ZEROS = Buffer.alloc(HOLE_BYTES);

export interface FileContents {
  readonly size: number;
  readonly sparse: readonly Extent[] | null;
  readonly chunks: AsyncIterable<Buffer> | Iterable<Buffer>;
}

/** Makes a file that is not there yet, with its attributes; its time only where Node can set it. Rejects with a system error; EEXIST before any chunk is taken. */
export async function writeFileAt(path: Buffer, contents: FileContents, attributes: Attributes): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    const end = await writeChunks(file, contents);
    if (end < contents.size) await file.truncate(contents.size);
    await file.chown(attributes.uid, attributes.gid);
    await file.chmod(attributes.mode);
    const seconds = fileTime(attributes.mtimeNs);
    if (!needsExactTime(attributes.mtimeNs)) await file.utimes(seconds, seconds);
  } finally {
    await file.close();
  }
}

/** Gives where the last byte was written. */
async function writeChunks(file: FileHandle, { sparse, size, chunks }: FileContents): Promise<number> {
  const extents = sparse ?? [{ offset: 0, bytes: size }];
  let index = 0;
  let done = 0;
  let end = 0;
  for await (const chunk of regrouped(chunks)) {
    for (let at = 0; at < chunk.length; ) {
      const extent = extents[index];
      if (extent === undefined) return end;
      const piece = chunk.subarray(at, at + extent.bytes - done);
      end = Math.max(end, await writePiece(file, piece, extent.offset + done));
      at += piece.length;
      done += piece.length;
      if (done === extent.bytes) {
        index += 1;
        done = 0;
      }
    }
  }
  return end;
}

async function* regrouped(chunks: FileContents['chunks']): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    held.push(chunk);
    bytes += chunk.length;
    if (bytes < WRITE_BYTES) continue;
    const all = Buffer.concat(held);
    const whole = all.length - (all.length % WRITE_BYTES);
    yield all.subarray(0, whole);
    held = [all.subarray(whole)];
    bytes -= whole;
  }
  const [only] = held;
  if (bytes > 0 && only !== undefined) yield held.length === 1 ? only : Buffer.concat(held);
}

/** Writes all but aligned blocks of zeros; gives where the last byte was written, or zero. */
async function writePiece(file: FileHandle, piece: Buffer, offset: number): Promise<number> {
  let end = 0;
  let from = 0;
  const flush = async (to: number): Promise<void> => {
    if (to > from) {
      await writeAll(file, piece.subarray(from, to), offset + from);
      end = offset + to;
    }
  };
  const first = (HOLE_BYTES - (offset % HOLE_BYTES)) % HOLE_BYTES;
  for (let at = first; at + HOLE_BYTES <= piece.length; at += HOLE_BYTES) {
    if (!piece.subarray(at, at + HOLE_BYTES).equals(ZEROS)) continue;
    await flush(at);
    from = at + HOLE_BYTES;
  }
  await flush(piece.length);
  return end;
}

async function writeAll(file: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, offset + at);
    at += bytesWritten;
  }
}
