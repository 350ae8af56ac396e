import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { RelativeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
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

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  for (const name of ['alpha/images', 'alpha/images/web', 'alpha/images/web/logs']) {
    await alpha.zfs.create(dataset(name));
    await alpha.zfs.snapshot([at(name, '1')]);
  }
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await introduce(alpha, beta);
  await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING });
  await syncImages(beta);
});

afterEach(() => world.stop());

/** Somebody writes to the replica, and its owner goes on. */
async function diverge(text: string, { snapshot }: { readonly snapshot: string | null }): Promise<void> {
  await beta.zfs.setProperties([dataset('beta/copy/web')], { readonly: 'off' });
  beta.zfs.write('beta/copy/web', 'mine', text);
  if (snapshot !== null) await beta.zfs.snapshot([at('beta/copy/web', snapshot)]);
  alpha.zfs.write('alpha/images/web', 'theirs', text);
  await alpha.zfs.snapshot([at('alpha/images/web', `after-${text}`)]);
  // A sync finds out at once about what was only written to; snapshots of the replica it has to see first
  if (snapshot !== null) await beta.node.verifier.verify(IMAGES);
}

describe('what diverged', () => {
  it('is kept with its snapshots, while the replica follows, and what lies below it stays where it was', async () => {
    await diverge('one', { snapshot: 'mine' });
    const { steps } = await syncImages(beta);
    expect(steps.map(({ outcome }) => outcome.result)).not.toContain('failed');
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
    const [kept, ...others] = await beta.node.diverged.list(IMAGES);
    expect(others).toEqual([]);
    expect(kept).toMatchObject({ tree: IMAGES, from: 'beta/copy/web', snapshots: ['mine'] });
    expect(Math.abs((kept?.keptAt ?? 0) - Date.now())).toBeLessThan(60_000);
    expect(beta.zfs.read(kept?.dataset ?? '', 'mine')).toBe('one');
  });

  it('is kept where it was only written to, in the same sync that finds it out', async () => {
    await diverge('one', { snapshot: null });
    const { steps } = await syncImages(beta);
    expect(steps.map(({ step, outcome }) => `${step.kind} ${outcome.result}`)).toContain('preserve done');
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
    const [kept] = await beta.node.diverged.list(IMAGES);
    expect(beta.zfs.read(kept?.dataset ?? '', 'mine')).toBe('one');
    expect(beta.zfs.read('beta/copy/web', 'theirs')).toBe('one');
  });

  it('is kept once for each time, oldest first', async () => {
    await diverge('one', { snapshot: null });
    await syncImages(beta);
    await diverge('two', { snapshot: null });
    await syncImages(beta);
    const kept = await beta.node.diverged.list(IMAGES);
    expect(kept.map(({ dataset: name }) => beta.zfs.read(name, 'mine'))).toEqual(['one', 'two']);
  });

  it('is restored as a dataset of this node, which no sync touches', async () => {
    await diverge('one', { snapshot: 'mine' });
    await syncImages(beta);
    const [kept] = await beta.node.diverged.list(IMAGES);
    await beta.node.diverged.restore(IMAGES, kept?.copy ?? '', 'web-kept' as RelativeName);
    expect(await beta.node.diverged.list(IMAGES)).toEqual([]);
    const restored = beta.node.trees.graph(IMAGES).named('web-kept' as RelativeName);
    expect(restored?.owner.node).toBe(beta.node.id);
    beta.zfs.write('beta/copy/web-kept', 'mine', 'more');
    await syncImages(beta);
    expect(beta.zfs.read('beta/copy/web-kept', 'mine')).toBe('more');
  });

  it('is dropped when somebody says so, and not while something was cloned from it', async () => {
    await diverge('one', { snapshot: 'mine' });
    await syncImages(beta);
    const [kept] = await beta.node.diverged.list(IMAGES);
    const copy = kept?.copy ?? '';
    await beta.zfs.clone(at(kept?.dataset ?? '', 'mine'), dataset('beta/clone'));
    expect(await codeOf(beta.node.diverged.drop(IMAGES, copy))).toBe('ZFS_HAS_DEPENDENTS');
    await beta.zfs.destroy(dataset('beta/clone'));
    await beta.node.diverged.drop(IMAGES, copy);
    expect(await beta.node.diverged.list(IMAGES)).toEqual([]);
    expect(await codeOf(beta.node.diverged.drop(IMAGES, copy))).toBe('DIVERGED_UNKNOWN');
  });

  it('is nothing in a tree that never diverged, and is not restored over what is there', async () => {
    expect(await beta.node.diverged.list(IMAGES)).toEqual([]);
    await diverge('one', { snapshot: 'mine' });
    await syncImages(beta);
    const [kept] = await beta.node.diverged.list(IMAGES);
    const restore = (name: string) =>
      codeOf(beta.node.diverged.restore(IMAGES, kept?.copy ?? '', name as RelativeName));
    expect(await restore('web')).toBe('ZFS_DATASET_EXISTS');
    expect(await restore('')).toBe('NAME_INVALID');
    expect(await restore('.pando/x')).toBe('NAME_INVALID');
    expect((await beta.node.diverged.list(IMAGES)).length).toBe(1);
  });
});

describe('a step that fails once', () => {
  it('after the dataset was moved is not the end of it: the next sync finishes what was begun', async () => {
    await diverge('one', { snapshot: 'mine' });
    const rename = beta.zfs.rename.bind(beta.zfs);
    let failures = 0;
    beta.zfs.rename = (from, to) => {
      const fails = from.includes('successor') && failures === 0;
      if (fails) failures += 1;
      return fails ? Promise.reject(new PandoError('ZFS_BUSY', 'dataset is busy')) : rename(from, to);
    };
    await syncImages(beta);
    await syncImages(beta);
    expect(failures).toBe(1);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
    const [kept] = await beta.node.diverged.list(IMAGES);
    expect(kept).toMatchObject({ from: 'beta/copy/web', snapshots: ['mine'] });
    expect((await beta.zfs.list(dataset('beta'))).filter(({ name }) => name.includes('successor'))).toEqual([]);
  });
});

describe('a node that is gone in the middle of keeping what diverged', () => {
  /** A ZFS that is gone from the first command on that is called so and is about what diverged. */
  function dyingAt(zfs: MemoryZfs, command: keyof MemoryZfs): MemoryZfs {
    let dead = false;
    return new Proxy(zfs, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        if (name === 'close') return value.bind(target);
        return (...given: unknown[]) => {
          dead ||= name === command && JSON.stringify(given).includes('diverged');
          if (dead) return Promise.reject(new PandoError('ZFS_UNAVAILABLE', 'gone'));
          return Reflect.apply(value, target, given);
        };
      },
    });
  }

  it.each(['create', 'clone', 'promote', 'rename', 'setProperties', 'inheritProperty'] as const)(
    'finishes it at the next start, from its "%s" on',
    async (command) => {
      await diverge('one', { snapshot: 'mine' });
      const before = (await beta.zfs.list(dataset('beta/copy'))).flatMap(({ snapshots }) => snapshots);
      const { zfs } = beta;
      await beta.node.stop();
      beta = await world.start('beta', { ...beta, zfs: dyingAt(zfs, command) });
      const { steps } = await syncImages(beta);
      expect(steps.map(({ step, outcome }) => `${step.kind} ${outcome.result}`)).toContain('preserve failed');
      await beta.node.stop();
      beta = await world.start('beta', { ...beta, zfs });
      expect((await beta.node.diverged.list(IMAGES)).length).toBe(1);
      await syncImages(beta);
      expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
      const [kept, ...others] = await beta.node.diverged.list(IMAGES);
      expect(others).toEqual([]);
      expect(kept?.snapshots).toEqual(['mine']);
      const after = (await zfs.list(dataset('beta/copy'))).flatMap(({ snapshots }) =>
        snapshots.map(({ guid }) => guid),
      );
      for (const { guid } of before) expect(after).toContain(guid);
    },
  );
});
