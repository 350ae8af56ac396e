import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Ownership } from '../../src/core/events.ts';
import type { NodeId } from '../../src/core/ids.ts';
import { epochAfter, foremost, markedOwner, OWNER_PROPERTY, ownerMark, supersedes } from '../../src/core/ownership.ts';

const claim = fc
  .record({
    node: fc.constantFrom('A', 'B', 'C') as fc.Arbitrary<NodeId>,
    epoch: fc.integer({ min: 1, max: 4 }),
    isGuess: fc.boolean(),
  })
  // Only what nobody took over is guessed at
  .map(({ isGuess, ...said }): Ownership => (isGuess && said.epoch === 1 ? { ...said, isGuess } : said));

describe('claims', () => {
  it('come to the same one in whatever order they are heard (invariant 2)', () => {
    fc.assert(
      fc.property(fc.array(claim), fc.array(fc.nat()), (claims, keys) => {
        const shuffled = claims.map((one, index) => ({ one, key: keys[index] ?? 0 })).sort((a, b) => a.key - b.key);
        expect(foremost(shuffled.map(({ one }) => one))).toEqual(foremost(claims));
      }),
    );
  });

  it('go before guesses of their epoch, whoever guesses', () => {
    const [guess, said] = [
      { node: 'A' as NodeId, epoch: 1, isGuess: true } as const,
      { node: 'B' as NodeId, epoch: 1 },
    ];
    expect([foremost([guess, said]), foremost([said, guess])]).toEqual([said, said]);
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

describe('the mark of what was taken over', () => {
  const node = 'A' as NodeId;
  const marked = (value: string) => markedOwner({ [OWNER_PROPERTY]: value }, node);

  it('tells the node that put it there in which epoch that was', () => {
    expect(marked(ownerMark({ node, epoch: 7 }))).toEqual({ node, epoch: 7 });
  });

  it("says nothing where it is another node's, or none at all", () => {
    const values = [
      ownerMark({ node: 'B' as NodeId, epoch: 7 }),
      'A',
      'A/',
      'A/0',
      'A/-1',
      'A/1e3',
      'A/2.5',
      'A/99999999999999999',
      '',
    ];
    expect(values.map(marked)).toEqual(values.map(() => undefined));
    expect(markedOwner({}, node)).toBeUndefined();
  });
});
