/** Bookmarks and holds that people place with plain `zfs`, as the log tells of them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BookmarkName, HoldTag } from '../../src/core/ids.ts';
import { at, dataset, IMAGES, MemoryWorld, type WorldNode } from '../main/memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let commands: string[];

beforeEach(async () => {
  commands = [];
  world = new MemoryWorld();
  alpha = await world.start('alpha', undefined, {
    onCommand: ([, verb = '']) => void commands.push(verb),
  });
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/web'));
  await alpha.zfs.snapshot([at('alpha/images/web', '1'), at('alpha/images', '1')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
});

afterEach(() => world.stop());

/** Types of the events that a look tells, in the order in which it does. A snapshot makes ZFS tell that something changed at all. */
let snapshots = 1;
async function look(): Promise<string[]> {
  snapshots += 1;
  await alpha.zfs.snapshot([at('alpha/images', String(snapshots))]);
  const { history, verifier } = alpha.node;
  const stream = history.ownStream(IMAGES);
  const from = (history.head(stream)?.seq ?? 0) + 1;
  await verifier.verify(IMAGES);
  const types: string[] = [];
  for await (const events of history.events(stream, from)) types.push(...events.map(({ type }) => type));
  return types.filter((type) => type !== 'snapshot.created');
}

function web() {
  return alpha.node.trees.graph(IMAGES).named('web' as never) ?? expect.fail();
}

const tag = (text: string) => text as HoldTag;

describe('what people hold', () => {
  it('is told by its tag, and when it is released; what Pando holds is not', async () => {
    const snapshot = at('alpha/images/web', '1');
    await alpha.zfs.hold(tag('backup'), [snapshot]);
    await alpha.zfs.hold(tag('pando:somebody:1'), [snapshot]);
    expect(await look()).toEqual(['hold.placed']);
    expect(web().holds).toEqual([{ guid: web().snapshots[0]?.guid, tag: 'backup' }]);
    await alpha.zfs.hold(tag('audit'), [snapshot]);
    await alpha.zfs.release(tag('backup'), [snapshot]);
    expect(await look()).toEqual(['hold.released', 'hold.placed']);
    expect(web().holds.map((hold) => hold.tag)).toEqual(['audit']);
    await alpha.zfs.release(tag('audit'), [snapshot]);
    expect(await look()).toEqual(['hold.released']);
  });

  it('goes with a promote to where its snapshot is', async () => {
    await alpha.zfs.hold(tag('backup'), [at('alpha/images/web', '1')]);
    await alpha.zfs.clone(at('alpha/images/web', '1'), dataset('alpha/images/clone'));
    await look();
    await alpha.zfs.promote(dataset('alpha/images/clone'));
    expect(await look()).toEqual(['dataset.promoted']);
    expect(web().holds).toEqual([]);
    await alpha.zfs.release(tag('backup'), [at('alpha/images/clone', '1')]);
    expect(await look()).toEqual(['hold.released']);
  });

  it('costs no command where nothing is held', async () => {
    await look();
    commands = [];
    await look();
    expect(commands).not.toContain('holds');
  });
});

describe('what people bookmark', () => {
  it('is told, and that it is destroyed, and made anew under the same name', async () => {
    await alpha.zfs.bookmark(at('alpha/images/web', '1'), 'mark' as BookmarkName);
    expect(await look()).toEqual(['bookmark.created']);
    await alpha.zfs.destroyBookmark({ dataset: dataset('alpha/images/web'), bookmark: 'mark' as BookmarkName });
    await alpha.zfs.snapshot([at('alpha/images/web', '2')]);
    await alpha.zfs.bookmark(at('alpha/images/web', '2'), 'mark' as BookmarkName);
    expect(await look()).toEqual(['bookmark.destroyed', 'bookmark.created']);
    expect(web().bookmarks.map(({ guid }) => guid)).toEqual([web().snapshots[1]?.guid]);
  });
});
