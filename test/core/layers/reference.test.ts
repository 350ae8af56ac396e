import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isPandoError } from '../../../src/core/errors.ts';
import { digestOf } from '../../../src/core/layers/digest.ts';
import { formatReference, parseReference } from '../../../src/core/layers/reference.ts';

const DIGEST = digestOf('an image');
const NONE = { host: null, tag: null, digest: null };

describe('the name of an image', () => {
  it.each([
    ['debian', { ...NONE, name: 'debian' }],
    ['debian:12', { ...NONE, name: 'debian', tag: '12' }],
    ['library/debian', { ...NONE, name: 'library/debian' }],
    ['localhost/debian', { ...NONE, host: 'localhost', name: 'debian' }],
    ['registry:5000/a/b:1', { ...NONE, host: 'registry:5000', name: 'a/b', tag: '1' }],
    ['registry.example/a__b/c.d-e--f', { ...NONE, host: 'registry.example', name: 'a__b/c.d-e--f' }],
    ['[::1]:5000/a', { ...NONE, host: '[::1]:5000', name: 'a' }],
    ['Registry/a', { ...NONE, host: 'Registry', name: 'a' }],
    [`a@${DIGEST}`, { ...NONE, name: 'a', digest: DIGEST }],
    [`10.0.0.1:80/a:b_C-1@${DIGEST}`, { host: '10.0.0.1:80', name: 'a', tag: 'b_C-1', digest: DIGEST }],
  ])('%s is read, and written as it was', (text, reference) => {
    expect(parseReference(text)).toEqual(reference);
    expect(formatReference(parseReference(text))).toBe(text);
  });

  it.each([
    '',
    'Debian',
    'a//b',
    '/a',
    'a/',
    'a:',
    'a:-b',
    `a:${'t'.repeat(129)}`,
    'a___b',
    'a._b',
    'a@',
    'a@sha256:12',
    `a@sha512:${'0'.repeat(128)}`,
    'host.example/',
    '-host.example/a',
    'host.example:port/a',
    'a b',
    'a\n',
    '../a',
    '--option',
    '0'.repeat(64),
    'a'.repeat(256),
    'a'.repeat(100_000),
  ])('%j is none', (text) => {
    expect(() => parseReference(text)).toThrow(expect.toSatisfy((error) => isPandoError(error, 'NAME_INVALID')));
  });

  it('is a reference or refused by its code, whatever it is', () => {
    const text = fc.stringMatching(/^[aA0.:/@_\-[\]]{0,12}$/);
    fc.assert(
      fc.property(fc.oneof(text, fc.string()), (one) => {
        try {
          expect(formatReference(parseReference(one))).toBe(one);
        } catch (error) {
          expect(isPandoError(error, 'NAME_INVALID')).toBe(true);
        }
      }),
    );
  });
});
