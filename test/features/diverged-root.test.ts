/** The root of a mirror is written to, rolled back at its owner, or made a clone there: whole nodes in memory. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { RelativeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { Conflict } from '../../src/core/plan/steps.ts';
import { describeConflict } from '../../src/interfaces/cli/describe-conflict.ts';
import { TransferJournal } from '../../src/transfer/journal.ts';
import type { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import {
  at,
  codeOf,
  dataset,
  IMAGES,
  introduce,
  MemoryWorld,
  syncImages,
  type WorldNode,
} from '../main/memory-world.ts';

const HERE = dataset('beta/copy');
const THERE = dataset('alpha/images');

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

beforeEach(async () => {
  world = new MemoryWorld();
  // Without cursors, so that what its owner destroys is in common no more
  alpha = await world.start('alpha', undefined, { capabilities: { bookmarks: false } });
  beta = await world.start('beta');
  for (const name of ['alpha/images', 'alpha/images/web', 'alpha/images/web/logs']) {
    await alpha.zfs.create(dataset(name));
    alpha.zfs.write(name, 'file', name);
    await alpha.zfs.snapshot([at(name, '1')]);
  }
  await alpha.zfs.clone(at('alpha/images', '1'), dataset('alpha/images/clone'));
  await alpha.zfs.snapshot([at('alpha/images/clone', 'c')]);
  await alpha.node.trees.add({ tree: IMAGES, root: THERE });
  await introduce(alpha, beta);
  await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: HERE, ...EVERYTHING });
  await syncImages(beta);
});

afterEach(() => world.stop());

/** Somebody writes to the root of the replica, and its owner goes on. */
async function diverge(text: string, snapshot: string | null): Promise<void> {
  await beta.zfs.setProperties([HERE], { readonly: 'off' });
  beta.zfs.write(HERE, 'mine', text);
  if (snapshot !== null) await beta.zfs.snapshot([at(HERE, snapshot)]);
  alpha.zfs.write(THERE, 'theirs', text);
  await alpha.zfs.snapshot([at(THERE, `after-${text}`)]);
  if (snapshot !== null) await beta.node.verifier.verify(IMAGES);
}

/** What a sync did; nothing may have failed but what shows that something was written to. */
async function sync(): Promise<string[]> {
  const { steps, plan } = await syncImages(beta);
  expect(plan.conflicts).toEqual([]);
  expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
  const listed = await beta.zfs.list(dataset('beta'));
  expect(listed.filter(({ name }) => /pando-|successor|renaming/.test(name))).toEqual([]);
  return steps.map(({ step, outcome }) => `${step.kind} ${step.name || '.'} ${outcome.result}`);
}

describe('a root that diverged', () => {
  it('is kept with its snapshots, while the replica follows, and all below it stays where it was', async () => {
    await beta.zfs.setProperties([HERE], { compression: 'zstd' });
    const guids = new Map((await beta.zfs.list(HERE)).map(({ name, guid }) => [name, guid]));
    await diverge('one', 'mine');
    expect(await sync()).toEqual(['preserve . done', 'receive-incremental . done']);
    const [kept, ...others] = await beta.node.diverged.list(IMAGES);
    expect(others).toEqual([]);
    expect(kept).toMatchObject({ tree: IMAGES, from: HERE, snapshots: ['mine'] });
    expect(kept?.copy).toMatch(/^copy-/);
    expect(beta.zfs.read(kept?.dataset ?? '', 'mine')).toBe('one');
    expect(beta.zfs.read(HERE, 'theirs')).toBe('one');
    const [root] = await beta.zfs.listOnly([HERE]);
    expect(root?.properties).toMatchObject({ compression: 'zstd', readonly: 'on', canmount: 'noauto' });
    for (const name of ['beta/copy/web', 'beta/copy/web/logs', 'beta/copy/clone']) {
      expect((await beta.zfs.listOnly([dataset(name)]))[0]?.guid, name).toBe(guids.get(dataset(name)));
    }
  });

  it('is kept where it was only written to, in the same sync that finds it out', async () => {
    await diverge('one', null);
    expect(await sync()).toContain('preserve . done');
    const [kept] = await beta.node.diverged.list(IMAGES);
    expect(beta.zfs.read(kept?.dataset ?? '', 'mine')).toBe('one');
  });

  it('is kept where its owner was rolled back and went on otherwise', async () => {
    await alpha.zfs.snapshot([at(THERE, 'lost')]);
    await sync();
    await alpha.zfs.rollback(at(THERE, '1'), { destroyNewer: true });
    await alpha.zfs.snapshot([at(THERE, 'instead')]);
    expect(await sync()).toContain('preserve . done');
    expect((await beta.node.diverged.list(IMAGES)).map(({ snapshots }) => snapshots)).toEqual([['lost']]);
  });

  it('is planned, restored and dropped as others are', async () => {
    await diverge('one', 'mine');
    expect(beta.node.mirrors.plan(IMAGES).steps.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'preserve ',
      'receive-incremental ',
    ]);
    await sync();
    await diverge('two', 'mine');
    await sync();
    const [first, second] = await beta.node.diverged.list(IMAGES);
    await beta.node.diverged.restore(IMAGES, first?.copy ?? '', 'kept' as RelativeName);
    expect(beta.node.trees.graph(IMAGES).named('kept' as RelativeName)?.owner.node).toBe(beta.node.id);
    await beta.node.diverged.drop(IMAGES, second?.copy ?? '');
    expect(await beta.node.diverged.list(IMAGES)).toEqual([]);
    await diverge('three', 'mine');
    await sync();
    expect(beta.zfs.read('beta/copy/kept', 'mine')).toBe('one');
  });
});

describe('a root that has nothing in common with its owner any more', () => {
  it('is overwritten by nothing, while all below it follows, and comes anew once it was moved aside as is said', async () => {
    await alpha.zfs.destroySnapshot(at('alpha/images/clone', 'c'));
    await alpha.zfs.destroy(dataset('alpha/images/clone'));
    await alpha.zfs.destroySnapshot(at(THERE, '1'));
    await alpha.zfs.snapshot([at(THERE, 'other'), at('alpha/images/web', '2')]);
    const { plan } = await syncImages(beta);
    expect(plan.conflicts).toMatchObject([{ name: '', reason: 'no-common-snapshot', localOnly: ['1'] }]);
    const [root, web] = await beta.zfs.listOnly([HERE, dataset('beta/copy/web')]);
    expect([root, web].map((one) => one?.snapshots.map(({ name }) => name))).toEqual([['1'], ['1', '2']]);
    const command = /"zfs rename (\S+) (\S+)"/.exec(describeConflict(plan.conflicts[0] as Conflict, HERE));
    await beta.zfs.rename(dataset(command?.[1] ?? ''), dataset(command?.[2] ?? ''));
    await sync();
    expect(beta.zfs.read(HERE, 'file')).toBe('alpha/images');
    expect((await beta.zfs.listOnly([dataset('beta/kept-copy/web/logs')])).length).toBe(1);
  });
});

describe('a root that is a clone of something below it', () => {
  it('is promoted over here as well, and follows its owner from then on', async () => {
    await alpha.zfs.promote(dataset('alpha/images/clone'));
    expect(await sync()).toEqual(['promote clone done']);
    expect((await beta.zfs.listOnly([HERE]))[0]?.origin?.reference).toEqual(at('beta/copy/clone', '1'));
    for (const text of ['one', 'two']) {
      alpha.zfs.write(THERE, 'theirs', text);
      await alpha.zfs.snapshot([at(THERE, text)]);
      await sync();
      expect(beta.zfs.read(HERE, 'theirs')).toBe(text);
    }
    const [root] = await beta.zfs.listOnly([HERE]);
    expect(root?.origin?.reference).toEqual(at('beta/copy/clone', '1'));
    expect(await beta.node.diverged.list(IMAGES), 'nothing was ever written to what made room').toEqual([]);
  });

  it('comes to a new mirror as the clone that it is, and a mirror of that mirror has it, too', async () => {
    await alpha.zfs.promote(dataset('alpha/images/clone'));
    await alpha.zfs.snapshot([at(THERE, 'own')]);
    const gamma = await world.start('gamma');
    await introduce(beta, gamma);
    await gamma.node.mirrors.add({ tree: IMAGES, from: beta.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    await sync();
    await syncImages(gamma);
    expect(gamma.node.mirrors.compare(IMAGES)).toEqual([]);
    const [root] = await gamma.zfs.listOnly([dataset('gamma/copy')]);
    expect(root?.origin?.reference).toEqual(at('gamma/copy/clone', '1'));
    expect(gamma.zfs.read('gamma/copy', 'file')).toBe('alpha/images');
  });

  it('has a stand-in while its owner has taken no snapshot of it, and everything else comes', async () => {
    await alpha.zfs.promote(dataset('alpha/images/clone'));
    const gamma = await world.start('gamma');
    await introduce(alpha, gamma);
    await gamma.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    const { plan } = await syncImages(gamma);
    expect(plan.waiting).toMatchObject([{ name: '', reason: 'no-snapshot' }]);
    expect(gamma.zfs.read('gamma/copy/web/logs', 'file')).toBe('alpha/images/web/logs');
    await alpha.zfs.snapshot([at(THERE, 'own')]);
    await syncImages(gamma);
    expect(gamma.node.mirrors.compare(IMAGES)).toEqual([]);
    const names = (await gamma.zfs.list(dataset('gamma'))).map(({ name }) => name);
    expect(names.filter((name) => /renaming|pando-/.test(name))).toEqual([]);
    expect((await syncImages(gamma)).steps).toEqual([]);
  });
});

describe('a root that was exchanged by hand', () => {
  it('at its owner is exchanged here, without a byte', async () => {
    for (const [from, to] of [
      ['alpha/images', 'alpha/old'],
      ['alpha/old/web', 'alpha/images'],
      ['alpha/old', 'alpha/images/old'],
    ] as const) {
      await alpha.zfs.rename(dataset(from), dataset(to));
    }
    expect(await sync()).toEqual([
      expect.stringMatching(/^rename renaming-\w+ done$/),
      'take-root . done',
      'rename logs done',
      'rename old done',
      'rename old/clone done',
    ]);
    expect(beta.zfs.read(HERE, 'file')).toBe('alpha/images/web');
    expect((await syncImages(beta)).steps).toEqual([]);
  });
});

describe('a node that is gone while a root is kept aside', () => {
  /** A ZFS that is gone from the command of that number on, counted from the first that is about what diverged. */
  function dyingAt(zfs: MemoryZfs, number: number): MemoryZfs {
    let count = 0;
    return new Proxy(zfs, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        if (/^(list|capabilities|changeToken|pools|holds|close)/.test(String(name))) return value.bind(target);
        return (...given: unknown[]) => {
          if (count > 0 || JSON.stringify(given).includes('diverged')) count += 1;
          if (count >= number) return Promise.reject(new PandoError('ZFS_UNAVAILABLE', 'gone'));
          return Reflect.apply(value, target, given);
        };
      },
    });
  }

  it.each(Array.from({ length: 14 }, (_, index) => index + 1))(
    'finishes it at the next start, or takes it back, from command %i on',
    async (number) => {
      await diverge('one', 'mine');
      const { zfs } = beta;
      const before = (await zfs.list(HERE)).flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid));
      await beta.node.stop();
      beta = await world.start('beta', { ...beta, zfs: dyingAt(zfs, number) });
      await syncImages(beta).catch(() => undefined);
      await beta.node.stop();
      beta = await world.start('beta', { ...beta, zfs });
      await sync();
      const [kept, ...others] = await beta.node.diverged.list(IMAGES);
      expect(others).toEqual([]);
      expect(kept?.snapshots).toEqual(['mine']);
      const after = new Set((await zfs.list(HERE)).flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid)));
      expect(before.filter((guid) => !after.has(guid))).toEqual([]);
      expect((await TransferJournal.open(beta.node.history, () => undefined)).unfinished()).toEqual([]);
    },
  );

  it('tells nothing of a tree that it cannot put back, and says what is in the way', async () => {
    await diverge('one', 'mine');
    const { zfs } = beta;
    await beta.node.stop();
    // Behind its container, a clone, a promote and the first rename
    beta = await world.start('beta', { ...beta, zfs: dyingAt(zfs, 5) });
    await syncImages(beta).catch(() => undefined);
    await beta.node.stop();
    expect(await zfs.listOnly([HERE])).toEqual([]);
    await zfs.create(HERE);
    beta = await world.start('beta', { ...beta, zfs });
    const known = beta.node.trees.graph(IMAGES).sorted().length;
    expect(await codeOf(beta.node.verifier.verify(IMAGES))).toBe('ZFS_DATASET_EXISTS');
    expect(beta.node.trees.graph(IMAGES).sorted().length).toBe(known);
    expect(beta.node.observer.condition(IMAGES).error?.message).toContain('beta/copy');
    await zfs.destroy(HERE);
    await sync();
  });
});
