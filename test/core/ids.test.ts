import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ADMIN_TREE,
  absoluteName,
  type DatasetName,
  holdTagOf,
  isHidden,
  isPrivateTree,
  nodeIdOfFingerprint,
  parentOf,
  parseDatasetId,
  parseDatasetName,
  parseNodeId,
  parseRelativeName,
  parseSnapshotGuid,
  parseSnapshotName,
  parseStreamId,
  parseTransferId,
  parseTreeName,
  poolOf,
  type RelativeName,
  relativeTo,
  shortNodeId,
  streamIdOf,
  type TreeName,
  uuidFrom,
} from '../../src/core/ids.ts';

const fingerprint = fc.uint8Array({ minLength: 32, maxLength: 32 });
const component = fc.stringMatching(/^[A-Za-z0-9_.: -]{1,12}$/).filter((text) => text !== '.' && text !== '..');
const path = fc.array(component, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));

const invalid = (code: string) => expect.objectContaining({ code });

describe('A node id', () => {
  it('is read as people write it', () => {
    fc.assert(
      fc.property(fingerprint, (bytes) => {
        const id = nodeIdOfFingerprint(bytes);
        expect(id).toMatch(/^([A-Z2-7]{7}-){7}[A-Z2-7]{7}$/);
        expect(parseNodeId(id)).toBe(id);
        expect(parseNodeId(id.toLowerCase().replaceAll('-', ' '))).toBe(id);
        expect(parseNodeId(id.replaceAll('-', ''))).toBe(id);
        expect(id.startsWith(shortNodeId(id))).toBe(true);
      }),
    );
  });

  it('is refused with any wrong character', () => {
    fc.assert(
      fc.property(fingerprint, fc.nat(55), fc.integer({ min: 1, max: 31 }), (bytes, place, shift) => {
        const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
        const characters = [...nodeIdOfFingerprint(bytes).replaceAll('-', '')];
        characters[place] = alphabet[(alphabet.indexOf(characters[place] ?? '') + shift) % 32] ?? '';
        expect(() => parseNodeId(characters.join(''))).toThrow(invalid('ID_INVALID'));
      }),
    );
  });

  it.each(['', 'A', 'A'.repeat(55), 'A'.repeat(57), '1'.repeat(56), 'ü'.repeat(56)])('is refused: %j', (text) => {
    expect(() => parseNodeId(text)).toThrow(invalid('ID_INVALID'));
  });

  it('is made of 32 bytes', () => {
    expect(() => nodeIdOfFingerprint(new Uint8Array(31))).toThrow(invalid('ID_INVALID'));
  });
});

describe('A dataset or transfer id', () => {
  it('is a UUID of version 7, in any case', () => {
    const uuid = uuidFrom(Date.UTC(2026, 0, 1), new Uint8Array(16).fill(0xab));
    expect(parseDatasetId(uuid.toUpperCase())).toBe(uuid);
    expect(parseTransferId(uuid)).toBe(uuid);
  });

  it.each([
    '',
    'tank',
    '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
    '00000000-0000-0000-0000-000000000000',
    '{01900000-0000-7000-8000-000000000001}',
  ])('is refused: %j', (text) => {
    expect(() => parseDatasetId(text)).toThrow(invalid('ID_INVALID'));
    expect(() => parseTransferId(text)).toThrow(invalid('ID_INVALID'));
  });
});

describe('A guid', () => {
  it('has 64 bits and no more', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (number) => {
        expect(parseSnapshotGuid(String(number))).toBe(String(number));
      }),
    );
  });

  it.each(['', '-1', '01', '1.5', '0x10', ' 1', '18446744073709551616', '1e3', '１'])('is refused: %j', (text) => {
    expect(() => parseSnapshotGuid(text)).toThrow(invalid('ID_INVALID'));
  });
});

describe('A name', () => {
  it('may be any that ZFS takes', () => {
    fc.assert(
      fc.property(path, component, (name, last) => {
        expect(parseRelativeName(name)).toBe(name);
        expect(parseDatasetName(`tank/${name}`)).toBe(`tank/${name}`);
        expect(parseSnapshotName(last)).toBe(last);
      }),
    );
    expect(parseRelativeName('')).toBe('');
  });

  it.each([
    '/',
    '/a',
    'a/',
    'a//b',
    '.',
    '..',
    'a/..',
    '../a',
    'a/./b',
    'a@b',
    'a#b',
    'a%b',
    'a\0',
    'a\nb',
    'ä',
    'a\\b',
    'a'.repeat(256),
    'a/'.repeat(128),
  ])('is refused: %j', (name) => {
    expect(() => parseRelativeName(name)).toThrow(invalid('NAME_INVALID'));
    expect(() => parseDatasetName(name)).toThrow(invalid('NAME_INVALID'));
    expect(() => parseSnapshotName(name)).toThrow(invalid('NAME_INVALID'));
  });

  it('of a pool begins with a letter', () => {
    expect(() => parseDatasetName('9tank/a')).toThrow(invalid('NAME_INVALID'));
    expect(() => parseDatasetName('')).toThrow(invalid('NAME_INVALID'));
  });

  it('of a snapshot has no parts', () => {
    expect(() => parseSnapshotName('a/b')).toThrow(invalid('NAME_INVALID'));
    expect(() => parseSnapshotName('')).toThrow(invalid('NAME_INVALID'));
  });

  it('shown in an error is short and on one line', () => {
    try {
      parseRelativeName(`${'a'.repeat(500)}\n`);
      expect.fail();
    } catch (error) {
      expect((error as Error).message).not.toContain('\n');
      expect((error as Error).message.length).toBeLessThan(300);
    }
  });

  it('in a tree and on a node belong together', () => {
    fc.assert(
      fc.property(path, path, (root, name) => {
        const at = `tank/${root}` as DatasetName;
        const whole = absoluteName(at, name as RelativeName);
        expect(relativeTo(at, whole)).toBe(name);
        expect(relativeTo(whole, at)).toBeUndefined();
        expect(poolOf(whole)).toBe('tank');
        expect(parentOf(`${name}/last` as RelativeName)).toBe(name);
      }),
    );
    const root = 'tank/images' as DatasetName;
    expect(absoluteName(root, '' as RelativeName)).toBe(root);
    expect(relativeTo(root, root)).toBe('');
    expect(relativeTo(root, 'tank/images-2' as DatasetName)).toBeUndefined();
    expect(parentOf('' as RelativeName)).toBeUndefined();
    expect(parentOf('a' as RelativeName)).toBe('');
    expect(poolOf('tank' as DatasetName)).toBe('tank');
  });

  it('that gets too long under its root is refused', () => {
    const long = 'a'.repeat(250) as RelativeName;
    expect(() => absoluteName('tank/images' as DatasetName, long)).toThrow(invalid('NAME_INVALID'));
  });

  it('is hidden where Pando keeps things for itself', () => {
    expect(['.pando', '.pando/lineage/x'].every((name) => isHidden(name as RelativeName))).toBe(true);
    expect(['', '.pando2', 'a/.pando'].some((name) => isHidden(name as RelativeName))).toBe(false);
  });
});

describe('A tree name', () => {
  it.each(['images', 'a', '0', 'a.b_c-d', 'a'.repeat(64)])('may be %j', (name) => {
    expect(parseTreeName(name)).toBe(name);
  });

  it.each(['', '.admin', '.transfers', '-a', '_a', 'a/b', 'a b', 'a:b', 'ä', 'a'.repeat(65), 'a\n'])(
    'is refused: %j',
    (name) => {
      expect(() => parseTreeName(name)).toThrow(invalid('NAME_INVALID'));
    },
  );
});

describe('A stream id', () => {
  const node = nodeIdOfFingerprint(new Uint8Array(32).fill(5));

  it('names a node and a tree, private ones too', () => {
    for (const tree of ['images', '.admin', '.transfers'] as TreeName[]) {
      const stream = streamIdOf(node, tree);
      expect(parseStreamId(stream)).toEqual({ stream, node, tree });
      expect(isPrivateTree(tree)).toBe(tree !== 'images');
    }
    expect(streamIdOf(node, ADMIN_TREE)).toBe(`${node}/.admin`);
  });

  it.each(['', 'images', '/images', `${node}`, `${node}/`, `${node}/a/b`, `${node}/.other`])(
    'is refused: %j',
    (text) => {
      expect(() => parseStreamId(text)).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^(ID|NAME)_INVALID$/) }),
      );
    },
  );

  it('lends its node to the tags of holds', () => {
    const transfer = parseTransferId('01900000-0000-7000-8000-000000000001');
    expect(holdTagOf(node, transfer)).toBe(`pando:${node}:${transfer}`);
  });
});
