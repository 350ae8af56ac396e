import { describe, expect, it } from 'vitest';
import { pathsIn } from '../../../src/zfs/cli/diff.ts';

const told = (...lines: string[]) => pathsIn(lines, '/tank/layer')?.map((path) => path.toString('latin1'));

describe('What zfs diff prints', () => {
  it('is paths below the root of the files, which itself is the empty one', () => {
    expect(
      told('M\t/\t/tank/layer', '+\tF\t/tank/layer/etc/new', '-\t/\t/tank/layer/gone', 'M\t@\t/tank/layer/link'),
    ).toEqual(['', 'etc/new', 'gone', 'link']);
  });

  it('has octal digits for bytes that are no plain characters', () => {
    expect(told('M\tF\t/tank/layer/a\\0040b\\0134c\\0303\\0244\\0012')).toEqual(['a b\\c\u00c3\u00a4\n']);
  });

  it('names both places of a file that was renamed', () => {
    expect(told('R\tF\t/tank/layer/old\t/tank/layer/new')).toEqual(['old', 'new']);
  });

  it.each([
    ['a directory was renamed', 'R\t/\t/tank/layer/old\t/tank/layer/new'],
    ['a hard link came', 'M\tF\t/tank/layer/file\t(+1)'],
    ['attributes changed that are files', 'M\tF\t/tank/layer/file/<xattrdir>/user.a'],
    ['something lies elsewhere', 'M\tF\t/tank/layers/file'],
  ])('does not tell everything where %s', (_, line) => {
    expect(told('M\t/\t/tank/layer', line)).toBeUndefined();
  });
});
