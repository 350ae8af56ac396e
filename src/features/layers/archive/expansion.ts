/** Blobs of layers as the tars that they are: decompressed, and watched so that a small one does not grow without end. */
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { PandoError } from '../../../core/errors.ts';
import type { Compressor } from '../../../transfer/compression/compressor.ts';
import { refusedEntry } from './refusals.ts';

/** How much larger than its blob a layer may be: gzip gets to 1,000 with zeros alone, the best layers to some 20. */
const RATIO_MAX = 200;
/** Up to this many bytes any ratio is taken: small layers of empty files compress very well, and do no harm. */
const UNWATCHED_BYTES = 64 * 1024 * 1024;
/** RFC 1952, and RFC 8878 with the magic of a skippable frame, whose last four bits are free. */
const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const ZSTD_SKIPPABLE = Buffer.from([0x2a, 0x4d, 0x18]);
const MAGIC_BYTES = 4;

type Format = 'gzip' | 'zstd' | 'plain';

/** What has been read of a blob so far. */
export interface ByteCounter {
  readonly bytes: number;
}

/**
 * Passes on a decompressed stream. `compressed` counts the blob that it comes from. Throws `ARCHIVE_INVALID` once it is {@link RATIO_MAX} times as large, beyond {@link UNWATCHED_BYTES}.
 */
export async function* guardExpansion(
  compressed: ByteCounter,
  plain: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  let bytes = 0;
  for await (const chunk of plain) {
    bytes += chunk.length;
    if (bytes > UNWATCHED_BYTES && bytes > RATIO_MAX * compressed.bytes) {
      throw refusedEntry(null, `grows to more than ${RATIO_MAX} times its size`);
    }
    yield chunk;
  }
}

/**
 * The tar in a blob: what its first bytes say counts, because media types of registries are wrong at times. The blob is read to its end, also behind the end of what was compressed. Whoever stops early stops the decompressor.
 * Throws `ARCHIVE_INVALID` for what is damaged, cut short or a bomb, `PROGRAM_MISSING` where zstd is needed and missing; what the blob throws passes as it is.
 */
export async function* decompressed(
  blob: AsyncIterable<Uint8Array>,
  { zstd }: { readonly zstd: Compressor },
): AsyncGenerator<Uint8Array, void, undefined> {
  const input = new Blob(blob);
  try {
    const format = formatOf(await input.peek(MAGIC_BYTES));
    if (format === 'plain') yield* input.rest();
    else if (format === 'gzip') yield* guardExpansion(input, gunzipped(input));
    else yield* guardExpansion(input, unzstd(input, zstd));
  } finally {
    await input.close();
  }
}

function formatOf(start: Buffer): Format {
  if (start.subarray(0, 2).equals(GZIP_MAGIC)) return 'gzip';
  const isSkippable = ((start[0] ?? 0) & 0xf0) === 0x50 && start.subarray(1).equals(ZSTD_SKIPPABLE);
  return start.equals(ZSTD_MAGIC) || isSkippable ? 'zstd' : 'plain';
}

async function* gunzipped(input: Blob): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip();
  const source = Readable.from(input.rest(), { objectMode: false });
  source.once('error', (error) => void gunzip.destroy(error));
  yield* through(source.pipe(gunzip), input, 'gzip');
}

async function* unzstd(input: Blob, zstd: Compressor): AsyncGenerator<Uint8Array> {
  if (!(await zstd.isAvailable())) {
    const message = 'A layer is compressed with zstd, which this machine does not have; install the package "zstd".';
    throw new PandoError('PROGRAM_MISSING', message, { program: 'zstd', package: 'zstd' });
  }
  yield* through(zstd.decompressFrom(Readable.from(input.rest(), { objectMode: false })), input, 'zstd');
}

/** What comes out of a decompressor, and then what is left of the blob. */
async function* through(output: Readable, input: Blob, format: Format): AsyncGenerator<Uint8Array> {
  const closed = once(output, 'close').catch(() => undefined);
  try {
    yield* output as AsyncIterable<Uint8Array>;
    for await (const _ of input.rest());
  } catch (error) {
    if (input.failure !== null) throw input.failure.error;
    throw refusedEntry(null, `is no whole ${format}`, error);
  } finally {
    output.destroy();
    await closed;
  }
}

/** A blob that is looked at before it is read, and counted. */
class Blob implements ByteCounter {
  bytes = 0;
  /** What the source threw: a decompressor would make a failure of its own of it. */
  failure: { readonly error: unknown } | null = null;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #peeked: Buffer[] = [];
  #isEnded = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** The first bytes, fewer where there are no more. */
  async peek(bytes: number): Promise<Buffer> {
    let start = Buffer.alloc(0);
    while (start.length < bytes) {
      const chunk = await this.#next();
      if (chunk === null) break;
      start = Buffer.concat([start, chunk]);
    }
    this.#peeked = start.length > 0 ? [start] : [];
    return start.subarray(0, bytes);
  }

  async *rest(): AsyncGenerator<Uint8Array> {
    for (let chunk = this.#peeked.pop() ?? (await this.#next()); chunk !== null; chunk = await this.#next())
      yield chunk;
  }

  async close(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    await this.#chunks.return?.();
  }

  async #next(): Promise<Buffer | null> {
    if (this.#isEnded) return null;
    try {
      const next = await this.#chunks.next();
      if (next.done === true) {
        this.#isEnded = true;
        return null;
      }
      this.bytes += next.value.length;
      return Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    } catch (error) {
      this.#isEnded = true;
      this.failure = { error };
      throw error;
    }
  }
}
