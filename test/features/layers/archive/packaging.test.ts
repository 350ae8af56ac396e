import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packageLayer } from '../../../../src/features/layers/archive/package.ts';
import { readTar } from '../../../../src/features/layers/archive/tar-reader.ts';
import { unpackLayer } from '../../../../src/features/layers/archive/unpack.ts';
import { inChunks } from './archives.ts';
import { ramfs, withPrograms } from './machine.ts';
import { tempDirectory } from './temp-directory.ts';
import { describeTree } from './tree-description.ts';

const { signal } = new AbortController();

function copy(from: string, to: string): void {
  expect(spawnSync('cp', ['-a', from, to]).status).toBe(0);
}

function bytesOf(parent: string | null, layer: string, candidates: readonly Buffer[] | null = null): Promise<Buffer> {
  return buffer(packageLayer({ parent, layer, candidates, signal }));
}

/** The names of a tar with a slash, an arrow or nothing behind them. */
async function listed(tar: Buffer): Promise<string[]> {
  const names: string[] = [];
  for await (const { type, path, linkPath } of readTar(inChunks(tar))) {
    names.push(`${path.toString('latin1')}${type === 'hardlink' ? ` => ${linkPath.toString('latin1')}` : ''}`);
  }
  return names;
}

type Change = (directory: Buffer) => void;

const names = ['a', 'b', 'c', 'c.d', '-x', 'ä', '\xff\xfe', 'n'.repeat(120)].map((name) =>
  name === 'ä' ? Buffer.from(name) : Buffer.from(name, 'latin1'),
);
const pathArbitrary = fc
  .array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 })
  .map((parts) => Buffer.concat(parts.flatMap((part) => [Buffer.from('/'), part])));

const at = (root: Buffer, path: Buffer): Buffer => Buffer.concat([root, path]);

/** Makes the file anew: a fifo that is there would wait for a reader for ever. */
function write(path: Buffer, content: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isFIFO() === true) rmSync(path);
  writeFileSync(path, content);
}

/** A change that does nothing where it is impossible, such as below a file. */
function attempt(change: Change): Change {
  return (root) => {
    try {
      change(root);
    } catch {}
  };
}

/** The same as a program of the shell for what Node cannot; paths are bytes only that way. */
function shell(root: Buffer, script: string, path: Buffer, ...values: string[]): void {
  const escaped = Array.from(at(root, path), (byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
  spawnSync('bash', ['-c', `p=$(printf '${escaped}'); ${script}`, 'bash', ...values]);
}

const changeArbitrary: fc.Arbitrary<Change> = fc
  .record({ path: pathArbitrary, other: pathArbitrary, number: fc.integer({ min: 0, max: 7 }) })
  .chain(({ path, other, number }) =>
    fc.constantFrom<Change>(
      attempt((root) => write(at(root, path), 'x'.repeat(number * 100))),
      attempt((root) => write(at(root, path), `${number}`)),
      attempt((root) => mkdirSync(at(root, path))),
      attempt((root) => mkdirSync(at(root, path))),
      attempt((root) => rmSync(at(root, path), { recursive: true })),
      attempt((root) => symlinkSync(`target-${number}`, at(root, path))),
      attempt((root) => chmodSync(at(root, path), 0o4700 + number)),
      attempt((root) => linkSync(at(root, path), at(root, other))),
      attempt((root) => renameSync(at(root, path), at(root, other))),
      (root) => shell(root, 'mkfifo "$p"', path),
      (root) => shell(root, 'setfattr -h -n user.x$2 -v "$1" "$p"', path, `${number}`, `${number % 2}`),
      (root) => shell(root, 'setfattr -h -x user.x$1 "$p"', path, `${number % 2}`),
      (root) => shell(root, 'chown -h 12:$1 "$p"', path, `${number}`),
    ),
  );

/** Where two trees differ, as `zfs diff` would tell it. */
function candidatesOf(parent: string, layer: string): Buffer[] {
  const [before, after] = [describeTree(parent), describeTree(layer)];
  const paths = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...paths].filter((path) => before[path] !== after[path]).map((path) => Buffer.from(path, 'latin1'));
}

describe('a packaged layer', () => {
  it('makes the tree again when it is applied to its parent, and is the same however the differences were found', async () => {
    const changes = fc.array(changeArbitrary, { maxLength: 14 });
    await fc.assert(
      fc.asyncProperty(changes, changes, async (first, second) => {
        const directory = await mkdtemp(join(tmpdir(), 'pando-layer-'));
        try {
          const [parent, layer, applied, lowest] = ['parent', 'layer', 'applied', 'lowest'].map((name) =>
            join(directory, name),
          ) as [string, string, string, string];
          mkdirSync(parent);
          for (const change of first) change(Buffer.from(parent));
          copy(parent, layer);
          copy(parent, applied);
          for (const change of second) change(Buffer.from(layer));
          const tar = await bytesOf(parent, layer);
          await unpackLayer(inChunks(tar, 1000), applied, { signal });
          expect(describeTree(applied)).toEqual(describeTree(layer));
          expect((await bytesOf(parent, applied)).equals(tar)).toBe(true);
          const found = await bytesOf(parent, layer, candidatesOf(parent, layer));
          expect(await listed(found)).toEqual(await listed(tar));
          expect(found.equals(tar)).toBe(true);
          mkdirSync(lowest);
          await unpackLayer(inChunks(await bytesOf(null, layer)), lowest, { signal });
          expect(describeTree(lowest)).toEqual(describeTree(layer));
        } finally {
          await rm(directory, { recursive: true, force: true });
        }
      }),
      { numRuns: 40 },
    );
  });

  /** Two equal trees, the second of which is changed. */
  async function trees(before: (root: string) => void, change: (root: string) => void): Promise<[string, string]> {
    const directory = await tempDirectory();
    const [parent, layer] = [join(directory, 'parent'), join(directory, 'layer')];
    mkdirSync(parent);
    before(parent);
    copy(parent, layer);
    change(layer);
    return [parent, layer];
  }

  it('is the same after it was applied and packaged again, with times to the nanosecond', async () => {
    const [, layer] = await trees(
      (root) => mkdirSync(join(root, 'd')),
      (root) => {
        for (const name of ['a', 'd/b', 'd/old']) writeFileSync(join(root, name), name);
        symlinkSync('a', join(root, 'link'));
        linkSync(join(root, 'a'), join(root, 'd/same'));
        spawnSync('mkfifo', [join(root, 'fifo')]);
        for (const [name, time] of [
          ['a', '1700000000.123456789'],
          ['link', '1700000000.000000001'],
          ['fifo', '1700000000.999999999'],
          ['d/b', '4000000000.100000007'],
          ['d/old', '-1.5'],
          ['d', '1500000000.987654321'],
          ['.', '1400000000.000000999'],
        ] as const) {
          expect(spawnSync('touch', ['-h', '-d', `@${time}`, join(root, name)]).status).toBe(0);
        }
      },
    );
    const tar = await bytesOf(null, layer);
    const root = join(layer, '../again');
    mkdirSync(root);
    await unpackLayer(inChunks(tar), root, { signal });
    expect(lstatSync(join(root, 'a'), { bigint: true }).mtimeNs).toBe(1_700_000_000_123_456_789n);
    expect(lstatSync(join(root, 'd/old'), { bigint: true }).mtimeNs).toBe(-1_500_000_000n);
    expect(describeTree(root)).toEqual(describeTree(layer));
    expect((await bytesOf(null, root)).equals(tar)).toBe(true);
  });

  it('reads attributes of the candidates only, and of all that is new', async () => {
    const [parent, layer] = await trees(
      (root) => {
        mkdirSync(join(root, 'd'));
        for (const name of ['d/same', 'd/other', 'gone']) writeFileSync(join(root, name), name);
      },
      (root) => {
        spawnSync('setfattr', ['-n', 'user.x', '-v', '1', join(root, 'd/other')]);
        rmSync(join(root, 'gone'));
        mkdirSync(join(root, 'new'));
        writeFileSync(join(root, 'new/deep'), '');
        spawnSync('setfattr', ['-n', 'user.y', '-v', '2', join(root, 'new/deep')]);
      },
    );
    const whole = await bytesOf(parent, layer);
    const asked = join(await tempDirectory(), 'asked');
    const getfattr = spawnSync('which', ['getfattr'], { encoding: 'utf8' }).stdout.trim();
    await withPrograms({ getfattr: `printf '%s\\n' "$@" >>"${asked}"; exec ${getfattr} "$@"` }, async () => {
      const candidates = ['.', 'd/other', 'gone', 'new'].map((path) => Buffer.from(path));
      expect((await bytesOf(parent, layer, candidates)).equals(whole)).toBe(true);
    });
    const paths = readFileSync(asked, 'utf8')
      .split('\n')
      .filter((word) => /^\.\/./.test(word));
    // Of the parent, of the layer, and what is below the new one
    expect(paths).toEqual(['./d', './d/other', './gone', './d', './d/other', './new', './new/deep']);
  });

  it('says nothing where nothing changed', async () => {
    const [parent, layer] = await trees(
      (root) => writeFileSync(join(root, 'a'), 'a'),
      () => undefined,
    );
    expect(await listed(await bytesOf(parent, layer))).toEqual([]);
  });

  it('whites out what is gone before it says what is new, each sorted by bytes', async () => {
    const [parent, layer] = await trees(
      (root) => {
        mkdirSync(join(root, 'gone/deep'), { recursive: true });
        mkdirSync(join(root, 'kept'));
        writeFileSync(join(root, 'kept/old'), '');
      },
      (root) => {
        rmSync(join(root, 'gone'), { recursive: true });
        renameSync(join(root, 'kept/old'), join(root, 'kept/!new'));
        writeFileSync(join(root, 'kept.txt'), '');
      },
    );
    expect(await listed(await bytesOf(parent, layer))).toEqual([
      './',
      '.wh.gone',
      'kept.txt',
      'kept/',
      'kept/.wh.old',
      'kept/!new',
    ]);
  });

  it('writes all names of a file that got another one, the first with the content', async () => {
    const [parent, layer] = await trees(
      (root) => writeFileSync(join(root, 'b'), 'content'),
      (root) => {
        linkSync(join(root, 'b'), join(root, 'c'));
        linkSync(join(root, 'b'), join(root, 'a'));
      },
    );
    expect(await listed(await bytesOf(parent, layer, [Buffer.from('.'), Buffer.from('a')]))).toEqual([
      './',
      'a',
      'b => a',
      'c => a',
    ]);
  });

  it('whites out a directory that lost an attribute, and writes all of it: readers only add attributes', async () => {
    const [parent, layer] = await trees(
      (root) => {
        mkdirSync(join(root, 'd'));
        writeFileSync(join(root, 'd/f'), '');
        spawnSync('setfattr', ['-n', 'user.x', '-v', '1', join(root, 'd')]);
      },
      (root) => void spawnSync('setfattr', ['-x', 'user.x', join(root, 'd')]),
    );
    expect(await listed(await bytesOf(parent, layer))).toEqual(['.wh.d', 'd/', 'd/f']);
  });

  it('has no attributes where the file system takes none', async () => {
    const layer = await ramfs();
    writeFileSync(join(layer, 'file'), 'content');
    expect(await listed(await bytesOf(null, layer))).toEqual(['./', 'file']);
  });

  it('has none either where getfattr says that there are none', async () => {
    const layer = await tempDirectory();
    writeFileSync(join(layer, 'file'), 'content');
    spawnSync('setfattr', ['-n', 'user.x', '-v', '1', join(layer, 'file')]);
    await withPrograms({ getfattr: 'echo "getfattr: .: Operation not supported" >&2; exit 1' }, async () => {
      for await (const { xattrs } of readTar(inChunks(await bytesOf(null, layer)))) expect(xattrs.size).toBe(0);
    });
  });

  it('says which package has getfattr where that is missing', async () => {
    const layer = await tempDirectory();
    await withPrograms(null, async () => {
      await expect(bytesOf(null, layer)).rejects.toMatchObject({
        code: 'PROGRAM_MISSING',
        message: expect.stringContaining('apt-get install attr'),
      });
    });
  });

  it('leaves sockets out', async () => {
    const directory = await tempDirectory();
    const server = createServer();
    await new Promise<void>((resolve) => void server.listen(join(directory, 'socket'), resolve));
    try {
      expect(await listed(await bytesOf(null, directory))).toEqual(['./']);
    } finally {
      server.close();
    }
  });

  it.each([
    ['the name of a whiteout', (root: string) => writeFileSync(join(root, '.wh.a'), '')],
    ['a link that leaves the root', (root: string) => symlinkSync('../outside', join(root, 'a'))],
  ])('is refused for %s', async (_, make) => {
    const directory = await tempDirectory();
    make(directory);
    await expect(bytesOf(null, directory)).rejects.toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it('is listed and extracted right by GNU tar', async () => {
    const directory = await tempDirectory();
    const [tree, out, file] = [join(directory, 'tree'), join(directory, 'out'), join(directory, 'layer.tar')];
    mkdirSync(join(tree, 'long'.repeat(40), 'deep'.repeat(30)), { recursive: true });
    writeFileSync(join(tree, 'long'.repeat(40), 'deep'.repeat(30), 'ä'), 'content');
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0x41])]), 'bytes');
    symlinkSync('x'.repeat(200), join(tree, 'link'));
    linkSync(join(tree, 'link'), join(tree, 'same'));
    spawnSync('setfattr', ['-n', 'user.x', '-v', 'value', join(tree, 'long'.repeat(40))]);
    writeFileSync(file, await bytesOf(null, tree));
    mkdirSync(out);
    const words = [
      '--extract',
      '--same-permissions',
      '--xattrs',
      '--xattrs-include=*',
      '--file',
      file,
      '--directory',
      out,
    ];
    expect(spawnSync('tar', words, { encoding: 'utf8' }).status).toBe(0);
    expect(describeTree(out)).toEqual(describeTree(tree));
    expect(existsSync(out)).toBe(true);
  });

  it('ends with its signal', async () => {
    const directory = await tempDirectory();
    const packaged = packageLayer({ parent: null, layer: directory, candidates: null, signal: AbortSignal.abort() });
    await expect(buffer(packaged)).rejects.toMatchObject({ code: 'TRANSFER_CANCELLED' });
  });
});
