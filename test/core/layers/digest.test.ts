import { describe, expect, it } from 'vitest';
import { chainIdOf, chainOf, type DiffId, digestOf, parseDigest } from '../../../src/core/layers/digest.ts';

const diff = (text: string) => digestOf(text) as DiffId;

describe('ChainIDs', () => {
  it('of the lowest layer are its DiffID', () => {
    expect(chainIdOf(null, diff('a'))).toBe(diff('a'));
  });

  it('follow from the layers below, as the OCI image specification says', () => {
    const [a, b, c] = [diff('a'), diff('b'), diff('c')] as const;
    const overA = digestOf(`${a} ${b}`);
    expect(chainOf([a, b, c])).toEqual([a, overA, digestOf(`${overA} ${c}`)]);
  });

  it('of the same layer over another parent differ', () => {
    expect(chainOf([diff('a'), diff('c')])[1]).not.toBe(chainOf([diff('b'), diff('c')])[1]);
  });
});

describe('A digest', () => {
  it('is the SHA-256 of the bytes', () => {
    expect(digestOf('')).toBe('sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });

  it.each([
    '',
    'sha256:',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(63)}`,
    `sha512:${'a'.repeat(64)}`,
    `../${'a'.repeat(68)}`,
  ])('is not %j', (text) => {
    expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'ID_INVALID' }));
  });
});
