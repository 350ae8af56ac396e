import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PandoError } from '../../../../src/core/errors.ts';
import { type UnpackOptions, unpackLayer } from '../../../../src/features/layers/archive/unpack.ts';
import { children } from '../children.ts';
import { archive, type Entry, inChunks } from './archives.ts';
import { ramfs, withPrograms } from './machine.ts';
import { tempDirectory } from './temp-directory.ts';

const MIB = 1024 * 1024;
const HOLE_BYTES = 64 * 1024;

const unaborted = (): AbortSignal => new AbortController().signal;

function unpack(root: string, entries: readonly Entry[], options: Partial<UnpackOptions> = {}) {
  return unpackLayer(inChunks(archive(...entries)), root, { signal: unaborted(), ...options });
}

function openFiles(): string[] {
  return readdirSync('/proc/self/fd');
}

describe('an unpacked layer', () => {
  it('leaves the content of a directory when one comes over it, with other attributes', async () => {
    const root = await tempDirectory();
    mkdirSync(join(root, 'd'), { mode: 0o755 });
    writeFileSync(join(root, 'd/kept'), 'kept');
    await unpack(root, [{ type: 'directory', path: 'd/', mode: 0o1770, uid: 3, gid: 4, mtimeNs: 5_000_000_000n }]);
    const { mode, uid, gid, mtimeMs } = statSync(join(root, 'd'));
    expect([mode & 0o7777, uid, gid, mtimeMs]).toEqual([0o1770, 3, 4, 5000]);
    expect(readFileSync(join(root, 'd/kept'), 'utf8')).toBe('kept');
  });

  const kinds: Readonly<Record<string, Entry>> = {
    file: { path: 'a', content: 'new' },
    directory: { type: 'directory', path: 'a' },
    symlink: { type: 'symlink', path: 'a', to: 'new' },
    hardlink: { type: 'hardlink', path: 'a', to: 'other' },
    fifo: { type: 'fifo', path: 'a' },
    device: { type: 'character-device', path: 'a', device: { major: 1, minor: 5 } },
  };
  const below: Readonly<Record<string, (path: string) => void>> = {
    file: (path) => writeFileSync(path, 'old'),
    directory: (path) => {
      mkdirSync(join(path, 'deep'), { recursive: true });
      writeFileSync(join(path, 'deep/file'), 'old');
    },
    symlink: (path) => symlinkSync('other', path),
    fifo: (path) => void execFileSync('mkfifo', [path]),
    device: (path) => void execFileSync('mknod', [path, 'c', '1', '3']),
  };
  const pairs = Object.keys(below).flatMap((before) => Object.keys(kinds).map((after) => [before, after] as const));

  it.each(pairs)('has in the place of a %s below the %s that it brings', async (before, after) => {
    const root = await tempDirectory();
    writeFileSync(join(root, 'other'), 'other');
    below[before]?.(join(root, 'a'));
    const entry = kinds[after];
    if (entry === undefined) throw new Error(after);
    await unpack(root, [{ ...entry, mtimeNs: 7_000_000_000n }]);
    const found = lstatSync(join(root, 'a'));
    const is = {
      file: found.isFile() && found.nlink === 1,
      directory: found.isDirectory(),
      symlink: found.isSymbolicLink(),
      hardlink: found.nlink === 2,
      fifo: found.isFIFO(),
      device: found.isCharacterDevice(),
    }[after];
    expect(is).toBe(true);
    if (after !== 'hardlink') expect(found.mtimeMs).toBe(7000);
    if (after === 'file') expect(readFileSync(join(root, 'a'), 'utf8')).toBe('new');
    // What the link below led to is no part of this
    expect(readFileSync(join(root, 'other'), 'utf8')).toBe('other');
  });

  it('has of two entries with one name the last', async () => {
    const root = await tempDirectory();
    await unpack(root, [
      { path: 'a', content: 'first', xattrs: new Map([['user.a', Buffer.from('1')]]) },
      { path: 'a', content: 'second' },
      { type: 'directory', path: 'b' },
      { path: 'b/in', content: 'gone' },
      { path: 'b', content: 'file' },
    ]);
    expect(readFileSync(join(root, 'a'), 'utf8')).toBe('second');
    expect(readFileSync(join(root, 'b'), 'utf8')).toBe('file');
    expect(execFileSync('getfattr', ['--absolute-names', join(root, 'a')]).toString()).toBe('');
  });

  it.each([0o4755, 0o2755, 0o6711, 0o1777, 0o000, 0o777, 0o666])(
    'has files and directories of the mode %o, whoever owns them',
    async (mode) => {
      const root = await tempDirectory();
      await unpack(root, [
        { path: 'mine', mode, content: 'x' },
        { path: 'theirs', mode, uid: 12, gid: 34, content: 'x' },
        { path: 'large', mode, uid: 12, gid: 34, content: randomBytes(MIB) },
        { type: 'directory', path: 'd', mode, uid: 12, gid: 34 },
        { path: 'd/file', mode },
        { type: 'fifo', path: 'd/fifo', mode, uid: 12, gid: 34 },
      ]);
      for (const name of ['mine', 'theirs', 'large', 'd', 'd/file', 'd/fifo']) {
        expect(lstatSync(join(root, name)).mode & 0o7777, name).toBe(mode);
      }
      for (const name of ['theirs', 'large', 'd', 'd/fifo']) {
        expect(lstatSync(join(root, name)), name).toMatchObject({ uid: 12, gid: 34 });
      }
      expect(lstatSync(join(root, 'mine'))).toMatchObject({ uid: process.getuid?.(), gid: process.getgid?.() });
    },
  );

  it.each([0o022, 0o077, 0o000])('has the modes of its entries under the umask %o', async (umask) => {
    const root = await tempDirectory();
    const before = process.umask(umask);
    try {
      await unpack(root, [
        { path: 'a', mode: 0o666, content: 'x' },
        { path: 'b', mode: 0o640 },
      ]);
    } finally {
      process.umask(before);
    }
    expect(['a', 'b'].map((name) => statSync(join(root, name)).mode & 0o7777)).toEqual([0o666, 0o640]);
  });

  it('does not take the group of a directory that hands on its own', async () => {
    const root = await tempDirectory();
    mkdirSync(join(root, 'd'));
    execFileSync('chown', ['0:77', join(root, 'd')]);
    execFileSync('chmod', ['2775', join(root, 'd')]);
    await unpack(root, [
      { path: 'd/file', content: 'x' },
      { type: 'directory', path: 'd/e' },
      { path: 'd/e/large', content: randomBytes(MIB) },
    ]);
    for (const name of ['d/file', 'd/e', 'd/e/large']) {
      expect(lstatSync(join(root, name)).gid, name).toBe(process.getgid?.());
    }
    expect(lstatSync(join(root, 'd/e')).mode & 0o7777).toBe(0o755);
  });

  it('has holes where files have long runs of zeros', async () => {
    const root = await tempDirectory();
    const data = randomBytes(1000);
    const content = Buffer.concat([data, Buffer.alloc(4 * MIB), data, Buffer.alloc(3 * MIB)]);
    const small = Buffer.concat([Buffer.alloc(HOLE_BYTES), data, Buffer.alloc(HOLE_BYTES)]);
    const entries = [
      { path: 'large', content },
      { path: 'small', content: small },
      { path: 'zeros', content: Buffer.alloc(2 * MIB) },
      { path: 'few', content: Buffer.alloc(100) },
    ];
    await unpack(root, entries);
    for (const { path, content } of entries) expect(readFileSync(join(root, path)).equals(content), path).toBe(true);
    const stored = (name: string): number => statSync(join(root, name)).blocks * 512;
    expect(stored('large')).toBeLessThan(3 * HOLE_BYTES);
    expect(stored('small')).toBeLessThan(2 * HOLE_BYTES);
    expect(stored('zeros')).toBe(0);
  });

  it('has fifos, and the devices that no layer does harm with', async () => {
    const root = await tempDirectory();
    const numbers = ['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:1', '5:2'];
    await unpack(root, [
      { type: 'fifo', path: 'dev/fifo', mode: 0o620, gid: 5 },
      { type: 'hardlink', path: 'dev/same', to: 'dev/fifo' },
      ...numbers.map((number): Entry => {
        const [major = 0, minor = 0] = number.split(':').map(Number);
        return { type: 'character-device', path: `dev/${number}`, device: { major, minor }, mode: 0o666 };
      }),
    ]);
    expect(lstatSync(join(root, 'dev/fifo'))).toMatchObject({ gid: 5, nlink: 2 });
    expect(lstatSync(join(root, 'dev/fifo')).isFIFO()).toBe(true);
    for (const number of numbers) {
      expect(execFileSync('stat', ['--format=%t:%T %a', join(root, 'dev', number)]).toString()).toBe(`${number} 666\n`);
    }
    expect(readdirSync(root)).toEqual(['dev']);
  });

  it('makes hard links of links, and leaves their targets alone', async () => {
    const root = await tempDirectory();
    await unpack(root, [
      { type: 'symlink', path: 'link', to: '/nowhere', uid: 9 },
      { type: 'hardlink', path: 'same', to: 'link' },
    ]);
    expect(readlinkSync(join(root, 'same'))).toBe('/nowhere');
    expect(lstatSync(join(root, 'same'))).toMatchObject({ nlink: 2, uid: 9 });
  });

  it('gives hard links what waits to be set, whatever becomes of the name that they link to', async () => {
    const root = await tempDirectory();
    await unpack(root, [
      { path: 'a', content: 'old', xattrs: new Map([['user.a', Buffer.from('1')]]), mtimeNs: 5_000_000_001n },
      { type: 'hardlink', path: 'b', to: 'a' },
      { path: 'a', content: 'new' },
    ]);
    expect(readFileSync(join(root, 'b'), 'utf8')).toBe('old');
    expect(statSync(join(root, 'b'), { bigint: true }).mtimeNs).toBe(5_000_000_001n);
    expect(execFileSync('getfattr', ['--absolute-names', join(root, 'b')]).toString()).toContain('user.a');
    expect(execFileSync('getfattr', ['--absolute-names', join(root, 'a')]).toString()).toBe('');
  });

  it('tells how much of its tar has been read', async () => {
    const root = await tempDirectory();
    const told: number[] = [];
    const tar = archive({ path: 'a', content: randomBytes(MIB) }, { path: 'b', content: 'x' });
    const unpacked = await unpackLayer(inChunks(tar, 10_000), root, {
      signal: unaborted(),
      onProgress: (bytes) => told.push(bytes),
    });
    expect(told).toEqual([...told].sort((a, b) => a - b));
    expect(told.length).toBe(Math.ceil(tar.length / 10_000));
    expect(told.at(-1)).toBe(tar.length);
    expect(unpacked).toEqual({ entries: 2, bytes: tar.length });
  });

  it('has no more entries than its limit', async () => {
    const entries = Array.from({ length: 11 }, (_, at): Entry => ({ path: `file-${at}`, content: 'x' }));
    await unpack(await tempDirectory(), entries, { entriesMax: 11 });
    await expect(unpack(await tempDirectory(), entries, { entriesMax: 10 })).rejects.toMatchObject({
      code: 'ARCHIVE_INVALID',
      message: expect.stringContaining('more than 10 entries'),
    });
  });
});

describe('unpacking that is aborted', () => {
  /** Gives the beginning of a tar, and then nothing any more. */
  async function* hanging(tar: Buffer, bytes: number, then: () => void): AsyncGenerator<Uint8Array> {
    yield* inChunks(tar.subarray(0, bytes), 8192);
    then();
    await new Promise(() => undefined);
  }

  it.each([
    [
      'among small files',
      Array.from({ length: 500 }, (_, at): Entry => ({ path: `d/${at}`, content: 'x'.repeat(at) })),
    ],
    ['in a large file', [{ path: 'large', content: randomBytes(3 * MIB) }]],
  ])('leaves no file open %s', async (_, entries) => {
    const tar = archive(...entries);
    const before = openFiles().length;
    const aborting = new AbortController();
    const reason = new PandoError('TRANSFER_CANCELLED', 'Somebody wants it no more.');
    const source = hanging(tar, tar.length / 2, () => aborting.abort(reason));
    await expect(unpackLayer(source, await tempDirectory(), { signal: aborting.signal })).rejects.toBe(reason);
    expect(openFiles().length).toBe(before);
  });

  it('leaves no program running', async () => {
    const started = children();
    const aborting = new AbortController();
    const root = await tempDirectory();
    // It tells that it runs by what it makes, and then waits for ever
    await withPrograms({ setfattr: `: >"${root}/runs"; exec sleep 1000` }, async () => {
      const entries: Entry[] = [{ path: 'a', xattrs: new Map([['user.a', Buffer.from('1')]]) }];
      const unpacked = expect(unpack(root, entries, { signal: aborting.signal })).rejects.toMatchObject({
        code: 'TRANSFER_CANCELLED',
      });
      await expect.poll(() => readdirSync(root)).toContain('runs');
      expect(children()).not.toEqual(started);
      aborting.abort();
      await unpacked;
    });
    expect(children()).toEqual(started);
  });

  it('fails before it begins where its signal says so', async () => {
    const root = await tempDirectory();
    await expect(unpack(root, [{ path: 'a' }], { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'TRANSFER_CANCELLED',
    });
    expect(readdirSync(root)).toEqual([]);
  });
});

describe('unpacking on a machine that lacks something', () => {
  const attributed: Entry = { path: 'a', xattrs: new Map([['user.a', Buffer.from('1')]]) };

  it('says which package has the program that is missing, and needs it for attributes only', async () => {
    await withPrograms(null, async () => {
      await expect(unpack(await tempDirectory(), [attributed])).rejects.toMatchObject({
        code: 'PROGRAM_MISSING',
        message: expect.stringContaining('apt-get install attr'),
      });
      await unpack(await tempDirectory(), [{ type: 'directory', path: './' }, { path: 'a' }]);
    });
  });

  it('says which package has the program that sets times to the nanosecond, and needs it for those only', async () => {
    await withPrograms(null, async () => {
      const root: Entry = { type: 'directory', path: './' };
      await expect(unpack(await tempDirectory(), [root, { path: 'a', mtimeNs: 1n }])).rejects.toMatchObject({
        code: 'PROGRAM_MISSING',
        message: expect.stringContaining('apt-get install perl-base'),
      });
    });
  });

  it('says what to do where the file system takes no attributes', async () => {
    const root = await ramfs();
    await expect(unpack(root, [attributed])).rejects.toMatchObject({
      code: 'ZFS_UNSUPPORTED',
      message: expect.stringContaining('xattr=sa'),
    });
    await unpack(root, [{ path: 'b', content: 'x' }]);
    expect(readFileSync(join(root, 'b'), 'utf8')).toBe('x');
  });

  it.each([
    ['No space left on device', 'ZFS_OUT_OF_SPACE', 'free some'],
    ['Disk quota exceeded', 'ZFS_OUT_OF_SPACE', 'free some'],
    ['Operation not permitted', 'ZFS_PERMISSION', 'as root'],
    ['Argument list too long', 'PROGRAM_FAILED', 'setfattr says "setfattr: a: Argument list too long"'],
  ])('fails for what setfattr says: %s', async (words, code, advice) => {
    await withPrograms({ setfattr: `cat >/dev/null; echo "setfattr: a: ${words}" >&2; exit 1` }, async () => {
      await expect(unpack(await tempDirectory(), [attributed])).rejects.toMatchObject({
        code,
        message: expect.stringContaining(advice),
      });
    });
  });
});
