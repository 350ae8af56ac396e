/** Images that tests make themselves: layers as archives of GNU tar, and layouts of them. */
import { chmod, link, lutimes, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { execa } from 'execa';
import {
  type FixtureLayer,
  LAYER,
  LayoutFixture,
  layerOf,
  named,
  writeFiles,
} from '../features/layers/images/image-fixture.ts';

/** What a layer is made of: fills a directory that is packed then. */
export type Filled = (tree: string) => Promise<void>;

/** Longer than the field of a tar header (100 bytes), so that it needs a record of its own. */
export const LONG_NAME = `srv/${'long-directory-name/'.repeat(6)}${'long-file-name-'.repeat(8)}end`;
const PROGRAMS = ['sh', 'ls', 'cat', 'echo', 'sleep', 'touch', 'rm', 'mkdir', 'ln', 'stat', 'dd'];
/** 2023-11-14: nothing in a layer is as old as its test. */
const TIME_SECONDS = 1_700_000_000;

/** Writes files of a tree, with the directories that they need. */
export async function writeTree(tree: string, files: Readonly<Record<string, string | Buffer>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(tree, name)), { recursive: true });
    await writeFile(join(tree, name), content);
  }
}

/** What programs need to run, statically linked. */
export async function busybox(tree: string): Promise<void> {
  for (const name of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp']) await mkdir(join(tree, name));
  await writeFile(join(tree, 'bin/busybox'), await readFile('/bin/busybox'), { mode: 0o755 });
  for (const program of PROGRAMS) await symlink('busybox', join(tree, 'bin', program));
}

/** Over {@link busybox}: links of both kinds, a long name, and a program that runs as somebody else. */
export async function links(tree: string): Promise<void> {
  await writeTree(tree, {
    'etc/config': 'first',
    'etc/unwanted': 'goes in the layer above',
    'srv/data/one': 'one',
    'srv/data/two': 'two',
    [LONG_NAME]: 'a long way down',
  });
  await link(join(tree, 'etc/config'), join(tree, 'srv/same-config'));
  await symlink('/etc/config', join(tree, 'srv/to-config'));
  await writeFile(join(tree, 'srv/as-owner'), '#!/bin/sh\n');
  await chmod(join(tree, 'srv/as-owner'), 0o4755);
}

/** Over {@link links}: takes a file away, the whole of a directory but what it brings, and changes another. */
export async function whiteouts(tree: string): Promise<void> {
  await writeTree(tree, {
    'etc/.wh.unwanted': '',
    'etc/config': 'second',
    'srv/data/.wh..wh..opq': '',
    'srv/data/three': 'three',
  });
}

async function setTimes(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await setTimes(path);
    await lutimes(path, TIME_SECONDS, TIME_SECONDS);
  }
}

/** A layer of what `fill` writes, compressed. The same bytes each time. */
export async function layerWith(fill: Filled): Promise<FixtureLayer> {
  const work = await mkdtemp(join(tmpdir(), 'pando-layer-'));
  try {
    const [tree, tar] = [join(work, 'tree'), join(work, 'tar')];
    await mkdir(tree);
    await fill(tree);
    await setTimes(tree);
    const settings = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu'];
    await execa('tar', [...settings, '-C', tree, '-cf', tar, ...(await readdir(tree)).sort()]);
    const bytes = await readFile(tar);
    return layerOf(bytes, gzipSync(bytes, { level: 1 }), { mediaType: `${LAYER}+gzip` });
  } finally {
    await rm(work, { recursive: true });
  }
}

/** Writes the layout of an image of these layers; gives its directory. */
export async function writeImage(
  directory: string,
  name: string,
  layers: readonly FixtureLayer[],
  config: object = { config: { Cmd: ['/bin/sh'] } },
): Promise<string> {
  const layout = new LayoutFixture();
  layout.index(named(layout.image(layers, { config }), name));
  return writeFiles(directory, layout.files);
}
