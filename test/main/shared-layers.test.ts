/** A team shares layers: one node has them, others see the images, take what they need, and containerd there finds it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import { type ChainId, chainIdOf, type DiffId, digestOf } from '../../src/core/layers/digest.ts';
import { layerName } from '../../src/core/layers/layer-names.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { SNAPSHOT_REF_LABEL } from '../../src/core/snapshots/snapshot.ts';
import type { LayerStore } from '../../src/features/layers/layer-stores.ts';
import { codeOf, dataset, IMAGES, introduce, MemoryWorld, ROOT, syncImages, type WorldNode } from './memory-world.ts';

const CONFIG = '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}';
const { signal } = new AbortController();
const diffId = (text: string): DiffId => digestOf(text) as DiffId;

let world: MemoryWorld;
let directory: string;
let build: WorldNode;
let laptop: WorldNode;
let store: LayerStore;
let base: ChainId;
let top: ChainId;
let onCommand: (command: readonly string[]) => void;

beforeEach(() => start({ bookmarks: true }));
afterEach(stop);

/** Two nodes, one of which has an image of two layers and mirrors them to the other. */
async function start({ bookmarks }: { readonly bookmarks: boolean }): Promise<void> {
  world = new MemoryWorld();
  directory = await mkdtemp(join(tmpdir(), 'pando-shared-'));
  build = await world.start('build', undefined, { mountRoot: directory, capabilities: { bookmarks } });
  onCommand = () => undefined;
  laptop = await world.start('laptop', undefined, {
    mountRoot: directory,
    onCommand: (command) => onCommand(command),
  });
  await build.zfs.create(dataset('build/images'));
  await build.node.trees.add({ tree: IMAGES, root: dataset('build/images') });
  store = await build.node.layers.init(IMAGES, ROOT);
  base = await addLayer(build, null, 'base');
  top = await addLayer(build, base, 'top');
  const layers = [diffId('base'), diffId('top')];
  await build.node.layers.catalog.tag(store, { name: 'team/web:v1', manifest: null, config: CONFIG, layers });
  await introduce(build, laptop);
  await laptop.node.mirrors.add({
    tree: IMAGES,
    from: build.node.id,
    root: dataset('laptop/images'),
    ...EVERYTHING,
    only: ['storage/**'],
  });
}

async function stop(): Promise<void> {
  await world.stop();
  await rm(directory, { recursive: true, force: true });
}

async function addLayer({ node }: WorldNode, parent: ChainId | null, text: string): Promise<ChainId> {
  const layer = chainIdOf(parent, diffId(text));
  const place = node.layers.stores.require();
  await node.layers.maker.make(place, { layer, parent, diffId: diffId(text) }, async () => undefined);
  await node.layers.maker.idle();
  return layer;
}

async function guidOf({ zfs, pool }: WorldNode, layer: ChainId): Promise<unknown> {
  const [listed] = await zfs.listOnly([dataset(`${pool}/images/${layerName(ROOT, layer)}`)]);
  return listed?.snapshots[0]?.guid;
}

/** A store on the laptop, once the first layers are there. */
async function joined(): Promise<LayerStore> {
  await syncImages(laptop);
  return laptop.node.layers.init(IMAGES, ROOT);
}

/** Has one node make a layer more and an image of it, and the laptop hear of both; gives the layer. */
async function hearOfNext(): Promise<ChainId> {
  const next = await addLayer(build, top, 'next');
  const layers = [diffId('base'), diffId('top'), diffId('next')];
  await build.node.layers.catalog.tag(store, { name: 'team/web:v2', manifest: null, config: CONFIG, layers });
  await laptop.node.mirrors.hear(laptop.node.mirrors.get(IMAGES), { refresh: true });
  return next;
}

describe('A team that shares layers', () => {
  it('sees the images of all, with what of each is here', async () => {
    const place = await joined();
    const next = await hearOfNext();
    const states = () =>
      laptop.node.layers.images(place).map(({ name, chain }) => [name, ...chain.map(({ state }) => state)]);
    expect(states()).toEqual([
      ['team/web:v1', 'here', 'here'],
      ['team/web:v2', 'here', 'here', 'elsewhere'],
    ]);
    await syncImages(laptop);
    expect(states()[1]).toEqual(['team/web:v2', 'here', 'here', 'here']);
    expect(await guidOf(laptop, next)).toBe(await guidOf(build, next));
  });

  it('makes container roots of replicas, which belong to who made them', async () => {
    const place = await joined();
    await laptop.node.layers.createRoot(place, 'web-1', { image: 'team/web:v1' }, signal);
    expect(laptop.node.layers.listRoots(place)).toMatchObject([
      { id: 'web-1', layer: top, image: 'team/web:v1', isOwn: true },
    ]);
    await syncImages(laptop);
    expect(laptop.node.layers.listRoots(place)).toHaveLength(1);
  });

  it('brings a layer that a root needs before it makes the root', async () => {
    const place = await joined();
    await hearOfNext();
    await laptop.node.layers.createRoot(place, 'web-2', { image: 'team/web:v2' }, signal);
    expect(laptop.node.layers.listRoots(place)).toMatchObject([{ id: 'web-2' }]);
  });

  it('makes nothing of a layer whose coming was cancelled, until it is asked again', async () => {
    const place = await joined();
    await hearOfNext();
    const create = (asked: AbortSignal) =>
      laptop.node.layers.createRoot(place, 'web-3', { image: 'team/web:v2' }, asked);
    const cancel = new AbortController();
    onCommand = (command) => {
      if (command.includes('receive')) cancel.abort(new PandoError('TRANSFER_CANCELLED', 'No more.'));
    };
    expect(await codeOf(create(cancel.signal))).toBe('TRANSFER_CANCELLED');
    onCommand = () => undefined;
    expect(laptop.node.layers.listRoots(place)).toEqual([]);
    expect(laptop.warnings).toEqual([]);
    expect(await create(signal)).toContain('web-3');
  });

  it('answers containerd with layers that a peer has, as streams', async () => {
    await joined();
    const next = await addLayer(build, top, 'next');
    await laptop.node.mirrors.hear(laptop.node.mirrors.get(IMAGES), { refresh: true });
    let parent: ChainId | null = null;
    for (const layer of [base, top, next]) {
      const labels = { [SNAPSHOT_REF_LABEL]: layer };
      expect(await codeOf(laptop.node.snapshots.prepare(`extract ${layer}`, parent, labels))).toBe('SNAPSHOT_EXISTS');
      expect(await guidOf(laptop, layer)).toBe(await guidOf(build, layer));
      parent = layer;
    }
    await laptop.node.snapshots.prepare('web', next, {});
    expect((await laptop.node.snapshots.stat('web')).parent).toBe(next);
  });

  it('unpacks what a peer has and cannot bring', async () => {
    await joined();
    const next = await addLayer(build, top, 'next');
    await laptop.node.mirrors.hear(laptop.node.mirrors.get(IMAGES), { refresh: true });
    await build.node.stop();
    for (const [layer, parent] of [
      [base, null],
      [top, base],
    ] as const) {
      await laptop.node.snapshots
        .prepare(`extract ${layer}`, parent, { [SNAPSHOT_REF_LABEL]: layer })
        .catch(() => undefined);
    }
    await laptop.node.snapshots.prepare(`extract ${next}`, top, { [SNAPSHOT_REF_LABEL]: next });
    expect((await laptop.node.snapshots.stat(`extract ${next}`)).kind).toBe('active');
    expect(laptop.warnings.join()).toContain('could not be brought from a peer');
  });

  it('destroys no layer that a peer has a replica of, or that is a replica', async () => {
    const place = await joined();
    await build.node.layers.catalog.untag(store, 'team/web:v1');
    await laptop.node.mirrors.hear(laptop.node.mirrors.get(IMAGES), { refresh: true });
    expect(await laptop.node.layers.collectGarbage(place, { isDryRun: true })).toEqual([]);
    const next = await addLayer(build, top, 'next');
    const unneeded = await build.node.layers.collectGarbage(store, { isDryRun: true });
    expect(unneeded.map(({ layer }) => layer)).toEqual([next]);
  });

  it('lets nobody take the name of an image that another node gave', async () => {
    const place = await joined();
    expect(await codeOf(laptop.node.layers.catalog.untag(place, 'team/web:v1'))).toBe('DATASET_NOT_OWNED');
  });
});

describe('A node whose ZFS has no bookmarks', () => {
  beforeEach(async () => {
    await stop();
    await start({ bookmarks: false });
    await build.node.layers.catalog.untag(store, 'team/web:v1');
  });

  async function garbage(): Promise<readonly ChainId[]> {
    return (await build.node.layers.collectGarbage(store, { isDryRun: true })).map(({ layer }) => layer);
  }

  it('destroys no layer that a peer has received, until that is no peer any more', async () => {
    expect(await garbage()).toEqual([top, base]);
    await syncImages(laptop);
    await expect.poll(garbage).toEqual([]);
    await build.node.peers.remove(laptop.node.id);
    await expect.poll(garbage).toEqual([top, base]);
  });

  it('has layers say themselves which peers have received them, and nothing else', async () => {
    const other = await world.start('other');
    await introduce(build, other);
    await other.node.mirrors.add({ tree: IMAGES, from: build.node.id, root: dataset('other/images'), ...EVERYTHING });
    await Promise.all([syncImages(laptop), syncImages(other)]);
    const ids = [laptop.node.id, other.node.id].sort().join();
    const told = async (name: string): Promise<string | undefined> => {
      const [listed] = await build.zfs.listOnly([dataset(name)]);
      return listed?.properties['pando:received-by']?.split(',').sort().join();
    };
    for (const layer of [base, top]) {
      await expect.poll(() => told(`build/images/${layerName(ROOT, layer)}`)).toBe(ids);
    }
    expect(await told('build/images')).toBeUndefined();
    await build.node.peers.remove(laptop.node.id);
    await expect.poll(() => told(`build/images/${layerName(ROOT, top)}`)).toBe(other.node.id);
  });
});
