import { randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { PandoError } from '../../../../src/core/errors.ts';
import {
  decompressed,
  EXPANSION_RATIO_MAX,
  EXPANSION_UNCHECKED_BYTES,
} from '../../../../src/features/layers/images/decompression.ts';
import { MemoryCompressor } from '../../../../src/transfer/compression/memory-compressor.ts';
import { bytesOf, failureOf } from './image-fixture.ts';

const OPTIONS = { what: 'layer', zstd: new MemoryCompressor() };
const ZSTD_MAGIC = Buffer.from('28b52ffd', 'hex');

/** In pieces of `size`, so that no piece has to hold what is looked for. */
async function* inPieces(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

describe('decompression', () => {
  it.each([0, 1, 3, 100_000])('gives %d bytes without compression as they are', async (length) => {
    const bytes = Buffer.alloc(length, 'plain');
    expect(await bytesOf(decompressed(inPieces(bytes), OPTIONS))).toEqual(bytes);
  });

  it.each([1, 1000, 1_000_000])('decompresses gzip that comes in pieces of %d', async (size) => {
    const bytes = Buffer.concat([randomBytes(50_000), Buffer.alloc(50_000)]);
    expect(await bytesOf(decompressed(inPieces(gzipSync(bytes), size), OPTIONS))).toEqual(bytes);
  });

  it('decompresses gzip that was written one after the other', async () => {
    const both = Buffer.concat([gzipSync('one'), gzipSync('two')]);
    expect((await bytesOf(decompressed(inPieces(both), OPTIONS))).toString()).toBe('onetwo');
  });

  it.each([3, 12, 2000, 30_000])('refuses gzip that was cut off after %d bytes', async (length) => {
    const whole = gzipSync(randomBytes(50_000));
    const error = await failureOf(decompressed(inPieces(whole.subarray(0, length)), OPTIONS));
    expect(error).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it('refuses gzip that is damaged', async () => {
    const bytes = gzipSync(randomBytes(50_000));
    bytes.fill(0x55, bytes.length - 8);
    expect(await failureOf(decompressed(inPieces(bytes), OPTIONS))).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it.each([1, 1000, 1_000_000])('refuses %d bytes behind the end of gzip', async (length) => {
    const bytes = Buffer.concat([gzipSync('whole'), Buffer.alloc(length, 'x')]);
    expect(await failureOf(decompressed(inPieces(bytes), OPTIONS))).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it('refuses what is said to be zstd and is not', async () => {
    const bytes = Buffer.concat([ZSTD_MAGIC, Buffer.alloc(100, 0xff)]);
    expect(await failureOf(decompressed(inPieces(bytes), OPTIONS))).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it('says what is missing where there is no zstd', async () => {
    const options = { ...OPTIONS, zstd: new MemoryCompressor({ isThere: false }) };
    const error = await failureOf(decompressed(inPieces(ZSTD_MAGIC), options));
    expect(error).toMatchObject({ code: 'PROGRAM_MISSING', message: expect.stringContaining('zstd') });
  });

  it('refuses a bomb before all of it is there', async () => {
    const bomb = gzipSync(Buffer.alloc(8 * EXPANSION_UNCHECKED_BYTES));
    let bytes = 0;
    const reading = (async () => {
      for await (const chunk of decompressed(inPieces(bomb, 64 * 1024), OPTIONS)) bytes += chunk.length;
    })();
    expect(await failureOf(reading)).toMatchObject({ code: 'ARCHIVE_INVALID' });
    expect(bytes).toBeLessThan(2 * EXPANSION_UNCHECKED_BYTES);
  });

  it('takes few zeros for no bomb', async () => {
    const bytes = Buffer.alloc(EXPANSION_UNCHECKED_BYTES);
    const compressed = gzipSync(bytes);
    expect(bytes.length).toBeGreaterThan(compressed.length * EXPANSION_RATIO_MAX);
    expect(await bytesOf(decompressed(inPieces(compressed), OPTIONS))).toHaveLength(bytes.length);
  });

  it.each([
    ['gzip', gzipSync(randomBytes(100_000))],
    ['zstd', ZSTD_MAGIC],
    ['nothing', randomBytes(100)],
  ])('fails with what its source fails with, compressed with %s', async (_compression, bytes) => {
    const lost = new PandoError('IMAGE_INVALID', 'The disk is gone.');
    const source = async function* () {
      yield* inPieces(bytes.subarray(0, 50_000));
      throw lost;
    };
    expect(await failureOf(decompressed(source(), OPTIONS))).toBe(lost);
  });

  it.each([
    ['gzip', gzipSync(randomBytes(1_000_000))],
    ['nothing', Buffer.alloc(1_000_000, 'x')],
  ])('lets go of its source when nobody reads on, compressed with %s', async (_compression, bytes) => {
    let isClosed = false;
    const source = async function* () {
      try {
        yield* inPieces(bytes);
      } finally {
        isClosed = true;
      }
    };
    for await (const _chunk of decompressed(source(), OPTIONS)) break;
    await setImmediate();
    expect(isClosed).toBe(true);
  });
});
