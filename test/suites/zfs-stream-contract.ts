/** The part of the Zfs contract about sends and receives. See `zfs-contract.ts`. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { parseDatasetName, type SnapshotGuid, type SnapshotName } from '../../src/core/ids.ts';
import type { ReceiveRequest, SnapshotReference } from '../../src/zfs/zfs.ts';
import { asNew, at, below, codeOf, full, increment, into, outcomeOf, type ZfsWorld } from './zfs-world.ts';

/** More than all pipes on the way hold, so that a stream whose far end does not read is really stuck, in characters. */
const LARGE_TEXT_CHARACTERS = 8 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
/** How long what an aborted stream leaves may take to go, in ms: a moment, but not on an emulated machine with others beside it. */
const AFTERMATH_MS_MAX = 60_000;

export function zfsStreamContract(use: () => ZfsWorld): void {
  fullStreams(use);
  increments(use);
  cloneStreams(use);
  placeholders(use);
  expectedStreams(use);
  damagedStreams(use);
  abortedStreams(use);
  sockets(use);
}

function fullStreams(use: () => ZfsWorld): void {
  test('a full stream makes a dataset with the same snapshot guid and content, unmounted properties apart', async () => {
    const world = use();
    const root = await world.root();
    const target = world.fresh('otherPool');
    const snapshot = await world.change(at(root, 'with space:1'));
    const { sent, received } = await world.transfer(full(snapshot), asNew(target));
    expect([codeOf(sent), codeOf(received)]).toEqual(['done', 'done']);
    expect(received).toEqual(sent);
    expect(await world.history(target)).toEqual(await world.history(root));
    expect((await world.dataset(target)).origin).toBeNull();
    expect(await world.underTest.readFile(target, 'file-with space:1')).toBe('text of with space:1');
  });

  test('properties are set while receiving where the ZFS can do it', async () => {
    const world = use();
    const root = await world.root();
    const target = world.fresh('otherPool');
    const properties = { 'pando:id': 'it is "me" $x', readonly: 'on', canmount: 'noauto' };
    await world.transfer(full(await world.change(at(root, '1'))), asNew(target, null, properties));
    const expected = world.capabilities.receiveProperties ? properties : {};
    expect((await world.dataset(target)).properties).toEqual(expected);
  });

  test('a full stream brings its snapshot under another name when it is given one', async () => {
    const world = use();
    const snapshot = await world.change(at(await world.root(), '1'));
    const target = world.fresh('otherPool');
    const request = asNew(target);
    const create = { origin: null, properties: {}, snapshot: 'other' as SnapshotName };
    expect(codeOf((await world.transfer(full(snapshot), { ...request, create })).received)).toBe('done');
    const [sent] = await world.zfs.listSnapshots([snapshot]);
    expect((await world.dataset(target)).snapshots).toMatchObject([{ name: 'other', guid: sent?.guid }]);
  });

  test('a stream is estimated where the ZFS can do it', async () => {
    const world = use();
    const root = await world.root();
    const snapshot = await world.change(at(root, '1'));
    const estimate = await world.zfs.estimate(full(snapshot));
    if (world.capabilities.sendEstimate) expect(estimate).toBeGreaterThan(0);
    else expect(estimate).toBeNull();
  });

  test('a new dataset is not received over one that exists', async () => {
    const world = use();
    const root = await world.root();
    const target = await world.root('otherPool');
    const bytes = await world.bytesOf(full(await world.change(at(root, '1'))));
    await world.refuses('ZFS_DATASET_EXISTS', [target], () => world.receiveBytes(asNew(target), bytes));
  });

  test('nothing is received below a missing parent, into a missing pool or as a pool', async () => {
    const world = use();
    const root = await world.root();
    const target = await world.root('otherPool');
    const bytes = await world.bytesOf(full(await world.change(at(root, '1'))));
    const receive = (name: string) => () => world.receiveBytes(asNew(parseDatasetName(name)), bytes);
    await world.refuses('ZFS_NOT_FOUND', [target], receive(`${target}/missing/child`));
    await world.refuses('ZFS_NO_POOL', [target], receive('pando-no-such-pool/a'));
    await world.refuses('ZFS_NAME_REFUSED', [target], receive('pando-no-such-pool'));
  });

  test('a send of what is missing fails and breaks the stream off', async () => {
    const world = use();
    const root = await world.root();
    const pipes: PassThrough[] = [];
    const send = (snapshot: SnapshotReference) => {
      const stream = new PassThrough();
      pipes.push(stream);
      return world.zfs.send(full(snapshot), { kind: 'stream', stream }, new AbortController().signal);
    };
    await world.refuses('ZFS_NOT_FOUND', [root], () => send(at(root, 'missing')));
    await world.refuses('ZFS_NO_POOL', [root], () => send(at(parseDatasetName('pando-no-such-pool/a'), '1')));
    expect(pipes.map(({ destroyed }) => destroyed)).toEqual([true, true]);
  });
}

function increments(use: () => ZfsWorld): void {
  test('an increment brings one snapshot, with intermediates all of them', async () => {
    const world = use();
    const root = await world.root();
    const [one, all] = [world.fresh('otherPool'), world.fresh('otherPool')];
    const [first, , last] = [
      await world.change(at(root, '1')),
      await world.change(at(root, '2')),
      await world.change(at(root, '3')),
    ];
    for (const target of [one, all]) await world.transfer(full(first), asNew(target));
    expect(codeOf((await world.transfer(increment(first, last), into(one))).received)).toBe('done');
    expect(codeOf((await world.transfer(increment(first, last, true), into(all))).received)).toBe('done');
    const history = await world.history(root);
    expect(await world.history(one)).toEqual([history[0], history[2]]);
    expect(await world.history(all)).toEqual(history);
    for (const target of [one, all]) expect(await world.underTest.readFile(target, 'file-2')).toBe('text of 2');
  });

  test('an increment whose snapshot is there already changes nothing', async () => {
    const world = use();
    const root = await world.root();
    const target = world.fresh('otherPool');
    const [first, second] = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    await world.transfer(full(first), asNew(target));
    await world.transfer(increment(first, second), into(target));
    const before = await world.zfs.list(target);
    const { received } = await world.transfer(increment(first, second), into(target));
    expect(['done', 'ZFS_BASE_MISSING']).toContain(codeOf(received));
    expect(await world.zfs.list(target)).toEqual(before);
  });

  test('an increment is not received where nothing is, even if its base is elsewhere in the pool', async () => {
    const world = use();
    const root = await world.root();
    const target = world.fresh('otherPool');
    const [first, second] = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    await world.transfer(full(first), asNew(target));
    const bytes = await world.bytesOf(increment(first, second));
    const missing = world.fresh('otherPool');
    await world.refuses('ZFS_NOT_FOUND', [target], () => world.receiveBytes(into(missing), bytes));
    await world.refuses('ZFS_NO_POOL', [target], () =>
      world.receiveBytes(into(parseDatasetName('pando-no-such-pool/a')), bytes),
    );
  });

  test('an increment is not received onto another history', async () => {
    const world = use();
    const root = await world.root();
    const target = await world.root('otherPool');
    await world.change(at(target, '1'));
    const [first, second] = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    const bytes = await world.bytesOf(increment(first, second));
    await world.refuses('ZFS_BASE_MISSING', [target], () => world.receiveBytes(into(target), bytes));
  });

  test('an increment is not received over what was written since', async () => {
    const world = use();
    const root = await world.root();
    const target = world.fresh('otherPool');
    const [first, second] = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    await world.transfer(full(first), asNew(target));
    // Reading mounts it where that is needed before a write
    await world.underTest.readFile(target, 'file-1');
    await world.underTest.writeFile(target, 'mine', 'written here');
    const bytes = await world.bytesOf(increment(first, second));
    await world.refuses('ZFS_MODIFIED', [target], () => world.receiveBytes(into(target), bytes));
    expect(await world.underTest.readFile(target, 'mine')).toBe('written here');
  });

  test('an increment is not sent from a base that is not earlier', async () => {
    const world = use();
    const root = await world.root();
    const other = await world.root();
    const [first, second] = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    const stranger = await world.change(at(other, '1'));
    await world.refuses('ZFS_BASE_MISSING', [root], () => world.bytesOf(increment(second, first)));
    await world.refuses('ZFS_BASE_MISSING', [root], () => world.bytesOf(increment(stranger, second)));
    await world.refuses('ZFS_BASE_MISSING', [root], () => world.bytesOf(increment(at(root, 'missing'), second)));
  });
}

function cloneStreams(use: () => ZfsWorld): void {
  /** A source with a clone of its snapshot `base`, and a replica of the source only. */
  async function cloned(world: ZfsWorld) {
    const root = await world.root();
    const replica = await world.root('otherPool');
    const [source, clone] = [below(root, 'source'), below(root, 'clone')];
    await world.zfs.create(source);
    const base = await world.change(at(source, 'base'));
    await world.zfs.clone(base, clone);
    const [first, last] = [await world.change(at(clone, '1')), await world.change(at(clone, '2'))];
    await world.transfer(full(base), asNew(below(replica, 'source')));
    return { clone, base, first, last, replica, replicaBase: at(below(replica, 'source'), 'base') };
  }

  test('a clone stream makes a clone of the snapshot with the same guid', async () => {
    const world = use();
    const { clone, base, first, replica, replicaBase } = await cloned(world);
    const target = below(replica, 'clone');
    const { received } = await world.transfer(increment(base, first), asNew(target, replicaBase));
    expect(codeOf(received)).toBe('done');
    expect((await world.dataset(target)).origin?.reference).toEqual(replicaBase);
    expect(await world.history(target)).toEqual((await world.history(clone)).slice(0, 1));
    expect(await world.underTest.readFile(target, 'file-base')).toBe('text of base');
    expect(await world.underTest.readFile(target, 'file-1')).toBe('text of 1');
  });

  test('a clone stream with intermediates brings the whole history of the clone', async () => {
    const world = use();
    const { clone, base, last, replica, replicaBase } = await cloned(world);
    const target = below(replica, 'clone');
    const { received } = await world.transfer(increment(base, last, true), asNew(target, replicaBase));
    expect(codeOf(received)).toBe('done');
    expect((await world.dataset(target)).origin?.reference).toEqual(replicaBase);
    expect(await world.history(target)).toEqual(await world.history(clone));
  });

  test('the origin that was named is taken where several would do', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.receiveProperties) return skip('this ZFS chooses the origin itself');
    const { base, first, replica, replicaBase } = await cloned(world);
    const twin = below(replica, 'a twin');
    await world.transfer(full(base), asNew(twin));
    for (const origin of [replicaBase, at(twin, 'base')]) {
      const target = below(replica, `clone of ${origin.dataset.slice(replica.length + 1)}`);
      await world.transfer(increment(base, first), asNew(target, origin));
      expect((await world.dataset(target)).origin?.reference).toEqual(origin);
    }
  });

  test('a clone stream is refused where its origin is missing or another one is named', async () => {
    const world = use();
    const { base, first, replica } = await cloned(world);
    const bytes = await world.bytesOf(increment(base, first));
    const stranger = await world.root('otherPool');
    await world.change(at(stranger, 'base'));
    await world.zfs.destroy(below(replica, 'source'));
    await world.refuses('ZFS_BASE_MISSING', [replica], () => world.receiveBytes(asNew(below(replica, 'clone')), bytes));
    await world.refuses('ZFS_BASE_MISSING', [replica], () =>
      world.receiveBytes(asNew(below(replica, 'clone'), at(stranger, 'base')), bytes),
    );
  });

  test('a clone stream is not received into a dataset that exists', async () => {
    const world = use();
    const { base, first, replica } = await cloned(world);
    await world.zfs.create(below(replica, 'taken'));
    const bytes = await world.bytesOf(increment(base, first));
    for (const receive of [asNew(below(replica, 'taken')), into(below(replica, 'taken'))]) {
      await world.refuses('ZFS_DATASET_EXISTS', [replica], () => world.receiveBytes(receive, bytes));
    }
  });

  test('an origin in use by a clone stream stays', async () => {
    const world = use();
    const { base, first, replica, replicaBase } = await cloned(world);
    await world.transfer(increment(base, first), asNew(below(replica, 'clone'), replicaBase));
    await world.refuses('ZFS_HAS_DEPENDENTS', [replica], () => world.zfs.destroySnapshot(replicaBase));
  });
}

function placeholders(use: () => ZfsWorld): void {
  const over = (target: ReturnType<typeof below>) => ({ ...asNew(target), overPlaceholder: true });
  const empty = { 'pando:placeholder': 'on', canmount: 'off' };

  test('a full stream replaces an empty placeholder and leaves what is below it', async () => {
    const world = use();
    const root = await world.root();
    const target = world.fresh('otherPool');
    await world.zfs.create(target, empty);
    await world.zfs.create(below(target, 'child'));
    await world.change(at(below(target, 'child'), 's'));
    const child = await world.dataset(below(target, 'child'));
    const { received } = await world.transfer(full(await world.change(at(root, '1'))), over(target));
    if ('error' in received) throw received.error;
    expect(codeOf(received)).toBe('done');
    expect(await world.history(target)).toEqual(await world.history(root));
    expect(await world.dataset(below(target, 'child'))).toEqual(child);
    expect((await world.dataset(target)).properties).not.toHaveProperty('pando:placeholder');
    // In a clone: zfs-fuse does not mount the target while its child is mounted in it
    const clone = world.fresh('otherPool');
    await world.zfs.clone(at(target, '1'), clone);
    expect(await world.underTest.readFile(clone, 'file-1')).toBe('text of 1');
  });

  test('what replaced a placeholder is never replaced again, even without snapshots and with the mark', async () => {
    const world = use();
    const root = await world.root();
    const parent = await world.root('otherPool');
    const target = below(parent, 'target');
    await world.underTest.writeFile(root, 'large', randomText(LARGE_TEXT_CHARACTERS));
    const bytes = await world.bytesOf(full(await world.change(at(root, '1'))));
    await world.zfs.create(target, empty);
    await world.receiveBytes(over(target), bytes);
    await world.zfs.destroySnapshot(at(target, '1'));
    await world.refuses('ZFS_DATASET_EXISTS', [parent], () => world.receiveBytes(over(target), bytes));
    await world.zfs.setProperties([target], empty);
    await world.refuses('ZFS_DATASET_EXISTS', [parent], () => world.receiveBytes(over(target), bytes));
  });

  test('nothing but an empty placeholder is replaced', async () => {
    const world = use();
    const root = await world.root();
    const parent = await world.root('otherPool');
    const bytes = await world.bytesOf(full(await world.change(at(root, '1'))));
    const [plain, used, inheriting] = [below(parent, 'plain'), below(parent, 'used'), below(parent, 'used/inheriting')];
    const mountable = below(parent, 'mountable');
    await world.zfs.create(mountable, { 'pando:placeholder': 'on' });
    await world.zfs.create(plain);
    await world.zfs.create(used, empty);
    await world.zfs.create(inheriting);
    await world.change(at(used, 's'));
    for (const target of [plain, used, inheriting, mountable]) {
      await world.refuses('ZFS_DATASET_EXISTS', [parent], () => world.receiveBytes(over(target), bytes));
    }
    await world.refuses('ZFS_NOT_FOUND', [parent], () => world.receiveBytes(over(below(parent, 'missing')), bytes));
  });
}

function expectedStreams(use: () => ZfsWorld): void {
  /** A source with three snapshots, and a replica of the first. */
  async function replicated(world: ZfsWorld) {
    const root = await world.root();
    const target = world.fresh('otherPool');
    const [first, second, third] = [
      await world.change(at(root, '1')),
      await world.change(at(root, '2')),
      await world.change(at(root, '3')),
    ];
    await world.transfer(full(first), asNew(target));
    const guids = (await world.dataset(root)).snapshots.map(({ guid }) => guid);
    const [one, two, three] = guids as [SnapshotGuid, SnapshotGuid, SnapshotGuid];
    return { root, target, first, second, third, one, two, three };
  }

  test('a stream that is expected is received: full, increment, several of them', async () => {
    const world = use();
    const { root, target, first, second, third, one, two } = await replicated(world);
    const other = world.fresh('otherPool');
    const raw = false;
    const fullOne = { ...asNew(other), expected: { toGuid: one, fromGuid: null, raw, several: false } };
    expect(codeOf((await world.transfer(full(first), fullOne)).received)).toBe('done');
    const expected = { toGuid: two, fromGuid: one, raw, several: false };
    const single = { ...into(target), expected };
    expect(codeOf((await world.transfer(increment(first, second), single)).received)).toBe('done');
    const several = { ...into(other), expected: { ...expected, several: true } };
    expect(codeOf((await world.transfer(increment(first, third, true), several)).received)).toBe('done');
    expect(await world.history(other)).toEqual(await world.history(root));
  });

  test('a stream of another snapshot, from another base, or full instead of an increment is refused', async () => {
    const world = use();
    const { target, first, second, third, one, two, three } = await replicated(world);
    const parent = await world.root('otherPool');
    const raw = false;
    const refused = async (request: ReceiveRequest, bytes: Buffer): Promise<void> => {
      await world.refuses('ZFS_STREAM_MISMATCH', [target, parent], () => world.receiveBytes(request, bytes));
    };
    const increments = { ...into(target), expected: { toGuid: two, fromGuid: one, raw, several: false } };
    const fullOne = await world.bytesOf(full(first));
    await refused(increments, fullOne);
    await refused(increments, await world.bytesOf(increment(first, third)));
    await refused(increments, await world.bytesOf(increment(second, third)));
    await refused(increments, await world.bytesOf(increment(second, third, true)));
    await refused(increments, await world.bytesOf(increment(first, third, true)));
    await refused(
      { ...asNew(below(parent, 'a')), expected: { toGuid: three, fromGuid: null, raw, several: false } },
      fullOne,
    );
    await refused(
      { ...asNew(below(parent, 'a')), expected: { toGuid: one, fromGuid: null, raw: true, several: false } },
      fullOne,
    );
    await refused(
      { ...asNew(below(parent, 'a')), expected: { toGuid: one, fromGuid: null, raw, several: false } },
      await world.bytesOf(increment(first, second)),
    );
  });

  test('what should be a certain stream and is none is refused as damaged', async () => {
    const world = use();
    const { target, first, second, one, two } = await replicated(world);
    const request = { ...into(target), expected: { toGuid: two, fromGuid: one, raw: false, several: true } };
    const bytes = await world.bytesOf(increment(first, second, true));
    for (const each of [Buffer.alloc(0), bytes.subarray(0, 200), Buffer.alloc(100_000, 7)]) {
      await world.refuses('ZFS_STREAM_INVALID', [target], () => world.receiveBytes(request, each));
    }
    const signal = AbortSignal.timeout(10);
    const silent = new PassThrough();
    await world.refuses('ZFS_ABORTED', [target], () =>
      world.zfs.receive(request, { kind: 'stream', stream: silent }, signal),
    );
    const broken = new PassThrough();
    broken.write(bytes.subarray(0, 200));
    setImmediate(() => broken.destroy());
    await world.refuses('ZFS_STREAM_INVALID', [target], () =>
      world.zfs.receive(request, { kind: 'stream', stream: broken }, new AbortController().signal),
    );
    await world.receiveBytes(request, bytes);
  });
}

function damagedStreams(use: () => ZfsWorld): void {
  test('a stream that is cut short, empty or foreign leaves no dataset', async () => {
    const world = use();
    const root = await world.root();
    const parent = await world.root('otherPool');
    await world.underTest.writeFile(root, 'large', randomText(200_000));
    const bytes = await world.bytesOf(full(await world.change(at(root, '1'))));
    const damaged = [
      bytes.subarray(0, Math.floor(bytes.length / 2)),
      bytes.subarray(0, bytes.length - 1),
      Buffer.alloc(0),
      Buffer.from('this is no stream'),
      Buffer.alloc(100_000, 7),
    ];
    for (const each of damaged) {
      await world.refuses('ZFS_STREAM_INVALID', [parent], () => world.receiveBytes(asNew(below(parent, 'a')), each));
    }
    await world.receiveBytes(asNew(below(parent, 'a')), bytes);
  });

  test('an increment that is cut short leaves the target at its base', async () => {
    const world = use();
    const root = await world.root();
    const target = world.fresh('otherPool');
    const first = await world.change(at(root, '1'));
    await world.underTest.writeFile(root, 'large', randomText(200_000));
    const second = await world.change(at(root, '2'));
    await world.transfer(full(first), asNew(target));
    const bytes = await world.bytesOf(increment(first, second));
    const half = bytes.subarray(0, Math.floor(bytes.length / 2));
    await world.refuses('ZFS_STREAM_INVALID', [target], () => world.receiveBytes(into(target), half));
    await world.receiveBytes(into(target), bytes);
    expect(await world.history(target)).toEqual(await world.history(root));
  });

  test('a source that breaks off leaves no dataset', async () => {
    const world = use();
    const root = await world.root();
    const parent = await world.root('otherPool');
    const bytes = await world.bytesOf(full(await world.change(at(root, '1'))));
    const broken = new PassThrough();
    broken.write(bytes.subarray(0, Math.floor(bytes.length / 2)));
    setImmediate(() => broken.destroy());
    await world.refuses('ZFS_STREAM_INVALID', [parent], () =>
      world.zfs.receive(asNew(below(parent, 'a')), { kind: 'stream', stream: broken }, new AbortController().signal),
    );
  });

  test('a receive that fails early does not blame the sender, and the sender does not blame itself', async () => {
    const world = use();
    const root = await world.root();
    const target = await world.root('otherPool');
    await world.change(at(target, 'other'));
    const first = await world.change(at(root, '1'));
    await world.underTest.writeFile(root, 'large', randomText(LARGE_TEXT_CHARACTERS));
    const second = await world.change(at(root, '2'));
    const { sent, received } = await world.transfer(increment(first, second), into(target));
    expect(codeOf(received)).toBe('ZFS_BASE_MISSING');
    expect(codeOf(sent)).toBe('ZFS_FAILED');
    expect('error' in sent && String(sent.error)).toContain('the receiving end closed the connection');
  });
}

function abortedStreams(use: () => ZfsWorld): void {
  async function large(world: ZfsWorld) {
    const root = await world.root();
    const first = await world.change(at(root, '1'));
    await world.underTest.writeFile(root, 'large', randomText(LARGE_TEXT_CHARACTERS));
    return { root, first, second: await world.change(at(root, '2')) };
  }

  test('a send that nobody reads stops when it is aborted, and its snapshot can go then', async () => {
    const world = use();
    const { root, second } = await large(world);
    const abort = new AbortController();
    const pipe = new PassThrough();
    const sending = outcomeOf(world.zfs.send(full(second), { kind: 'stream', stream: pipe }, abort.signal));
    await once(pipe, 'readable');
    abort.abort();
    expect(codeOf(await sending)).toBe('ZFS_ABORTED');
    expect(pipe.destroyed).toBe(true);
    await expect
      .poll(() => outcomeOf(world.zfs.destroySnapshot(second)).then(codeOf), { timeout: AFTERMATH_MS_MAX })
      .toBe('done');
    expect((await world.dataset(root)).snapshots.map(({ name }) => name)).toEqual(['1']);
  });

  test('an aborted first receive leaves nothing, and can be done again', async () => {
    const world = use();
    const { root, second } = await large(world);
    const parent = await world.root('otherPool');
    const bytes = await world.bytesOf(full(second));
    await world.refuses('ZFS_ABORTED', [parent], () => receiveHalf(world, asNew(below(parent, 'a')), bytes));
    await world.receiveBytes(asNew(below(parent, 'a')), bytes);
    expect(await world.history(below(parent, 'a'))).toEqual((await world.history(root)).slice(1));
  });

  test('an aborted increment leaves the target at its base, and can be done again', async () => {
    const world = use();
    const { root, first, second } = await large(world);
    const target = world.fresh('otherPool');
    await world.transfer(full(first), asNew(target));
    const bytes = await world.bytesOf(increment(first, second));
    await world.refuses('ZFS_ABORTED', [target], () => receiveHalf(world, into(target), bytes));
    // The hidden clone that was received into goes a moment after the process
    await expect
      .poll(() => outcomeOf(world.receiveBytes(into(target), bytes)).then(codeOf), { timeout: AFTERMATH_MS_MAX })
      .toBe('done');
    expect(await world.history(target)).toEqual(await world.history(root));
  });

  test('a stream that is aborted before it began does nothing', async () => {
    const world = use();
    const { first } = await large(world);
    const parent = await world.root('otherPool');
    const signal = AbortSignal.abort();
    const [out, source] = [new PassThrough(), new PassThrough()];
    await world.refuses('ZFS_ABORTED', [parent], () =>
      world.zfs.send(full(first), { kind: 'stream', stream: out }, signal),
    );
    await world.refuses('ZFS_ABORTED', [parent], () =>
      world.zfs.receive(asNew(below(parent, 'a')), { kind: 'stream', stream: source }, signal),
    );
    expect([out.destroyed, source.destroyed]).toEqual([true, true]);
  });

  test('a sender whose receiver goes away says so', async () => {
    const world = use();
    const { second } = await large(world);
    const pipe = new PassThrough();
    const sending = outcomeOf(
      world.zfs.send(full(second), { kind: 'stream', stream: pipe }, new AbortController().signal),
    );
    await once(pipe, 'readable');
    pipe.destroy();
    expect(codeOf(await sending)).toBe('ZFS_FAILED');
  });

  /** Feeds half of the bytes, then aborts. The stream stays open, as a connection does whose other end has nothing more to say. */
  async function receiveHalf(world: ZfsWorld, request: ReceiveRequest, bytes: Buffer): Promise<unknown> {
    const abort = new AbortController();
    const stream = new PassThrough();
    const receiving = outcomeOf(world.zfs.receive(request, { kind: 'stream', stream }, abort.signal));
    for (let start = 0; start < bytes.length / 2; start += CHUNK_BYTES) {
      if (!stream.write(bytes.subarray(start, start + CHUNK_BYTES))) await once(stream, 'drain');
    }
    abort.abort();
    const outcome = await receiving;
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }
}

function sockets(use: () => ZfsWorld): void {
  test('both ends of a stream can be sockets', async () => {
    const world = use();
    const root = await world.root();
    const target = world.fresh('otherPool');
    await world.underTest.writeFile(root, 'large', randomText(LARGE_TEXT_CHARACTERS));
    const snapshot = await world.change(at(root, '1'));
    const [sender, receiver, close] = await socketPair();
    const { signal } = new AbortController();
    try {
      const [sent, received] = await Promise.all([
        world.zfs.send(full(snapshot), { kind: 'socket', socket: sender }, signal),
        world.zfs.receive(asNew(target), { kind: 'socket', socket: receiver, head: null }, signal),
      ]);
      expect(await world.history(target)).toEqual(await world.history(root));
      expect(await world.underTest.readFile(target, 'large')).toHaveLength(LARGE_TEXT_CHARACTERS);
      expect(sent.bytes === null || sent.bytes > LARGE_TEXT_CHARACTERS).toBe(true);
      expect(received.bytes).toBeGreaterThan(LARGE_TEXT_CHARACTERS * 0.99);
    } finally {
      close();
    }
  });

  test('a send and a receive that are stuck on a socket stop when they are aborted', async () => {
    const world = use();
    const root = await world.root();
    const parent = await world.root('otherPool');
    await world.underTest.writeFile(root, 'large', randomText(2 * LARGE_TEXT_CHARACTERS));
    const snapshot = await world.change(at(root, '1'));
    const bytes = await world.bytesOf(full(snapshot));
    const [sender, unread, close] = await socketPair();
    const [unended, receiver, closeOther] = await socketPair();
    try {
      const abort = new AbortController();
      const sending = outcomeOf(world.zfs.send(full(snapshot), { kind: 'socket', socket: sender }, abort.signal));
      const receiving = outcomeOf(
        world.zfs.receive(asNew(below(parent, 'a')), { kind: 'socket', socket: receiver, head: null }, abort.signal),
      );
      // As the sending end of a driver does: it hears when the receiver gives up, and answers with its own end
      unended.on('error', () => undefined).resume();
      await new Promise<void>((resolve) => unended.write(bytes.subarray(0, bytes.length / 2), () => resolve()));
      abort.abort();
      expect(codeOf(await sending)).toBe('ZFS_ABORTED');
      expect(codeOf(await receiving)).toBe('ZFS_ABORTED');
      expect(await world.zfs.listOnly([below(parent, 'a')])).toEqual([]);
      await expect
        .poll(() => outcomeOf(world.zfs.destroySnapshot(snapshot)).then(codeOf), { timeout: AFTERMATH_MS_MAX })
        .toBe('done');
      unread.destroy();
    } finally {
      close();
      closeOther();
    }
  });

  test('a receive whose end this process has closed already stops when it is aborted', async () => {
    const world = use();
    const root = await world.root();
    const parent = await world.root('otherPool');
    await world.underTest.writeFile(root, 'large', randomText(2 * LARGE_TEXT_CHARACTERS));
    const bytes = await world.bytesOf(full(await world.change(at(root, '1'))));
    const [unended, receiver, close] = await socketPair();
    try {
      const abort = new AbortController();
      const receiving = outcomeOf(
        world.zfs.receive(asNew(below(parent, 'a')), { kind: 'socket', socket: receiver, head: null }, abort.signal),
      );
      unended.on('error', () => undefined).resume();
      await new Promise<void>((resolve) => unended.write(bytes.subarray(0, bytes.length / 2), () => resolve()));
      // As when the process that brings the stream has gone
      receiver.destroy();
      unended.destroy();
      abort.abort();
      expect(codeOf(await receiving)).toMatch(/^ZFS_/);
    } finally {
      close();
    }
    await expect.poll(() => world.zfs.listOnly([below(parent, 'a')]), { timeout: AFTERMATH_MS_MAX }).toEqual([]);
  });

  test('a send on a socket fails when the other end goes away, or says something', async () => {
    const world = use();
    const root = await world.root();
    await world.underTest.writeFile(root, 'large', randomText(2 * LARGE_TEXT_CHARACTERS));
    const snapshot = await world.change(at(root, '1'));
    const leave = [(end: Socket): unknown => end.destroy(), (end: Socket): unknown => end.write('?')];
    for (const act of leave) {
      const [sender, farEnd, close] = await socketPair();
      try {
        const { signal } = new AbortController();
        const sending = outcomeOf(world.zfs.send(full(snapshot), { kind: 'socket', socket: sender }, signal));
        act(farEnd);
        expect(codeOf(await sending)).toBe('ZFS_FAILED');
      } finally {
        close();
      }
    }
  });
}

/** Two ends of one TCP connection that nobody reads yet, and what closes everything. */
async function socketPair(): Promise<[Socket, Socket, () => void]> {
  const server = createServer({ pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const client = connect(address.port, '127.0.0.1');
  client.pause();
  await once(client, 'connect');
  const [other] = await accepted;
  const close = (): void => {
    client.destroy();
    other.destroy();
    server.close();
  };
  return [client, other, close];
}

/** Text that does not compress well, the same each time (a linear congruential generator, Numerical Recipes §7.1). */
function randomText(characters: number): string {
  const bytes = Buffer.alloc(characters);
  let state = 1;
  for (let index = 0; index < characters; index += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[index] = 33 + ((state >>> 24) % 90);
  }
  return bytes.toString('latin1');
}
