/** Where an image layout is written: a directory, or a tar of one. Either appears under its name at once and whole, or not at all. */
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { finished, pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import { describeError, PandoError } from '../../../core/errors.ts';

export interface LayoutTarget {
  /** A place for a file of any name, which {@link addFile} takes. */
  staged(name: string): string;
  /** Takes a file of `size` bytes that was staged. */
  addFile(name: string, staged: string, size: number): Promise<void>;
  addText(name: string, text: string): Promise<void>;
  /** Gives it its name. Rejects with `ARGUMENT_INVALID` if that is taken. */
  finish(): Promise<void>;
  /** Removes what is not finished. */
  remove(): Promise<void>;
}

/** Directories of a layout (image-layout.md), upper ones first. */
const DIRECTORIES = ['blobs', 'blobs/sha256'] as const;
const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;
/** Nobody can tell from it when or where it was written. */
const NOBODY = { uid: 0, gid: 0, mtime: new Date(0) } as const;

/** Begins to write beside `path`. Rejects with `ARGUMENT_INVALID` if there is something already, or if nothing can be written there. */
export async function openTarget(path: string): Promise<LayoutTarget> {
  await requireFree(path);
  const work = await mkdtemp(join(dirname(path), `.${basename(path)}.`)).catch((error) => {
    throw unwritable(path, error);
  });
  try {
    return path.endsWith('.tar') ? await openTar(path, work) : await openFolder(path, work);
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    throw error;
  }
}

async function openFolder(path: string, work: string): Promise<LayoutTarget> {
  const folder = join(work, 'layout');
  for (const directory of ['', ...DIRECTORIES]) await mkdir(join(folder, directory));
  return {
    staged: (name) => join(work, name),
    addFile: (name, staged) => rename(staged, join(folder, name)),
    addText: (name, text) => writeFile(join(folder, name), text),
    finish: async () => {
      await requireFree(path);
      await rename(folder, path);
    },
    remove: () => rm(work, { recursive: true, force: true }),
  };
}

async function openTar(path: string, work: string): Promise<LayoutTarget> {
  const file = join(work, 'image.tar');
  const archive = pack();
  const output = createWriteStream(file);
  const written = pipeline(archive as unknown as NodeJS.ReadableStream, output);
  // Whoever adds or finishes hears of it
  written.catch(() => undefined);
  const unlessFailed = (work: Promise<void>): Promise<void> => Promise.race([work, written]);
  const addText = (name: string, text: string): Promise<void> =>
    unlessFailed(
      new Promise((resolve, reject) => {
        archive.entry({ name, mode: FILE_MODE, ...NOBODY }, text, (error) => (error ? reject(error) : resolve()));
      }),
    );
  for (const name of DIRECTORIES) archive.entry({ name, type: 'directory', mode: DIRECTORY_MODE, ...NOBODY });
  return {
    staged: (name) => join(work, name),
    addText,
    addFile: async (name, staged, size) => {
      const entry = archive.entry({ name, size, mode: FILE_MODE, ...NOBODY });
      await unlessFailed(pipeline(createReadStream(staged), entry as unknown as NodeJS.WritableStream));
      await rm(staged);
    },
    finish: async () => {
      archive.finalize();
      await written;
      await requireFree(path);
      await rename(file, path);
    },
    remove: async () => {
      archive.destroy();
      output.destroy();
      await finished(output, { cleanup: true }).catch(() => undefined);
      await rm(work, { recursive: true, force: true });
    },
  };
}

async function requireFree(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw unwritable(path, error);
  });
  if (found === null) return;
  throw new PandoError(
    'ARGUMENT_INVALID',
    `There is something at "${path}" already; name another place for the image, or remove it.`,
    { path },
  );
}

/** What `error` says of writing there. */
export function unwritable(path: string, error: unknown): PandoError {
  return new PandoError(
    'ARGUMENT_INVALID',
    `No image can be written to "${path}" (${describeError(error)}); make room there, or name another place.`,
    { path },
    { cause: error },
  );
}
