import { execFileSync } from 'node:child_process';
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
import { Zstd } from '../../../../src/transfer/compression/zstd.ts';
import { children } from '../children.ts';
import { bytesOf, failureOf } from './image-fixture.ts';

const OPTIONS = { what: 'layer', zstd: new MemoryCompressor() };
const ZSTD_MAGIC = Buffer.from('28b52ffd', 'hex');

/** With the program of the machine, as layers are. */
const REAL = { what: 'layer', zstd: new Zstd() };

function zstdOf(bytes: Uint8Array): Buffer {
  return execFileSync('zstd', ['--quiet', '--stdout'], { input: bytes, maxBuffer: Number.POSITIVE_INFINITY });
}

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

  it.each([1, 1000, 1_000_000])('decompresses zstd that comes in pieces of %d', async (size) => {
    const bytes = Buffer.concat([randomBytes(5000), Buffer.alloc(50_000)]);
    expect(await bytesOf(decompressed(inPieces(zstdOf(bytes), size), REAL))).toEqual(bytes);
  });

  it('decompresses zstd that was written one after the other', async () => {
    const both = Buffer.concat([zstdOf(Buffer.from('one')), zstdOf(Buffer.from('two'))]);
    expect((await bytesOf(decompressed(inPieces(both), REAL))).toString()).toBe('onetwo');
  });

  it.each([4, 12, 2000, 50_000])('refuses zstd that was cut off after %d bytes', async (length) => {
    const whole = zstdOf(randomBytes(50_000));
    const error = await failureOf(decompressed(inPieces(whole.subarray(0, length)), REAL));
    expect(error).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it('refuses bytes behind the end of zstd', async () => {
    const bytes = Buffer.concat([zstdOf(Buffer.from('whole')), Buffer.alloc(1000, 'x')]);
    expect(await failureOf(decompressed(inPieces(bytes), REAL))).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it.each([
    ['gzip', gzipSync],
    ['zstd', zstdOf],
  ])('refuses a bomb of %s that grows a thousandfold before all of it is there', async (_compression, compressed) => {
    const bomb = compressed(Buffer.alloc(8 * EXPANSION_UNCHECKED_BYTES));
    const started = children();
    let bytes = 0;
    const reading = (async () => {
      for await (const chunk of decompressed(inPieces(bomb, 512), REAL)) bytes += chunk.length;
    })();
    const error = await failureOf(reading);
    expect(error).toMatchObject({
      code: 'ARCHIVE_INVALID',
      message: expect.stringContaining('grows to more than 200'),
    });
    expect(bytes).toBeLessThan(2 * EXPANSION_UNCHECKED_BYTES);
    await expect.poll(children).toEqual(started);
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
    ['zstd', zstdOf(randomBytes(1_000_000))],
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
    for await (const _chunk of decompressed(source(), REAL)) break;
    await setImmediate();
    expect(isClosed).toBe(true);
  });
});
