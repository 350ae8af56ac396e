/** Clones whose origin lies outside the tree: it travels once, into a holder of its own, and all hang off that (design §7). */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lineageId, lineageName, type RelativeName, type SnapshotGuid, type TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SyncReport } from '../../src/features/mirrors/mirrors.ts';
import { PREPARE } from '../../src/transfer/protocol.ts';
import { at, codeOf, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
let guid: SnapshotGuid;

async function originOf({ zfs }: WorldNode, name: string) {
  const [listed] = await zfs.listOnly([dataset(name)]);
  return listed?.origin?.guid ?? null;
}

function stepsOf({ steps }: SyncReport): string[] {
  return steps.map(({ step, outcome }) => `${step.kind} ${step.name} ${outcome.result}`);
}

/** Makes a clone of the snapshot that is not in the tree. */
async function cloneInTree(name: string): Promise<void> {
  const target = dataset(`alpha/images/${name}`);
  await alpha.zfs.clone(at('alpha/elsewhere', 'gold'), target);
  alpha.zfs.write(target, 'file', name);
  await alpha.zfs.snapshot([at(target, '1')]);
}

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  await alpha.zfs.create(dataset('alpha/elsewhere'));
  alpha.zfs.write('alpha/elsewhere', 'base', 'x'.repeat(10_000));
  await alpha.zfs.snapshot([at('alpha/elsewhere', 'early')]);
  await alpha.zfs.snapshot([at('alpha/elsewhere', 'gold')]);
  const [gold] = await alpha.zfs.listSnapshots([at('alpha/elsewhere', 'gold')]);
  guid = gold?.guid as SnapshotGuid;
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.snapshot([at('alpha/images', 'r')]);
  await cloneInTree('web');
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await introduce(alpha, beta);
  await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING });
});

afterEach(() => world.stop());

describe('an origin outside the tree', () => {
  it('is received once, and every clone hangs off it, those that come later too', async () => {
    await cloneInTree('app');
    const first = await syncImages(beta);
    expect(stepsOf(first)).toEqual([
      'receive-full  done',
      `receive-full ${lineageName(guid)} done`,
      'receive-clone app done',
      'receive-clone web done',
    ]);
    expect(first.bytes).toBeLessThan(15_000);
    await cloneInTree('late');
    const second = await syncImages(beta);
    expect(stepsOf(second)).toEqual(['receive-clone late done']);
    expect(second.bytes).toBeLessThan(1_000);
    for (const name of ['web', 'app', 'late']) expect(await originOf(beta, `beta/copy/${name}`)).toBe(guid);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
    expect(stepsOf(await syncImages(beta))).toEqual([]);
  });

  it('comes when a clone of it has a first snapshot, and not before', async () => {
    await alpha.zfs.destroySnapshot(at('alpha/images/web', '1'));
    const first = await syncImages(beta);
    expect(stepsOf(first)).toEqual(['receive-full  done']);
    expect(first.plan.waiting).toMatchObject([{ name: 'web', reason: 'no-snapshot' }]);
    await alpha.zfs.snapshot([at('alpha/images/web', '2')]);
    expect(stepsOf(await syncImages(beta))).toEqual([
      `receive-full ${lineageName(guid)} done`,
      'receive-clone web done',
    ]);
  });

  it('goes with its last clone, although everything else is kept for ever', async () => {
    await syncImages(beta);
    await alpha.zfs.destroy(dataset('alpha/images/web'));
    expect(stepsOf(await syncImages(beta)), 'the replica of the clone needs it').toEqual([]);
    await beta.zfs.destroy(dataset('beta/copy/web'));
    await beta.node.verifier.verify(IMAGES);
    expect(stepsOf(await syncImages(beta))).toEqual([`destroy-dataset ${lineageName(guid)} done`]);
    const left = await beta.zfs.list(dataset('beta/copy'));
    expect(left.map(({ name }) => name)).toEqual(['beta/copy', 'beta/copy/.pando', 'beta/copy/.pando/lineage']);
  });

  it('goes in the same sync as the clone that its owner destroyed', async () => {
    await beta.node.mirrors.change(IMAGES, { graceMs: 0 });
    await syncImages(beta);
    await alpha.zfs.destroy(dataset('alpha/images/web'));
    expect(stepsOf(await syncImages(beta))).toEqual([
      'destroy-dataset web done',
      `destroy-dataset ${lineageName(guid)} done`,
    ]);
  });

  it('is handed on by a mirror of the mirror, without asking the owner', async () => {
    await syncImages(beta);
    const gamma = await world.start('gamma');
    await introduce(beta, gamma);
    await gamma.node.mirrors.add({ tree: IMAGES, from: beta.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    await alpha.node.stop();
    await syncImages(gamma);
    expect(await originOf(gamma, 'gamma/copy/web')).toBe(guid);
    expect(gamma.node.mirrors.compare(IMAGES)).toEqual([]);
  });

  it('follows who took it over and gave it a name, though others have only clones of it', async () => {
    const gamma = await world.start('gamma');
    for (const peer of [alpha, beta]) {
      await introduce(peer, gamma);
      await gamma.node.mirrors.add({ tree: IMAGES, from: peer.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    }
    for (const { node } of [alpha, gamma]) await node.grants.give(beta.node.id, { trees: '*', role: 'standby' });
    const syncGamma = async () => {
      for (const from of [alpha, beta]) await syncImages(gamma, { from });
    };
    await syncImages(beta);
    await syncGamma();
    await beta.zfs.rename(dataset(`beta/copy/${lineageName(guid)}`), dataset('beta/copy/gold'));
    await beta.node.verifier.verify(IMAGES);
    await beta.node.ownership.take({
      tree: IMAGES,
      name: 'gold' as RelativeName,
      recursive: false,
      withoutOwner: true,
    });
    await beta.zfs.snapshot([at('beta/copy/gold', '2')]);
    await syncGamma();
    await gamma.node.verifier.verify(IMAGES);
    await syncGamma();
    const [gold] = await gamma.zfs.listOnly([dataset('gamma/copy/gold')]);
    expect(gold?.snapshots.map(({ name }) => name)).toEqual(['origin', '2']);
    expect(await originOf(gamma, 'gamma/copy/web')).toBe(guid);
  });

  it('comes from who has clones of it, where who took it over is not asked for it', async () => {
    const gamma = await world.start('gamma');
    for (const peer of [alpha, beta]) await introduce(peer, gamma);
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'standby' });
    await syncImages(beta);
    await beta.zfs.rename(dataset(`beta/copy/${lineageName(guid)}`), dataset('beta/copy/gold'));
    await beta.node.verifier.verify(IMAGES);
    const gold = { tree: IMAGES, name: 'gold' as RelativeName, recursive: false, withoutOwner: true };
    await beta.node.ownership.take(gold);
    const place = { tree: IMAGES, root: dataset('gamma/copy'), ...EVERYTHING };
    await gamma.node.mirrors.add({ ...place, from: alpha.node.id });
    await gamma.node.mirrors.add({ ...place, from: beta.node.id, except: ['gold', 'web'] });
    for (const from of [alpha, beta]) await syncImages(gamma, { from });
    expect(await originOf(gamma, 'gamma/copy/web')).toBe(guid);
    expect(await gamma.zfs.listOnly([dataset('gamma/copy/gold')])).toEqual([]);
    for (const from of [alpha, beta]) expect(stepsOf(await syncImages(gamma, { from }))).toEqual([]);
  });

  it('becomes part of the clone when its owner promotes that', async () => {
    await cloneInTree('app');
    await syncImages(beta);
    await alpha.zfs.promote(dataset('alpha/images/web'));
    await alpha.zfs.snapshot([at('alpha/images/web', '2')]);
    for (let round = 1; round <= 2; round += 1) await syncImages(beta);
    expect(await originOf(beta, 'beta/copy/web')).toBeNull();
    const [app] = await beta.zfs.listOnly([dataset('beta/copy/app')]);
    expect(app?.origin).toMatchObject({ guid, reference: { dataset: 'beta/copy/web' } });
    expect(stepsOf(await syncImages(beta))).toEqual([]);
  });

  it('is what a clone of something kept aside at its owner hangs off as well', async () => {
    await syncImages(beta);
    await beta.zfs.setProperties([dataset('beta/copy/web')], { readonly: 'off' });
    beta.zfs.write('beta/copy/web', 'file', 'mine');
    await beta.zfs.snapshot([at('beta/copy/web', 'mine')]);
    await beta.zfs.clone(at('beta/copy/web', 'mine'), dataset('beta/copy/keep'));
    await beta.zfs.snapshot([at('beta/copy/keep', '1')]);
    await beta.node.verifier.verify(IMAGES);
    await alpha.zfs.snapshot([at('alpha/images/web', '2')]);
    await syncImages(beta);
    const gamma = await world.start('gamma');
    await introduce(beta, gamma);
    await gamma.node.mirrors.add({ tree: IMAGES, from: beta.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    await syncImages(gamma);
    expect(await originOf(gamma, 'gamma/copy/keep')).toBe(await originOf(beta, 'beta/copy/keep'));
  });
});

describe('what lies outside a tree', () => {
  it('is not to be had but as the origin of a clone in it', async () => {
    await syncImages(beta);
    const [early] = await alpha.zfs.listSnapshots([at('alpha/elsewhere', 'early')]);
    const [clone] = [...alpha.node.trees.graph(IMAGES).datasets.values()].filter(({ name }) => name === 'web');
    const session = beta.node.hub.session(alpha.node.id);
    const ask = (id: unknown, snapshot: unknown, tree: TreeName = IMAGES) =>
      codeOf(
        (session as NonNullable<typeof session>).call(PREPARE, {
          transfer: '019a0000-0000-7000-8000-000000000001',
          tree,
          streams: [{ snapshot: { dataset: id, guid: snapshot }, base: null, flags: null, resume: null }],
          takes: '',
          resumable: false,
          mode: 'sealed',
        }),
      );
    expect(await ask(lineageId(early?.guid as SnapshotGuid), early?.guid)).toBe('TRANSFER_REFUSED');
    expect(await ask(lineageId(guid), early?.guid)).toBe('TRANSFER_REFUSED');
    expect(await ask(clone?.id, early?.guid)).toBe('TRANSFER_REFUSED');
  });
});
