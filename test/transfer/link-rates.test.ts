import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LinkRates } from '../../src/transfer/compression/link-rates.ts';
import { signerOf } from '../log/identity.ts';

const PEER = signerOf(1).node;
const MIB = 1024 * 1024;
const STREAM_BYTES = 64 * MIB;

/** Streams one after the other on a link that is so fast for each way, in bytes a second; gives how many of them were compressed. */
function stream(rates: LinkRates, count: number, { plain, compressed }: { plain: number; compressed: number }): number {
  let times = 0;
  for (let index = 0; index < count; index += 1) {
    const isCompressed = rates.prefersCompressed(PEER);
    if (isCompressed) times += 1;
    const rate = isCompressed ? compressed : plain;
    rates.note(PEER, { compressed: isCompressed, bytes: STREAM_BYTES, ms: (STREAM_BYTES * 1000) / rate });
  }
  return times;
}

describe('streams from a peer', () => {
  it('are plain before anything was measured, and on a fast link always', () => {
    const rates = new LinkRates();
    expect(rates.prefersCompressed(PEER)).toBe(false);
    expect(stream(rates, 100, { plain: 300 * MIB, compressed: 900 * MIB })).toBe(0);
  });

  it('are compressed where that makes them faster, from the second on', () => {
    expect(stream(new LinkRates(), 100, { plain: 10 * MIB, compressed: 30 * MIB })).toBeGreaterThan(90);
  });

  it('are plain again where compressing was tried and gains nothing', () => {
    expect(stream(new LinkRates(), 100, { plain: 10 * MIB, compressed: 10 * MIB })).toBeLessThan(10);
  });

  it('go the other way soon after the link, or what is sent, has changed', () => {
    const rates = new LinkRates();
    stream(rates, 50, { plain: 10 * MIB, compressed: 30 * MIB });
    stream(rates, 60, { plain: 30 * MIB, compressed: 10 * MIB });
    expect(rates.prefersCompressed(PEER)).toBe(false);
    stream(rates, 60, { plain: 10 * MIB, compressed: 30 * MIB });
    expect(rates.prefersCompressed(PEER)).toBe(true);
  });

  it('come to the faster way whatever the rates are, most of the time', () => {
    const rate = fc.integer({ min: 1, max: 140 }).map((mib) => mib * MIB);
    fc.assert(
      fc.property(rate, rate, (plain, compressed) => {
        fc.pre(Math.max(plain, compressed) > 1.3 * Math.min(plain, compressed));
        const times = stream(new LinkRates(), 200, { plain, compressed });
        expect(compressed > plain ? times : 200 - times).toBeGreaterThan(180);
      }),
    );
  });

  it('say nothing where they were small, and of a peer that was forgotten', () => {
    const rates = new LinkRates();
    rates.note(PEER, { compressed: false, bytes: MIB, ms: 60_000 });
    expect(rates.prefersCompressed(PEER)).toBe(false);
    rates.note(PEER, { compressed: false, bytes: STREAM_BYTES, ms: 60_000 });
    expect(rates.prefersCompressed(PEER)).toBe(true);
    rates.forget(PEER);
    expect(rates.prefersCompressed(PEER)).toBe(false);
  });
});
