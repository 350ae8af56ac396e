import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isPandoError, type PandoError } from '../../../src/core/errors.ts';
import { parseFilters } from '../../../src/core/snapshots/filter.ts';
import type { SnapshotInfo } from '../../../src/core/snapshots/snapshot.ts';

function snapshot(key: string, some: Partial<SnapshotInfo> = {}): SnapshotInfo {
  return { kind: 'committed', key, parent: null, labels: {}, createdAt: 0n, updatedAt: 0n, ...some };
}

const WORLD = [
  snapshot('base', { labels: { 'containerd.io/snapshot.ref': 'sha256:0a', tier: '1' } }),
  snapshot('default/7/web', { kind: 'active', parent: 'base', labels: { tier: '2', 'a "b" \\ c': 'odd' } }),
  snapshot('look', { kind: 'view', parent: 'base', labels: { 'größe.in.m': '牛', empty: '' } }),
  snapshot('bare', {}),
];

/** Keys of the snapshots that match. */
function matched(...filters: string[]): string[] {
  return WORLD.filter(parseFilters(filters)).map(({ key }) => key);
}

function refusal(...filters: string[]): PandoError {
  try {
    parseFilters(filters);
  } catch (error) {
    if (isPandoError(error)) return error;
    throw error;
  }
  throw new Error(`${filters} was taken`);
}

describe('a filter', () => {
  test.each<[string, string[]]>([
    ['', ['base', 'default/7/web', 'look', 'bare']],
    ['name', ['base', 'default/7/web', 'look', 'bare']],
    ['name==base', ['base']],
    ['name == base', ['base']],
    ['  name==base', ['base']],
    ['name==default/7/web', ['default/7/web']],
    ['name!=base', ['default/7/web', 'look', 'bare']],
    ['kind==active', ['default/7/web']],
    ['kind!=committed', ['default/7/web', 'look']],
    ['parent==base', ['default/7/web', 'look']],
    ['parent', ['base', 'default/7/web', 'look', 'bare']],
    ['parent!=""', ['default/7/web', 'look']],
    ['parent==""', ['base', 'bare']],
    ['labels', []],
    ['labels.tier', ['base', 'default/7/web']],
    ['labels.tier==2', ['default/7/web']],
    ['labels.tier!=2', ['base', 'look', 'bare']],
    ['labels.empty', ['look']],
    ['labels.empty==""', ['look']],
    ['labels."containerd.io/snapshot.ref"==sha256:0a', ['base']],
    ['"labels"."containerd.io/snapshot.ref"', ['base']],
    ['labels.containerd', []],
    ['labels."größe".in.m==牛', ['look']],
    ['labels."größe.in.m"=="\\u725b"', ['look']],
    ['labels."größe.in.m"=="\\xe7\\x89\\x9b"', ['look']],
    ['labels."größe.in.m"=="\\347\\211\\233"', ['look']],
    ['labels."a \\"b\\" \\\\ c"==odd', ['default/7/web']],
    ['labels."tier"', ['base', 'default/7/web']],
    ['labels.__proto__', []],
    ['labels.toString', []],
    ['size', []],
    ['size!=1', ['base', 'default/7/web', 'look', 'bare']],
    ['labels.tier,kind==active', ['default/7/web']],
    ['labels.tier, kind==active', ['default/7/web']],
    ['name~=^b', ['base', 'bare']],
    ['name~=/^default/', ['default/7/web']],
    ['name~=|^default/[0-9]+/|', ['default/7/web']],
    ['name~=/\\/7\\//', ['default/7/web']],
    ['name~="a.e$",parent==""', ['base', 'bare']],
    ['name~=(?i)^BASE$', ['base']],
    ['name~=[[:digit:]]', ['default/7/web']],
    ['labels.tier~=^$', ['look', 'bare']],
  ])('%j matches %j', (filter, keys) => {
    expect(matched(filter)).toEqual(keys);
  });

  test('is one of several, any of which may match', () => {
    expect(matched('name==base', 'kind==view')).toEqual(['base', 'look']);
    expect(matched('name==nothing', 'size')).toEqual([]);
    expect(matched()).toHaveLength(WORLD.length);
  });

  test('that holds for no field of a snapshot without labels is still compared with nothing', () => {
    expect(matched('labels.absent~=^$,labels.absent!=x')).toHaveLength(WORLD.length);
  });
});

describe('a filter that cannot be read is refused with its place', () => {
  test.each<[string, number, string]>([
    ['name==foo,', 11, 'a field is expected'],
    ['labels.', 8, 'a field is expected'],
    ['.name', 1, 'a field is expected'],
    ['==x', 1, 'a field is expected'],
    ['labels.?"x"==y', 8, 'a field is expected'],
    ['größe', 3, 'one of the operators'],
    ['name ', 6, 'one of the operators'],
    ['name foo', 6, 'one of the operators'],
    ['name=foo', 5, 'one of the operators'],
    ['name===foo', 5, 'one of the operators'],
    ['name==!foo', 5, 'one of the operators'],
    ['name==', 7, 'a value is expected'],
    ['name==,kind', 7, 'a value is expected'],
    ['name==.foo', 7, 'a value is expected'],
    ['name==foo ', 10, 'a comma or the end'],
    ['name==foo bar', 10, 'a comma or the end'],
    ['name=="foo"bar', 12, 'a comma or the end'],
    ['labels.ns/key==value', 10, 'the quoted text has no end'],
    ['name==/value', 7, 'the quoted text has no end'],
    ['name=="a\nb"', 7, 'the quoted text has no end'],
    ['name=="a\\"', 7, 'the quoted text has no end'],
    ['labels.|foo|==bar', 8, 'only double quotes'],
    ['name==/foo/', 7, 'only double quotes'],
    ['name=="\\g"', 7, 'an illegal escape sequence'],
    ['name~=/a\\.b/', 7, 'an illegal escape sequence'],
    ['name=="\\\'"', 7, 'an illegal escape sequence'],
    ['name=="\\x4"', 7, 'an illegal numeric escape sequence'],
    ['name=="\\400"', 7, 'an illegal numeric escape sequence'],
    ['name=="\\18"', 7, 'an illegal numeric escape sequence'],
    ['name=="\\U00110000"', 7, 'an illegal numeric escape sequence'],
    ['name=="\\xff"', 7, 'no UTF-8'],
    ['name==a\0b', 8, 'cannot be in a filter'],
    ['name==\uFFFD', 7, 'cannot be in a filter'],
    ['name==\uD800', 7, 'cannot be in a filter'],
    ['name~=(', 7, 'no pattern that RE2 knows'],
    ['name~=(?=a)', 7, 'no pattern that RE2 knows'],
    ['name~="(a)\\\\1"', 7, 'no pattern that RE2 knows'],
    ['name~=x{1001}', 7, 'no pattern that RE2 knows'],
    [`name~="${'([a-z]{100}){9}'.repeat(4)}"`, 7, 'this pattern is too large'],
  ])('%j at character %i: %s', (filter, character, what) => {
    const error = refusal(filter);
    expect(error).toMatchObject({ code: 'ARGUMENT_INVALID', evidence: { filter, character } });
    expect(error.message).toContain(what);
    expect(error.message).toContain(character > filter.length ? 'at its end' : `at character ${character} (`);
    expect(error.message.length).toBeLessThan(400);
  });

  test('also as one of several', () => {
    expect(refusal('name==base', 'name==').evidence).toMatchObject({ filter: 'name==' });
  });

  test('when it is longer than any that means something', () => {
    expect(refusal(`name==${'x'.repeat(8192)}`).code).toBe('ARGUMENT_INVALID');
  });
});

/** A text between quotes, with what has to be escaped, and some of what need not be. */
function quoted(text: string): string {
  const escaped = [...text].map((character) => {
    const code = character.codePointAt(0) ?? 0;
    if (character === '"' || character === '\\') return `\\${character}`;
    if (character === '\n') return '\\n';
    return code < 0x20 || code === 0xfffd ? `\\U${code.toString(16).padStart(8, '0')}` : character;
  });
  return `"${escaped.join('')}"`;
}

const anyText = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll('\0', ''));

describe('for all texts', () => {
  test('a quoted key finds the snapshot that has it, and no other', () => {
    fc.assert(
      fc.property(anyText, anyText, (key, other) => {
        const filter = parseFilters([`name==${quoted(key)}`]);
        expect(filter(snapshot(key))).toBe(true);
        expect(filter(snapshot(other))).toBe(key === other);
      }),
    );
  });

  test('a quoted label is found by its name and value, and != is its opposite', () => {
    fc.assert(
      fc.property(anyText, anyText, anyText, (label, value, asked) => {
        const info = snapshot('x', { labels: Object.fromEntries([[label, value]]) });
        expect(parseFilters([`labels.${quoted(label)}`])(info)).toBe(true);
        const equal = parseFilters([`labels.${quoted(label)}==${quoted(asked)}`])(info);
        expect(equal).toBe(value === asked);
        expect(parseFilters([`labels.${quoted(label)}!=${quoted(asked)}`])(info)).toBe(!equal);
      }),
    );
  });

  test('a filter is read, or refused by name, and nothing else', () => {
    const pieces = fc.constantFrom(
      'name',
      'labels',
      '.',
      ',',
      '==',
      '!=',
      '~=',
      '=',
      '"',
      '/',
      '|',
      '\\',
      'x',
      ' ',
      '(',
      '*',
      '\n',
      '牛',
    );
    const filters = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(pieces, { maxLength: 20 }).map((all) => all.join('')),
    );
    fc.assert(
      fc.property(filters, (filter) => {
        try {
          expect(typeof parseFilters([filter])(snapshot('x'))).toBe('boolean');
        } catch (error) {
          if (!isPandoError(error, 'ARGUMENT_INVALID')) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('a pattern that makes other engines run away ends soon', () => {
    const long = snapshot('a'.repeat(4096));
    for (const pattern of ['(a+)+!', '(a|a)*b', '(.*)*b', '(.{0,30}a.{0,30}){16}b']) {
      expect(parseFilters([`name~="${pattern}"`])(long)).toBe(false);
    }
  });
});
