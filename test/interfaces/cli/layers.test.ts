/** `pando layers`, `pando image` and `pando root`, against the real API of a node in this process. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chainOf } from '../../../src/core/layers/digest.ts';
import type { CataloguedImage } from '../../../src/features/layers/image-catalog.ts';
import { LayoutFixture, layerOf, tarOf, writeFiles } from '../../features/layers/images/image-fixture.ts';
import { dataset, IMAGES } from '../../main/memory-world.ts';
import { type CliRun, type ServedNode, ServedWorld } from '../served-world.ts';

let world: ServedWorld;
let node: ServedNode;
let directory: string;
let chain: readonly string[];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'pando-cli-layers-'));
  world = await ServedWorld.create();
  node = await world.start('build', undefined, { mountRoot: join(directory, 'mounts') });
  await node.zfs.create(dataset('build/images'));
  const layers = [layerOf(await tarOf({ 'etc/base': 'base' })), layerOf(await tarOf({ 'etc/top': 'top' }))];
  chain = chainOf(layers.map(({ diffId }) => diffId));
  const layout = new LayoutFixture();
  layout.index(layout.image(layers));
  await writeFiles(join(directory, 'web'), layout.files);
});
afterAll(async () => {
  await world.stop();
  await rm(directory, { recursive: true, force: true });
});

function run(...words: string[]): Promise<CliRun> {
  return node.pando(words);
}

async function jsonOf<T>(...words: string[]): Promise<T> {
  const { code, stdout, stderr } = await run(...words, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as T;
}

describe('layers, images and roots, one command after the other:', () => {
  test('there is no layer store before there is one', async () => {
    const { code, stderr } = await run('image', 'ls');
    expect(code).toBe(1);
    expect(stderr).toContain('pando layers init');
  });

  test('init takes the full name of a dataset of a tree, and says where it lies in none', async () => {
    expect((await run('layers', 'init', 'build/images')).stderr).toContain('keeps no tree "build"');
    await node.node.trees.add({ tree: IMAGES, root: dataset('build/images') });
    expect((await run('layers', 'init', 'build/images')).stdout).toBe('Layers are kept in images.\n');
    expect((await run('layers', 'init', 'images')).code).toBe(0);
  });

  test('extract unpacks what is not here', async () => {
    const extract = ['image', 'extract', `oci:${join(directory, 'web')}`, '--name', 'team/web:v1'];
    expect((await run(...extract)).stdout).toBe('team/web:v1 has 2 layers: 2 unpacked, 0 here before.\n');
    expect((await run(...extract)).stdout).toBe('team/web:v1 has 2 layers: 0 unpacked, 2 here before.\n');
    const base = join(directory, 'mounts/build/images/storage', chain[0] ?? '', 'etc/base');
    expect(await readFile(base, 'utf8')).toBe('base');
  });

  test('extract calls an image as its source does where nobody gives it a name', async () => {
    expect((await run('image', 'extract', `oci:${join(directory, 'web')}`)).stdout).toContain('web has 2 layers');
    expect((await run('image', 'rm', 'web')).code).toBe(0);
  });

  test('extract tells what it cannot read', async () => {
    const { code, stderr } = await run('image', 'extract', join(directory, 'nothing'));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^pando: .*nothing.*\n$/);
  });

  test('ls shows images and layers', async () => {
    expect((await run('image', 'ls')).stdout).toMatch(/team\/web:v1 {2}this node {2}2 {7}here/);
    const [image] = await jsonOf<readonly CataloguedImage[]>('image', 'ls');
    expect(image?.chain.map(({ layer }) => layer)).toEqual(chain);
    expect(
      (await run('layers', 'ls')).stdout
        .split('\n')
        .slice(1, 3)
        .map((line) => line.split(' ')[0]),
    ).toEqual(chain);
  });

  test('a root is made of an image or a layer, and of one of both', async () => {
    const made = await run('root', 'create', 'web-1', '--image', 'team/web:v1');
    expect(made.stdout).toBe(`${directory}/mounts/build/images/runtime/web-1\n`);
    expect((await run('root', 'create', 'web-2', '--layer', chain[0] ?? '')).code).toBe(0);
    expect((await run('root', 'create', 'web-3')).code).toBe(2);
    expect((await run('root', 'create', 'web-1', '--layer', chain[0] ?? '')).stderr).toContain('already');
    expect((await jsonOf<readonly { readonly id: string }[]>('root', 'ls')).map(({ id }) => id)).toEqual([
      'web-1',
      'web-2',
    ]);
    expect((await run('root', 'rm', 'web-2')).stdout).toBe('Container root web-2 is destroyed.\n');
  });

  test('a commit makes an image of a root', async () => {
    expect((await run('root', 'commit', 'web-1', '--as', 'team/web:v2')).stdout).toContain('which is new');
    const images = await jsonOf<readonly CataloguedImage[]>('image', 'ls');
    expect(images.map(({ name, chain: { length } }) => [name, length])).toEqual([
      ['team/web:v1', 2],
      ['team/web:v2', 3],
    ]);
  });

  test('a layer is written to a file or to standard output, and nothing is left where it is refused', async () => {
    const [base = ''] = chain;
    const file = join(directory, 'base.tar');
    expect((await run('layer', 'export', base, file)).code).toBe(0);
    expect((await readFile(file)).length).toBeGreaterThan(0);
    expect((await run('layer', 'export', base, '-')).stdout.length).toBeGreaterThan(0);
    const refused = await run('layer', 'export', `sha256:${'0'.repeat(64)}`, join(directory, 'none.tar'));
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('is not here')]);
    expect((await readdir(directory)).sort()).toEqual(['base.tar', 'mounts', 'web']);
  });

  test('an image is written as a layout, to a place that is free', async () => {
    const target = join(directory, 'layout');
    expect((await run('image', 'export', 'team/web:v1', target)).stdout).toMatch(/manifest sha256:/);
    expect(await readdir(target)).toContain('index.json');
    expect((await run('image', 'export', 'team/web:v1', target)).code).toBe(2);
  });

  test('gc destroys what nothing needs, or only tells', async () => {
    expect((await run('layers', 'gc')).stdout).toBe('0 layers destroyed.\n');
    await run('root', 'rm', 'web-1');
    await run('image', 'rm', 'team/web:v2');
    expect((await run('layers', 'gc', '--dry-run')).stdout).toContain('1 layer would go.');
    expect(await jsonOf<readonly unknown[]>('layers', 'gc')).toHaveLength(1);
    expect((await run('image', 'rm', 'team/web:v2')).code).toBe(1);
  });
});
