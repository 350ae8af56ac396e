import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { unpackLayer } from '../../../../src/features/layers/archive/unpack.ts';
import { inChunks } from './archives.ts';
import { tempDirectory } from './temp-directory.ts';
import { describeTree, type TreeDescription } from './tree-description.ts';

const { signal } = new AbortController();
const MIB = 1024 * 1024;
const LARGE_BYTES = 9 * 1024 * MIB;

/** The archive that GNU tar makes of a tree. */
function tarOf(tree: string, ...words: string[]): Buffer {
  return execFileSync('tar', ['--create', '--directory', tree, ...words, '.'], { maxBuffer: 64 * MIB });
}

/** Unpacks what GNU tar made of a tree, in chunks that fit no block. */
async function unpacked(tree: string, ...words: string[]): Promise<string> {
  const root = join(await tempDirectory(), 'root');
  mkdirSync(root);
  await unpackLayer(inChunks(tarOf(tree, ...words), 1000), root, { signal });
  return root;
}

/** Sets all times of a tree to a whole second, which every format can say. */
function setWholeTimes(tree: string): void {
  execFileSync('find', [tree, '-depth', '-exec', 'touch', '-h', '-d', '@1700000000', '{}', '+']);
}

async function plainTree(): Promise<string> {
  const tree = await tempDirectory();
  mkdirSync(join(tree, 'directory'.repeat(20), 'deep'.repeat(40)), { recursive: true });
  writeFileSync(join(tree, 'directory'.repeat(20), 'deep'.repeat(40), 'file'.repeat(30)), 'content');
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0x41])]), 'bytes');
  writeFileSync(join(tree, 'ä\n\\'), 'x'.repeat(1000));
  writeFileSync(join(tree, 'setuid'), '');
  writeFileSync(join(tree, 'owned'), '');
  symlinkSync('target/'.repeat(40), join(tree, 'link'));
  linkSync(join(tree, 'ä\n\\'), join(tree, 'same'));
  mkdirSync(join(tree, 'sticky'));
  execFileSync('mkfifo', [join(tree, 'fifo')]);
  execFileSync('mknod', [join(tree, 'null'), 'c', '1', '3']);
  chmodSync(join(tree, 'setuid'), 0o6755);
  chmodSync(join(tree, 'sticky'), 0o1777);
  chownSync(join(tree, 'owned'), 3_000_000_000, 2_097_152);
  setWholeTimes(tree);
  return tree;
}

/** Data in the middle of holes: as many runs as an old header holds, and more. */
function writeSparse(path: string, runs: number, size: number, hasEnd: boolean): void {
  const file = openSync(path, 'w');
  for (let run = 0; run < runs; run += 1) writeSync(file, `run ${run} `.repeat(200), (run * 2 + 1) * 128 * 1024);
  if (hasEnd) writeSync(file, 'end', size - 3);
  closeSync(file);
  truncateSync(path, size);
}

async function sparseTree(): Promise<string> {
  const tree = await tempDirectory();
  writeSparse(join(tree, 'one'), 1, MIB, false);
  writeSparse(join(tree, 'four'), 4, 4 * MIB + 5, false);
  writeSparse(join(tree, 'many'), 60, 32 * MIB, true);
  writeSparse(join(tree, 'hole'), 0, 5 * MIB, false);
  writeSparse(join(tree, 'sparse'.repeat(20)), 3, 3 * MIB, true);
  writeFileSync(join(tree, 'plain'), 'after all of these');
  setWholeTimes(tree);
  return tree;
}

describe('an archive of GNU tar', () => {
  it.each(['gnu', 'oldgnu', 'pax'])('is the tree again in the format %s', async (format) => {
    const tree = await plainTree();
    expect(describeTree(await unpacked(tree, `--format=${format}`))).toEqual(describeTree(tree));
  });

  it.each(['v7', 'ustar'])('is the tree again in the format %s, which knows short names only', async (format) => {
    const tree = await tempDirectory();
    mkdirSync(join(tree, 'directory'));
    writeFileSync(join(tree, 'directory/file'), 'content');
    symlinkSync('file', join(tree, 'directory/link'));
    linkSync(join(tree, 'directory/file'), join(tree, 'same'));
    setWholeTimes(tree);
    expect(describeTree(await unpacked(tree, `--format=${format}`))).toEqual(describeTree(tree));
  });

  it('keeps times to the nanosecond, and extended attributes of all that has any', async () => {
    const tree = await plainTree();
    const set = (name: string, value: string, path: string): void =>
      expect(spawnSync('setfattr', ['-h', '-n', name, '-v', value, join(tree, path)]).status).toBe(0);
    set('user.text', 'value', 'sticky');
    set('user.empty', '', 'setuid');
    set('user.bytes', '0x00ff0a3d5c', 'ä\n\\');
    set('trusted.link', 'value', 'link');
    set('security.capability', '0x0100000200040000000000000000000000000000', 'setuid');
    execFileSync('touch', ['-h', '-d', '@1600000000.123456789', join(tree, 'link'), join(tree, 'same'), tree]);
    const root = await unpacked(tree, '--format=pax', '--xattrs', '--xattrs-include=*');
    expect(describeTree(root)).toEqual(describeTree(tree));
  });

  it.each([
    ['of old GNU tar', ['--format=gnu']],
    ['of version 0.0', ['--format=pax', '--sparse-version=0.0']],
    ['of version 0.1', ['--format=pax', '--sparse-version=0.1']],
    ['of version 1.0', ['--format=pax', '--sparse-version=1.0']],
  ])('has the holes of sparse files %s', async (_, words) => {
    const tree = await sparseTree();
    const root = await unpacked(tree, '--sparse', ...words);
    expect(describeTree(root)).toEqual(describeTree(tree));
    for (const name of ['one', 'many', 'hole']) {
      expect(statSync(join(root, name)).blocks).toBeLessThanOrEqual(statSync(join(tree, name)).blocks + 8);
    }
    expect(readFileSync(join(root, 'plain'), 'utf8')).toBe('after all of these');
  });

  it.each([['gnu'], ['pax']])(
    'may hold files whose size no octal number of it can say, in the format %s',
    async (format) => {
      const tree = await tempDirectory();
      writeSparse(join(tree, 'large'), 1, LARGE_BYTES, true);
      const root = await unpacked(tree, '--sparse', `--format=${format}`);
      const { size, blocks } = statSync(join(root, 'large'));
      expect(size).toBe(LARGE_BYTES);
      expect(blocks).toBeLessThan(1000);
      expect(endOf(join(root, 'large'))).toBe('end');
    },
  );

  it('is refused where the map of a sparse file contradicts itself', async () => {
    const tree = await tempDirectory();
    writeSparse(join(tree, 'sparse'), 2, MIB, false);
    const tar = tarOf(tree, '--sparse', '--format=pax', '--sparse-version=0.1').toString('latin1');
    const larger = tar.replace(/GNU\.sparse\.size=1048576/, 'GNU.sparse.size=0048576');
    expect(larger).not.toBe(tar);
    await expect(
      unpackLayer(inChunks(Buffer.from(larger, 'latin1')), await tempDirectory(), { signal }),
    ).rejects.toMatchObject({ code: 'ARCHIVE_INVALID', message: expect.stringContaining('map of its holes') });
  });

  it('says times before 1970 as well', async () => {
    const tree = await tempDirectory();
    writeFileSync(join(tree, 'old'), '');
    execFileSync('touch', ['-d', '1960-01-01T00:00:00Z', join(tree, 'old')]);
    const described: TreeDescription[] = [];
    for (const format of ['gnu', 'pax']) described.push(describeTree(await unpacked(tree, `--format=${format}`)));
    for (const tree of described) expect(tree['./old']).toMatch(/^100644 0:0 -315619200000000000 /);
  });
});

function endOf(path: string): string {
  return execFileSync('tail', ['-c', '3', path]).toString();
}
