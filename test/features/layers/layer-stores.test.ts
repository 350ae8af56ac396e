import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DatasetName, RelativeName, TreeName } from '../../../src/core/ids.ts';
import { chainIdOf } from '../../../src/core/layers/digest.ts';
import { codeOf } from '../../main/memory-world.ts';
import { diffId, EXTRACTED, LayerWorld, layer, TREE } from './layer-world.ts';

let world: LayerWorld;
beforeEach(async () => {
  world = await LayerWorld.start();
});
afterEach(() => world.remove());

describe('A layer store', () => {
  it('has an empty base and a place for container roots', async () => {
    expect(await world.names()).toEqual(['runtime', 'storage', 'storage/empty']);
    expect(await world.snapshotsOf(layer(null))).toEqual([EXTRACTED]);
  });

  it('is made once: again, nothing changes', async () => {
    await world.layers.init(TREE, '' as RelativeName);
    expect(world.changes).toEqual([]);
  });

  it('is finished by the next attempt where the first one was cut short', async () => {
    for (let changes = 0; ; changes += 1) {
      const other = `tank/other${changes}` as DatasetName;
      const tree = `other${changes}` as TreeName;
      await world.node.zfs.create(other);
      await world.node.node.trees.add({ tree, root: other });
      world.killAfter(changes);
      const wasCut = await world.layers.init(tree, '' as RelativeName).then(
        () => false,
        () => true,
      );
      await world.restart();
      const store = await world.layers.init(tree, '' as RelativeName);
      expect(world.layers.stores.has(store, null)).toBe(true);
      if (!wasCut) return;
    }
  });

  it('is refused where something else is in the way, which is named and stays', async () => {
    const zfs = world.node.zfs;
    await zfs.create('tank/taken' as DatasetName);
    await zfs.create('tank/taken/storage' as DatasetName);
    await world.node.node.trees.add({ tree: 'taken' as TreeName, root: 'tank/taken' as DatasetName });
    const refused = world.layers.init('taken' as TreeName, '' as RelativeName);
    await expect(refused).rejects.toMatchObject({
      code: 'ZFS_DATASET_EXISTS',
      message: expect.stringContaining('tank/taken/storage'),
    });
  });

  it('has one place in a tree', async () => {
    await world.node.zfs.create('tank/images/elsewhere' as DatasetName);
    const refused = world.layers.init(TREE, 'elsewhere' as RelativeName);
    expect(await codeOf(refused)).toBe('ARGUMENT_INVALID');
  });

  it('is known again after a start, and not any more once its tree is removed', async () => {
    await world.restart();
    expect(world.layers.stores.require()).toMatchObject({ tree: TREE, base: '' });
    await world.node.node.trees.remove(TREE);
    expect(() => world.layers.stores.require()).toThrow(expect.objectContaining({ code: 'LAYER_STORE_UNKNOWN' }));
  });
});

describe('A layer', () => {
  it('is a clone of the one below, and the same layer over another parent is another dataset', async () => {
    const base = await world.addLayer(null, diffId('base'));
    const other = await world.addLayer(null, diffId('other'));
    const top = await world.addLayer(base, diffId('top'));
    const topOfOther = await world.addLayer(other, diffId('top'));
    expect(await world.originOf(layer(base))).toBe(layer(null));
    expect(await world.originOf(layer(top))).toBe(layer(base));
    expect(await world.originOf(layer(topOfOther))).toBe(layer(other));
    expect(topOfOther).not.toBe(top);
  });

  it('that is here is not touched', async () => {
    await world.addLayer(null, diffId('base'));
    world.changes.length = 0;
    await world.addLayer(null, diffId('base'));
    expect(world.changes).toEqual([]);
  });

  it('is made once for two who want it at once', async () => {
    const plan = { layer: chainIdOf(null, diffId('base')), parent: null, diffId: diffId('base') };
    const made = await Promise.all(
      [1, 2, 3].map(() => world.layers.maker.make(world.store, plan, async () => undefined)),
    );
    expect(made.filter(Boolean)).toHaveLength(1);
  });

  it('is made by the second where the first one fails', async () => {
    const plan = { layer: chainIdOf(null, diffId('base')), parent: null, diffId: diffId('base') };
    const failing = world.layers.maker.make(world.store, plan, () => Promise.reject(new Error('damaged')));
    const second = world.layers.maker.make(world.store, plan, async () => undefined);
    await expect(failing).rejects.toThrow('damaged');
    expect(await second).toBe(true);
  });

  it('leaves nothing behind where it cannot be filled', async () => {
    const before = await world.names();
    const plan = { layer: chainIdOf(null, diffId('base')), parent: null, diffId: diffId('base') };
    await expect(
      world.layers.maker.make(world.store, plan, () => Promise.reject(new Error('damaged'))),
    ).rejects.toThrow('damaged');
    expect(await world.names()).toEqual(before);
  });

  it('is one or is not, wherever its making is cut short', async () => {
    for (let changes = 0; ; changes += 1) {
      const name = `layer ${changes}`;
      world.killAfter(changes);
      const made = chainIdOf(null, diffId(name));
      await world.addLayer(null, diffId(name)).catch(() => undefined);
      const { isDead } = world;
      await world.restart();
      const isHere = world.layers.stores.has(world.store, made);
      expect((await world.names()).includes(layer(made))).toBe(isHere);
      expect((await world.snapshotsOf(layer(made))).includes(EXTRACTED)).toBe(isHere);
      if (!isDead) return;
    }
  });

  it('is nothing that peers hear of before it is one', async () => {
    const plan = { layer: chainIdOf(null, diffId('base')), parent: null, diffId: diffId('base') };
    await world.layers.maker.make(world.store, plan, async () => {
      await world.node.zfs.snapshot([{ dataset: 'tank/images' as DatasetName, snapshot: EXTRACTED }]);
      await world.node.node.trees.snapshot(
        { tree: TREE, name: '' as RelativeName, snapshot: 'seen' as typeof EXTRACTED },
        { recursive: true },
      );
      const seen = world.node.node.trees.graph(TREE);
      expect(seen.named('' as RelativeName)?.snapshots).toHaveLength(2);
      expect(seen.named(layer(plan.layer))).toBeUndefined();
    });
    expect(world.node.node.trees.graph(TREE).named(layer(plan.layer))).toBeDefined();
  });
});
