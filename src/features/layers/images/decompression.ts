/** What a layer or an archive was before it was compressed. How it was is found out by its first bytes: what a media type says of that is often wrong. */
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { isPandoError, PandoError } from '../../../core/errors.ts';
import type { Compressor } from '../../../transfer/compression/compressor.ts';

const GZIP_MAGIC = Uint8Array.of(0x1f, 0x8b);
const ZSTD_MAGIC = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd);

/** A tar of text grows twentyfold, one with holes in its files more: whatever grows beyond this was made to fill a disk. @internal */
export const EXPANSION_RATIO_MAX = 200;
/** Below this nobody's disk is full yet, and short runs of zeros are no attack. @internal */
export const EXPANSION_UNCHECKED_BYTES = 64 * 1024 * 1024;

export interface Decompression {
  /** What it is, for people: `layer sha256:…`. */
  readonly what: string;
  readonly zstd: Compressor;
}

/** How bytes that begin like this are compressed. */
export function compressionOf(head: Uint8Array): 'gzip' | 'zstd' | 'none' {
  if (startsWith(head, GZIP_MAGIC)) return 'gzip';
  return startsWith(head, ZSTD_MAGIC) ? 'zstd' : 'none';
}

/**
 * The bytes of `source` without their compression; what has none comes out as it is. All of the source has been read when it ends. Fails with
 * `ARCHIVE_INVALID` for what was cut short, is damaged, has anything behind its end, or grows by more than {@link EXPANSION_RATIO_MAX}; with `PROGRAM_MISSING`
 * where there is no zstd for it; and with what the source fails with.
 */
export async function* decompressed(
  source: AsyncIterable<Uint8Array>,
  { what, zstd }: Decompression,
): AsyncGenerator<Uint8Array> {
  const input = new Input(source);
  const compression = compressionOf(await input.head(ZSTD_MAGIC.length));
  if (compression === 'none') return yield* input.read();
  if (compression === 'zstd' && !(await zstd.isAvailable())) {
    await input.close();
    throw new PandoError('PROGRAM_MISSING', `There is no zstd to read ${what} with; install the package "zstd".`);
  }
  let bytes = 0;
  for await (const chunk of compression === 'gzip' ? gunzipped(input, what) : unzstd(input, zstd, what)) {
    bytes += chunk.length;
    if (bytes > EXPANSION_UNCHECKED_BYTES && bytes > input.bytes * EXPANSION_RATIO_MAX) {
      throw invalid(what, `it grows to more than ${EXPANSION_RATIO_MAX} times its size`);
    }
    yield chunk;
  }
}

async function* gunzipped(input: Input, what: string): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip();
  const source = Readable.from(input.read(), { objectMode: false });
  source.once('error', (error) => gunzip.destroy(error));
  try {
    yield* named(source.pipe(gunzip), what);
    // It stops reading where something else begins
    if (!input.isRead || gunzip.bytesWritten < input.bytes) throw invalid(what, 'something follows its end');
  } finally {
    gunzip.destroy();
    source.destroy();
  }
}

async function* unzstd(input: Input, zstd: Compressor, what: string): AsyncGenerator<Uint8Array> {
  const source = Readable.from(input.read(), { objectMode: false });
  try {
    yield* named(zstd.decompressFrom(source), what);
  } finally {
    source.destroy();
  }
}

/** A failure of the source is that of whoever reads; any other is one of the bytes. */
async function* named(stream: Readable, what: string): AsyncGenerator<Uint8Array> {
  try {
    yield* stream;
  } catch (error) {
    if (isPandoError(error)) throw error;
    throw invalid(what, 'it was cut short or is damaged', error);
  }
}

/** A source that counts what was taken of it, and whose first bytes can be looked at before. */
class Input {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #ahead: Uint8Array[] = [];
  #bytes = 0;
  #isRead = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** How many were taken. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether all of it was taken. */
  get isRead(): boolean {
    return this.#isRead;
  }

  /** The first `length` bytes or more, less where there are no more. */
  async head(length: number): Promise<Uint8Array> {
    let head = Buffer.alloc(0);
    while (head.length < length) {
      const next = await this.#chunks.next();
      if (next.done === true) break;
      head = Buffer.concat([head, next.value]);
    }
    this.#ahead = head.length === 0 ? [] : [head];
    return head;
  }

  async *read(): AsyncGenerator<Uint8Array> {
    try {
      for (const chunk of this.#ahead.splice(0)) yield this.#counted(chunk);
      for (let next = await this.#chunks.next(); next.done !== true; next = await this.#chunks.next()) {
        yield this.#counted(next.value);
      }
      this.#isRead = true;
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  #counted(chunk: Uint8Array): Uint8Array {
    this.#bytes += chunk.length;
    return chunk;
  }
}

function startsWith(bytes: Uint8Array, magic: Uint8Array): boolean {
  return magic.every((byte, index) => bytes[index] === byte);
}

function invalid(what: string, why: string, cause?: unknown): PandoError {
  return new PandoError(
    'ARCHIVE_INVALID',
    `The ${what} cannot be decompressed: ${why}; fetch it again.`,
    {},
    { cause },
  );
}
