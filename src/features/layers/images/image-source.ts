/** An image, wherever it comes from: what it is, and its layers as they are unpacked. */
import { createHash } from 'node:crypto';
import { PandoError } from '../../../core/errors.ts';
import type { DiffId, Digest } from '../../../core/layers/digest.ts';
import type { ImageConfig } from '../../../core/layers/image-config.ts';
import type { Compressor } from '../../../transfer/compression/compressor.ts';
import { decompressed } from './decompression.ts';
import { type ImageFiles, invalidImage } from './image-files.ts';

export interface ImageLayer {
  readonly diffId: DiffId;
  /** Bytes of the blob, as it is stored. */
  readonly size: number;
  /**
   * The tar of the layer, uncompressed; can be read more than once. Fails at its end with `DIGEST_MISMATCH` where it is not what it was said to be, and before
   * that as {@link decompressed}.
   */
  open(): AsyncIterable<Uint8Array>;
}

export interface Image {
  /** Of the manifest that was chosen; of a docker archive, which has none, of its config. */
  readonly manifest: Digest;
  readonly config: ImageConfig;
  /** Lowest first. */
  readonly layers: readonly ImageLayer[];
}

export interface ImageSource extends Image {
  /** Removes what was fetched; nothing can be read then. */
  close(): Promise<void>;
}

export interface Platform {
  readonly os: string;
  /** As Go calls it: `amd64`, `arm64`. */
  readonly architecture: string;
}

export interface ReadOptions {
  /** Undefined for that of this machine. */
  readonly platform?: Platform | undefined;
  readonly zstd: Compressor;
  readonly signal: AbortSignal;
}

/** Where a layer lies, and what was said of it. */
export interface LayerPlace {
  readonly files: ImageFiles;
  readonly name: string;
  /** Of the blob; null where nobody said. */
  readonly digest: Digest | null;
  readonly size: number;
  readonly diffId: DiffId;
}

/** The layer there. */
export function imageLayer(place: LayerPlace, options: ReadOptions): ImageLayer {
  return { diffId: place.diffId, size: place.size, open: () => verifiedTar(place, options) };
}

async function* verifiedTar(place: LayerPlace, { zstd, signal }: ReadOptions): AsyncGenerator<Uint8Array> {
  const { files, name, diffId } = place;
  const what = `layer ${diffId} of ${files.source}`;
  const blob = createHash('sha256');
  const tar = createHash('sha256');
  try {
    for await (const chunk of decompressed(hashed(files.read(name), blob), { what, zstd })) {
      signal.throwIfAborted();
      tar.update(chunk);
      yield chunk;
    }
  } catch (error) {
    signal.throwIfAborted();
    // What is not what was meant is that first, and only then damaged
    await verifyBlob(place);
    throw error;
  }
  requireDigest(what, place.digest, `sha256:${blob.digest('hex')}`);
  requireDigest(what, diffId, `sha256:${tar.digest('hex')}`);
}

async function* hashed(source: AsyncIterable<Uint8Array>, hash: ReturnType<typeof createHash>) {
  for await (const chunk of source) {
    hash.update(chunk);
    yield chunk;
  }
}

async function verifyBlob({ files, name, digest, diffId }: LayerPlace): Promise<void> {
  if (digest === null) return;
  const hash = createHash('sha256');
  for await (const chunk of files.read(name)) hash.update(chunk);
  requireDigest(`layer ${diffId} of ${files.source}`, digest, `sha256:${hash.digest('hex')}`);
}

/** Throws `DIGEST_MISMATCH` where the bytes of `what` are not those that were said; null if nobody said anything. */
export function requireDigest(what: string, expected: Digest | null, found: string): void {
  if (expected === null || expected === found) return;
  throw new PandoError(
    'DIGEST_MISMATCH',
    `The ${what} is not what it was said to be: ${found} instead of ${expected}; fetch it again, and do not trust where it came from until you know why.`,
    { expected, found },
  );
}

/** Throws `IMAGE_INVALID` unless the config is for the platform that was asked for, and tells of as many layers as there are. */
export function requireFitting(source: string, config: ImageConfig, layers: number, platform?: Platform): void {
  if (config.diffIds.length !== layers) {
    throw invalidImage(source, `its config tells of ${config.diffIds.length} layers, and it has ${layers}`);
  }
  if (platform === undefined) return;
  if (platform.os !== config.os || platform.architecture !== config.architecture) {
    const asked = `${platform.os}/${platform.architecture}`;
    throw invalidImage(source, `it is for ${config.os}/${config.architecture}, not for ${asked}`);
  }
}
