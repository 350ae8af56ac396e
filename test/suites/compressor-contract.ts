/** What every compressor does. */
import { randomBytes } from 'node:crypto';
import { PassThrough, Readable, type Stream } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { finished, pipeline } from 'node:stream/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Compressor } from '../../src/transfer/compression/compressor.ts';

const MIB = 1024 * 1024;

/** Resolves when a stream is over, however it ended. */
function closeOf(stream: Stream): Promise<void> {
  return new Promise((resolve) => void stream.once('close', resolve));
}

export function describeCompressor(name: string, create: () => Compressor, { runs }: { readonly runs: number }): void {
  describe(name, () => {
    /** What a stream is on its way, and what it is again behind it. */
    async function thereAndBack(chunks: readonly Uint8Array[]): Promise<{ sent: Buffer; back: Buffer }> {
      const wire = new PassThrough();
      const sending = pipeline(Readable.from(chunks), create().compressInto(wire));
      const sent = await buffer(wire);
      await sending;
      return { sent, back: await buffer(create().decompressFrom(Readable.from([sent]))) };
    }

    it('is there', async () => {
      expect(await create().isAvailable()).toBe(true);
    });

    it('gives back what it was given, whatever that was and however it came', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.uint8Array({ minLength: 1, maxLength: 70_000 }), { maxLength: 6 }),
          async (chunks) => {
            const { back } = await thereAndBack(chunks);
            expect(back.equals(Buffer.concat(chunks))).toBe(true);
          },
        ),
        { numRuns: runs },
      );
    });

    it('makes less of what repeats itself, and little more of what does not', async () => {
      const plain = Buffer.alloc(MIB, 'the same again ');
      expect((await thereAndBack([plain])).sent.length).toBeLessThan(plain.length / 20);
      const noise = randomBytes(MIB);
      expect((await thereAndBack([noise])).sent.length).toBeLessThan(noise.length * 1.01);
    });

    it('is finished once the target has all of it', async () => {
      const wire = new PassThrough();
      const entry = create().compressInto(wire);
      entry.end(Buffer.alloc(MIB));
      const [told] = await Promise.all([finished(entry).then(() => wire.writableFinished), buffer(wire)]);
      expect(told).toBe(true);
    });

    it('fails where a stream was cut short, or is none', async () => {
      const { sent } = await thereAndBack([randomBytes(MIB)]);
      for (const broken of [sent.subarray(0, sent.length / 2), randomBytes(4096)]) {
        await expect(buffer(create().decompressFrom(Readable.from([broken])))).rejects.toThrow();
      }
    });

    it('ends with its target, and with its source', async () => {
      const wire = new PassThrough();
      const entry = create().compressInto(wire);
      entry.on('error', () => undefined);
      const closed = closeOf(entry);
      wire.destroy();
      await closed;
      const source = new PassThrough();
      const exit = create().decompressFrom(source);
      exit.on('error', () => undefined);
      const over = closeOf(exit);
      source.destroy(new Error('cut'));
      await over;
    });

    it('ends its source and its target when whoever uses it gives up', async () => {
      const wire = new PassThrough();
      const entry = create().compressInto(wire);
      const gone = closeOf(wire);
      entry.destroy();
      await gone;
      const source = new PassThrough();
      source.on('error', () => undefined);
      const exit = create().decompressFrom(source);
      const over = closeOf(source);
      exit.destroy();
      await over;
    });
  });
}
