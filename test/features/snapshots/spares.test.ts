import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PandoError } from '../../../src/core/errors.ts';
import type { DatasetName, HoldTag, SnapshotName } from '../../../src/core/ids.ts';
import { chainIdOf } from '../../../src/core/layers/digest.ts';
import type { Snapshots } from '../../../src/features/snapshots/snapshots.ts';
import { codeOf } from '../../main/memory-world.ts';
import { diffId, EXTRACTED, LayerWorld, layer } from '../layers/layer-world.ts';
import { committed, datasetNamed, datasetOf, expectAgreement, markOf, spares } from './snapshot-world.ts';

let world: LayerWorld;
beforeEach(async () => {
  world = await LayerWorld.start();
});
afterEach(() => world.remove());

function snapshots(): Snapshots {
  return world.node.node.snapshots;
}

/** Prepares over a parent until there is one over it, which is given. */
async function spareOver(parent: string): Promise<DatasetName> {
  for (const which of ['first', 'second']) await snapshots().prepare(`${which} over ${parent}`, parent, {});
  await expect.poll(async () => (await spares(world)).length).toBe(1);
  return (await spares(world))[0] as DatasetName;
}

/** Prepares until a clone is being made in advance, has `meanwhile` happen before it is there, and gives its name. */
async function beginSpare(parent: string, meanwhile: () => Promise<void>): Promise<DatasetName> {
  const beginning = `clone ${await datasetNamed(world, parent)}@`;
  let clones = 0;
  const name = new Promise<DatasetName>((resolve) => {
    world.beforeChange = (command) => {
      clones += command.startsWith(beginning) ? 1 : 0;
      if (clones !== 3 || !command.startsWith(beginning)) return undefined;
      resolve(command.split(' ').at(-1) as DatasetName);
      return meanwhile();
    };
  });
  for (const which of ['first', 'second']) await snapshots().prepare(`${which} over ${parent}`, parent, {});
  return name;
}

interface Deferred {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

function deferred(): Deferred {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

describe('A clone made in advance', () => {
  it('is there once two have been prepared over the same, and is what the third gets', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    world.changes.length = 0;
    expect(datasetOf(world, await snapshots().prepare('third', 'base', {}))).toBe(spare);
    await expect.poll(() => markOf(world, spare)).toBe(`active:${Buffer.from('third').toString('base64url')}`);
    await expect.poll(async () => (await spares(world)).length).toBe(1);
    expect(await spares(world)).not.toContain(spare);
  });

  it('is like any other once it is somebody’s, also for the next start', async () => {
    await committed(world, 'base');
    await spareOver('base');
    const mounts = await snapshots().prepare('third', 'base', { a: '1' });
    const [dataset] = await world.node.zfs.listOnly([datasetOf(world, mounts)]);
    expect(dataset?.properties).toMatchObject({
      readonly: 'off',
      exec: 'on',
      devices: 'off',
    });
    await world.restart();
    expect(await snapshots().stat('third')).toMatchObject({ kind: 'active', parent: 'base', labels: { a: '1' } });
    await snapshots().commit('image', 'third', {});
    await expectAgreement(world);
  });

  it('is handed out once, however many ask at the same time', async () => {
    await committed(world, 'base');
    await spareOver('base');
    const keys = ['a', 'b', 'c', 'd'];
    const all = await Promise.all(keys.map((key) => snapshots().prepare(key, 'base', {})));
    expect(new Set(all.map((mounts) => datasetOf(world, mounts))).size).toBe(keys.length);
  });

  it('is waited for by one who comes while it is being made, and by no other', async () => {
    await committed(world, 'base');
    const slow = deferred();
    const spare = await beginSpare('base', () => slow.promise);
    const third = snapshots().prepare('third', 'base', {});
    const others: DatasetName[] = [];
    // Nor for one that would be made behind it
    for (const key of ['fourth', 'fifth']) others.push(datasetOf(world, await snapshots().prepare(key, 'base', {})));
    expect(await spares(world)).toEqual([]);
    slow.resolve();
    expect(datasetOf(world, await third)).toBe(spare);
    expect(others).not.toContain(spare);
  });

  it('is not waited for where it cannot be made', async () => {
    await committed(world, 'base');
    const slow = deferred();
    const spare = await beginSpare('base', async () => {
      await slow.promise;
      throw new PandoError('ZFS_BUSY', 'It does not want to.');
    });
    const third = snapshots().prepare('third', 'base', {});
    slow.resolve();
    expect(datasetOf(world, await third)).not.toBe(spare);
    expect(await world.node.zfs.listOnly([spare])).toEqual([]);
  });

  it('is made for containers alone: not for views, not for what will be a layer, not for what is used once', async () => {
    await committed(world, 'base');
    for (const key of ['a', 'b', 'c']) await snapshots().view(key, 'base', {});
    for (const key of ['d', 'e']) {
      await snapshots().prepare(`${key} ${chainIdOf(null, diffId(key))}`, 'base', {});
    }
    await snapshots().prepare('once', 'base', {});
    await world.restart();
    expect(world.changes.join()).not.toContain('pando:snapshot=spare');
  });

  it('goes with the last that is over its parent, whatever snapshots others took of it', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    await world.node.zfs.snapshot([{ dataset: spare, snapshot: 'autosnap_hourly' as SnapshotName }]);
    await snapshots().remove('first over base');
    expect(await spares(world)).toEqual([spare]);
    await snapshots().remove('second over base');
    expect(await spares(world)).toEqual([]);
    await snapshots().prepare('third', 'base', {});
    await snapshots().remove('third');
    await snapshots().remove('base');
    expect((await world.names()).filter((name) => name.startsWith('runtime/'))).toEqual([]);
    expect(world.node.warnings).toEqual([]);
  });

  it('is not in the way of who removes what it is over at the same time', async () => {
    await committed(world, 'base');
    for (const key of ['a', 'b', 'c']) await snapshots().prepare(key, 'base', {});
    await Promise.all(['a', 'b', 'c'].map((key) => snapshots().remove(key)));
    await snapshots().remove('base');
    expect((await world.names()).filter((name) => name.startsWith('runtime/'))).toEqual([]);
  });

  it('goes when the node stops, and at the start where the node was killed', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    const base = { dataset: await datasetNamed(world, 'base'), snapshot: EXTRACTED };
    await world.node.node.stop();
    expect(await spares(world)).toEqual([]);
    await world.node.zfs.clone(base, spare, { 'pando:snapshot': 'spare' });
    await world.restart();
    expect(await spares(world)).toEqual([]);
    await expectAgreement(world);
  });

  it('is known to whom it was given where the node was killed before its mark said so', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    world.killAfter(0);
    expect(datasetOf(world, await snapshots().prepare('third', 'base', {}))).toBe(spare);
    await expect.poll(() => world.isDead).toBe(true);
    await world.restart();
    expect(await snapshots().stat('third')).toMatchObject({ kind: 'active', parent: 'base' });
    expect(await markOf(world, spare)).toBe(`active:${Buffer.from('third').toString('base64url')}`);
  });

  it('stays where the log has forgotten whether somebody has it, and is told', async () => {
    const name = 'tank/images/runtime/forgotten' as DatasetName;
    await snapshots().prepare('anything', null, {});
    const below = { dataset: `tank/images/${layer(null)}` as DatasetName, snapshot: EXTRACTED };
    await world.node.zfs.clone(below, name, { 'pando:snapshot': 'spare' });
    await world.restart();
    expect(await markOf(world, name)).toBe('active:');
    expect(world.node.warnings.join()).toContain('runtime/forgotten');
    await world.restart();
    expect(await markOf(world, name)).toBe('active:');
  });

  it('that somebody has destroyed is done without', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    await world.node.zfs.destroy(spare);
    expect(datasetOf(world, await snapshots().prepare('third', 'base', {}))).not.toBe(spare);
    expect(world.node.warnings).toEqual([]);
  });

  it('is there for the eight that were used last', async () => {
    const parents = Array.from({ length: 10 }, (_, index) => `base ${index}`);
    for (const parent of parents) {
      await committed(world, parent);
      for (const which of ['first', 'second']) await snapshots().prepare(`${which} over ${parent}`, parent, {});
    }
    await expect.poll(async () => (await spares(world)).length).toBe(8);
    const over = (await world.node.zfs.listOnly(await spares(world))).map(({ origin }) => origin?.reference.dataset);
    for (const [index, parent] of parents.entries()) {
      expect([parent, over.includes(await datasetNamed(world, parent))]).toEqual([parent, index >= 2]);
    }
  });

  it('is there for no more than eight, though one of them takes long', async () => {
    let letGo = (): void => undefined;
    const slow = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const parents = Array.from({ length: 12 }, (_, index) => `base ${index}`);
    for (const parent of parents) {
      await committed(world, parent);
      await snapshots().prepare(`first over ${parent}`, parent, {});
      if (parent === 'base 0') {
        const beginning = `clone ${await datasetNamed(world, parent)}@`;
        let clones = 0;
        world.beforeChange = (command) => {
          if (!command.startsWith(beginning)) return undefined;
          clones += 1;
          return clones === 2 ? slow : undefined;
        };
      }
      await snapshots().prepare(`second over ${parent}`, parent, {});
    }
    expect((await spares(world)).length).toBeLessThanOrEqual(8);
    letGo();
    await expect.poll(async () => (await spares(world)).length).toBe(8);
    await world.node.node.stop();
    expect(await spares(world)).toEqual([]);
  });
});

describe('A clone made in advance that ZFS refuses something of', () => {
  /** Has commands fail that begin so. */
  function refuse(beginning: string, code: 'ZFS_BUSY' | 'ZFS_OUT_OF_MOUNTS' = 'ZFS_BUSY'): void {
    world.beforeChange = (command) => {
      if (command.startsWith(beginning)) throw new PandoError(code, 'It does not want to.');
    };
  }

  async function hold(dataset: DatasetName): Promise<() => Promise<unknown>> {
    const snapshot = { dataset, snapshot: 'sent' as SnapshotName };
    await world.node.zfs.snapshot([snapshot]);
    await world.node.zfs.hold('sending' as HoldTag, [snapshot]);
    return () => world.node.zfs.release('sending' as HoldTag, [snapshot]);
  }

  it('keeps its parent from being removed while it cannot be destroyed, and no longer', async () => {
    const chain = chainIdOf(null, diffId('base'));
    await snapshots().prepare(`extract ${chain}`, null, {});
    await snapshots().commit(`ns/${chain}`, `extract ${chain}`, {});
    const release = await hold(await spareOver(`ns/${chain}`));
    for (const which of ['first', 'second']) await snapshots().remove(`${which} over ns/${chain}`);
    expect(await codeOf(snapshots().remove(`ns/${chain}`))).toBe('ZFS_BUSY');
    await release();
    await snapshots().remove(`ns/${chain}`);
    expect(await spares(world)).toEqual([]);
  });

  it('is told where it does not say whose it is, and says so at the next start', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    refuse(`set ${spare}`);
    await snapshots().prepare('third', 'base', {});
    await expect.poll(() => world.node.warnings.join()).toContain('"third"');
    world.beforeChange = () => undefined;
    await world.restart();
    expect(await markOf(world, spare)).toBe(`active:${Buffer.from('third').toString('base64url')}`);
  });

  it('keeps no other dataset from being put right at the start', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    refuse(`set ${spare}`);
    await snapshots().prepare('third', 'base', {});
    await snapshots().prepare('vanished', null, {});
    await world.node.zfs.destroy(datasetOf(world, await snapshots().mounts('vanished')));
    await world.restart();
    expect((await snapshots().list()).map(({ key }) => key)).not.toContain('vanished');
    expect(world.node.warnings.join()).toContain(spare.slice('tank/images/'.length));
  });

  it('stays where something was written to it of which a log from a backup knows nothing', async () => {
    await committed(world, 'base');
    const base = { dataset: await datasetNamed(world, 'base'), snapshot: EXTRACTED };
    const name = 'tank/images/runtime/running' as DatasetName;
    await world.node.zfs.clone(base, name, { 'pando:snapshot': 'spare' });
    world.node.zfs.write(name, 'file', 'x'.repeat(512 * 1024));
    await world.restart();
    expect(await markOf(world, name)).toBe('active:');
    expect(world.node.warnings.join()).toContain('runtime/running');
  });

  it('gives its room to whoever needs it', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    await committed(world, 'other');
    let isFull = true;
    world.beforeChange = (command) => {
      if (command === `destroy ${spare}`) isFull = false;
      if (isFull && command.startsWith('clone')) throw new PandoError('ZFS_OUT_OF_MOUNTS', 'There is no room.');
    };
    await snapshots().prepare('over other', 'other', {});
    expect(await spares(world)).toEqual([]);
  });

  it('is nobody’s where the log could not be written', async () => {
    await committed(world, 'base');
    const spare = await spareOver('base');
    const append = vi.spyOn(world.node.log, 'append').mockRejectedValue(new Error('The disk is full.'));
    await expect(snapshots().prepare('third', 'base', {})).rejects.toThrow('The disk is full.');
    append.mockRestore();
    await expect.poll(() => world.node.zfs.listOnly([spare])).toEqual([]);
    await snapshots().prepare('third', 'base', {});
    await expectAgreement(world);
  });
});

describe('A clone made in advance on the kernel’s ZFS', () => {
  it('is done without where somebody has destroyed it', async () => {
    await world.remove();
    world = await LayerWorld.start({ dialect: 'openzfs' });
    await committed(world, 'base');
    const spare = await spareOver('base');
    await world.node.zfs.destroy(spare);
    const [mount] = await snapshots().prepare('third', 'base', {});
    expect(mount).toMatchObject({ type: 'zfs', source: expect.not.stringContaining(spare) });
    expect(await world.node.zfs.listOnly([mount?.source as DatasetName])).toHaveLength(1);
    expect((await snapshots().prepare('fourth', 'base', {}))[0]?.source).not.toBe(mount?.source);
  });
});
