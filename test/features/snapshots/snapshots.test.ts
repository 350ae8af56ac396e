import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../../src/core/errors.ts';
import type { SnapshotName } from '../../../src/core/ids.ts';
import { chainIdOf } from '../../../src/core/layers/digest.ts';
import { LABEL_BYTES_MAX, SNAPSHOT_REF_LABEL } from '../../../src/core/snapshots/snapshot.ts';
import type { Snapshots } from '../../../src/features/snapshots/snapshots.ts';
import { codeOf } from '../../main/memory-world.ts';
import { diffId, EXTRACTED, LayerWorld, layer, TREE } from '../layers/layer-world.ts';
import { committed, datasetNamed, datasetOf, expectAgreement, spares } from './snapshot-world.ts';

let world: LayerWorld;
beforeEach(async () => {
  world = await LayerWorld.start();
});
afterEach(() => world.remove());

function snapshots(): Snapshots {
  return world.node.node.snapshots;
}

describe('Preparing a snapshot', () => {
  it('gives mounts, and mounts nothing', async () => {
    const [mount] = await snapshots().prepare('default/1/web', null, {});
    expect(mount).toMatchObject({ type: 'bind', options: ['rbind', 'rw'] });
    expect(await snapshots().mounts('default/1/web')).toEqual([mount]);
  });

  it('of a view gives mounts that are read-only, over what is committed', async () => {
    await committed(world, 'base');
    const mounts = await snapshots().view('looking', 'base', {});
    expect(mounts).toMatchObject([{ type: 'bind', options: ['rbind', 'ro'] }]);
    const [dataset] = await world.node.zfs.listOnly([datasetOf(world, mounts)]);
    expect(dataset?.properties.readonly).toBe('on');
  });

  it('takes keys that are no names of anything', async () => {
    for (const key of ['/var/lib/../x', 'a b@c#d', '-r', 'ключ/\n', 'x'.repeat(4_000)]) {
      await snapshots().prepare(key, null, {});
      expect((await snapshots().stat(key)).key).toBe(key);
    }
  });

  it('is refused for a key that is taken, and a parent that there is not or that is not committed', async () => {
    await snapshots().prepare('a', null, {});
    expect(await codeOf(snapshots().prepare('a', null, {}))).toBe('SNAPSHOT_EXISTS');
    expect(await codeOf(snapshots().view('b', 'nobody', {}))).toBe('SNAPSHOT_UNKNOWN');
    expect(await codeOf(snapshots().prepare('b', 'a', {}))).toBe('ARGUMENT_INVALID');
    expect((await snapshots().list()).map(({ key }) => key)).toEqual(['a']);
  });

  it('of one key twice at once makes one', async () => {
    const results = await Promise.allSettled([1, 2, 3].map(() => snapshots().prepare('a', null, {})));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect((await world.names()).filter((name) => name.startsWith('runtime/'))).toHaveLength(1);
  });

  it('lists no datasets on the way', async () => {
    await committed(world, 'base');
    await snapshots().prepare('first', 'base', {});
    const before = world.node.zfs.commandCount;
    await snapshots().prepare('second', 'base', {});
    // The clone, and in memory, where nothing is a mountpoint, its mount
    expect(world.node.zfs.commandCount - before).toBe(2);
  });
});

describe('Committing a snapshot', () => {
  it('gives it another name and its own labels, and lets others be over it', async () => {
    await snapshots().prepare('work', null, { before: '1' });
    await snapshots().commit('base', 'work', { after: '2' });
    expect(await snapshots().stat('base')).toMatchObject({ kind: 'committed', parent: null, labels: { after: '2' } });
    expect(await codeOf(snapshots().stat('work'))).toBe('SNAPSHOT_UNKNOWN');
    await snapshots().prepare('work', 'base', {});
    expect(await snapshots().stat('work')).toMatchObject({ kind: 'active', parent: 'base' });
  });

  it('is refused for what is not active, what there is not, and a name that is taken', async () => {
    await committed(world, 'base');
    await snapshots().view('view', 'base', {});
    await snapshots().prepare('work', 'base', {});
    expect(await codeOf(snapshots().commit('x', 'view', {}))).toBe('SNAPSHOT_STATE');
    expect(await codeOf(snapshots().commit('x', 'base', {}))).toBe('SNAPSHOT_STATE');
    expect(await codeOf(snapshots().commit('x', 'nobody', {}))).toBe('SNAPSHOT_UNKNOWN');
    expect(await codeOf(snapshots().commit('base', 'work', {}))).toBe('SNAPSHOT_EXISTS');
    expect(await codeOf(snapshots().mounts('base'))).toBe('SNAPSHOT_STATE');
  });

  it('by a ChainID makes a layer, where peers find it', async () => {
    const chain = chainIdOf(null, diffId('base'));
    await snapshots().prepare(`default/1/extract-1 ${chain}`, null, {});
    await snapshots().commit(`default/2/${chain}`, `default/1/extract-1 ${chain}`, {});
    expect(await world.snapshotsOf(layer(chain))).toEqual([EXTRACTED]);
    await expect.poll(() => world.layers.stores.has(world.store, chain)).toBe(true);
  });

  it('by a ChainID that its key did not tell moves it there', async () => {
    const chain = chainIdOf(null, diffId('base'));
    await snapshots().prepare('work', null, {});
    await snapshots().commit(`default/2/${chain}`, 'work', {});
    expect(await world.snapshotsOf(layer(chain))).toEqual([EXTRACTED]);
  });

  it('by another name than its key told leaves no layer of that', async () => {
    const chain = chainIdOf(null, diffId('base'));
    await snapshots().prepare(`extract-1 ${chain}`, null, {});
    await snapshots().commit('something else', `extract-1 ${chain}`, {});
    expect(await world.originOf(layer(chain))).toBeUndefined();
    await snapshots().prepare('over it', 'something else', {});
  });

  it('of a layer that is here keeps that one, and what was unpacked again goes', async () => {
    const base = await world.addLayer(null, diffId('base'));
    const mounts = await snapshots().prepare(`default/1/extract-1 ${base}`, null, {});
    await snapshots().commit(`default/2/${base}`, `default/1/extract-1 ${base}`, {});
    expect(await world.node.zfs.listOnly([datasetOf(world, mounts)])).toEqual([]);
    const over = await snapshots().prepare('over', `default/2/${base}`, {});
    const [dataset] = await world.node.zfs.listOnly([datasetOf(world, over)]);
    expect(dataset?.origin?.reference.dataset).toBe(`tank/images/${layer(base)}`);
  });
});

describe('A layer that is here already', () => {
  it('is committed under its name when it is asked for, which tells that there is nothing to unpack', async () => {
    const base = await world.addLayer(null, diffId('base'));
    const top = await world.addLayer(base, diffId('top'));
    const ask = (chain: string, parent: string | null) =>
      codeOf(snapshots().prepare(`extract ${chain}`, parent, { [SNAPSHOT_REF_LABEL]: chain, other: '1' }));
    expect(await ask(base, null)).toBe('SNAPSHOT_EXISTS');
    expect(await ask(top, base)).toBe('SNAPSHOT_EXISTS');
    expect(await snapshots().stat(top)).toMatchObject({
      kind: 'committed',
      parent: base,
      labels: { [SNAPSHOT_REF_LABEL]: top, other: '1' },
    });
    expect((await snapshots().list()).map(({ key }) => key).sort()).toEqual([base, top].sort());
  });

  it('is not what is asked for over another parent', async () => {
    const base = await world.addLayer(null, diffId('base'));
    const top = await world.addLayer(base, diffId('top'));
    await committed(world, 'other');
    await snapshots().prepare('extract', 'other', { [SNAPSHOT_REF_LABEL]: top });
    expect((await snapshots().stat('extract')).kind).toBe('active');
  });

  it('and that containerd unpacked goes with the garbage once its snapshot is removed', async () => {
    const chain = chainIdOf(null, diffId('base'));
    await snapshots().prepare(`extract ${chain}`, null, {});
    await snapshots().commit(`ns/${chain}`, `extract ${chain}`, {});
    await expect.poll(() => world.layers.stores.has(world.store, chain)).toBe(true);
    await snapshots().cleanup();
    expect(await world.originOf(layer(chain))).toBe(layer(null));
    await snapshots().remove(`ns/${chain}`);
    expect(await world.originOf(layer(chain))).toBe(layer(null));
    await snapshots().cleanup();
    expect(await world.originOf(layer(chain))).toBeUndefined();
  });

  it('and that people had unpacked stays, whatever containerd does', async () => {
    const base = await world.addLayer(null, diffId('base'));
    const ask = snapshots().prepare('extract', null, { [SNAPSHOT_REF_LABEL]: base });
    expect(await codeOf(ask)).toBe('SNAPSHOT_EXISTS');
    await snapshots().remove(base);
    await snapshots().cleanup();
    expect(await world.originOf(layer(base))).toBe(layer(null));
  });

  it('is there for each parent that it is asked for over, under a key of its own', async () => {
    const base = await world.addLayer(null, diffId('base'));
    const top = await world.addLayer(base, diffId('top'));
    for (const key of ['one', 'two']) {
      await snapshots().prepare(`extract ${key}`, null, {});
      await snapshots().commit(`${key}/${base}`, `extract ${key}`, {});
      const ask = snapshots().prepare('extract', `${key}/${base}`, { [SNAPSHOT_REF_LABEL]: top });
      expect(await codeOf(ask)).toBe('SNAPSHOT_EXISTS');
    }
    const over = (await snapshots().list()).filter(({ labels }) => labels[SNAPSHOT_REF_LABEL] === top);
    expect(over.map(({ parent }) => parent).sort()).toEqual([`one/${base}`, `two/${base}`]);
  });

  it('is being made by two at once, and by whoever commits it first', async () => {
    const chain = chainIdOf(null, diffId('base'));
    await snapshots().prepare(`a ${chain}`, null, {});
    await snapshots().prepare(`b ${chain}`, null, {});
    await snapshots().commit(`one/${chain}`, `b ${chain}`, {});
    await snapshots().commit(`two/${chain}`, `a ${chain}`, {});
    await snapshots().prepare('over one', `one/${chain}`, {});
    await snapshots().prepare('over two', `two/${chain}`, {});
  });
});

describe('Removing a snapshot', () => {
  it('is refused while others are over it, which are named', async () => {
    await committed(world, 'base');
    await snapshots().prepare('work', 'base', {});
    await snapshots().view('view', 'base', {});
    await expect(snapshots().remove('base')).rejects.toMatchObject({
      code: 'SNAPSHOT_STATE',
      message: expect.stringMatching(/remove .*work.*view|remove .*view.*work/),
    });
  });

  it('destroys its dataset, with the snapshots that others took of it', async () => {
    const dataset = datasetOf(world, await snapshots().prepare('work', null, {}));
    await world.node.zfs.snapshot([{ dataset, snapshot: 'autosnap_hourly' as SnapshotName }]);
    await snapshots().remove('work');
    expect(await world.node.zfs.listOnly([dataset])).toEqual([]);
    expect(await codeOf(snapshots().remove('work'))).toBe('SNAPSHOT_UNKNOWN');
  });

  it('forgets what somebody has destroyed with zfs', async () => {
    const dataset = datasetOf(world, await snapshots().prepare('work', null, {}));
    await world.node.zfs.destroy(dataset);
    await snapshots().remove('work');
    expect(await snapshots().list()).toEqual([]);
  });
});

describe('Labels', () => {
  it('are replaced, set or taken away as the field mask says', async () => {
    await snapshots().prepare('work', null, { a: '1', b: '2' });
    expect((await snapshots().update('work', { c: '3' }, ['labels.c'])).labels).toEqual({ a: '1', b: '2', c: '3' });
    expect((await snapshots().update('work', {}, ['labels.a'])).labels).toEqual({ b: '2', c: '3' });
    expect((await snapshots().update('work', { d: '4' }, ['labels'])).labels).toEqual({ d: '4' });
    const updated = await snapshots().update('work', {}, []);
    expect(updated.labels).toEqual({});
    expect(updated.updatedAt).toBeGreaterThanOrEqual(updated.createdAt);
  });

  it('are all that can change', async () => {
    await snapshots().prepare('work', null, {});
    expect(await codeOf(snapshots().update('work', {}, ['parent']))).toBe('ARGUMENT_INVALID');
    expect(await codeOf(snapshots().update('nobody', {}, []))).toBe('SNAPSHOT_UNKNOWN');
  });

  it('are no longer than containerd lets them be', async () => {
    const label = (bytes: number) => ({ name: 'x'.repeat(bytes - 'name'.length) });
    await snapshots().prepare('fits', null, label(LABEL_BYTES_MAX));
    expect(await codeOf(snapshots().prepare('long', null, label(LABEL_BYTES_MAX + 1)))).toBe('ARGUMENT_INVALID');
    expect(await codeOf(snapshots().update('fits', label(LABEL_BYTES_MAX + 1), []))).toBe('ARGUMENT_INVALID');
  });
});

describe('Container roots', () => {
  it('are none of what containerd has made', async () => {
    await snapshots().prepare('work', null, {});
    await committed(world, 'base');
    await expect.poll(() => world.layers.listRoots(world.store)).toEqual([]);
  });

  it('a tree that is removed a moment after a snapshot was made harms nobody', async () => {
    await snapshots().prepare('work', null, {});
    await world.node.node.trees.remove(TREE);
    await world.node.node.stop();
  });
});

describe('After a start', () => {
  it('snapshots are as they were', async () => {
    await committed(world, 'base');
    await snapshots().prepare('work', 'base', { a: '1' });
    const before = await snapshots().list();
    await world.restart();
    expect(await snapshots().list()).toEqual(before);
    expect(await snapshots().mounts('work')).toMatchObject([{ type: 'bind' }]);
  });

  it('a dataset without metadata says itself what it was made for', async () => {
    await committed(world, 'base');
    const dataset = datasetOf(world, await snapshots().prepare('work', 'base', { a: '1' }));
    await snapshots().remove('work');
    const base = { dataset: await datasetNamed(world, 'base'), snapshot: EXTRACTED };
    await world.node.zfs.clone(base, dataset, {
      'pando:snapshot': `active:${Buffer.from('work').toString('base64url')}`,
    });
    await world.restart();
    expect(await snapshots().stat('work')).toMatchObject({ kind: 'active', parent: 'base', labels: {} });
    expect(world.node.warnings.join()).toContain('"work"');
  });

  it('what cannot be put right is told, and keeps nothing else from it', async () => {
    await committed(world, 'stuck');
    const stuck = { dataset: await datasetNamed(world, 'stuck'), snapshot: EXTRACTED };
    await snapshots().prepare('vanished', null, {});
    await world.node.zfs.destroySnapshot(stuck);
    await world.node.zfs.destroy(datasetOf(world, await snapshots().mounts('vanished')));
    world.beforeChange = (command) => {
      if (command.startsWith('snapshot')) throw new PandoError('ZFS_BUSY', 'It is in use.');
    };
    await world.restart();
    expect(world.node.warnings.join()).toContain(stuck.dataset.slice('tank/images/'.length));
    expect((await snapshots().list()).map(({ key }) => key)).toEqual(['stuck']);
    world.beforeChange = () => undefined;
    await world.restart();
    expect((await world.node.zfs.listOnly([stuck.dataset]))[0]?.snapshots).toHaveLength(1);
  });

  it('metadata without a dataset is forgotten, and told', async () => {
    const dataset = datasetOf(world, await snapshots().prepare('work', null, {}));
    await world.node.zfs.destroy(dataset);
    await world.restart();
    expect(await snapshots().list()).toEqual([]);
    expect(world.node.warnings.join()).toContain('"work"');
  });

  it('both agree, wherever a sequence of calls was cut short', async () => {
    for (let changes = 0; ; changes += 1) {
      world.killAfter(changes);
      const chain = chainIdOf(null, diffId(`layer ${changes}`));
      const calls = async (): Promise<void> => {
        await snapshots().prepare(`extract ${chain}`, null, {});
        await snapshots().commit(`ns/${chain}`, `extract ${chain}`, {});
        for (const use of [1, 2]) await snapshots().prepare(`use ${use} of ${changes}`, `ns/${chain}`, {});
        await expect.poll(async () => world.isDead || (await spares(world)).length > 0).toBe(true);
        await snapshots().prepare(`work ${changes}`, `ns/${chain}`, {});
        await snapshots().commit(`base ${changes}`, `work ${changes}`, {});
        await snapshots().view(`view ${changes}`, `base ${changes}`, {});
        await snapshots().remove(`view ${changes}`);
      };
      await calls().catch(() => undefined);
      const { isDead } = world;
      await world.restart();
      await expectAgreement(world);
      if (!isDead) return;
    }
  });
});
