/** A mirror gives up what its own rules say, from the sync that noticed it to the one that destroys, on whole nodes. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { MirrorRules } from '../../src/core/events.ts';
import type { DatasetId, RelativeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import { systemSurroundings } from '../../src/main/surroundings.ts';
import { systemTimers } from '../../src/sync/timers.ts';
import { at, dataset, gate, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** What the clock shows that nobody can set. */
let steadyMs: number;
let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

beforeEach(async () => {
  // Grace periods are long: days pass at a word
  vi.useFakeTimers({ toFake: ['Date'] });
  steadyMs = 0;
  world = new MemoryWorld({ ...systemSurroundings, timers: { ...systemTimers, now: () => steadyMs } });
  alpha = await world.start('alpha', undefined, { now: Date.now });
  beta = await world.start('beta');
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await introduce(alpha, beta);
});

afterEach(async () => {
  vi.useRealTimers();
  await world.stop();
});

async function mirror(rules: Partial<MirrorRules>): Promise<void> {
  const place = { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy') };
  await beta.node.mirrors.add({ ...place, ...EVERYTHING, ...rules });
}

function idOf(name: string): DatasetId {
  return alpha.node.trees.graph(IMAGES).named(name as RelativeName)?.id as DatasetId;
}

function pass(ms: number): void {
  steadyMs += ms;
  vi.setSystemTime(Date.now() + ms);
}

async function take(...snapshots: string[]): Promise<void> {
  for (const snapshot of snapshots) await alpha.zfs.snapshot([at('alpha/images/web', snapshot)]);
}

async function kept(): Promise<string[]> {
  const listed = await beta.zfs.list(dataset('beta/copy'));
  return listed.flatMap(({ name, snapshots }) =>
    snapshots.length === 0 ? [name] : snapshots.map((one) => `${name}@${one.name}`),
  );
}

function outcomes({ steps }: SyncReport): string[] {
  return steps.map(({ step, outcome }) => `${step.kind} ${outcome.result}`);
}

describe('what the owner destroyed', () => {
  beforeEach(async () => {
    await alpha.zfs.create(dataset('alpha/images/web'));
    await alpha.zfs.create(dataset('alpha/images/old'));
    await take('1', '2');
    await alpha.zfs.snapshot([at('alpha/images/old', 'x')]);
  });

  async function destroyAtOwner(): Promise<void> {
    await syncImages(beta);
    await alpha.zfs.destroySnapshot(at('alpha/images/web', '1'));
    await alpha.zfs.destroy(dataset('alpha/images/old'));
  }

  const EVERYTHING_KEPT = ['beta/copy', 'beta/copy/old@x', 'beta/copy/web@1', 'beta/copy/web@2'];

  it('stays for ever unless the mirror says otherwise', async () => {
    await mirror({});
    await destroyAtOwner();
    expect(outcomes(await syncImages(beta))).toEqual([]);
    pass(10_000 * DAY_MS);
    expect(outcomes(await syncImages(beta))).toEqual([]);
    expect(await kept()).toEqual(expect.arrayContaining(EVERYTHING_KEPT));
  });

  it('goes when it has been noticed for the grace period, and the log says so', async () => {
    await mirror({ graceMs: DAY_MS });
    await destroyAtOwner();
    pass(10 * DAY_MS);
    expect(outcomes(await syncImages(beta)), 'it is noticed only now').toEqual([]);
    pass(DAY_MS - 1);
    expect(outcomes(await syncImages(beta))).toEqual([]);
    pass(2);
    expect(outcomes(await syncImages(beta))).toEqual(['destroy-dataset done', 'destroy-snapshot done']);
    expect(await kept()).toEqual(['beta/copy', 'beta/copy/web@2']);
    const graph = beta.node.trees.graph(IMAGES);
    expect([...graph.datasets.values()].map(({ name }) => name).sort()).toEqual(['', 'web']);
    expect(outcomes(await syncImages(beta))).toEqual([]);
  });

  it('has its whole grace period also where the clock of the host was set meanwhile', async () => {
    await mirror({ graceMs: DAY_MS });
    await destroyAtOwner();
    await syncImages(beta);
    vi.setSystemTime(Date.now() + 400 * DAY_MS);
    expect(outcomes(await syncImages(beta))).toEqual([]);
    pass(DAY_MS - 1_000);
    expect(outcomes(await syncImages(beta))).toEqual([]);
    pass(2_000);
    expect(outcomes(await syncImages(beta))).toEqual(['destroy-dataset done', 'destroy-snapshot done']);
  });

  it('has its grace period across a restart', async () => {
    await mirror({ graceMs: DAY_MS });
    await destroyAtOwner();
    await syncImages(beta);
    await beta.node.stop();
    pass(DAY_MS + 1);
    beta = await world.start('beta', beta);
    expect(outcomes(await syncImages(beta))).toEqual(['destroy-dataset done', 'destroy-snapshot done']);
  });

  it('begins anew when it departs a second time', async () => {
    await mirror({ graceMs: DAY_MS });
    await destroyAtOwner();
    await syncImages(beta);
    await beta.node.mirrors.change(IMAGES, { graceMs: null });
    pass(2 * DAY_MS);
    await syncImages(beta);
    expect(await kept()).toEqual(EVERYTHING_KEPT);
    await beta.node.mirrors.change(IMAGES, { graceMs: 3 * DAY_MS });
    await syncImages(beta);
    expect(await kept()).toEqual(EVERYTHING_KEPT);
    pass(DAY_MS + 1);
    expect(outcomes(await syncImages(beta))).toEqual(['destroy-dataset done', 'destroy-snapshot done']);
  });

  it('begins anew also where it was there again while nothing was given up', async () => {
    const [inside, outside] = [dataset('alpha/images/old'), dataset('alpha/outside')];
    await mirror({ graceMs: DAY_MS });
    await syncImages(beta);
    await alpha.zfs.rename(inside, outside);
    await syncImages(beta);
    await beta.node.mirrors.change(IMAGES, { graceMs: null });
    await alpha.zfs.rename(outside, inside);
    await syncImages(beta);
    pass(10 * DAY_MS);
    await alpha.zfs.rename(inside, outside);
    await syncImages(beta);
    await beta.node.mirrors.change(IMAGES, { graceMs: DAY_MS });
    expect(outcomes(await syncImages(beta))).toEqual([]);
    expect(await kept()).toContain('beta/copy/old@x');
  });

  it('stays while it is held, has a clone elsewhere, or was written to here; everything else goes on', async () => {
    await alpha.zfs.create(dataset('alpha/images/written'));
    await alpha.zfs.snapshot([at('alpha/images/written', 'y')]);
    await mirror({ graceMs: 0 });
    await destroyAtOwner();
    await alpha.zfs.destroy(dataset('alpha/images/written'));
    await beta.zfs.clone(at('beta/copy/old', 'x'), dataset('beta/mine'));
    await beta.zfs.hold('somebody' as never, [at('beta/copy/web', '1')]);
    await beta.zfs.setProperties([dataset('beta/copy/written')], { readonly: 'off' });
    beta.zfs.write('beta/copy/written', 'file', 'mine');
    await take('3');
    const report = await syncImages(beta);
    expect(outcomes(report).sort()).toEqual([
      'destroy-dataset kept',
      'destroy-dataset kept',
      'destroy-snapshot kept',
      'receive-incremental done',
    ]);
    expect(await kept()).toEqual(expect.arrayContaining([...EVERYTHING_KEPT, 'beta/copy/written@y']));
    await beta.zfs.release('somebody' as never, [at('beta/copy/web', '1')]);
    await beta.zfs.destroy(dataset('beta/mine'));
    expect(outcomes(await syncImages(beta))).toEqual(
      expect.arrayContaining(['destroy-dataset done', 'destroy-snapshot done', 'destroy-dataset kept']),
    );
  });

  it('stays with what lies in it, and nothing is to be tried again', async () => {
    await alpha.zfs.create(dataset('alpha/images/old/part'));
    await alpha.zfs.snapshot([at('alpha/images/old/part', 'y')]);
    await mirror({ graceMs: 0 });
    await syncImages(beta);
    await alpha.zfs.destroy(dataset('alpha/images/old/part'));
    await alpha.zfs.destroy(dataset('alpha/images/old'));
    await beta.zfs.setProperties([dataset('beta/copy/old/part')], { readonly: 'off' });
    beta.zfs.write('beta/copy/old/part', 'file', 'mine');
    const { steps } = await syncImages(beta);
    expect(steps.map(({ step, outcome }) => [step.kind === 'destroy-dataset' && step.name, outcome])).toMatchObject([
      ['old/part', { result: 'kept', error: { code: 'PLAN_CONFLICT' } }],
      ['old', { result: 'kept', error: { code: 'ZFS_HAS_DEPENDENTS' } }],
    ]);
    expect(await kept()).toEqual(expect.arrayContaining(['beta/copy/old@x', 'beta/copy/old/part@y']));
  });

  it('goes from a replica that an earlier mirror received as well', async () => {
    await mirror({});
    await syncImages(beta);
    await beta.node.mirrors.remove(IMAGES);
    await mirror({ graceMs: 0 });
    await destroyAtOwner();
    await syncImages(beta);
    expect(await kept()).toEqual(['beta/copy', 'beta/copy/web@2']);
  });

  /** What a follower does: by what the owner's log says, without asking it to look first. */
  const hear = () => syncImages(beta, { refresh: false });

  it('stays when the owner only gave it another name, whatever its log says between two looks', async () => {
    await mirror({ graceMs: 0 });
    await syncImages(beta);
    await alpha.zfs.rename(dataset('alpha/images/old'), dataset('alpha/images/moved'));
    await alpha.node.history.record(IMAGES, 'observed', [
      { type: 'dataset.destroyed', dataset: idOf('old'), name: 'old' as never },
    ]);
    expect(outcomes(await hear())).toEqual(['rename done']);
    expect(await kept()).toContain('beta/copy/moved@x');
  });

  it('stays when the owner adds the tree again, which is empty until it has looked', async () => {
    await mirror({ graceMs: 0 });
    await syncImages(beta);
    await alpha.node.trees.remove(IMAGES);
    const [looking, listed, planned] = [gate(), gate(), gate()];
    const [listAtOwner, listHere] = [alpha.zfs.list.bind(alpha.zfs), beta.zfs.list.bind(beta.zfs)];
    alpha.zfs.list = async (...given) => {
      looking.open();
      await listed.opened;
      return listAtOwner(...given);
    };
    beta.zfs.list = (...given) => {
      planned.open();
      return listHere(...given);
    };
    const adding = alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    await looking.opened;
    const heard = hear();
    await planned.opened;
    listed.open();
    await adding;
    expect(outcomes(await heard)).toEqual([]);
    expect(await kept()).toEqual(EVERYTHING_KEPT);
  });

  it('waits as long as the owner cannot look, and nothing else does', async () => {
    await mirror({ graceMs: 0 });
    await destroyAtOwner();
    await take('3');
    await alpha.node.verifier.verify(IMAGES);
    const list = alpha.zfs.list.bind(alpha.zfs);
    alpha.zfs.list = () => Promise.reject(new PandoError('ZFS_POOL_UNAVAILABLE', 'suspended'));
    await alpha.zfs.snapshot([at('alpha/images', 'r')]);
    expect(outcomes(await hear())).toEqual(['receive-incremental done']);
    expect(await hear()).toMatchObject({ steps: [], awaitsLook: true });
    alpha.zfs.list = list;
    const heard = await hear();
    expect(outcomes(heard)).toContain('destroy-dataset done');
    expect(heard.awaitsLook).toBe(false);
  });

  it('is not told as gone when somebody here renamed it right before it would go', async () => {
    await mirror({ graceMs: 0 });
    await destroyAtOwner();
    const [listSnapshots, listOnly] = [beta.zfs.listSnapshots.bind(beta.zfs), beta.zfs.listOnly.bind(beta.zfs)];
    const renameOnce = async (name: string) => {
      const from = dataset(`beta/copy/${name}`);
      if ((await listOnly([from])).length > 0) await beta.zfs.rename(from, dataset(`beta/copy/my-${name}`));
    };
    beta.zfs.listSnapshots = async (...given) => {
      await renameOnce('web');
      return listSnapshots(...given);
    };
    beta.zfs.listOnly = async (...given) => {
      if (given[0].length === 1 && given[0][0]?.endsWith('/old')) await renameOnce('old');
      return listOnly(...given);
    };
    const [web, old] = [idOf('web'), beta.node.trees.graph(IMAGES).named('old' as RelativeName)?.id as DatasetId];
    await syncImages(beta);
    const graph = beta.node.trees.graph(IMAGES);
    expect([graph.get(web)?.owner.node, graph.get(old)?.owner.node]).toEqual([alpha.node.id, alpha.node.id]);
    await beta.node.verifier.verify(IMAGES);
    expect(beta.node.trees.graph(IMAGES).get(old)).toMatchObject({ name: 'my-old', owner: { node: alpha.node.id } });
    expect(await kept()).toEqual(expect.arrayContaining(['beta/copy/my-old@x', 'beta/copy/my-web@1']));
  });

  it('stays when another snapshot has its name by the time it would go', async () => {
    await mirror({ graceMs: 0 });
    await destroyAtOwner();
    const listSnapshots = beta.zfs.listSnapshots.bind(beta.zfs);
    vi.spyOn(beta.zfs, 'listSnapshots').mockImplementation(async (asked, signal) => {
      const [first, ...rest] = await listSnapshots(asked, signal);
      return first == null ? [null, ...rest] : [{ ...first, guid: '1' as never }, ...rest];
    });
    expect(outcomes(await syncImages(beta))).toEqual(['destroy-dataset done', 'destroy-snapshot kept']);
    expect(await kept()).toContain('beta/copy/web@1');
  });
});

describe('a rule', () => {
  it('gives up what it does not keep as newer ones come, whatever the owner has', async () => {
    await alpha.zfs.create(dataset('alpha/images/web'));
    await mirror({ keep: { last: 2 } });
    await take('1', '2', '3');
    await syncImages(beta);
    expect(await kept()).toEqual(['beta/copy', 'beta/copy/web@2', 'beta/copy/web@3']);
    await take('4');
    expect(outcomes(await syncImages(beta))).toEqual(['receive-incremental done', 'destroy-snapshot done']);
    expect(await kept()).toEqual(['beta/copy', 'beta/copy/web@3', 'beta/copy/web@4']);
    expect(outcomes(await syncImages(beta))).toEqual([]);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
  });

  it('keeps what a copy that was kept aside hangs off, says so, and gives it up once that is dropped', async () => {
    await alpha.zfs.create(dataset('alpha/images/web'));
    await mirror({ keep: { last: 1 } });
    await take('1');
    await syncImages(beta);
    await beta.zfs.snapshot([at('beta/copy/web', 'mine')]);
    await take('2');
    await syncImages(beta);
    const stays = [{ name: 'web', snapshot: '1', reason: 'depended-on' }];
    expect(beta.node.mirrors.plan(IMAGES)).toMatchObject({ steps: [], retained: stays });
    await take('3');
    expect(outcomes(await syncImages(beta))).toEqual(['receive-incremental done', 'destroy-snapshot done']);
    expect(outcomes(await syncImages(beta))).toEqual([]);
    const [{ copy } = expect.fail()] = await beta.node.diverged.list(IMAGES);
    await beta.node.diverged.drop(IMAGES, copy);
    expect(outcomes(await syncImages(beta))).toEqual(['destroy-snapshot done']);
    expect(beta.node.mirrors.plan(IMAGES)).toMatchObject({ steps: [], retained: [] });
  });

  it('keeps what somebody has cloned to where no graph shows it', async () => {
    await alpha.zfs.create(dataset('alpha/images/web'));
    await mirror({ keep: { last: 1 } });
    await take('1');
    await syncImages(beta);
    await beta.zfs.create(dataset('beta/copy/.pando'));
    await beta.zfs.clone(at('beta/copy/web', '1'), dataset('beta/copy/.pando/by-hand'));
    await take('2');
    expect(outcomes(await syncImages(beta))).toEqual(['receive-incremental done']);
    expect(await kept()).toContain('beta/copy/web@1');
  });

  it('keeps what a replica of this one has as its newest, until that has newer ones', async () => {
    // With bookmarks, the delivery itself would be something new
    beta = await world.start('standby', undefined, { capabilities: { bookmarks: false } });
    await introduce(alpha, beta);
    await alpha.zfs.create(dataset('alpha/images/web'));
    const copy = { tree: IMAGES, from: alpha.node.id, root: dataset('standby/copy') };
    await beta.node.mirrors.add({ ...copy, ...EVERYTHING, keep: { last: 1 } });
    const there = async () => (await beta.zfs.listOnly([dataset('standby/copy/web')]))[0]?.snapshots.map((s) => s.name);
    await take('1');
    await syncImages(beta);
    const gamma = await world.start('gamma');
    await introduce(beta, gamma);
    await gamma.node.grants.give(beta.node.id, { trees: '*', role: 'reader' });
    const place = { tree: IMAGES, from: beta.node.id, root: dataset('gamma/copy') };
    await gamma.node.mirrors.add({ ...place, ...EVERYTHING });
    await syncImages(gamma);
    await beta.node.hub.sync(gamma.node.id, { refresh: true });
    await take('2');
    await syncImages(beta);
    await take('3');
    await syncImages(beta);
    expect(await there()).toEqual(['1', '3']);
    expect(outcomes(await syncImages(beta))).toEqual([]);
    await syncImages(gamma);
    await beta.node.hub.sync(gamma.node.id, { refresh: true });
    expect(outcomes(await syncImages(beta, { refresh: false }))).toEqual(['destroy-snapshot done']);
    expect(await there()).toEqual(['3']);
  });

  it('keeps days that the owner has destroyed long since, and no hostile owner can hurry it', async () => {
    await alpha.zfs.create(dataset('alpha/images/web'));
    await mirror({ keep: { daily: 3 } });
    for (const day of ['mon', 'tue', 'wed']) {
      await take(day);
      await syncImages(beta);
      await take(`${day}-later`);
      await syncImages(beta);
      await alpha.zfs.destroySnapshot(at('alpha/images/web', day));
      pass(DAY_MS);
    }
    for (let flood = 1; flood <= 20; flood += 1) {
      await take(`flood-${flood}`);
      await syncImages(beta);
      await alpha.zfs.destroySnapshot(at('alpha/images/web', flood === 1 ? 'wed-later' : `flood-${flood - 1}`));
    }
    const days = ['tue', 'wed', 'flood-1', 'flood-20'].map((name) => `beta/copy/web@${name}`);
    expect(await kept()).toEqual(['beta/copy', ...days]);
  });
});
