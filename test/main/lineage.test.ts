/** Clones whose origin lies outside the tree: it travels once, into a holder of its own, and all hang off that (design §7). */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lineageId, lineageName, type RelativeName, type SnapshotGuid, type TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
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

describe('an origin that a mirror is past, which keeps only the newest snapshots', () => {
  let base: SnapshotGuid;

  beforeEach(async () => {
    await alpha.zfs.destroy(dataset('alpha/images/web'));
    await alpha.zfs.create(dataset('alpha/images/base'));
    for (const name of ['1', '2', '3']) await alpha.zfs.snapshot([at('alpha/images/base', name)]);
    base = (await alpha.zfs.listSnapshots([at('alpha/images/base', '1')]))[0]?.guid as SnapshotGuid;
    await beta.node.mirrors.change(IMAGES, { keep: { last: 1 } });
    await syncImages(beta);
    await alpha.zfs.clone(at('alpha/images/base', '1'), dataset('alpha/images/late'));
    await alpha.zfs.snapshot([at('alpha/images/late', 'l1')]);
  });

  it('is received alone, is nothing that differs, and is handed on', async () => {
    const report = await syncImages(beta);
    expect(stepsOf(report)).toEqual([`receive-full ${lineageName(base)} done`, 'receive-clone late done']);
    expect(report.plan.conflicts).toEqual([]);
    expect(await originOf(beta, 'beta/copy/late')).toBe(base);
    await alpha.zfs.snapshot([at('alpha/images/late', 'l2')]);
    expect(stepsOf(await syncImages(beta)), 'as any clone').toEqual([
      'receive-incremental late done',
      'destroy-snapshot late done',
    ]);
    expect(stepsOf(await syncImages(beta))).toEqual([]);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
    const gamma = await world.start('gamma');
    await introduce(beta, gamma);
    await gamma.node.mirrors.add({ tree: IMAGES, from: beta.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    await syncImages(gamma);
    expect(await originOf(gamma, 'gamma/copy/late')).toBe(base);
    expect(gamma.node.mirrors.compare(IMAGES)).toEqual([]);
  });

  it('goes with the clone, and is no more where the owner promotes that', async () => {
    await beta.node.mirrors.change(IMAGES, { graceMs: 0 });
    await syncImages(beta);
    await alpha.zfs.promote(dataset('alpha/images/late'));
    const promoted = await syncImages(beta);
    expect(stepsOf(promoted).slice(0, 2)).toEqual(['promote late done', 'rename-snapshot late done']);
    expect(stepsOf(promoted)).toContain(`destroy-dataset ${lineageName(base)} done`);
    expect(await originOf(beta, 'beta/copy/late')).toBeNull();
    await alpha.zfs.clone(at('alpha/images/base', '2'), dataset('alpha/images/later'));
    await alpha.zfs.snapshot([at('alpha/images/later', 'l1')]);
    const second = (await alpha.zfs.listSnapshots([at('alpha/images/base', '2')]))[0]?.guid as SnapshotGuid;
    await syncImages(beta);
    expect(await originOf(beta, 'beta/copy/later')).toBe(second);
    await alpha.zfs.destroy(dataset('alpha/images/later'));
    expect(stepsOf(await syncImages(beta))).toEqual([
      'destroy-dataset later done',
      `destroy-dataset ${lineageName(second)} done`,
    ]);
  });

  it('stays where the clone of another owner is still to come', async () => {
    const gamma = await world.start('gamma');
    await introduce(alpha, gamma);
    await introduce(gamma, beta);
    await gamma.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    await syncImages(gamma);
    const place = { tree: IMAGES, name: 'base' as RelativeName };
    await gamma.node.trees.clone({ ...place, snapshot: '3' as never }, 'shell' as RelativeName);
    await gamma.node.trees.clone({ ...place, snapshot: '2' as never }, 'shell/own' as RelativeName);
    await gamma.zfs.snapshot([at('gamma/copy/shell/own', 'o1')]);
    const second = (await gamma.zfs.listSnapshots([at('gamma/copy/base', '2')]))[0]?.guid as SnapshotGuid;
    await beta.node.mirrors.add({ tree: IMAGES, from: gamma.node.id, root: dataset('beta/copy'), ...EVERYTHING });
    expect(stepsOf(await syncImages(beta, { from: gamma })), 'for nothing it does not come').toEqual([]);
    await alpha.zfs.clone(at('alpha/images/base', '2'), dataset('alpha/images/early'));
    await alpha.zfs.snapshot([at('alpha/images/early', 'e1')]);
    await beta.node.mirrors.change(IMAGES, { graceMs: 0 }, alpha.node.id);
    await syncImages(beta, { from: alpha });
    expect(await originOf(beta, 'beta/copy/early')).toBe(second);
    await alpha.zfs.destroy(dataset('alpha/images/early'));
    expect(stepsOf(await syncImages(beta, { from: alpha }))).toEqual(['destroy-dataset early done']);
    for (const from of [alpha, gamma]) expect(stepsOf(await syncImages(beta, { from }))).toEqual([]);
    expect((await beta.zfs.list(dataset('beta/copy'))).map(({ name }) => name)).toContain(
      `beta/copy/${lineageName(second)}`,
    );
  });

  it('comes also where the clone belongs to another owner, with what that promotes', async () => {
    const gamma = await world.start('gamma');
    await introduce(alpha, gamma);
    await introduce(gamma, beta);
    await gamma.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    await syncImages(gamma);
    await gamma.node.trees.clone(
      { tree: IMAGES, name: 'base' as RelativeName, snapshot: '2' as never },
      'own' as RelativeName,
    );
    await gamma.zfs.snapshot([at('gamma/copy/own', 'o1')]);
    const second = (await gamma.zfs.listSnapshots([at('gamma/copy/base', '2')]))[0]?.guid as SnapshotGuid;
    await beta.node.mirrors.add({ tree: IMAGES, from: gamma.node.id, root: dataset('beta/copy'), ...EVERYTHING });
    for (const from of [alpha, gamma]) await syncImages(beta, { from });
    expect(await originOf(beta, 'beta/copy/own')).toBe(second);
    for (const from of [alpha, gamma]) expect(stepsOf(await syncImages(beta, { from }))).toEqual([]);
    await gamma.node.ownership.take({
      tree: IMAGES,
      name: 'base' as RelativeName,
      recursive: false,
      withoutOwner: true,
    });
    await gamma.zfs.promote(dataset('gamma/copy/own'));
    await gamma.node.verifier.verify(IMAGES);
    const report = await syncImages(beta, { from: gamma });
    expect(stepsOf(report)).toContain('promote own done');
    expect(report.plan.conflicts).toEqual([]);
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
