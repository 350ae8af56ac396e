/** Layers as ZFS datasets: what images become, what container roots become, and what is left of either when it is cut short. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, readlink, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { installPackages } from '../../peers/provision/debian-packages.ts';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import type { RelativeName, TreeName } from '../../src/core/ids.ts';
import { type ChainId, chainIdOf, chainOf, type DiffId } from '../../src/core/layers/digest.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { unpackLayer } from '../../src/features/layers/archive/unpack.ts';
import type { CommittedImage } from '../../src/features/layers/commit-steps.ts';
import type { ExtractionResult } from '../../src/features/layers/extraction.ts';
import type { LayerStore } from '../../src/features/layers/layer-stores.ts';
import { inChunks } from '../features/layers/archive/archives.ts';
import { describeTree, type TreeDescription } from '../features/layers/archive/tree-description.ts';
import { bytesOf, type FixtureLayer } from '../features/layers/images/image-fixture.ts';
import { MortalZfs } from './mortal-zfs.ts';
import { below, introduceReal, type RealNode, reopen, startRealNode, syncTree } from './real-node.ts';
import { busybox, LONG_NAME, layerWith, links, whiteouts, writeImage, writeTree } from './sample-image.ts';

const IMAGES = 'images' as TreeName;
const { signal } = new AbortController();

let zfs: AvailableZfs;
/** An image of three layers, as a layout. */
let layout: string;
let layers: readonly FixtureLayer[];
let chain: readonly ChainId[];
let work: string;
/** What the image is when umoci unpacks it. */
let expected: TreeDescription;
let alpha: RealNode;
let store: LayerStore;

beforeAll(async () => {
  expect(await installPackages(['skopeo', 'umoci', 'busybox-static'])).toBeNull();
  zfs = await ensureZfs();
  work = await mkdtemp(join(tmpdir(), 'pando-layers-'));
  layers = [await layerWith(busybox), await layerWith(links), await layerWith(whiteouts)];
  chain = chainOf(layers.map(({ diffId }) => diffId));
  layout = await writeImage(join(work, 'image'), 'one', layers);
  expected = await unpackedByUmoci(`${layout}:one`);
});

afterAll(async () => {
  await rm(work, { recursive: true, force: true });
  await zfs.stop();
});

beforeEach(async () => {
  alpha = await startRealNode('layers');
  store = await storeOn(alpha);
});

afterEach(() => alpha.remove());

async function storeOn(node: RealNode): Promise<LayerStore> {
  await execa('zfs', ['create', below(node.pool, 'images')]);
  await node.node.trees.add({ tree: IMAGES, root: below(node.pool, 'images') });
  return node.node.layers.init(IMAGES, '' as RelativeName);
}

function extract(source: string, node = alpha): Promise<ExtractionResult> {
  const request = { source, name: 'made:one', insecure: false, signal, onProgress: () => undefined };
  return node.node.layers.extract(store, request);
}

function howOf({ layers: made }: ExtractionResult): string[] {
  return made.map(({ how }) => how);
}

/** Names below the tree, as ZFS tells them. */
async function datasets(node = alpha, ...words: string[]): Promise<string[]> {
  const root = below(node.pool, 'images');
  const { stdout } = await execa('zfs', ['list', '-H', '-o', 'name', '-r', ...words, root]);
  return stdout.split('\n').map((name) => name.slice(root.length + 1));
}

async function originOf(name: string): Promise<string> {
  const words = ['get', '-H', '-o', 'value', 'origin', below(alpha.pool, `images/${name}`)];
  return (await execa('zfs', words)).stdout.slice(below(alpha.pool, 'images/').length);
}

/** Every change of a pool, as the pool itself has written it down. */
async function changes(): Promise<string[]> {
  const { stdout } = await execa('zpool', ['history', '-i', alpha.pool.name]);
  return stdout.split('\n').filter((line) => line !== '');
}

/** Times of directories are left out: umoci gives those that change in a layer above another one. */
function comparable(tree: TreeDescription): TreeDescription {
  const entries = Object.entries(tree).map(([path, text]) => {
    const [mode = '', owner, mtime, ...rest] = text.split(' ');
    return [path, [mode, owner, mode.startsWith('4') ? '' : mtime, ...rest].join(' ')];
  });
  return Object.fromEntries(entries);
}

async function unpackedByUmoci(image: string): Promise<TreeDescription> {
  const bundle = await mkdtemp(join(work, 'bundle-'));
  await rm(bundle, { recursive: true });
  await execa('umoci', ['unpack', '--image', image, bundle]);
  return comparable(describeTree(join(bundle, 'rootfs')));
}

/** What a layer holds, read through a root that is made for that. */
async function treeOf(layer: ChainId, node = alpha): Promise<TreeDescription> {
  const directory = await node.node.layers.createRoot(store, 'reading', { layer }, signal);
  try {
    return comparable(describeTree(directory));
  } finally {
    await node.node.layers.roots.remove(store, 'reading');
  }
}

describe('an image that is extracted', () => {
  it('is a clone for each layer, called by its ChainID, over the one below', async () => {
    expect(howOf(await extract(layout))).toEqual(['unpacked', 'unpacked', 'unpacked']);
    const [lowest, middle, highest] = chain;
    expect(await originOf(`storage/${lowest}`)).toBe('storage/empty@extracted');
    expect(await originOf(`storage/${middle}`)).toBe(`storage/${lowest}@extracted`);
    expect(await originOf(`storage/${highest}`)).toBe(`storage/${middle}@extracted`);
    expect(await treeOf(highest as ChainId)).toEqual(expected);
  });

  it('keeps what a layer can say: whiteouts, links, modes and long names', async () => {
    await extract(layout);
    const root = await alpha.node.layers.createRoot(store, 'web', { image: 'made:one' }, signal);
    expect(await readdir(join(root, 'srv/data'))).toEqual(['three']);
    expect((await readdir(join(root, 'etc'))).sort()).toEqual(['config']);
    expect(await readFile(join(root, 'etc/config'), 'utf8')).toBe('second');
    // Only the name that the layer above brings is another file
    expect(await readFile(join(root, 'srv/same-config'), 'utf8')).toBe('first');
    expect(await readlink(join(root, 'srv/to-config'))).toBe('/etc/config');
    expect((await stat(join(root, 'srv/as-owner'))).mode & 0o7777).toBe(0o4755);
    expect(await readFile(join(root, LONG_NAME), 'utf8')).toBe('a long way down');
    expect((await stat(root)).mode & 0o7777).toBe(0o755);
  });

  it('changes nothing in ZFS when it is extracted again', async () => {
    await extract(layout);
    await alpha.node.layers.maker.idle();
    const before = await changes();
    expect(howOf(await extract(layout))).toEqual(['here', 'here', 'here']);
    expect(await changes()).toEqual(before);
  });

  it('is unpacked once when two ask for it at the same time', async () => {
    const [one, other] = await Promise.all([extract(layout), extract(layout)]);
    for (const [index] of layers.entries()) {
      expect([howOf(one)[index], howOf(other)[index]].sort()).toEqual(['here', 'unpacked']);
    }
    const clones = (await changes()).filter((line) => / zfs clone /.test(line));
    expect(clones).toHaveLength(layers.length);
  });

  it('shares the layers that another image has', async () => {
    await extract(layout);
    const other = await layerWith((tree) => writeTree(tree, { only: 'here' }));
    const image = await writeImage(join(work, 'other'), 'two', [...layers.slice(0, 2), other]);
    expect(howOf(await extract(image))).toEqual(['here', 'here', 'unpacked']);
  });

  it('leaves nothing of a layer that is not what its image says, and the layers below stay', async () => {
    const [lowest, middle, highest] = layers as [FixtureLayer, FixtureLayer, FixtureLayer];
    const wrong = { ...highest, diffId: middle.diffId };
    const image = await writeImage(join(work, 'wrong'), 'wrong', [lowest, middle, wrong]);
    await expect(extract(image)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    expect(await datasets()).toEqual(['', 'runtime', 'storage', 'storage/empty', ...named(chain.slice(0, 2))]);
    expect(alpha.node.layers.images(store)).toEqual([]);
  });

  it('leaves nothing of a layer whose blob is cut off', async () => {
    const cut = await writeImage(join(work, 'cut'), 'cut', layers);
    const blobs = join(cut, 'blobs/sha256');
    const sizes = await Promise.all(
      (await readdir(blobs)).map(async (name) => ({ name, ...(await sizeOf(blobs, name)) })),
    );
    const largest = sizes.sort((a, b) => b.size - a.size)[0] ?? { name: '', size: 0 };
    await truncate(join(blobs, largest.name), Math.floor(largest.size / 2));
    await expect(extract(cut)).rejects.toMatchObject({
      code: expect.stringMatching(/DIGEST_MISMATCH|ARCHIVE_INVALID|IMAGE_INVALID/),
    });
    expect(await datasets()).toEqual(['', 'runtime', 'storage', 'storage/empty']);
  });
});

async function sizeOf(directory: string, name: string): Promise<{ readonly size: number }> {
  return stat(join(directory, name));
}

function named(wanted: readonly ChainId[]): string[] {
  return wanted.map((layer) => `storage/${layer}`).sort();
}

function commit(id: string, image: string, freeze = false): Promise<CommittedImage> {
  return alpha.node.layers.commit(store, id, image, { freeze, signal });
}

/** A process that stands in a directory, and writes what time it is there for as long as it runs. */
async function standingIn(directory: string): Promise<ChildProcess> {
  const child = spawn('sh', ['-c', 'echo here > standing; echo ready; exec sleep 600'], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

async function ended(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

describe('a container root that becomes an image', () => {
  let root: string;

  beforeEach(async () => {
    await extract(layout);
    root = await alpha.node.layers.createRoot(store, 'web', { image: 'made:one' }, signal);
    await writeTree(root, { 'srv/written': 'by hand', 'etc/config': 'third' });
  });

  it('hangs below its new layer, which hangs below the one that it was made from', async () => {
    const before = comparable(describeTree(root));
    const { layer, diffId, isReused } = await commit('web', 'made:two');
    expect(isReused).toBe(false);
    expect(layer).toBe(chainIdOf(chain[2] as ChainId, diffId));
    expect(await originOf('runtime/web')).toBe(`storage/${layer}@extracted`);
    expect(await originOf(`storage/${layer}`)).toBe(`storage/${chain[2]}@extracted`);
    expect(alpha.node.layers.listRoots(store)).toMatchObject([{ id: 'web', layer }]);
    expect(comparable(describeTree(root))).toEqual(before);
    expect(await treeOf(layer)).toEqual(before);
    expect(await readdir(join(root, '..'))).toEqual(['web']);
  });

  it('is refused while a process is in it, which the refusal names, and changes nothing', async () => {
    const child = await standingIn(root);
    try {
      await expect(commit('web', 'made:two')).rejects.toMatchObject({
        code: 'ROOT_IN_USE',
        message: expect.stringContaining(`(${child.pid})`),
      });
      expect(await datasets(alpha, '-t', 'snapshot')).not.toContain('runtime/web@extracted');
    } finally {
      await ended(child);
    }
  });

  it('has that process wait for a moment where it is to, and the process goes on', async () => {
    const child = await standingIn(root);
    try {
      const { layer } = await commit('web', 'made:two', true);
      expect(await originOf('runtime/web')).toBe(`storage/${layer}@extracted`);
      const status = await readFile(`/proc/${child.pid}/status`, 'utf8');
      expect(status).toMatch(/^State:\tS/m);
      expect(await readFile(join(root, 'standing'), 'utf8')).toBe('here\n');
    } finally {
      await ended(child);
    }
  });

  it('uses the layer that there is where nothing was changed since', async () => {
    const { layer } = await commit('web', 'made:two');
    await alpha.node.layers.createRoot(store, 'twin', { layer: chain[2] as ChainId }, signal);
    const twin = join(root, '../twin');
    await execa('cp', ['-a', `${root}/.`, twin]);
    expect(await commit('twin', 'made:three')).toMatchObject({ layer, isReused: true });
    expect(await datasets(alpha, '-t', 'snapshot')).not.toContain('runtime/twin@extracted');
    expect(alpha.node.layers.images(store).map(({ name }) => name)).toContain('made:three');
  });
});

describe('a commit that is cut short', () => {
  let chainBelow: readonly ChainId[];
  let mortal = new MortalZfs();

  /** What must hold whatever happened before. */
  async function settledAs(node: RealNode): Promise<'completed' | 'undone'> {
    const snapshots = await datasets(node, '-t', 'snapshot');
    expect(snapshots).not.toContain('runtime/web@extracted');
    expect((await datasets(node)).filter((name) => /^\.pando\/reading\//.test(name))).toEqual([]);
    const image = node.node.layers.images(store).find(({ name }) => name === 'made:two');
    const [parent] = chainBelow;
    const origin = await originOf('runtime/web');
    if (image === undefined) {
      expect(origin).toBe(`storage/${parent}@extracted`);
      expect((await datasets(node)).filter((name) => name.startsWith('storage/sha256'))).toEqual(named(chainBelow));
      return 'undone';
    }
    for (const { state } of image.chain) expect(state).toBe('here');
    const top = image.chain.at(-1)?.layer;
    expect(origin).toBe(`storage/${top}@extracted`);
    expect(await originOf(`storage/${top}`)).toBe(`storage/${parent}@extracted`);
    return 'completed';
  }

  /** Commits with a ZFS that dies at that step, and starts the node again; whether it died. */
  async function cutShort(step: number): Promise<boolean> {
    const root = await alpha.node.layers.createRoot(store, 'web', { image: 'made:one' }, signal);
    await writeTree(root, { written: `by hand, ${step}` });
    mortal.dieBefore(step);
    const image = await commit('web', 'made:two').catch(() => undefined);
    const { isDead } = mortal;
    expect(image === undefined).toBe(isDead);
    await alpha.halt();
    mortal = new MortalZfs();
    alpha = await reopen(alpha, (real) => mortal.around(real));
    return isDead;
  }

  it('is completed or undone by the next start, before whichever change of ZFS it died', async () => {
    const small = await layerWith((tree) => writeTree(tree, { below: 'text' }));
    chainBelow = (await extract(await writeImage(join(work, 'small'), 'small', [small]))).layers.map(
      ({ layer }) => layer,
    );
    await alpha.halt();
    alpha = await reopen(alpha, (real) => mortal.around(real));
    const outcomes: string[] = [];
    for (let step = 1, isDead = true; isDead; step += 1) {
      isDead = await cutShort(step);
      outcomes.push(await settledAs(alpha));
      await removeAll();
    }
    expect(outcomes.at(0)).toBe('undone');
    expect(outcomes.at(-1)).toBe('completed');
    // Once it is known what the layer is, it stays so
    expect(outcomes).toEqual(outcomes.toSorted().reverse());
    expect(outcomes.length).toBeGreaterThan(5);
  });

  async function removeAll(): Promise<void> {
    const { layers: ofNode } = alpha.node;
    await ofNode.roots.remove(store, 'web');
    if (ofNode.images(store).some(({ name }) => name === 'made:two')) await ofNode.catalog.untag(store, 'made:two');
    await ofNode.collectGarbage(store, { isDryRun: false });
  }
});

describe('what is exported', () => {
  beforeEach(async () => {
    await extract(layout);
  });

  it('of a layer, makes that layer when it is applied to the one below', async () => {
    for (const [index, layer] of chain.entries()) {
      const tar = await bytesOf(alpha.node.layers.tarOf(store, layer, signal));
      const parent = chain[index - 1];
      const directory = parent
        ? await alpha.node.layers.createRoot(store, 'applied', { layer: parent }, signal)
        : await mkdtemp(join(work, 'applied-'));
      await unpackLayer(inChunks(tar), directory, { signal });
      const { '.': _, ...made } = comparable(describeTree(directory));
      const { '.': __, ...wanted } = await treeOf(layer);
      expect(made).toEqual(wanted);
      if (parent) await alpha.node.layers.roots.remove(store, 'applied');
    }
    expect((await datasets()).filter((name) => name.startsWith('.pando/reading/'))).toEqual([]);
  });

  it('of an image, is read by skopeo and umoci, which make the same of it', async () => {
    const target = join(work, `export-${alpha.pool.name}`);
    const digest = await alpha.node.layers.exportImage(store, 'made:one', target, signal);
    const { stdout } = await execa('skopeo', ['inspect', `oci:${target}:one`]);
    const { Digest, Layers } = JSON.parse(stdout) as { Digest: string; Layers: string[] };
    expect(Digest).toBe(digest);
    expect(Layers).toHaveLength(layers.length);
    expect(await unpackedByUmoci(`${target}:one`)).toEqual(expected);
  });

  it('is an image that brings the same tree back', async () => {
    const root = await alpha.node.layers.createRoot(store, 'web', { image: 'made:one' }, signal);
    await writeTree(root, { 'srv/written': 'by hand' });
    await rm(join(root, 'srv/data'), { recursive: true });
    const { layer } = await commit('web', 'made:two');
    const target = join(work, `again-${alpha.pool.name}`);
    await alpha.node.layers.exportImage(store, 'made:two', target, signal);
    expect(await unpackedByUmoci(`${target}:two`)).toEqual(await treeOf(layer));
    expect((await extract(target)).layers.at(-1)?.diffId).toBe(
      alpha.node.layers.listLayers(store).find((one) => one.layer === layer)?.diffId as DiffId,
    );
  });
});

describe('layers that nothing needs', () => {
  let other: ChainId;

  beforeEach(async () => {
    await extract(layout);
    const image = await writeImage(join(work, `other-${alpha.pool.name}`), 'other', [
      layers[0] as FixtureLayer,
      await layerWith((tree) => writeTree(tree, { other: 'image' })),
    ]);
    const extracted = await alpha.node.layers.extract(store, {
      source: image,
      name: 'other:one',
      insecure: false,
      signal,
      onProgress: () => undefined,
    });
    other = extracted.layers[1]?.layer as ChainId;
  });

  async function collected(isDryRun = false): Promise<string[]> {
    const gone = await alpha.node.layers.collectGarbage(store, { isDryRun });
    return gone.map(({ layer }) => layer);
  }

  it('are those without an image, and go from the highest to the lowest', async () => {
    expect(await collected()).toEqual([]);
    await alpha.node.layers.catalog.untag(store, 'made:one');
    expect(await collected(true)).toEqual([chain[2], chain[1]]);
    expect(await collected()).toEqual([chain[2], chain[1]]);
    expect((await datasets()).filter((name) => name.includes('sha256'))).toEqual(named([chain[0] as ChainId, other]));
    await alpha.node.layers.catalog.untag(store, 'other:one');
    expect(await collected()).toEqual([other, chain[0]]);
  });

  it('are none that a root is cloned from', async () => {
    await alpha.node.layers.createRoot(store, 'web', { layer: chain[1] as ChainId }, signal);
    await alpha.node.layers.catalog.untag(store, 'made:one');
    expect(await collected()).toEqual([chain[2]]);
  });

  it('are none that somebody holds; the others go all the same', async () => {
    const held = `${below(alpha.pool, `images/storage/${chain[2]}`)}@extracted`;
    await execa('zfs', ['hold', 'mine', held]);
    for (const name of ['made:one', 'other:one']) await alpha.node.layers.catalog.untag(store, name);
    expect(await collected()).toEqual([other]);
    await execa('zfs', ['release', 'mine', held]);
    expect(await collected()).toEqual([chain[2], chain[1], chain[0]]);
  });
});

describe('a second node that mirrors the tree', () => {
  let beta: RealNode;

  beforeEach(async () => {
    await extract(layout);
    beta = await startRealNode('layers-too');
    await introduceReal(alpha, beta, false);
    const mirror = { tree: IMAGES, from: alpha.node.id, root: below(beta.pool, 'images') };
    await beta.node.mirrors.add({ ...mirror, ...EVERYTHING, only: ['storage/**'] });
    expect((await syncTree(beta, IMAGES)).steps.filter(({ outcome }) => outcome.result !== 'done')).toEqual([]);
    await beta.node.layers.init(IMAGES, '' as RelativeName);
  });

  afterEach(() => beta.remove());

  it('has the image, makes roots of it, and exports it with the same digest', async () => {
    const theirs = beta.node.layers.stores.require(IMAGES);
    const [image] = beta.node.layers.images(theirs);
    expect(image).toMatchObject({ name: 'made:one', node: alpha.node.id });
    expect(image?.chain).toEqual(chain.map((layer) => ({ layer, state: 'here' })));
    const root = await beta.node.layers.createRoot(theirs, 'web', { image: 'made:one' }, signal);
    expect(comparable(describeTree(root))).toEqual(expected);
    const targets = [alpha, beta].map(({ pool }) => join(work, `export-of-${pool.name}`)) as [string, string];
    const digest = await alpha.node.layers.exportImage(store, 'made:one', targets[0], signal);
    expect(await beta.node.layers.exportImage(theirs, 'made:one', targets[1], signal)).toBe(digest);
  });

  it('keeps the first, which may see what it has, from collecting that', async () => {
    await beta.node.grants.give(alpha.node.id, { trees: IMAGES, role: 'reader' });
    await alpha.node.hub.reach(beta.node.id);
    await alpha.node.hub.sync(beta.node.id);
    await expect.poll(() => alpha.node.history.othersOf(IMAGES).size).toBe(1);
    await alpha.node.layers.catalog.untag(store, 'made:one');
    expect(await alpha.node.layers.collectGarbage(store, { isDryRun: false })).toEqual([]);
  });
});
