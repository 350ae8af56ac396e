import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RelativeName, SnapshotName, TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { codeOf, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from '../main/memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;

const OTHER = 'other' as TreeName;
const place = (name: string) => ({ tree: IMAGES, name: name as RelativeName });
const shot = (name: string, snapshot: string) => ({ ...place(name), snapshot: snapshot as SnapshotName });

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/base'));
});

afterEach(() => world.stop());

describe('adding a tree', () => {
  it('is refused when its root does not exist', async () => {
    const missing = alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/nothing') });
    expect(await codeOf(missing)).toBe('TREE_ROOT_MISSING');
    expect(alpha.node.trees.list()).toEqual([]);
  });

  it.each(['alpha', 'alpha/images', 'alpha/images/base'])(
    'is refused at %s, which overlaps with another',
    async (root) => {
      await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
      expect(await codeOf(alpha.node.trees.add({ tree: OTHER, root: dataset(root) }))).toBe('TREE_OVERLAP');
      expect(alpha.node.trees.list().map(({ tree }) => tree)).toEqual([IMAGES]);
    },
  );

  it('is not refused beside one whose name only begins alike', async () => {
    await alpha.zfs.create(dataset('alpha/images2'));
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    await alpha.node.trees.add({ tree: OTHER, root: dataset('alpha/images2') });
    expect(alpha.node.trees.list().map(({ root }) => root)).toEqual(['alpha/images', 'alpha/images2']);
  });

  it('is refused when the name is taken', async () => {
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    expect(await codeOf(alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha') }))).toBe('TREE_EXISTS');
  });

  it('gives every dataset an id, which a removed and added tree finds again', async () => {
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    // ZFS tells from now on that nothing changes: neither does it between the two.
    await alpha.node.verifier.verify(IMAGES);
    await alpha.node.verifier.verify(IMAGES);
    const ids = alpha.node.trees
      .graph(IMAGES)
      .sorted()
      .map(({ id }) => id);
    await alpha.node.trees.remove(IMAGES);
    expect(await codeOf(Promise.resolve().then(() => alpha.node.trees.graph(IMAGES)))).toBe('TREE_UNKNOWN');
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    expect(
      alpha.node.trees
        .graph(IMAGES)
        .sorted()
        .map(({ id }) => id),
    ).toEqual(ids);
    expect(ids.length).toBe(2);
  });

  it('is still there after a restart, with the same graph', async () => {
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    const before = alpha.node.trees.graph(IMAGES).sorted();
    await alpha.node.stop();
    const again = await world.start('alpha', alpha);
    expect(again.node.trees.graph(IMAGES).sorted()).toEqual(before);
  });
});

describe('commands on a tree', () => {
  beforeEach(() => alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') }));

  it('snapshot a dataset with all below at one moment', async () => {
    await alpha.node.trees.snapshot(shot('', 's'), { recursive: true });
    const txgs = alpha.node.trees
      .graph(IMAGES)
      .sorted()
      .map(({ snapshots }) => snapshots[0]?.createtxg);
    expect(new Set(txgs).size).toBe(1);
  });

  it('snapshot what somebody created with plain zfs a moment ago along with the rest', async () => {
    await alpha.zfs.create(dataset('alpha/images/new'));
    await alpha.node.trees.snapshot(shot('', 's'), { recursive: true });
    const listed = await alpha.zfs.list(dataset('alpha/images'));
    expect(listed.map(({ name, snapshots }) => [name, snapshots.length])).toEqual([
      ['alpha/images', 1],
      ['alpha/images/base', 1],
      ['alpha/images/new', 1],
    ]);
  });

  it('are refused for what the tree does not have, for hidden names, and for the root', async () => {
    expect(await codeOf(alpha.node.trees.snapshot(shot('nothing', 's'), { recursive: false }))).toBe('DATASET_UNKNOWN');
    await alpha.node.trees.snapshot(shot('base', 's'), { recursive: false });
    expect(await codeOf(alpha.node.trees.clone(shot('base', 's'), '.pando/x' as RelativeName))).toBe('NAME_INVALID');
    expect(await codeOf(alpha.node.trees.clone(shot('base', 's'), 'no/parent' as RelativeName))).toBe(
      'DATASET_UNKNOWN',
    );
    expect(await codeOf(alpha.node.trees.destroy(place('')))).toBe('ARGUMENT_INVALID');
    expect(await codeOf(alpha.node.trees.rename(place(''), 'x' as RelativeName))).toBe('ARGUMENT_INVALID');
  });

  it('destroy nothing that others depend on, and name those', async () => {
    await alpha.node.trees.snapshot(shot('base', 's'), { recursive: false });
    await alpha.node.trees.clone(shot('base', 's'), 'web' as RelativeName);
    const refused = alpha.node.trees.destroy(place('base'));
    await expect(refused).rejects.toMatchObject({ code: 'ZFS_HAS_DEPENDENTS', evidence: { dependents: ['web'] } });
    expect(await codeOf(alpha.node.trees.destroySnapshot(shot('base', 's')))).toBe('ZFS_HAS_DEPENDENTS');
    expect(
      alpha.node.trees
        .graph(IMAGES)
        .sorted()
        .map(({ name }) => name),
    ).toEqual(['', 'base', 'web']);
  });

  it('tell of a snapshot that was taken with plain zfs before they tell of its clone', async () => {
    await alpha.zfs.snapshot([{ dataset: dataset('alpha/images/base'), snapshot: 'new' as SnapshotName }]);
    await alpha.node.trees.clone(shot('base', 'new'), 'web' as RelativeName);
    const graph = alpha.node.trees.graph(IMAGES);
    const base = graph.named('base' as RelativeName);
    expect(graph.named('web' as RelativeName)?.origin).toEqual({
      dataset: base?.id,
      snapshot: base?.snapshots[0]?.guid,
    });
  });

  it('promote a clone where both sides are owned, and nothing else', async () => {
    await alpha.node.trees.snapshot(shot('base', 's'), { recursive: false });
    await alpha.node.trees.clone(shot('base', 's'), 'web' as RelativeName);
    await alpha.node.trees.promote(place('web'));
    const graph = alpha.node.trees.graph(IMAGES);
    expect(graph.named('base' as RelativeName)?.origin?.dataset).toBe(graph.named('web' as RelativeName)?.id);
    expect(await codeOf(alpha.node.trees.promote(place('web')))).toBe('ARGUMENT_INVALID');
  });

  it('roll back, over newer snapshots only when told to', async () => {
    for (const name of ['s', 't', 'u']) await alpha.node.trees.snapshot(shot('base', name), { recursive: false });
    const back = (destroyNewer: boolean) => alpha.node.trees.rollback(shot('base', 's'), { destroyNewer });
    await expect(back(false)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID', evidence: { newer: ['t', 'u'] } });
    await back(true);
    const base = alpha.node.trees.graph(IMAGES).named('base' as RelativeName);
    expect(base?.snapshots.map(({ name }) => name)).toEqual(['s']);
  });

  it('are logged as commands', async () => {
    await alpha.node.trees.snapshot(shot('base', 's'), { recursive: false });
    await alpha.node.trees.renameSnapshot(shot('base', 's'), 't' as SnapshotName);
    await alpha.node.trees.destroySnapshot(shot('base', 't'));
    const stream = alpha.node.history.ownStream(IMAGES);
    const told: string[] = [];
    for await (const events of alpha.node.history.events(stream, 1)) {
      told.push(
        ...events.filter(({ type }) => type.startsWith('snapshot')).map(({ cause, type }) => `${cause} ${type}`),
      );
    }
    expect(told).toEqual(['command snapshot.created', 'command snapshot.renamed', 'command snapshot.destroyed']);
  });
});

describe('removing a tree', () => {
  it('that is a mirror is refused with the command that ends one', async () => {
    const beta = await world.start('beta');
    await introduce(alpha, beta);
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING });
    await expect(beta.node.trees.remove(IMAGES)).rejects.toThrow('pando mirror rm images');
    expect(beta.node.mirrors.list().length).toBe(1);
  });
});

describe('a pool that fails in the middle of a transfer', () => {
  let beta: WorldNode;

  async function mirrorTo(options: Parameters<MemoryWorld['start']>[2]): Promise<void> {
    beta = await world.start('beta', undefined, options);
    await introduce(alpha, beta);
    for (const name of ['base', 'one', 'two']) {
      if (name !== 'base') await alpha.zfs.create(dataset(`alpha/images/${name}`));
      alpha.zfs.write(`alpha/images/${name}`, 'file', 'x'.repeat(10_000));
    }
    await alpha.zfs.snapshot(
      ['', '/base', '/one', '/two'].map((name) => ({
        dataset: dataset(`alpha/images${name}`),
        snapshot: 's' as SnapshotName,
      })),
    );
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING };
    await beta.node.mirrors.add(mirror);
  }

  async function held({ zfs, pool }: WorldNode): Promise<unknown[]> {
    const listed = await zfs.list(dataset(pool));
    return listed.flatMap(({ snapshots }) => snapshots).filter(({ userrefs }) => userrefs > 0);
  }

  it('by being exported fails what is left with ZFS_NO_POOL; imported again, the next sync completes it', async () => {
    let receives = 0;
    await mirrorTo({
      onCommand: (command) => {
        if (!command.includes('receive')) return;
        receives += 1;
        if (receives === 2) beta.zfs.exportPool('beta');
      },
    });
    const { steps } = await syncImages(beta);
    const codes = steps.flatMap(({ outcome }) => (outcome.result === 'failed' ? [outcome.error.code] : []));
    expect(receives).toBeGreaterThanOrEqual(2);
    expect(new Set(codes)).toEqual(new Set(['ZFS_NO_POOL']));
    expect(beta.node.hub.connected()).toEqual([alpha.node.id]);
    expect(await held(alpha)).toEqual([]);
    beta.zfs.importPool('beta');
    await syncImages(beta);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
    expect([...(await held(alpha)), ...(await held(beta))]).toEqual([]);
  });

  it('by running full fails those steps with ZFS_OUT_OF_SPACE and keeps what came whole', async () => {
    await mirrorTo({});
    beta.zfs.addPool('tiny', { capacityBytes: 15_000 });
    await beta.node.mirrors.remove(IMAGES);
    const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset('tiny/copy'), ...EVERYTHING };
    await beta.node.mirrors.add(mirror);
    const { steps } = await syncImages(beta);
    const codes = steps.map(({ outcome }) => (outcome.result === 'failed' ? outcome.error.code : outcome.result));
    expect(codes.filter((code) => code === 'ZFS_OUT_OF_SPACE').length).toBeGreaterThan(0);
    expect(codes.filter((code) => code === 'done').length).toBeGreaterThan(0);
    const verdict = await beta.node.verifier.verify(IMAGES);
    expect(verdict.ok).toBe(false);
    expect(verdict.unnoticed).toBe(0);
  });
});
