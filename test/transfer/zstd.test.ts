import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { Zstd } from '../../src/transfer/compression/zstd.ts';

/** What it does with the program is in test/platform. */
it('is not there where the program is missing, and then breaks nothing but the streams that it was to compress', async () => {
  const missing = new Zstd('/nowhere/zstd');
  expect(await missing.isAvailable()).toBe(false);
  expect(await missing.isAvailable()).toBe(false);
  await expect(buffer(missing.decompressFrom(Readable.from([Buffer.alloc(10)])))).rejects.toThrow();
  const target = new PassThrough();
  const entry = missing.compressInto(target);
  const failed = new Promise((resolve) => void entry.once('error', resolve));
  entry.write('x');
  expect(await failed).toBeInstanceOf(Error);
  expect(target.destroyed).toBe(true);
});
