/** What a crash between two writes, or a damaged log, leaves of trees and mirrors, and what the next start makes of it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EventBody } from '../../src/core/events.ts';
import { ADMIN_TREE, type DatasetName, streamIdOf, type TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { History } from '../../src/log/history.ts';
import { damaged } from '../main/damaged-log.ts';
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
  await introduce(alpha, beta);
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/base'));
  await alpha.zfs.snapshot([at('alpha/images', '1'), at('alpha/images/base', '1')]);
});

afterEach(() => world.stop());

const ROOT = dataset('alpha/images');

/** Writes events to the log of a node that does not run, as the former process had before it was killed. */
async function writeTo({ identity, log }: WorldNode, tree: TreeName, bodies: readonly EventBody[]): Promise<void> {
  const history = await History.open({ log, signer: identity, now: Date.now });
  await history.record(tree, 'command', bodies);
  await history.close();
}

/** Kills a node behind a write, and starts it again. */
async function killedAfter(node: WorldNode, written: EventBody): Promise<WorldNode> {
  await node.node.stop();
  await writeTo(node, ADMIN_TREE, [written]);
  return world.start(node.pool, node);
}

function namesOf({ node }: WorldNode): string[] {
  return node.trees
    .graph(IMAGES)
    .sorted()
    .map(({ name }) => name);
}

describe('a node that was killed between two writes', () => {
  it('of adding a tree keeps the tree, with all that it has', async () => {
    alpha = await killedAfter(alpha, { type: 'local-tree.added', tree: IMAGES, root: ROOT });
    expect(alpha.node.trees.list()).toMatchObject([{ tree: IMAGES, datasets: 2, snapshots: 2, error: null }]);
    expect((await alpha.node.verifier.verify(IMAGES)).ok).toBe(true);
  });

  it('of removing a tree tells nobody of it any more', async () => {
    await alpha.node.trees.add({ tree: IMAGES, root: ROOT });
    alpha = await killedAfter(alpha, { type: 'local-tree.removed', tree: IMAGES });
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING });
    expect(await codeOf(syncImages(beta))).toBe('TREE_UNKNOWN');
    expect(alpha.node.trees.list()).toEqual([]);
  });

  it('of adding a mirror has the mirror, and syncs it', async () => {
    await alpha.node.trees.add({ tree: IMAGES, root: ROOT });
    const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING };
    beta = await killedAfter(beta, { type: 'mirror.added', ...mirror });
    await syncImages(beta);
    expect(namesOf(beta)).toEqual(['', 'base']);
  });

  it('of removing a mirror tells nobody of its copy any more', async () => {
    await alpha.node.trees.add({ tree: IMAGES, root: ROOT });
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING });
    await syncImages(beta);
    beta = await killedAfter(beta, { type: 'mirror.removed', tree: IMAGES, from: alpha.node.id });
    const stream = beta.node.history.ownStream(IMAGES);
    expect(beta.node.history.graph(stream).root).toBeNull();
  });

  it('of removing a tree and adding it elsewhere tells of the new place alone', async () => {
    await alpha.node.trees.add({ tree: IMAGES, root: ROOT });
    await alpha.node.stop();
    const elsewhere = { tree: IMAGES, root: 'alpha/images/base' as DatasetName };
    await writeTo(alpha, ADMIN_TREE, [
      { type: 'local-tree.removed', tree: IMAGES },
      { type: 'local-tree.added', ...elsewhere },
    ]);
    alpha = await world.start('alpha', alpha);
    expect(alpha.node.trees.graph(IMAGES).root).toBe('alpha/images/base');
    expect(namesOf(alpha)).toEqual(['']);
  });

  it('anywhere else writes nothing at the start', async () => {
    await alpha.node.trees.add({ tree: IMAGES, root: ROOT });
    const stream = alpha.node.history.ownStream(IMAGES);
    const before = alpha.node.history.head(stream)?.seq;
    await alpha.node.stop();
    alpha = await world.start('alpha', alpha);
    expect(alpha.node.history.head(stream)?.seq).toBe(before);
  });
});

describe('a tree whose log is damaged', () => {
  beforeEach(async () => {
    await alpha.zfs.create(dataset('alpha/homes'));
    await alpha.node.trees.add({ tree: IMAGES, root: ROOT });
    await alpha.node.trees.add({ tree: 'homes' as TreeName, root: dataset('alpha/homes') });
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING });
    await syncImages(beta);
    await alpha.node.stop();
  });

  const images = () => streamIdOf(alpha.identity.node, IMAGES);

  it('begins anew with what ZFS shows, under the same ids, and is followed on', async () => {
    const ids = alpha.node.trees
      .graph(IMAGES)
      .sorted()
      .map(({ id }) => id);
    alpha = await world.start('alpha', { ...alpha, log: damaged(alpha.log, images(), 3) });
    expect(alpha.node.history.faults()).toEqual([]);
    expect(alpha.node.history.head(images())?.incarnation).toBe(2);
    expect(
      alpha.node.trees
        .graph(IMAGES)
        .sorted()
        .map(({ id }) => id),
    ).toEqual(ids);
    await alpha.zfs.snapshot([at('alpha/images/base', '2')]);
    await syncImages(beta);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });

  it('is not shared again by that when it was removed', async () => {
    await writeTo(alpha, ADMIN_TREE, [{ type: 'local-tree.removed', tree: IMAGES }]);
    alpha = await world.start('alpha', { ...alpha, log: damaged(alpha.log, images(), 3) });
    expect(alpha.node.history.graph(images()).root).toBeNull();
  });

  it('beyond mending is listed with its error, and verified as not ok; the others go on', async () => {
    alpha = await world.start('alpha', { ...alpha, log: damaged(alpha.log, images(), 'head') });
    expect(alpha.node.trees.list()).toMatchObject([
      { tree: 'homes', datasets: 1, error: null },
      { tree: IMAGES, datasets: null, snapshots: null, error: { code: 'LOG_CORRUPT' } },
    ]);
    expect(await alpha.node.verifier.verify(IMAGES)).toMatchObject({
      ok: false,
      datasets: null,
      logs: [{ stream: images(), fault: { seq: 0 } }],
    });
    expect((await alpha.node.verifier.verify('homes' as TreeName)).ok).toBe(true);
    expect(alpha.node.observer.condition(IMAGES).error?.code).toBe('LOG_CORRUPT');
    await alpha.node.trees.remove(IMAGES);
    expect(alpha.node.trees.list()).toMatchObject([{ tree: 'homes' }]);
  });
});
