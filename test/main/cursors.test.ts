/** Bookmarks as cursors: what an owner destroys that a replica goes on from is no loss. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { BookmarkName, RelativeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
/** The dataset that beta's ZFS does not receive into. */
let refused: string | undefined;
/** What happens at alpha before it bookmarks a snapshot. */
let beforeBookmark: (snapshot: string) => Promise<void>;

beforeEach(async () => {
  world = new MemoryWorld();
  beforeBookmark = async () => undefined;
  alpha = await world.start('alpha', undefined, {
    onCommand: async ([, verb, snapshot = '']) => {
      if (verb === 'bookmark') await beforeBookmark(snapshot);
    },
  });
  refused = undefined;
  beta = await world.start('beta', undefined, {
    onCommand: ([, verb, ...words]) => {
      if (verb === 'receive' && words.includes(refused ?? ''))
        throw new PandoError('ZFS_FAILED', 'It does not want to.');
    },
  });
  await introduce(alpha, beta);
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/web'));
  await change('1');
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await beta.node.mirrors.add({
    ...{ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy') },
    ...EVERYTHING,
  });
});

afterEach(() => world.stop());

async function change(snapshot: string): Promise<void> {
  alpha.zfs.write('alpha/images/web', `file-${snapshot}`, snapshot);
  await alpha.zfs.snapshot([at('alpha/images/web', snapshot), at('alpha/images', snapshot)]);
}

/** Bookmarks of a dataset as ZFS has them, by the snapshot that each stands for. */
async function cursors(node: WorldNode, name: string): Promise<string[]> {
  const [listed] = await node.zfs.listOnly([dataset(name)]);
  return (listed?.bookmarks ?? []).map((bookmark) => bookmark.name);
}

/** Waits until alpha's log tells of these bookmarks, and no others: they are moved behind the back of the receiver. */
async function untilLogged(...names: string[]): Promise<void> {
  await expect.poll(() => logged()).toEqual(names);
}

function logged(): string[] {
  const datasets = alpha.node.trees.graph(IMAGES).sorted();
  return datasets.flatMap(({ name, bookmarks }) => bookmarks.map((bookmark) => `${name}#${bookmark.name}`));
}

function guidOf(name: string): string {
  const { snapshots } = alpha.node.trees.graph(IMAGES).named(name as never) ?? {};
  return snapshots?.at(-1)?.guid ?? expect.fail();
}

function cursor(name: string, guid = guidOf(name)): string {
  return `pando:${beta.node.id}:${guid}`;
}

describe('what a peer has received', () => {
  it('has a bookmark at its owner, one for each dataset, that the log tells of', async () => {
    await syncImages(beta);
    const first = cursor('web');
    await untilLogged(`#${cursor('')}`, `web#${first}`);
    expect(await cursors(alpha, 'alpha/images/web')).toEqual([first]);
    await change('2');
    await syncImages(beta);
    await untilLogged(`#${cursor('')}`, `web#${cursor('web')}`);
    expect(cursor('web')).not.toBe(first);
    expect(await cursors(alpha, 'alpha/images/web')).toEqual([cursor('web')]);
  });

  it('can be destroyed there, and the replica goes on with an increment', async () => {
    await syncImages(beta);
    await untilLogged(`#${cursor('')}`, `web#${cursor('web')}`);
    await alpha.zfs.destroySnapshot(at('alpha/images/web', '1'));
    for (const snapshot of ['2', '3', '4']) await change(snapshot);
    const { plan, steps } = await syncImages(beta);
    expect(plan.conflicts).toEqual([]);
    const ofWeb = steps.filter(({ step }) => step.name === 'web');
    expect(ofWeb.map(({ step, outcome }) => [step.kind, outcome.result])).toEqual([
      ['receive-incremental', 'done'],
      ['receive-incremental', 'done'],
    ]);
    expect(beta.zfs.contentsOf('beta/copy/web')).toEqual({
      'file-1': '1',
      'file-2': '2',
      'file-3': '3',
      'file-4': '4',
    });
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });

  it('is given up with the peer', async () => {
    await syncImages(beta);
    await untilLogged(`#${cursor('')}`, `web#${cursor('web')}`);
    await alpha.zfs.bookmark(at('alpha/images/web', '1'), 'mine' as BookmarkName);
    await alpha.node.peers.remove(beta.node.id);
    await untilLogged('web#mine');
    expect(await cursors(alpha, 'alpha/images/web')).toEqual(['mine']);
  });

  it('has none where it failed to come', async () => {
    refused = 'beta/copy/web';
    await syncImages(beta);
    await untilLogged(`#${cursor('')}`);
    expect(await cursors(alpha, 'alpha/images/web')).toEqual([]);
  });

  it('keeps the bookmark that it had where the snapshot is gone before there is another', async () => {
    await syncImages(beta);
    await untilLogged(`#${cursor('')}`, `web#${cursor('web')}`);
    const first = cursor('web');
    await change('2');
    beforeBookmark = async (snapshot) => {
      if (snapshot === 'alpha/images/web@2') await alpha.zfs.destroySnapshot(at('alpha/images/web', '2'));
    };
    await syncImages(beta);
    await untilLogged(`#${cursor('')}`, `web#${first}`);
    await expect.poll(() => cursors(alpha, 'alpha/images')).toEqual([cursor('')]);
    expect(await cursors(alpha, 'alpha/images/web')).toEqual([first]);
  });
});

describe('an increment from a bookmark', () => {
  it('that somebody destroys meanwhile fails, and the next sync says what there is to choose', async () => {
    await syncImages(beta);
    await untilLogged(`#${cursor('')}`, `web#${cursor('web')}`);
    const [name] = await cursors(alpha, 'alpha/images/web');
    await alpha.zfs.destroySnapshot(at('alpha/images/web', '1'));
    await change('2');
    await alpha.node.verifier.verify(IMAGES).catch(() => undefined);
    await alpha.zfs.destroyBookmark({ dataset: dataset('alpha/images/web'), bookmark: name as BookmarkName });
    const { steps } = await syncImages(beta, { refresh: false });
    const failed = steps.flatMap(({ outcome }) => (outcome.result === 'failed' ? [outcome.error.code] : []));
    expect(failed).toEqual(['TRANSFER_FAILED']);
    await alpha.zfs.snapshot([at('alpha/images/web', '3')]);
    const { plan } = await syncImages(beta);
    expect(plan.conflicts.map(({ reason }) => reason)).toEqual(['no-common-snapshot']);
  });
});

describe('bookmarks that people have made in a replica', () => {
  it('keep a promote from following while two have one name, until people destroy one of them', async () => {
    await alpha.zfs.clone(at('alpha/images/web', '1'), dataset('alpha/images/next'));
    await alpha.zfs.snapshot([at('alpha/images/next', '2')]);
    await syncImages(beta);
    const mine = 'mine' as BookmarkName;
    await beta.zfs.bookmark(at('beta/copy/web', '1'), mine);
    await beta.zfs.bookmark(at('beta/copy/next', '2'), mine);
    await alpha.zfs.promote(dataset('alpha/images/next'));
    const conflicts = async () =>
      (await syncImages(beta)).plan.conflicts.map(({ name, reason }) => `${name} ${reason}`);
    await beta.node.observer.lookAt(watched(), ['web', 'next'] as RelativeName[], 'observed');
    expect([await conflicts(), await conflicts()]).toEqual([['next same-bookmarks'], ['next same-bookmarks']]);
    await beta.zfs.destroyBookmark({ dataset: dataset('beta/copy/web'), bookmark: mine });
    expect(await conflicts()).toEqual([]);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
  });

  function watched() {
    return {
      ...{ tree: IMAGES, root: dataset('beta/copy'), mayBeAbsent: true },
      ownerOf: () => ({ node: alpha.node.id, epoch: 1 }),
      saidOwnerOf: () => undefined,
      claims: () => () => undefined,
      atOwner: () => new Set<never>(),
      heard: () => null,
    };
  }
});
