/** Opens an image, wherever people say that it comes from. */
import { createWriteStream } from 'node:fs';
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { describeError, isPandoError, PandoError } from '../../../core/errors.ts';
import { compressionOf, decompressed } from './decompression.ts';
import { openDockerArchive } from './docker-archive.ts';
import { directoryFiles, type ImageFiles, invalidImage, readPart, unreadable } from './image-files.ts';
import type { Image, ImageSource, ReadOptions } from './image-source.ts';
import { openDirectory, openLayout } from './oci-image.ts';
import { fetchImage } from './registry.ts';
import { parseSourceName, SOURCE_FORMS, type SourceName } from './source-name.ts';
import { openTarFiles } from './tar-files.ts';

export interface OpenOptions extends ReadOptions {
  /** A directory for what has to be fetched or decompressed first; what is made there is removed by `close`. */
  readonly scratch: string;
  /** Registries also over plain HTTP, or TLS that nobody vouches for. */
  readonly insecure?: boolean | undefined;
}

/**
 * Opens the image that `source` names: `docker://HOST/NAME:TAG`, `oci:DIRECTORY[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`, or the path of a
 * directory or file that is one of these. Digests of manifest and config are verified here, those of layers as they are read.
 *
 * Rejects with `NAME_INVALID`, `ARGUMENT_INVALID` and `IMAGE_UNKNOWN` for what there is not, `IMAGE_INVALID` and `ARCHIVE_INVALID` for what is none,
 * `DIGEST_MISMATCH` for what is not what it was said to be, `PROGRAM_MISSING` and `PROGRAM_FAILED`; then it has left nothing behind.
 */
export async function openImage(source: string, options: OpenOptions): Promise<ImageSource> {
  const name = parseSourceName(source);
  options.signal.throwIfAborted();
  const scratch = new Scratch(options.scratch);
  try {
    const image =
      name.kind === 'registry'
        ? await openFetched(source, name, scratch, options)
        : await openStored(source, name, scratch, options);
    return { ...image, close: () => scratch.remove() };
  } catch (error) {
    await scratch.remove();
    throw error;
  }
}

type Stored = Exclude<SourceName, { kind: 'registry' }>;
type Fetched = Extract<SourceName, { kind: 'registry' }>;

async function openFetched(
  source: string,
  { reference }: Fetched,
  scratch: Scratch,
  options: OpenOptions,
): Promise<Image> {
  const { platform, insecure, signal } = options;
  const directory = join(await scratch.directory(), 'image');
  await fetchImage(reference, directory, { platform, insecure, signal, scratch: await scratch.directory() });
  return openDirectory(directoryFiles(source, directory), options);
}

async function openStored(
  source: string,
  { kind, path, name }: Stored,
  scratch: Scratch,
  options: OpenOptions,
): Promise<Image> {
  const isDirectory = await lookAt(source, path);
  if (isDirectory !== (kind === 'oci') && kind !== 'path') {
    throw invalidImage(source, `"${path}" is ${isDirectory ? 'a directory' : 'not a directory'}`);
  }
  if (isDirectory) return openLayout(directoryFiles(source, path), name, options);
  const files = await openArchive(source, path, scratch, options);
  const isLayout = kind === 'path' ? (await files.size('oci-layout')) !== null : kind === 'oci-archive';
  return isLayout ? openLayout(files, name, options) : openDockerArchive(files, name, options);
}

/** Whether there is a directory; rejects where there is neither that nor a file. */
async function lookAt(source: string, path: string): Promise<boolean> {
  try {
    const found = await stat(path);
    if (found.isDirectory() || found.isFile()) return found.isDirectory();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unreadable(source, error);
  }
  throw new PandoError(
    'IMAGE_UNKNOWN',
    `There is no file or directory "${path}" with an image; write ${SOURCE_FORMS}.`,
    { source },
  );
}

/** The files in an archive; one that is compressed is first decompressed, because nothing in it can be found before. */
async function openArchive(source: string, path: string, scratch: Scratch, options: OpenOptions): Promise<ImageFiles> {
  const { signal, zstd } = options;
  if ((await compressionIn(source, path)) === 'none') return openTarFiles(source, path, signal);
  const plain = join(await scratch.directory(), 'archive.tar');
  try {
    const what = `archive ${source}`;
    await pipeline(decompressed(readPart(source, path), { what, zstd }), createWriteStream(plain), { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw isPandoError(error) ? error : scratchFailure(plain, error);
  }
  return openTarFiles(source, plain, signal);
}

async function compressionIn(source: string, path: string) {
  try {
    const file = await open(path);
    try {
      return compressionOf((await file.read(Buffer.alloc(4), 0, 4, 0)).buffer);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw unreadable(source, error);
  }
}

/** A place for what is needed while an image is open, made once something is. */
class Scratch {
  readonly #parent: string;
  #made: Promise<string> | undefined;

  constructor(parent: string) {
    this.#parent = parent;
  }

  directory(): Promise<string> {
    this.#made ??= mkdtemp(join(this.#parent, 'image-')).catch((error) => {
      throw scratchFailure(this.#parent, error);
    });
    return this.#made;
  }

  async remove(): Promise<void> {
    const made = await this.#made?.catch(() => undefined);
    if (made !== undefined) await rm(made, { recursive: true, force: true });
  }
}

function scratchFailure(path: string, error: unknown): PandoError {
  return new PandoError(
    'ARGUMENT_INVALID',
    `Nothing can be written to "${path}" (${describeError(error)}); make room there, or name another directory for scratch.`,
    { path },
    { cause: error },
  );
}
