import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { unpackLayer } from '../../../../src/features/layers/archive/unpack.ts';
import { archive, type Entry, inChunks } from './archives.ts';
import { tempDirectory } from './temp-directory.ts';
import { describeTree, type TreeDescription } from './tree-description.ts';

const { signal } = new AbortController();
const DIRECTORIES = ['d', 'd/e', 'd/e/f', 'g'];
const FILES = ['top', 'd/x', 'd/y', 'd/e/x', 'd/e/y', 'd/e/f/x', 'g/x'];

const whiteout = (path: string): Entry => ({ path: join(dirname(path), `.wh.${path.split('/').at(-1)}`) });
const opaque = (path: string): Entry => ({ path: join(path, '.wh..wh..opq') });
const directory = (path: string): Entry => ({ type: 'directory', path, mode: 0o711, uid: 4 });
const file = (path: string): Entry => ({
  path,
  content: `new ${path}`,
  xattrs: new Map([['user.a', Buffer.from('1')]]),
});

/** All directories that a path is in. */
function above(path: string): string[] {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, at) => parts.slice(0, at + 1).join('/'));
}

function makeBelow(root: string, lower: readonly string[]): void {
  mkdirSync(root, { recursive: true });
  for (const path of lower.filter((path) => DIRECTORIES.includes(path)))
    mkdirSync(join(root, path), { recursive: true });
  for (const path of lower.filter((path) => FILES.includes(path))) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `old ${path}`);
  }
  execFileSync('find', [root, '-depth', '-exec', 'touch', '-h', '-d', '@1000000000', '{}', '+']);
}

interface Layer {
  readonly lower: readonly string[];
  readonly files: readonly string[];
  readonly directories: readonly string[];
  readonly gone: readonly string[];
  readonly opaque: readonly string[];
}

const subset = (of: readonly string[]) => fc.subarray([...of]);
const layerArbitrary: fc.Arbitrary<Layer> = fc.record({
  lower: subset([...DIRECTORIES, ...FILES]),
  files: subset(FILES),
  directories: subset(DIRECTORIES),
  gone: subset([...DIRECTORIES, ...FILES]),
  opaque: subset(DIRECTORIES),
});

/** Entries, with those of directories that hold whiteouts: without, it is up to the order whether they are there. */
function entriesOf({ files, directories, gone, opaque: emptied }: Layer): Entry[] {
  const holding = [...gone.flatMap(above), ...emptied.flatMap((path) => [...above(path), path])];
  return [...new Set([...directories, ...holding].sort())]
    .map(directory)
    .concat(gone.map(whiteout), emptied.map(opaque), files.map(file));
}

/** What is there in the end, by the specification: all of the layer, and of those below what is not hidden. */
function expected(layer: Layer): Map<string, string> {
  const there = new Map<string, string>();
  const isHidden = (path: string): boolean =>
    [path, ...above(path)].some((one) => layer.gone.includes(one)) ||
    above(path).some((one) => layer.opaque.includes(one));
  for (const path of layer.lower.flatMap((one) => [...above(one), one])) {
    if (!isHidden(path)) there.set(path, FILES.includes(path) ? `old ${path}` : 'directory');
  }
  const entries = entriesOf(layer).filter(({ type }) => type === 'directory');
  const directories = entries.map((entry) => String(entry.path));
  for (const path of [...directories, ...[...directories, ...layer.files].flatMap(above)]) {
    there.set(path, 'directory');
  }
  for (const path of layer.files) there.set(path, `new ${path}`);
  return there;
}

function found(root: string): Map<string, string> {
  const there = new Map<string, string>();
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    const path = join(root, name);
    there.set(name, statSync(path).isDirectory() ? 'directory' : execFileSync('cat', [path]).toString());
  }
  return there;
}

const sorted = (map: Map<string, string>): [string, string][] => Array.from(map).sort(([a], [b]) => (a < b ? -1 : 1));

it('hides what the layers below brought, and never what the same layer made, in any order', async () => {
  const shuffled = layerArbitrary.chain((layer) =>
    fc.tuple(fc.constant(layer), fc.shuffledSubarray(entriesOf(layer), { minLength: entriesOf(layer).length })),
  );
  await fc.assert(
    fc.asyncProperty(shuffled, async ([layer, entries]) => {
      const above = await mkdtemp(join(tmpdir(), 'pando-layer-'));
      try {
        const described: TreeDescription[] = [];
        for (const [index, order] of [entriesOf(layer), entries].entries()) {
          const root = join(above, String(index));
          makeBelow(root, layer.lower);
          await unpackLayer(inChunks(archive(...order)), root, { signal });
          expect(sorted(found(root))).toEqual(sorted(expected(layer)));
          described.push(describeTree(root));
        }
        expect(described[1]).toEqual(described[0]);
      } finally {
        await rm(above, { recursive: true, force: true });
      }
    }),
    { numRuns: 60 },
  );
});

it('leaves the time of a directory alone in which something was hidden', async () => {
  const root = join(await tempDirectory(), 'root');
  makeBelow(root, ['d/x', 'd/e/x', 'd/y']);
  await unpackLayer(inChunks(archive(whiteout('d/x'), opaque('d/e'))), root, { signal });
  expect(found(root)).toEqual(
    new Map([
      ['d', 'directory'],
      ['d/e', 'directory'],
      ['d/y', 'old d/y'],
    ]),
  );
  for (const name of ['d', 'd/e']) expect(statSync(join(root, name)).mtimeMs).toBe(1e12);
});

it('takes a whiteout of nothing that is there for nothing', async () => {
  const root = join(await tempDirectory(), 'root');
  makeBelow(root, ['d/x']);
  await unpackLayer(inChunks(archive(whiteout('d/none'), whiteout('none'))), root, { signal });
  expect(sorted(found(root))).toEqual([
    ['d', 'directory'],
    ['d/x', 'old d/x'],
  ]);
});

it('hides all below the root with an opaque whiteout there', async () => {
  const root = join(await tempDirectory(), 'root');
  makeBelow(root, ['d/x', 'top', 'g']);
  await unpackLayer(inChunks(archive(file('d/e/x'), opaque('.'), file('g/x'))), root, { signal });
  expect(Array.from(found(root).keys()).sort()).toEqual(['d', 'd/e', 'd/e/x', 'g', 'g/x']);
  expect(existsSync(join(root, 'top'))).toBe(false);
});

it('hides a link of the layers below, and not where it leads', async () => {
  const root = join(await tempDirectory(), 'root');
  makeBelow(root, ['d/x']);
  execFileSync('ln', ['-s', 'd', join(root, 'link')]);
  await unpackLayer(inChunks(archive(whiteout('link'))), root, { signal });
  expect(sorted(found(root))).toEqual([
    ['d', 'directory'],
    ['d/x', 'old d/x'],
  ]);
});

it('hides through a link of the layers below to a directory', async () => {
  const root = join(await tempDirectory(), 'root');
  makeBelow(root, ['d/x', 'd/y']);
  execFileSync('ln', ['-s', '/d', join(root, 'link')]);
  await unpackLayer(inChunks(archive(whiteout('link/x'))), root, { signal });
  expect(readdirSync(join(root, 'd'))).toEqual(['y']);
});
