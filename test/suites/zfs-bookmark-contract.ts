/** The part of the Zfs contract about bookmarks. See `zfs-contract.ts`. */
import { expect, test } from 'vitest';
import type { BookmarkName, DatasetName } from '../../src/core/ids.ts';
import { PLAIN_STREAM } from '../../src/core/stream-flags.ts';
import type { BookmarkReference, SendRequest, SnapshotReference } from '../../src/zfs/zfs.ts';
import { asNew, at, below, codeOf, full, into, type ZfsWorld } from './zfs-world.ts';

const WITHOUT_BOOKMARKS = 'this ZFS has no bookmarks';

export function zfsBookmarkContract(use: () => ZfsWorld): void {
  test('a ZFS without bookmarks says so', async ({ skip }) => {
    const world = use();
    if (world.capabilities.bookmarks) return skip('this ZFS has bookmarks');
    const root = await world.root();
    const first = await world.change(at(root, '1'));
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.bookmark(first, label('mark')));
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.destroyBookmark(mark(root, 'mark')));
    expect((await world.dataset(root)).bookmarks).toEqual([]);
  });

  test('a bookmark has the guid and the place of its snapshot, and outlives it and a rename', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.bookmarks) return skip(WITHOUT_BOOKMARKS);
    const root = await world.root();
    const source = below(root, 'source');
    await world.zfs.create(source);
    const [first, second] = [await world.change(at(source, '1')), await world.change(at(source, '2'))];
    const [one, two] = [await world.snapshot(first), await world.snapshot(second)];
    await world.zfs.bookmark(second, label('newer'));
    await world.zfs.bookmark(first, label('b of: first'));
    await world.zfs.bookmark(first, label('a'));
    await world.zfs.destroySnapshot(first);
    const moved = below(root, 'moved');
    await world.zfs.rename(source, moved);
    expect((await world.dataset(moved)).bookmarks).toEqual([
      { guid: one.guid, name: 'a', createtxg: one.createtxg },
      { guid: one.guid, name: 'b of: first', createtxg: one.createtxg },
      { guid: two.guid, name: 'newer', createtxg: two.createtxg },
    ]);
    const listed = await world.zfs.list(root);
    expect(listed.map(({ name, bookmarks }) => [name, bookmarks.length])).toEqual([
      [root, 0],
      [moved, 3],
    ]);
    await world.zfs.destroyBookmark(mark(moved, 'a'));
    expect((await world.dataset(moved)).bookmarks.map(({ name }) => name)).toEqual(['b of: first', 'newer']);
    await world.zfs.destroy(moved);
  });

  test('what is not there cannot be bookmarked, nor a name given twice, nor what is not there destroyed', async ({
    skip,
  }) => {
    const world = use();
    if (!world.capabilities.bookmarks) return skip(WITHOUT_BOOKMARKS);
    const root = await world.root();
    const first = await world.change(at(root, '1'));
    await world.zfs.bookmark(first, label('mark'));
    await world.refuses('ZFS_DATASET_EXISTS', [root], () => world.zfs.bookmark(first, label('mark')));
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.bookmark(at(root, 'gone'), label('other')));
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.destroyBookmark(mark(root, 'other')));
  });

  test('an increment from a bookmark goes on behind a snapshot that is gone at its source', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.bookmarks) return skip(WITHOUT_BOOKMARKS);
    const source = await world.root();
    const target = world.fresh('otherPool');
    const first = await world.change(at(source, '1'));
    await world.transfer(full(first), asNew(target));
    await world.zfs.bookmark(first, label('cursor'));
    await world.zfs.destroySnapshot(first);
    const second = await world.change(at(source, '2'));
    const { received } = await world.transfer(behind(mark(source, 'cursor'), second), into(target));
    expect(codeOf(received)).toBe('done');
    expect((await world.history(target)).slice(1)).toEqual(await world.history(source));
    expect(await world.underTest.readFile(target, 'file-2')).toBe('text of 2');
    const stale = world.transfer(behind(mark(source, 'gone'), second), into(target));
    expect(codeOf((await stale).sent)).toBe('ZFS_BASE_MISSING');
    await world.zfs.bookmark(second, label('late'));
    const late = world.transfer(behind(mark(source, 'late'), second), into(target));
    expect(codeOf((await late).sent)).toBe('ZFS_BASE_MISSING');
  });

  test('a promote takes along the bookmarks of the snapshots that move', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.bookmarks) return skip(WITHOUT_BOOKMARKS);
    const root = await world.root();
    const [source, clone] = [below(root, 'source'), below(root, 'clone')];
    await world.zfs.create(source);
    for (const name of ['1', '2', '3']) {
      await world.change(at(source, name));
      await world.zfs.bookmark(at(source, name), label(`of ${name}`));
    }
    await world.zfs.clone(at(source, '2'), clone);
    await world.zfs.promote(clone);
    expect(await marks(world, source)).toEqual(['of 3']);
    expect(await marks(world, clone)).toEqual(['of 1', 'of 2']);
  });

  test('a rollback destroys the bookmarks of the snapshots that it destroys', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.bookmarks) return skip(WITHOUT_BOOKMARKS);
    const root = await bookmarkedTwice(world);
    await world.zfs.rollback(at(root, '1'), { destroyNewer: true });
    expect(await marks(world, root)).toEqual(['of 1']);
  });

  test('a rollback destroys newer bookmarks also where no snapshot may go', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.bookmarks) return skip(WITHOUT_BOOKMARKS);
    const root = await bookmarkedTwice(world);
    await world.zfs.destroySnapshot(at(root, '2'));
    await world.zfs.rollback(at(root, '1'), { destroyNewer: false });
    expect(await marks(world, root)).toEqual(['of 1']);
  });

  test('a promote that would bring two bookmarks of one name together is refused', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.bookmarks) return skip(WITHOUT_BOOKMARKS);
    const root = await world.root();
    const [source, clone] = [below(root, 'source'), below(root, 'clone')];
    await world.zfs.create(source);
    await world.change(at(source, '1'));
    await world.zfs.bookmark(at(source, '1'), label('same'));
    await world.zfs.clone(at(source, '1'), clone);
    await world.zfs.snapshot([at(clone, '2')]);
    await world.zfs.bookmark(at(clone, '2'), label('same'));
    await world.refuses('ZFS_DATASET_EXISTS', [root], () => world.zfs.promote(clone));
    await world.zfs.destroyBookmark(mark(clone, 'same'));
    // A later one stays where it is, and is in nobody's way
    await world.change(at(source, '3'));
    await world.zfs.bookmark(at(source, '3'), label('later'));
    await world.zfs.bookmark(at(clone, '2'), label('later'));
    await world.zfs.promote(clone);
    expect([await marks(world, source), await marks(world, clone)]).toEqual([['later'], ['same', 'later']]);
  });
}

/** A dataset with two snapshots, and a bookmark of each. */
async function bookmarkedTwice(world: ZfsWorld): Promise<DatasetName> {
  const root = await world.root();
  for (const name of ['1', '2']) {
    await world.change(at(root, name));
    await world.zfs.bookmark(at(root, name), label(`of ${name}`));
  }
  return root;
}

function label(text: string): BookmarkName {
  return text as BookmarkName;
}

function mark(dataset: DatasetName, text: string): BookmarkReference {
  return { dataset, bookmark: label(text) };
}

async function marks(world: ZfsWorld, name: DatasetName): Promise<string[]> {
  return (await world.dataset(name)).bookmarks.map((bookmark) => bookmark.name);
}

function behind(base: BookmarkReference, snapshot: SnapshotReference): SendRequest {
  return { snapshot, base, flags: PLAIN_STREAM, resumeToken: null };
}
