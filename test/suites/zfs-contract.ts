/**
 * What each driver behind the Zfs port keeps to: MemoryZfs and the command line on real pools run the same tests. A refusal is always
 * checked together with "nothing changed".
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseDatasetName } from '../../src/core/ids.ts';
import { zfsBookmarkContract } from './zfs-bookmark-contract.ts';
import { zfsChainContract } from './zfs-chain-contract.ts';
import { zfsResumeContract } from './zfs-resume-contract.ts';
import { zfsStreamContract } from './zfs-stream-contract.ts';
import { at, below, tag, type ZfsUnderTest, ZfsWorld } from './zfs-world.ts';

/** How long a change token may stay unsettled after a change, in ms: two seconds, and commands that an emulated machine takes its time for. */
const SETTLE_MS_MAX = 60_000;

/** `setup` makes a Zfs with two empty pools; the tests share them, each below a dataset of its own. */
export function zfsContract(name: string, setup: () => Promise<ZfsUnderTest>): void {
  describe(`${name} keeps the Zfs contract`, () => {
    let world: ZfsWorld;
    beforeAll(async () => {
      const underTest = await setup();
      world = new ZfsWorld(underTest, await underTest.zfs.capabilities());
    });
    afterAll(() => world?.underTest.cleanup());

    const use = (): ZfsWorld => world;
    describe('datasets', () => datasetTests(use));
    describe('listings', () => listingTests(use));
    describe('snapshots', () => snapshotTests(use));
    describe('clones and promotes', () => cloneTests(use));
    describe('renames', () => renameTests(use));
    describe('destroys', () => destroyTests(use));
    describe('properties', () => propertyTests(use));
    describe('mounts', () => mountTests(use));
    describe('holds', () => holdTests(use));
    describe('streams', () => zfsStreamContract(use));
    describe('bookmarks', () => zfsBookmarkContract(use));
    describe('chains', () => zfsChainContract(use));
    describe('resumed streams', () => zfsResumeContract(use));
  });
}

function datasetTests(use: () => ZfsWorld): void {
  test('the pools are listed by name', async () => {
    const { zfs, underTest } = use();
    expect(await zfs.pools()).toEqual(expect.arrayContaining([underTest.pool, underTest.otherPool]));
  });

  test('a new filesystem has no origin and no snapshots', async () => {
    const world = use();
    const root = await world.root();
    expect(await world.dataset(root)).toMatchObject({ name: root, kind: 'filesystem', origin: null, snapshots: [] });
  });

  test('names may hold spaces, colons, dots and dashes', async () => {
    const world = use();
    const root = await world.root();
    const name = below(root, 'with space:colon.dot-dash_ 1');
    await world.zfs.create(name);
    await world.change(at(name, 'snap one:two'));
    expect((await world.zfs.list(root)).map((dataset) => dataset.name)).toEqual([root, name]);
    expect((await world.snapshot(at(name, 'snap one:two'))).name).toBe('snap one:two');
  });

  test('creating what exists is refused', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_DATASET_EXISTS', [root], () => world.zfs.create(root));
  });

  test('creating below a missing parent is refused', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.create(below(root, 'missing/child')));
  });

  test('creating in a missing pool is refused as such', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_NO_POOL', [root], () => world.zfs.create(parseDatasetName('pando-no-such-pool/a')));
  });

  test('a pool cannot be created as a dataset', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_NAME_REFUSED', [root], () => world.zfs.create(parseDatasetName(world.underTest.pool)));
  });

  test('creating with a property that ZFS does not know is refused', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.create(below(root, 'a'), { nonsense: 'on' }));
  });
}

function listingTests(use: () => ZfsWorld): void {
  test('a listing has parents before children, and each dataset once', async () => {
    const world = use();
    const root = await world.root();
    for (const name of ['b', 'a', 'a/x', 'a-b', 'a.c']) await world.zfs.create(below(root, name));
    const names = (await world.zfs.list(root)).map(({ name }) => name);
    expect(names[0]).toBe(root);
    expect(names.toSorted()).toEqual(
      [root, ...['a', 'a-b', 'a.c', 'a/x', 'b'].map((name) => below(root, name))].toSorted(),
    );
    expect(names.indexOf(below(root, 'a'))).toBeLessThan(names.indexOf(below(root, 'a/x')));
  });

  test("a listing of exactly some datasets has neither their children nor the children's snapshots", async () => {
    const world = use();
    const root = await world.root();
    await world.zfs.create(below(root, 'child'));
    await world.change(at(root, 'one'));
    await world.change(at(below(root, 'child'), 'two'));
    const listed = await world.zfs.listOnly([root]);
    expect(listed.map(({ name }) => name)).toEqual([root]);
    expect(listed[0]?.snapshots.map(({ name }) => name)).toEqual(['one']);
  });

  test('a listing of exactly some datasets leaves out those that do not exist', async () => {
    const world = use();
    const root = await world.root();
    const listed = await world.zfs.listOnly([below(root, 'missing'), root]);
    expect(listed.map(({ name }) => name)).toEqual([root]);
  });

  test('single snapshots are listed as with their dataset, and null stands for those that are missing', async () => {
    const world = use();
    const [root, other] = [await world.root(), await world.root('otherPool')];
    for (const snapshot of [at(root, 'one'), at(root, 'two'), at(other, 'one')]) await world.change(snapshot);
    const [, two] = (await world.dataset(root)).snapshots;
    const [first] = (await world.dataset(other)).snapshots;
    const asked = [at(root, 'two'), at(root, 'missing'), at(below(root, 'missing'), 'one'), at(other, 'one')];
    expect(await world.zfs.listSnapshots(asked)).toEqual([two, null, null, first]);
    expect(await world.zfs.listSnapshots([])).toEqual([]);
  });

  test('both listings say the same about a dataset', async () => {
    const world = use();
    const root = await world.root();
    await world.change(at(root, 'one'));
    await world.zfs.setProperties([root], { 'pando:id': 'x', atime: 'off' });
    expect(await world.zfs.listOnly([root])).toEqual(await world.zfs.list(root));
  });

  test('a missing root is told from a missing pool', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.list(below(root, 'missing')));
    const gone = parseDatasetName('pando-no-such-pool/a');
    await world.refuses('ZFS_NO_POOL', [root], () => world.zfs.list(gone));
    await world.refuses('ZFS_NO_POOL', [root], () => world.zfs.listOnly([gone]));
  });

  test('an aborted listing rejects as such', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_ABORTED', [root], () => world.zfs.list(root, AbortSignal.abort()));
  });

  test('the change token differs after each change, and is the same when nothing changed', async ({ skip }) => {
    const world = use();
    const root = await world.root();
    if (!world.capabilities.snapshotsChanged) {
      expect(await world.zfs.changeToken(root)).toBeNull();
      return skip('this ZFS has no snapshots_changed');
    }
    const changes = [
      () => world.zfs.create(below(root, 'a')),
      () => world.zfs.snapshot([at(below(root, 'a'), 's')]),
      () => world.zfs.clone(at(below(root, 'a'), 's'), below(root, 'clone')),
      () => world.zfs.promote(below(root, 'clone')),
      () => world.zfs.renameSnapshot(at(below(root, 'clone'), 's'), at(root, 't').snapshot),
      () => world.zfs.setProperties([below(root, 'a')], { 'pando:x': '1' }),
      () => world.zfs.rename(below(root, 'clone'), below(root, 'renamed')),
      () => world.zfs.destroy(below(root, 'a')),
      () => world.zfs.destroySnapshot(at(below(root, 'renamed'), 't')),
    ];
    const settled = async (): Promise<string | null> => {
      let last: string | null = null;
      const isSame = async (): Promise<boolean> => {
        const before = last;
        last = await world.zfs.changeToken(root);
        return last === before;
      };
      await expect.poll(isSame, { timeout: SETTLE_MS_MAX }).toBe(true);
      return last;
    };
    let token = await settled();
    for (const change of changes) {
      await change();
      expect(await world.zfs.changeToken(root)).not.toBe(token);
      token = await settled();
    }
  });
}

function snapshotTests(use: () => ZfsWorld): void {
  test('snapshots are listed oldest first by createtxg, with what they refer to', async () => {
    const world = use();
    const root = await world.root();
    for (const name of ['z', 'a', 'm']) await world.change(at(root, name));
    const { snapshots } = await world.dataset(root);
    expect(snapshots.map(({ name }) => name)).toEqual(['z', 'a', 'm']);
    expect(snapshots.map(({ createtxg }) => createtxg)).toEqual(
      snapshots.map(({ createtxg }) => createtxg).toSorted((a, b) => a - b),
    );
    expect(new Set(snapshots.map(({ guid }) => guid)).size).toBe(3);
    for (const snapshot of snapshots) {
      expect(snapshot.referenced).toBeGreaterThan(0);
      expect(snapshot.creation).toBeGreaterThan(1_600_000_000);
      expect(snapshot.written === null || snapshot.written > 0).toBe(true);
      expect(snapshot.userrefs).toBe(0);
    }
  });

  test('several datasets are snapshotted with one call', async () => {
    const world = use();
    const root = await world.root();
    await world.zfs.create(below(root, 'a'));
    await world.zfs.snapshot([at(root, 's'), at(below(root, 'a'), 's')]);
    expect((await world.zfs.list(root)).map(({ snapshots }) => snapshots.length)).toEqual([1, 1]);
  });

  test('a snapshot that exists, or of a missing dataset, is refused', async () => {
    const world = use();
    const root = await world.root();
    await world.change(at(root, 's'));
    await world.refuses('ZFS_DATASET_EXISTS', [root], () => world.zfs.snapshot([at(root, 's')]));
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.snapshot([at(below(root, 'missing'), 's')]));
  });

  test('a renamed snapshot keeps its guid', async () => {
    const world = use();
    const root = await world.root();
    await world.change(at(root, 's'));
    const before = await world.snapshot(at(root, 's'));
    await world.zfs.renameSnapshot(at(root, 's'), at(root, 't').snapshot);
    expect(await world.snapshot(at(root, 't'))).toEqual({ ...before, name: 't' });
  });

  test('a snapshot is not renamed to a name that is taken, and a missing one not at all', async () => {
    const world = use();
    const root = await world.root();
    await world.change(at(root, 's'));
    await world.change(at(root, 't'));
    const rename = (from: string, to: string) => () => world.zfs.renameSnapshot(at(root, from), at(root, to).snapshot);
    await world.refuses('ZFS_DATASET_EXISTS', [root], rename('s', 't'));
    await world.refuses('ZFS_NOT_FOUND', [root], rename('missing', 'u'));
  });
}

function cloneTests(use: () => ZfsWorld): void {
  test('a clone has the content and names its origin with its guid', async () => {
    const world = use();
    const root = await world.root();
    const origin = await world.change(at(root, 's'));
    await world.zfs.clone(origin, below(root, 'clone'), { 'pando:id': 'y' });
    expect(await world.dataset(below(root, 'clone'))).toMatchObject({
      origin: { reference: origin, guid: (await world.snapshot(origin)).guid },
      properties: { 'pando:id': 'y' },
      snapshots: [],
    });
    expect(await world.underTest.readFile(below(root, 'clone'), 'file-s')).toBe('text of s');
  });

  test('cloning a missing snapshot, to a taken name, or to another pool is refused', async () => {
    const world = use();
    const root = await world.root();
    const other = await world.root('otherPool');
    await world.change(at(root, 's'));
    const clone = (snapshot: string, target: typeof root) => () => world.zfs.clone(at(root, snapshot), target);
    await world.refuses('ZFS_NOT_FOUND', [root], clone('missing', below(root, 'clone')));
    await world.refuses('ZFS_DATASET_EXISTS', [root], clone('s', root));
    await world.refuses('ZFS_NOT_FOUND', [root], clone('s', below(root, 'missing/clone')));
    await world.refuses('ZFS_NAME_REFUSED', [root, other], clone('s', below(other, 'clone')));
  });

  test('a promote moves the origin and all before it, and turns the edge round', async () => {
    const world = use();
    const root = await world.root();
    const [source, clone] = [below(root, 'source'), below(root, 'clone')];
    await world.zfs.create(source);
    for (const name of ['1', '2', '3']) await world.change(at(source, name));
    await world.zfs.clone(at(source, '2'), clone);
    await world.change(at(clone, 'c'));
    const before = await world.history(source);
    const ofClone = await world.history(clone);
    await world.zfs.promote(clone);
    expect(await world.history(clone)).toEqual([...before.slice(0, 2), ...ofClone]);
    expect(await world.history(source)).toEqual(before.slice(2));
    expect((await world.dataset(clone)).origin).toBeNull();
    expect((await world.dataset(source)).origin?.reference).toEqual(at(clone, '2'));
  });

  test('a promote passes the origin of the origin on, and takes other clones along', async () => {
    const world = use();
    const root = await world.root();
    const [first, second, third, side] = [below(root, '1'), below(root, '2'), below(root, '3'), below(root, 'side')];
    await world.zfs.create(first);
    await world.change(at(first, 'a'));
    await world.zfs.clone(at(first, 'a'), second);
    await world.change(at(second, 'b'));
    await world.zfs.clone(at(second, 'b'), third);
    await world.zfs.clone(at(second, 'b'), side);
    await world.zfs.promote(third);
    const origins = await Promise.all(
      [second, third, side].map(async (name) => (await world.dataset(name)).origin?.reference),
    );
    expect(origins).toEqual([at(third, 'b'), at(first, 'a'), at(third, 'b')]);
  });

  test('a user hold does not stop a promote and moves with its snapshot', async () => {
    const world = use();
    const root = await world.root();
    const [source, clone] = [below(root, 'source'), below(root, 'clone')];
    await world.zfs.create(source);
    await world.change(at(source, 's'));
    await world.zfs.clone(at(source, 's'), clone);
    await world.zfs.hold(tag('keep'), [at(source, 's')]);
    await world.zfs.promote(clone);
    expect((await world.snapshot(at(clone, 's'))).userrefs).toBe(1);
    await world.zfs.release(tag('keep'), [at(clone, 's')]);
    expect((await world.snapshot(at(clone, 's'))).userrefs).toBe(0);
  });

  test('promoting what is no clone, what is missing, or over a snapshot of the same name is refused', async () => {
    const world = use();
    const root = await world.root();
    const clone = below(root, 'clone');
    await world.change(at(root, 's'));
    await world.zfs.clone(at(root, 's'), clone);
    await world.change(at(clone, 's'));
    await world.refuses('ZFS_NOT_A_CLONE', [root], () => world.zfs.promote(root));
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.promote(below(root, 'missing')));
    await world.refuses('ZFS_DATASET_EXISTS', [root], () => world.zfs.promote(clone));
  });
}

function renameTests(use: () => ZfsWorld): void {
  test('a rename takes children and snapshots along and keeps guids', async () => {
    const world = use();
    const root = await world.root();
    const [from, to] = [below(root, 'from'), below(root, 'to')];
    await world.zfs.create(from);
    await world.zfs.create(below(from, 'child'));
    await world.change(at(below(from, 'child'), 's'));
    const before = await world.zfs.list(from);
    await world.zfs.rename(from, to);
    const renamed = before.map((dataset) => ({ ...dataset, name: dataset.name.replace(from, to) }));
    expect(await world.zfs.list(to)).toEqual(renamed);
    expect(await world.zfs.listOnly([from])).toEqual([]);
  });

  test('a clone follows its origin through a rename', async () => {
    const world = use();
    const root = await world.root();
    await world.zfs.create(below(root, 'from'));
    await world.change(at(below(root, 'from'), 's'));
    await world.zfs.clone(at(below(root, 'from'), 's'), below(root, 'clone'));
    await world.zfs.rename(below(root, 'from'), below(root, 'to'));
    expect((await world.dataset(below(root, 'clone'))).origin?.reference).toEqual(at(below(root, 'to'), 's'));
  });

  test('a rename to a taken name, below a missing parent, into itself or to another pool is refused', async () => {
    const world = use();
    const root = await world.root();
    const other = await world.root('otherPool');
    for (const name of ['a', 'b']) await world.zfs.create(below(root, name));
    const rename = (to: typeof root) => () => world.zfs.rename(below(root, 'a'), to);
    await world.refuses('ZFS_DATASET_EXISTS', [root], rename(below(root, 'b')));
    await world.refuses('ZFS_NOT_FOUND', [root], rename(below(root, 'missing/a')));
    await world.refuses('ZFS_NAME_REFUSED', [root], rename(below(root, 'a/b')));
    await world.refuses('ZFS_NAME_REFUSED', [root, other], rename(below(other, 'a')));
  });

  test('renaming what is missing, or a pool, is refused', async () => {
    const world = use();
    const root = await world.root();
    const pool = parseDatasetName(world.underTest.pool);
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.rename(below(root, 'missing'), below(root, 'a')));
    await world.refuses('ZFS_NAME_REFUSED', [root], () => world.zfs.rename(pool, below(root, 'a')));
  });
}

function destroyTests(use: () => ZfsWorld): void {
  test('a dataset goes with its snapshots, and nothing else goes', async () => {
    const world = use();
    const root = await world.root();
    for (const name of ['a', 'ab', 'b']) await world.zfs.create(below(root, name));
    for (const name of ['1', '2', '3']) await world.change(at(below(root, 'a'), name));
    const others = (await world.zfs.list(root)).filter(({ name }) => name !== below(root, 'a'));
    await world.zfs.destroy(below(root, 'a'));
    expect(await world.zfs.list(root)).toEqual(others);
  });

  test('a dataset with children is not destroyed, and they are named', async () => {
    const world = use();
    const root = await world.root();
    await world.zfs.create(below(root, 'child'));
    await world.change(at(root, 's'));
    const { evidence } = await world.refuses('ZFS_HAS_DEPENDENTS', [root], () => world.zfs.destroy(root));
    expect(evidence.dependents).toEqual([below(root, 'child')]);
  });

  test('a dataset whose snapshots have clones is not destroyed, and they are named', async () => {
    const world = use();
    const root = await world.root();
    const elsewhere = world.fresh();
    await world.change(at(root, '1'));
    await world.change(at(root, '2'));
    await world.zfs.clone(at(root, '1'), elsewhere);
    const { evidence } = await world.refuses('ZFS_HAS_DEPENDENTS', [root, elsewhere], () => world.zfs.destroy(root));
    expect(evidence.dependents).toEqual([elsewhere]);
  });

  test('a dataset with a held snapshot is not destroyed', async () => {
    const world = use();
    const root = await world.root();
    for (const name of ['1', '2', '3']) await world.change(at(root, name));
    await world.zfs.hold(tag('keep'), [at(root, '2')]);
    await world.refuses('ZFS_BUSY', [root], () => world.zfs.destroy(root));
    await world.zfs.release(tag('keep'), [at(root, '2')]);
    await world.zfs.destroy(root);
    expect(await world.zfs.listOnly([root])).toEqual([]);
  });

  test('a missing dataset and a pool are not destroyed', async () => {
    const world = use();
    const root = await world.root();
    const pool = parseDatasetName(world.underTest.pool);
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.destroy(below(root, 'missing')));
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.destroy(pool));
  });

  test('one snapshot goes, and the others stay', async () => {
    const world = use();
    const root = await world.root();
    for (const name of ['1', '2', '3']) await world.change(at(root, name));
    await world.zfs.destroySnapshot(at(root, '2'));
    expect((await world.dataset(root)).snapshots.map(({ name }) => name)).toEqual(['1', '3']);
  });

  test('a rollback takes back what was written, and newer snapshots with it', async () => {
    const world = use();
    const root = await world.root();
    for (const name of ['1', '2', '3']) await world.change(at(root, name));
    const [first] = await world.history(root);
    await world.zfs.rollback(at(root, '1'), { destroyNewer: true });
    expect(await world.history(root)).toEqual([first]);
    expect(await world.underTest.readFile(root, 'file-1')).toBe('text of 1');
    expect(await world.underTest.readFile(root, 'file-2').catch(() => '')).toBe('');
    const { referenced, written, snapshots } = await world.dataset(root);
    expect(written === null ? referenced - (snapshots[0]?.referenced ?? 0) : written).toBe(0);
  });

  test('a rollback that was not told so destroys no newer snapshot', async () => {
    const world = use();
    const root = await world.root();
    for (const name of ['1', '2']) await world.change(at(root, name));
    const back = (name: string) => world.zfs.rollback(at(root, name), { destroyNewer: false });
    const { evidence } = await world.refuses('ZFS_HAS_DEPENDENTS', [root], () => back('1'));
    expect(evidence.dependents).toEqual([`${root}@2`]);
    await world.underTest.writeFile(root, 'since', 'x');
    await back('2');
    expect(await world.underTest.readFile(root, 'since').catch(() => '')).toBe('');
  });

  test('a rollback takes no clone along, and passes over no hold', async () => {
    const world = use();
    const root = await world.root();
    const source = below(root, 'source');
    await world.zfs.create(source);
    for (const name of ['1', '2', '3']) await world.change(at(source, name));
    const back = () => world.zfs.rollback(at(source, '1'), { destroyNewer: true });
    await world.zfs.clone(at(source, '3'), below(root, 'clone'));
    const { evidence } = await world.refuses('ZFS_HAS_DEPENDENTS', [root], back);
    expect(evidence.dependents).toEqual([below(root, 'clone')]);
    await world.zfs.destroy(below(root, 'clone'));
    await world.zfs.hold(tag('keep'), [at(source, '2')]);
    await world.refuses('ZFS_BUSY', [root], back);
    await world.zfs.release(tag('keep'), [at(source, '2')]);
    await world.refuses('ZFS_NOT_FOUND', [root], () =>
      world.zfs.rollback(at(source, 'missing'), { destroyNewer: true }),
    );
    await back();
  });

  test('a snapshot that is held, has clones or is missing is not destroyed', async () => {
    const world = use();
    const root = await world.root();
    await world.change(at(root, 'held'));
    await world.change(at(root, 'cloned'));
    await world.zfs.hold(tag('keep'), [at(root, 'held')]);
    await world.zfs.clone(at(root, 'cloned'), below(root, 'clone'));
    await world.change(at(below(root, 'clone'), 'own'));
    const destroy = (name: string) => () => world.zfs.destroySnapshot(at(root, name));
    await world.refuses('ZFS_BUSY', [root], destroy('held'));
    const { evidence } = await world.refuses('ZFS_HAS_DEPENDENTS', [root], destroy('cloned'));
    expect(evidence.dependents).toEqual([below(root, 'clone')]);
    await world.refuses('ZFS_NOT_FOUND', [root], destroy('missing'));
    await world.zfs.release(tag('keep'), [at(root, 'held')]);
  });
}

function propertyTests(use: () => ZfsWorld): void {
  test('only what is set on a dataset itself is listed, until it is inherited again', async () => {
    const world = use();
    const root = await world.root();
    const [a, b] = [below(root, 'a'), below(root, 'b')];
    await world.zfs.create(a);
    await world.zfs.create(b, { 'pando:id': 'b' });
    await world.zfs.setProperties([root], { 'pando:id': 'root', compression: 'off', canmount: 'noauto' });
    const properties = async (): Promise<unknown[]> => (await world.zfs.list(root)).map((each) => each.properties);
    const ofRoot = { 'pando:id': 'root', compression: 'off', canmount: 'noauto' };
    expect(await properties()).toEqual([ofRoot, {}, { 'pando:id': 'b' }]);
    await world.zfs.inheritProperty([root, b], 'pando:id');
    expect(await properties()).toEqual([{ compression: 'off', canmount: 'noauto' }, {}, {}]);
  });

  test('several properties are set on several datasets with one call', async () => {
    const world = use();
    const root = await world.root();
    await world.zfs.create(below(root, 'a'));
    await world.zfs.setProperties([root, below(root, 'a')], { 'pando:x': 'one two', 'pando:y': '=' });
    expect((await world.zfs.list(root)).map(({ properties }) => properties)).toEqual(
      Array(2).fill({ 'pando:x': 'one two', 'pando:y': '=' }),
    );
  });

  test('a value comes back as it was given, whatever script it is written in', async () => {
    const world = use();
    const values = [
      'ünïcode',
      '日本語',
      '🌲🌲',
      'it\'s "quoted" $HOME `x` \\ ; | & * ?',
      ' leading and trailing ',
      '-dash',
    ];
    const root = await world.root();
    const properties = Object.fromEntries(values.map((value, index) => [`pando:value${index}`, value]));
    await world.zfs.setProperties([root], properties);
    expect((await world.dataset(root)).properties).toEqual(properties);
  });

  test('a value that would take more than a line is refused', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.setProperties([root], { 'pando:x': 'a\nb' }));
  });

  test('unknown properties and values are refused', async () => {
    const world = use();
    const root = await world.root();
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.setProperties([root], { nonsense: 'on' }));
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.setProperties([root], { readonly: 'perhaps' }));
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.setProperties([root], { '-r': 'on' }));
  });

  test('a missing dataset among several does not keep the others from being set', async () => {
    const world = use();
    const root = await world.root();
    const names = [below(root, 'missing'), root];
    await expect(world.zfs.setProperties(names, { 'pando:x': '1' })).rejects.toMatchObject({ code: 'ZFS_NOT_FOUND' });
    expect((await world.dataset(root)).properties).toEqual({ 'pando:x': '1' });
  });
}

function mountTests(use: () => ZfsWorld): void {
  test('a mounted filesystem has a directory, below that of its parent', async () => {
    const world = use();
    const root = await world.root();
    if (world.underTest.areFilesElsewhere === true) {
      await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.mount(root));
      return;
    }
    await world.zfs.create(below(root, 'child'));
    const directory = await world.zfs.mount(root);
    expect(directory).toMatch(/^\//);
    expect(await world.zfs.mount(below(root, 'child'))).toBe(`${directory}/child`);
    expect(await world.zfs.mount(root)).toBe(directory);
  });

  test('unmounting takes no child along that is not mounted, and is idempotent', async () => {
    const world = use();
    const root = await world.root();
    await world.zfs.create(below(root, 'child'));
    await world.zfs.unmount(below(root, 'child'));
    await world.zfs.unmount(below(root, 'child'));
    await world.zfs.unmount(root);
    if (world.underTest.areFilesElsewhere !== true) {
      expect(await world.zfs.mount(below(root, 'child'))).toMatch(/child$/);
    }
  });

  test('mounting, unmounting and measuring what does not exist is refused', async () => {
    const world = use();
    const missing = below(await world.root(), 'missing');
    const refusal = world.underTest.areFilesElsewhere === true ? 'ZFS_UNSUPPORTED' : 'ZFS_NOT_FOUND';
    await world.refuses(refusal, [], () => world.zfs.mount(missing));
    await world.refuses('ZFS_NOT_FOUND', [], () => world.zfs.unmount(missing));
    await world.refuses('ZFS_NOT_FOUND', [], () => world.zfs.used(missing));
    await world.refuses('ZFS_NOT_FOUND', [], () => world.zfs.objects(missing));
  });

  test('what has no mountpoint of its own is not mounted', async () => {
    const world = use();
    const root = await world.root();
    await world.zfs.create(below(root, 'legacy'), { mountpoint: 'legacy' });
    await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.mount(below(root, 'legacy')));
  });

  test('what differs between snapshots is told by paths, or not at all', async () => {
    const world = use();
    const root = await world.root();
    const text = (name: string, content = name) => world.underTest.writeFile(root, name, content);
    for (const name of ['stays', 'changes', 'with space \\ and back']) await text(name);
    await world.zfs.snapshot([at(root, 'before')]);
    const clone = below(root, 'clone');
    await world.zfs.clone(at(root, 'before'), clone);
    await world.underTest.writeFile(clone, 'changes', 'changed');
    await world.underTest.writeFile(clone, 'with space \\ and back', 'changed');
    await world.underTest.writeFile(clone, 'new', 'new');
    await world.zfs.snapshot([at(clone, 'after')]);
    const paths = async (): Promise<readonly string[] | undefined> => {
      const changed = await world.zfs.changedPaths(at(root, 'before'), at(clone, 'after'));
      return changed
        ?.map(String)
        .filter((path) => path !== '')
        .toSorted();
    };
    const expected = world.capabilities.diff ? ['changes', 'new', 'with space \\ and back'] : undefined;
    expect(await paths()).toEqual(expected);
    for (const name of [clone, root]) await world.zfs.unmount(name);
    expect(await paths()).toEqual(expected);
  });

  test('the files of a clone are counted beside those of what it was cloned from, mounted or not', async () => {
    const world = use();
    const root = await world.root();
    for (const name of ['a', 'b', 'c']) await world.underTest.writeFile(root, name, name);
    await world.zfs.snapshot([at(root, 'three')]);
    const three = await world.zfs.objects(root);
    const clone = below(root, 'clone');
    await world.zfs.clone(at(root, 'three'), clone);
    await world.underTest.writeFile(clone, 'd', 'd');
    await world.zfs.snapshot([at(clone, 'four')]);
    for (const doBefore of [async (): Promise<void> => undefined, () => world.zfs.unmount(clone)]) {
      await doBefore();
      expect((await world.zfs.objects(clone)) - three).toBe(1);
    }
  });

  test('a clone takes less than what it was cloned from', async () => {
    const world = use();
    const root = await world.root();
    await world.underTest.writeFile(root, 'large', '0123456789abcdef'.repeat(65_536));
    await world.zfs.snapshot([at(root, 'full')]);
    await world.zfs.clone(at(root, 'full'), below(root, 'clone'));
    expect(await world.zfs.used(below(root, 'clone'))).toBeLessThan((await world.zfs.used(root)) / 2);
  });
}

function holdTests(use: () => ZfsWorld): void {
  test('a hold counts on each snapshot until it is released, which may be done twice', async () => {
    const world = use();
    const root = await world.root();
    const snapshots = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    const counts = async (): Promise<number[]> => (await world.dataset(root)).snapshots.map(({ userrefs }) => userrefs);
    await world.zfs.hold(tag('pando:a:1'), snapshots);
    await world.zfs.hold(tag('pando:b:1'), snapshots.slice(1));
    expect(await counts()).toEqual([1, 2]);
    expect(await world.zfs.release(tag('pando:a:1'), snapshots)).toBe(true);
    expect(await world.zfs.release(tag('pando:a:1'), snapshots)).toBe(false);
    expect(await counts()).toEqual([0, 1]);
    await world.zfs.release(tag('pando:b:1'), snapshots);
    expect(await counts()).toEqual([0, 0]);
  });

  test('releasing passes over snapshots that are gone', async () => {
    const world = use();
    const root = await world.root();
    const snapshot = await world.change(at(root, '1'));
    await world.zfs.hold(tag('keep'), [snapshot]);
    expect(await world.zfs.release(tag('keep'), [at(root, 'gone'), at(below(root, 'gone'), '1'), snapshot])).toBe(
      false,
    );
    expect((await world.snapshot(snapshot)).userrefs).toBe(0);
  });

  test('the same tag is not held twice, nor a missing snapshot', async () => {
    const world = use();
    const root = await world.root();
    const snapshot = await world.change(at(root, '1'));
    await world.zfs.hold(tag('keep'), [snapshot]);
    await world.refuses('ZFS_HOLD_EXISTS', [root], () => world.zfs.hold(tag('keep'), [snapshot]));
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.zfs.hold(tag('keep'), [at(root, 'missing')]));
    await world.zfs.release(tag('keep'), [snapshot]);
  });

  test('a snapshot that cannot be held does not keep the others from being held', async () => {
    const world = use();
    const root = await world.root();
    const [first, second] = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    await world.zfs.hold(tag('keep'), [first]);
    await expect(world.zfs.hold(tag('keep'), [first, second])).rejects.toMatchObject({ code: 'ZFS_HOLD_EXISTS' });
    expect((await world.snapshot(second)).userrefs).toBe(1);
    await world.zfs.release(tag('keep'), [first, second]);
  });

  test('a hold that reaches down is one of everything below that has the name, and is released with it', async () => {
    const world = use();
    const root = await world.root();
    const [child, grandchild] = [below(root, 'child'), below(root, 'child/grandchild')];
    for (const dataset of [child, grandchild]) await world.zfs.create(dataset);
    const snapshots = [at(root, '1'), at(grandchild, '1'), at(root, '2'), at(child, '2')];
    await world.zfs.snapshot(snapshots);
    const counts = async (): Promise<number[]> => {
      const listed = await world.zfs.listSnapshots(snapshots);
      return listed.map((snapshot) => snapshot?.userrefs ?? Number.NaN);
    };
    const reaching = [{ ...at(root, '1'), below: true }, at(root, '2')];
    await world.zfs.hold(tag('keep'), reaching);
    expect(await counts()).toEqual([1, 1, 1, 0]);
    expect(await world.zfs.release(tag('keep'), reaching)).toBe(true);
    expect(await counts()).toEqual([0, 0, 0, 0]);
    expect(await world.zfs.release(tag('keep'), reaching)).toBe(false);
  });

  test('a hold that reaches down holds nothing where something has the tag already, or the top is missing', async () => {
    const world = use();
    const root = await world.root();
    const child = below(root, 'child');
    await world.zfs.create(child);
    await world.zfs.snapshot([at(root, '1'), at(child, '1')]);
    await world.zfs.hold(tag('keep'), [at(child, '1')]);
    const hold = (snapshot: string) => world.zfs.hold(tag('keep'), [{ ...at(root, snapshot), below: true }]);
    await world.refuses('ZFS_HOLD_EXISTS', [root], () => hold('1'));
    await world.refuses('ZFS_NOT_FOUND', [root], () => hold('missing'));
    expect((await world.snapshot(at(root, '1'))).userrefs).toBe(0);
    await world.zfs.release(tag('keep'), [at(child, '1')]);
    expect((await world.snapshot(at(child, '1'))).userrefs).toBe(0);
  });

  test('tags are listed where the ZFS can do it', async () => {
    const world = use();
    const root = await world.root();
    const snapshot = await world.change(at(root, '1'));
    await world.zfs.hold(tag('pando:a:1'), [snapshot]);
    await world.zfs.hold(tag('mine'), [snapshot]);
    if (world.capabilities.listHolds) {
      const other = await world.change(at(root, '2'));
      const listed = await world.zfs.holds([other, snapshot, at(root, 'missing')]);
      expect(listed.map((tags) => tags.toSorted())).toEqual([[], ['mine', 'pando:a:1'], []]);
    } else {
      await world.refuses('ZFS_UNSUPPORTED', [root], () => world.zfs.holds([snapshot]));
    }
    for (const each of ['pando:a:1', 'mine']) await world.zfs.release(tag(each), [snapshot]);
  });
}
