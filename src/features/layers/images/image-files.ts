/** The files that an image consists of, wherever they lie: in a directory, or in a tar that is read in place (`tar-files.ts`). */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, isPandoError, PandoError } from '../../../core/errors.ts';

export interface ImageFiles {
  /** What people called the image by. */
  readonly source: string;
  /** In bytes; null where there is no such file. Names are relative, with slashes between their parts. */
  size(name: string): Promise<number | null>;
  /** The bytes of a file. Fails with `IMAGE_INVALID` where there is none, or where it cannot be read. */
  read(name: string): AsyncIterable<Uint8Array>;
}

/** A part of a file on disk, from `start` on: all of it, or `size` bytes. Fails with `IMAGE_INVALID`, also where there are fewer. */
export async function* readPart(source: string, path: string, start = 0, size?: number): AsyncGenerator<Uint8Array> {
  if (size === 0) return;
  let left = size ?? 0;
  try {
    for await (const chunk of createReadStream(path, { start, ...(size && { end: start + size - 1 }) })) {
      left -= chunk.length;
      yield chunk;
    }
  } catch (error) {
    throw isPandoError(error) ? error : unreadable(source, error);
  }
  if (left > 0) throw unreadable(source, new Error('it became shorter meanwhile'));
}

/** The files below a directory. Whatever is neither a file nor a link to one is none of them. */
export function directoryFiles(source: string, directory: string): ImageFiles {
  return {
    source,
    size: async (name) => {
      try {
        const found = await stat(join(directory, name));
        return found.isFile() ? found.size : null;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'ENOENT' || code === 'ENOTDIR') return null;
        throw unreadable(source, error);
      }
    },
    read: (name) => readPart(source, join(directory, name)),
  };
}

/** A whole file; `what` it is, for people. Rejects with `IMAGE_INVALID` where there is none, or if it has more than `bytesMax`. */
export async function readWhole(files: ImageFiles, name: string, bytesMax: number, what: string): Promise<Buffer> {
  const size = await files.size(name);
  if (size === null) throw invalidImage(files.source, `its ${what} "${name}" is not there`);
  if (size > bytesMax) throw invalidImage(files.source, `its ${what} has ${size} bytes, more than ${bytesMax}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of files.read(name)) chunks.push(chunk);
  return Buffer.concat(chunks).subarray(0, bytesMax);
}

export function invalidImage(source: string, why: string, cause?: unknown): PandoError {
  return new PandoError(
    'IMAGE_INVALID',
    `The image ${source} cannot be used: ${why}; have it made or copied again, or name another.`,
    { source },
    { cause },
  );
}

export function unreadable(source: string, error: unknown): PandoError {
  return invalidImage(source, `it cannot be read (${describeError(error)})`, error);
}
