import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DatasetName } from '../../../src/core/ids.ts';
import { chainOf } from '../../../src/core/layers/digest.ts';
import { codeOf } from '../../main/memory-world.ts';
import { diffId, EXTRACTED, LayerWorld, layer, root, TREE } from './layer-world.ts';

const ROOT = 'tank/images/runtime/web' as DatasetName;
const { signal } = new AbortController();

let world: LayerWorld;
beforeEach(async () => {
  world = await LayerWorld.start();
});
afterEach(() => world.remove());

function commit(id: string, as: string, freeze = false) {
  return world.layers.commit(world.store, id, as, { freeze, signal });
}

/** A layer, and a root that is a clone of it. */
async function rootOverLayer() {
  const base = await world.addLayer(null, diffId('base'));
  await world.layers.createRoot(world.store, 'web', { layer: base }, signal);
  return base;
}

describe('A container root', () => {
  it('is a clone of a layer, which may be the empty base', async () => {
    const base = await rootOverLayer();
    expect(await world.originOf(root('web'))).toBe(layer(base));
    expect(world.layers.listRoots(world.store)).toMatchObject([{ id: 'web', layer: base, image: null, isOwn: true }]);
  });

  it('is refused by an id that is taken or none, and over a layer that is not here', async () => {
    const base = await rootOverLayer();
    const create = (id: string, of = base) => codeOf(world.layers.createRoot(world.store, id, { layer: of }, signal));
    expect(await create('web')).toBe('ROOT_EXISTS');
    expect(await create('../web')).toBe('NAME_INVALID');
    expect(await create('other', diffId('nowhere') as string as typeof base)).toBe('LAYER_UNKNOWN');
    expect(await codeOf(world.layers.createRoot(world.store, 'other', { image: 'web:v1' }, signal))).toBe(
      'IMAGE_UNKNOWN',
    );
  });

  it('is gone once it is removed', async () => {
    await rootOverLayer();
    await world.layers.roots.remove(world.store, 'web');
    expect(await world.originOf(root('web'))).toBeUndefined();
    expect(await codeOf(world.layers.roots.remove(world.store, 'web'))).toBe('ROOT_UNKNOWN');
  });
});

describe('A commit', () => {
  it('puts the new layer between the layer below and the root', async () => {
    const base = await rootOverLayer();
    const committed = await commit('web', 'team/web:v1');
    expect(await world.originOf(layer(committed.layer))).toBe(layer(base));
    expect(await world.originOf(root('web'))).toBe(layer(committed.layer));
    expect(await world.snapshotsOf(layer(committed.layer))).toEqual([EXTRACTED]);
    expect(await world.snapshotsOf(root('web'))).toEqual([]);
    expect(world.layers.images(world.store)).toMatchObject([
      {
        name: 'team/web:v1',
        manifest: null,
        layers: [diffId('base'), committed.diffId],
        chain: [{ state: 'here' }, { state: 'here' }],
      },
    ]);
  });

  it('knows the layers below by any image that has them', async () => {
    const base = await rootOverLayer();
    const config =
      '{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"User":"web"}}';
    await world.layers.catalog.tag(world.store, { name: 'base', manifest: null, config, layers: [diffId('base')] });
    await world.layers.createRoot(world.store, 'other', { image: 'base' }, signal);
    expect(base).toBe(chainOf([diffId('base')])[0]);
    await commit('other', 'other');
    const image = world.layers.catalog.require(world.store, 'other');
    expect(JSON.parse(image.config)).toMatchObject({ architecture: 'arm64', config: { User: 'web' } });
  });

  it('is refused where somebody has taken a snapshot of the name that it needs, which stays', async () => {
    await rootOverLayer();
    await world.node.zfs.snapshot([{ dataset: ROOT, snapshot: EXTRACTED }]);
    expect(await codeOf(commit('web', 'team/web:v1'))).toBe('ZFS_DATASET_EXISTS');
    expect(await world.snapshotsOf(root('web'))).toEqual([EXTRACTED]);
  });

  it('is refused for a name that is none, and a root that there is not', async () => {
    await rootOverLayer();
    expect(await codeOf(Promise.resolve().then(() => commit('web', 'Team/Web')))).toBe('NAME_INVALID');
    expect(await codeOf(commit('nobody', 'web'))).toBe('ROOT_UNKNOWN');
  });

  it('one after the other of one root gives a layer each', async () => {
    await rootOverLayer();
    const committed = await Promise.allSettled([commit('web', 'one'), commit('web', 'two')]);
    expect(committed.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
    expect(world.layers.images(world.store).map(({ name, chain }) => [name, chain.length])).toEqual([
      ['one', 2],
      ['two', 3],
    ]);
  });

  it('keeps its hands off what somebody else is making of the same layer', async () => {
    const base = await rootOverLayer();
    const made = chainOf([diffId('base'), diffId('nobody')])[1];
    expect(made).toBeDefined();
    const first = await commit('web', 'one');
    await world.layers.roots.remove(world.store, 'web');
    await world.layers.catalog.untag(world.store, 'one');
    await world.layers.collectGarbage(world.store, { isDryRun: false });
    // The same layer, half made by somebody else over the parent
    const { dataset } = world.layers.stores.snapshotOf(world.store, first.layer);
    if (!world.layers.stores.has(world.store, base)) await world.addLayer(null, diffId('base'));
    await world.node.zfs.clone(world.layers.stores.snapshotOf(world.store, base), dataset, {
      'pando:layer': first.layer,
    });
    await world.layers.createRoot(world.store, 'web', { layer: base }, signal);
    await commit('web', 'one').catch(() => undefined);
    expect(await world.snapshotsOf(layer(base))).toEqual([EXTRACTED]);
    expect(await world.snapshotsOf(root('web'))).toEqual([]);
  });

  it('is refused before it begins where the image could not be named', async () => {
    await rootOverLayer();
    const config = JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [] },
      note: 'x'.repeat(130_900),
    });
    await world.layers.catalog.tag(world.store, { name: 'base', manifest: null, config, layers: [diffId('base')] });
    expect(await codeOf(commit('web', 'web'))).toBe('IMAGE_INVALID');
    expect(await world.snapshotsOf(root('web'))).toEqual([]);
    await world.layers.roots.remove(world.store, 'web');
  });

  it('is completed or undone by the next start, wherever it is cut short', async () => {
    for (let changes = 0; ; changes += 1) {
      const id = `web-${changes}`;
      const image = `team/web:v${changes}`;
      const base = await world.addLayer(null, diffId(id));
      await world.layers.createRoot(world.store, id, { layer: base }, signal);
      world.killAfter(changes);
      await commit(id, image).catch(() => undefined);
      const { isDead } = world;
      await world.restart();
      const committed = world.layers.images(world.store).find(({ name }) => name === image);
      const origin = await world.originOf(root(id));
      expect(origin).toBe(committed === undefined ? layer(base) : layer(chainOf(committed.layers)[1] ?? null));
      expect(committed?.chain.every(({ state }) => state === 'here') ?? true).toBe(true);
      expect(await world.snapshotsOf(root(id))).toEqual([]);
      expect((await world.names()).filter((name) => name.startsWith('.pando/reading/'))).toEqual([]);
      // What is undone can be done again
      if (committed === undefined) expect((await commit(id, image)).isReused).toBe(false);
      if (!isDead) return;
    }
  });
});

describe('Garbage', () => {
  it('is no layer that something under way counts on', async () => {
    const base = await world.addLayer(null, diffId('base'));
    await world.layers.keeping(base, async () => {
      expect(await world.layers.collectGarbage(world.store, { isDryRun: false })).toEqual([]);
    });
    expect(await world.layers.collectGarbage(world.store, { isDryRun: false })).toHaveLength(1);
  });

  it('goes although some of it is kept from going', async () => {
    const kept = await world.addLayer(null, diffId('kept'));
    const other = await world.addLayer(null, diffId('other'));
    const elsewhere = 'tank/elsewhere' as DatasetName;
    await world.node.zfs.clone(world.layers.stores.snapshotOf(world.store, kept), elsewhere);
    const gone = await world.layers.collectGarbage(world.store, { isDryRun: false });
    expect(gone.map((unneeded) => unneeded.layer)).toEqual([other]);
    expect(world.layers.stores.has(world.store, kept)).toBe(true);
  });

  it('is each layer that no image has, and that nothing but garbage is a clone of', async () => {
    const base = await world.addLayer(null, diffId('base'));
    const kept = await world.addLayer(base, diffId('kept'));
    const one = await world.addLayer(kept, diffId('one'));
    const two = await world.addLayer(one, diffId('two'));
    const config = '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}';
    const layers = [diffId('base'), diffId('kept')];
    await world.layers.catalog.tag(world.store, { name: 'kept', manifest: null, config, layers });
    const found = await world.layers.collectGarbage(world.store, { isDryRun: true });
    expect(found.map((unneeded) => unneeded.layer)).toEqual([two, one]);
    expect(await world.originOf(layer(two))).toBe(layer(one));
    await world.layers.collectGarbage(world.store, { isDryRun: false });
    expect(await world.names()).toEqual(expect.not.arrayContaining([layer(one), layer(two)]));
    expect(world.layers.stores.has(world.store, kept)).toBe(true);
  });

  it('is nothing that a container root is a clone of, or that somebody holds', async () => {
    const cloned = await rootOverLayer();
    const held = await world.addLayer(null, diffId('held'));
    await world.node.zfs.hold('backup' as never, [world.layers.stores.snapshotOf(world.store, held)]);
    await world.node.node.observer.start();
    expect(await world.layers.collectGarbage(world.store, { isDryRun: true })).toEqual([]);
    await world.layers.roots.remove(world.store, 'web');
    const found = await world.layers.collectGarbage(world.store, { isDryRun: true });
    expect(found.map((unneeded) => unneeded.layer)).toEqual([cloned]);
  });

  it('is what an image had once its name is gone', async () => {
    const base = await world.addLayer(null, diffId('base'));
    const config = '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}';
    await world.layers.catalog.tag(world.store, { name: 'web', manifest: null, config, layers: [diffId('base')] });
    expect(await world.layers.collectGarbage(world.store, { isDryRun: false })).toEqual([]);
    await world.layers.catalog.untag(world.store, 'web');
    expect(await codeOf(world.layers.catalog.untag(world.store, 'web'))).toBe('IMAGE_UNKNOWN');
    expect(await world.layers.collectGarbage(world.store, { isDryRun: false })).toMatchObject([{ layer: base }]);
    expect(world.node.node.trees.graph(TREE).named(layer(base))).toBeUndefined();
  });
});
