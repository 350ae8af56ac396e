import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { detached } from '../../../src/zfs/cli/text.ts';

describe('A detached text', () => {
  it('is the same text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 400 }), (text) => {
        expect(detached(text)).toBe(text);
      }),
    );
  });
});
