import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { NodeId } from '../../src/core/ids.ts';
import { epochAfter, foremost, supersedes } from '../../src/core/ownership.ts';

const claim = fc.record({
  node: fc.constantFrom('A', 'B', 'C') as fc.Arbitrary<NodeId>,
  epoch: fc.integer({ min: 1, max: 4 }),
});

describe('claims', () => {
  it('come to the same one in whatever order they are heard (invariant 2)', () => {
    fc.assert(
      fc.property(fc.array(claim), fc.array(fc.nat()), (claims, keys) => {
        const shuffled = claims.map((one, index) => ({ one, key: keys[index] ?? 0 })).sort((a, b) => a.key - b.key);
        expect(foremost(shuffled.map(({ one }) => one))).toEqual(foremost(claims));
      }),
    );
  });

  it('never give way to one of an earlier epoch, and of two that were taken exactly one gives way', () => {
    fc.assert(
      fc.property(claim, claim, (a, b) => {
        if (a.epoch < b.epoch) expect(supersedes(a, b)).toBe(false);
        const isSame = a.epoch === b.epoch && (a.node === b.node || a.epoch === 1);
        expect(Number(supersedes(a, b)) + Number(supersedes(b, a))).toBe(isSame ? 0 : 1);
      }),
    );
  });

  it('are followed by one of an epoch of its own, as long as there is one', () => {
    fc.assert(
      fc.property(fc.array(claim), (known) => {
        const node = 'Z' as NodeId;
        const next = { node, epoch: epochAfter(known) };
        expect(foremost([...known, next])).toBe(next);
      }),
    );
    expect(() => epochAfter([{ node: 'A' as NodeId, epoch: Number.MAX_SAFE_INTEGER }])).toThrow('last epoch');
  });
});
