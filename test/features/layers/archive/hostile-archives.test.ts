import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { isPandoError, type PandoError } from '../../../../src/core/errors.ts';
import { unpackLayer } from '../../../../src/features/layers/archive/unpack.ts';
import { children } from '../children.ts';
import { archive, type Entry, inChunks } from './archives.ts';
import { tempRoot } from './temp-directory.ts';
import { describeTree } from './tree-description.ts';

const { signal } = new AbortController();

/** The failure of a layer that is not to be unpacked. Nothing outside of the root was touched, and nothing runs on. */
async function refused(tar: AsyncIterable<Uint8Array>, prepare?: (root: string) => Promise<void>): Promise<PandoError> {
  const { outside, root } = await tempRoot();
  await writeFile(join(outside, 'passwd'), 'untouched');
  await mkdir(join(outside, 'directory'));
  await prepare?.(root);
  const before = outsideOf(outside);
  const started = children();
  const failure = await unpackLayer(tar, root, { signal }).then(
    () => 'it was unpacked',
    (error: unknown) => error,
  );
  expect(outsideOf(outside)).toEqual(before);
  expect(await readFile(join(outside, 'passwd'), 'utf8')).toBe('untouched');
  expect(children()).toEqual(started);
  expect((await readdir(root)).filter((name) => name.startsWith('.wh.'))).toEqual([]);
  if (!isPandoError(failure, 'ARCHIVE_INVALID')) throw failure instanceof Error ? failure : new Error(String(failure));
  return failure;
}

function outsideOf(directory: string): unknown {
  return Object.entries(describeTree(directory)).filter(([name]) => !name.startsWith('./root'));
}

const link = (path: string, to: string): Entry => ({ type: 'symlink', path, to });
const hardlink = (path: string, to: string): Entry => ({ type: 'hardlink', path, to });
const directory = (path: string): Entry => ({ type: 'directory', path });
const device = (path: string, major: number, minor: number): Entry => ({
  type: 'character-device',
  path,
  device: { major, minor },
});

const hostile: Readonly<Record<string, readonly Entry[]>> = {
  'a name with ".."': [{ path: '../passwd', content: 'x' }],
  'a name with ".." in the middle': [{ path: 'a/../../passwd', content: 'x' }],
  'a directory called ".."': [directory('..')],
  'an absolute name': [{ path: '/tmp/pando-absolute', content: 'x' }],
  'a link that leaves the root': [link('out', '../passwd')],
  'a link that leaves the root further down': [directory('a'), link('a/out', 'b/../../../passwd')],
  'a file through a link that the same archive made': [link('out', '/directory'), { path: 'out/file', content: 'x' }],
  'a file through a link to its own root': [link('here', '.'), { path: 'here/file' }],
  'a link replaced by a directory in mid-archive': [link('a', '/directory'), directory('a'), { path: 'a/file' }],
  'a link replaced by a file': [link('a', '/passwd'), { path: 'a', content: 'x' }],
  'a link replaced by a hard link to a file': [{ path: 'f' }, link('a', '/passwd'), hardlink('a', 'f')],
  'a whiteout of ".."': [{ path: '.wh...' }],
  'a whiteout of ".." further down': [directory('a'), { path: 'a/.wh...' }],
  'a whiteout of "."': [{ path: '.wh..' }],
  'a whiteout of nothing': [{ path: '.wh.' }],
  'a whiteout through a link that the same archive made': [link('a', '/directory'), { path: 'a/.wh.file' }],
  'a file below a whiteout': [{ path: '.wh.a/file' }],
  'a hard link to the outside': [hardlink('a', '../passwd')],
  'a hard link to an absolute name': [hardlink('a', '/etc/passwd')],
  'a hard link through a link that the same archive made': [link('a', '/'), hardlink('b', 'a/passwd')],
  'a hard link to a directory': [directory('a'), hardlink('b', 'a')],
  'a hard link to nothing': [hardlink('b', 'a')],
  'a hard link to itself': [{ path: 'a' }, hardlink('a', 'a')],
  'a hard link to what it replaces': [directory('a'), { path: 'a/file' }, hardlink('a', 'a/file')],
  'a file below a file': [{ path: 'a' }, { path: 'a/file' }],
  'a root that is a link': [link('./', 'a')],
  'the memory of the machine': [device('mem', 1, 1)],
  'a whiteout as overlayfs has it': [device('gone', 0, 0)],
  'a disk': [{ type: 'block-device', path: 'sda', device: { major: 8, minor: 0 } }],
  'a block device with the numbers of a harmless one': [
    { type: 'block-device', path: 'null', device: { major: 1, minor: 3 } },
  ],
  'a name of 5,000 bytes': [{ path: 'a/'.repeat(2500) }],
  'a part of a name of 300 bytes': [{ path: 'a'.repeat(300) }],
  'a target of 5,000 bytes': [link('a', 'b/'.repeat(2500))],
  'a NUL in a name': [{ path: `é${String.fromCharCode(0)}a` }],
  'a NUL in a target': [link('a', `é${String.fromCharCode(0)}b`)],
};

it.each(Object.entries(hostile))('refuses %s', async (_, entries) => {
  const failure = await refused(inChunks(archive({ path: 'before' }, ...entries)));
  const shown = failure.evidence.entry;
  expect(shown).toEqual(expect.any(String));
  expect(String(shown).length).toBeLessThan(500);
  expect(shown).toMatch(/^[\x20-\x7e…]*$/);
});

it('follows links of the layers below no further than the root', async () => {
  const { outside, root } = await tempRoot();
  await symlink('../../../../directory', join(root, 'up'));
  await symlink('/directory', join(root, 'absolute'));
  await mkdir(join(outside, 'directory'));
  await unpackLayer(inChunks(archive({ path: 'up/a' }, { path: 'absolute/b' })), root, { signal });
  expect(await readdir(join(outside, 'directory'))).toEqual([]);
  expect((await readdir(join(root, 'directory'))).sort()).toEqual(['a', 'b']);
});

it('refuses a name below a loop of links of the layers below', async () => {
  await refused(inChunks(archive({ path: 'a/file' })), async (root) => {
    await symlink('b', join(root, 'a'));
    await symlink('a', join(root, 'b'));
  });
});

it('refuses an archive that is cut short, wherever that is', async () => {
  const whole = archive({ path: 'a'.repeat(200), content: 'content' }, directory('b'));
  for (let bytes = 0; bytes < whole.length; bytes += 256) {
    await refused(inChunks(whole.subarray(0, bytes)));
  }
});

it('refuses a header with a wrong checksum, and a type that is unknown', async () => {
  const damaged = archive({ path: 'file' });
  damaged[0] = 0x21;
  await refused(inChunks(damaged));
  const unknown = archive({ path: 'file', mtimeNs: 0n });
  unknown[156] = 'Q'.charCodeAt(0);
  // The checksum grows with the type
  const sum = Number.parseInt(unknown.toString('latin1', 148, 154), 8) + 'Q'.charCodeAt(0) - '0'.charCodeAt(0);
  unknown.write(sum.toString(8).padStart(6, '0'), 148);
  expect((await refused(inChunks(unknown))).message).toContain('unknown type');
});

it('refuses more metadata than any entry has', async () => {
  const xattrs = new Map([['user.large', Buffer.alloc(2 * 1024 * 1024, 'x')]]);
  expect((await refused(inChunks(archive({ path: 'file', xattrs })))).message).toContain('more metadata');
});
