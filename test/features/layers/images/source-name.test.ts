import { describe, expect, it } from 'vitest';
import { isPandoError } from '../../../../src/core/errors.ts';
import { parseSourceName } from '../../../../src/features/layers/images/source-name.ts';

describe('the source of an image', () => {
  it.each([
    ['oci:/a/b', { kind: 'oci', path: '/a/b', name: null }],
    ['oci:/a/b:', { kind: 'oci', path: '/a/b', name: null }],
    ['oci:b:registry:5000/name:tag', { kind: 'oci', path: 'b', name: 'registry:5000/name:tag' }],
    ['oci-archive:a.tar:tag', { kind: 'oci-archive', path: 'a.tar', name: 'tag' }],
    ['docker-archive:a.tar:name:tag', { kind: 'docker-archive', path: 'a.tar', name: 'name:tag' }],
    ['/a/b:c', { kind: 'path', path: '/a/b:c', name: null }],
    ['./oci:a', { kind: 'path', path: './oci:a', name: null }],
    [
      'docker://registry.example/a:b',
      { kind: 'registry', reference: { host: 'registry.example', name: 'a', tag: 'b', digest: null } },
    ],
  ])('%s is read', (text, name) => {
    expect(parseSourceName(text)).toEqual(name);
  });

  it.each([
    ['docker://', 'NAME_INVALID'],
    ['docker://A B', 'NAME_INVALID'],
    ['oci:', 'ARGUMENT_INVALID'],
    ['oci::tag', 'ARGUMENT_INVALID'],
    ['', 'ARGUMENT_INVALID'],
    ['a\0b', 'ARGUMENT_INVALID'],
  ] as const)('%j is refused with %s', (text, code) => {
    expect(() => parseSourceName(text)).toThrow(expect.toSatisfy((error) => isPandoError(error, code)));
  });
});
