import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DatasetName, parseDatasetName, parseSnapshotName } from '../../../src/core/ids.ts';
import { MemoryZfs } from '../../../src/zfs/memory/memory-zfs.ts';
import type { ListedDataset, SnapshotReference } from '../../../src/zfs/zfs.ts';
import { asNew, at, codeOf, full, increment, into, outcomeOf, tag } from '../../suites/zfs-world.ts';

function tank(capacityBytes: number | null = null): MemoryZfs {
  const zfs = new MemoryZfs();
  zfs.addPool('tank', { capacityBytes });
  zfs.addPool('ssd', { capacityBytes });
  return zfs;
}

const a = parseDatasetName('tank/a');
const b = parseDatasetName('ssd/b');

async function copy(
  zfs: MemoryZfs,
  send: Parameters<MemoryZfs['send']>[0],
  receive: Parameters<MemoryZfs['receive']>[0],
) {
  const stream = new PassThrough();
  const { signal } = new AbortController();
  const ends = [
    outcomeOf(zfs.send(send, { kind: 'stream', stream }, signal)),
    outcomeOf(zfs.receive(receive, { kind: 'stream', stream }, signal)),
  ];
  return (await Promise.all(ends)).map(codeOf);
}

describe('a pool of limited size', () => {
  test('refuses a write that does not fit, and takes it after a snapshot has gone', async () => {
    const zfs = tank(100);
    await zfs.create(a);
    zfs.write(a, 'f', 'x'.repeat(60));
    await zfs.snapshot([at(a, '1')]);
    zfs.remove(a, 'f');
    const write = () => zfs.write(a, 'g', 'y'.repeat(60));
    expect(write).toThrow(expect.objectContaining({ code: 'ZFS_OUT_OF_SPACE' }));
    expect(zfs.contentsOf(a)).toEqual({});
    await zfs.destroySnapshot(at(a, '1'));
    write();
  });

  test('shares what snapshots and clones have in common', async () => {
    const zfs = tank(100);
    await zfs.create(a);
    zfs.write(a, 'f', 'x'.repeat(90));
    for (const name of ['1', '2']) await zfs.snapshot([at(a, name)]);
    await zfs.clone(at(a, '2'), parseDatasetName('tank/clone'));
    zfs.write('tank/clone', 'g', 'y'.repeat(10));
    expect((await zfs.list(a))[0]?.snapshots.map(({ referenced, written }) => [referenced, written])).toEqual([
      [90, 90],
      [90, 0],
    ]);
  });

  test('refuses a stream that does not fit, and keeps nothing of it', async () => {
    const zfs = tank(100);
    await zfs.create(a);
    zfs.write(a, 'f', 'x'.repeat(60));
    await zfs.snapshot([at(a, '1')]);
    zfs.write('ssd', 'own', 'z'.repeat(60));
    expect((await copy(zfs, full(at(a, '1')), asNew(b)))[1]).toBe('ZFS_OUT_OF_SPACE');
    expect(await zfs.listOnly([b])).toEqual([]);
    zfs.remove('ssd', 'own');
    expect(await copy(zfs, full(at(a, '1')), asNew(b))).toEqual(['done', 'done']);
  });
});

describe('an exported pool', () => {
  test('is not there until it is imported again, as it was', async () => {
    const zfs = tank();
    await zfs.create(a);
    await zfs.snapshot([at(a, '1')]);
    const before = await zfs.list(a);
    zfs.exportPool('tank');
    expect(await zfs.pools()).toEqual(['ssd']);
    const attempts: Promise<unknown>[] = [
      zfs.list(a),
      zfs.listOnly([a]),
      zfs.create(a),
      zfs.release(tag('x'), [at(a, '1')]),
    ];
    for (const attempt of attempts) {
      expect(codeOf(await outcomeOf(attempt))).toBe('ZFS_NO_POOL');
    }
    zfs.importPool('tank');
    expect(await zfs.list(a)).toEqual(before);
  });

  test('cannot be made while a stream runs', async () => {
    const zfs = tank();
    await zfs.create(a);
    zfs.write(a, 'f', 'x'.repeat(1_000_000));
    await zfs.snapshot([at(a, '1')]);
    const abort = new AbortController();
    const stream = new PassThrough();
    const sending = outcomeOf(zfs.send(full(at(a, '1')), { kind: 'stream', stream }, abort.signal));
    await expect.poll(() => stream.readableLength).toBeGreaterThan(0);
    expect(() => zfs.exportPool('tank')).toThrow(expect.objectContaining({ code: 'ZFS_BUSY' }));
    expect(codeOf(await outcomeOf(zfs.destroySnapshot(at(a, '1'))))).toBe('ZFS_BUSY');
    abort.abort();
    await sending;
    zfs.exportPool('tank');
  });
});

test('a read-only dataset is not written to, and its children inherit that', async () => {
  const zfs = tank();
  await zfs.create(a, { readonly: 'on' });
  await zfs.create(parseDatasetName('tank/a/child'));
  for (const name of ['tank/a', 'tank/a/child']) {
    expect(() => zfs.write(name, 'f', 'x')).toThrow(expect.objectContaining({ code: 'ZFS_PERMISSION' }));
  }
});

test('a rollback takes a dataset back, unless newer snapshots are needed', async () => {
  const zfs = tank();
  await zfs.create(a);
  for (const name of ['1', '2']) {
    zfs.write(a, name, 'x');
    await zfs.snapshot([at(a, name)]);
  }
  await zfs.hold(tag('keep'), [at(a, '2')]);
  await expect(zfs.rollback(at(a, '1'), { destroyNewer: true })).rejects.toMatchObject({ code: 'ZFS_BUSY' });
  await zfs.release(tag('keep'), [at(a, '2')]);
  await zfs.rollback(at(a, '1'), { destroyNewer: true });
  expect((await zfs.list(a))[0]?.snapshots.map(({ name }) => name)).toEqual(['1']);
  expect(zfs.contentsOf(a)).toEqual({ '1': 'x' });
});

test('each command is counted and announced, and can be made to fail before it does anything', async () => {
  const seen: string[] = [];
  const zfs = new MemoryZfs({
    onCommand: ([, verb = '']) => {
      if (verb === 'destroy') throw new Error('the test says no');
      seen.push(verb);
    },
  });
  zfs.addPool('tank');
  await zfs.create(a);
  await zfs.list(a);
  await expect(zfs.destroy(a)).rejects.toThrow('the test says no');
  expect(await zfs.listOnly([a])).toHaveLength(1);
  expect(seen).toEqual(['create', 'list', 'list']);
  expect(zfs.commandCount).toBe(4);
});

test('what is switched off is not done', async () => {
  const capabilities = { receiveProperties: false, sendEstimate: false, snapshotsChanged: false, listHolds: false };
  const zfs = new MemoryZfs({ capabilities });
  zfs.addPool('tank');
  zfs.addPool('ssd');
  await zfs.create(a);
  await zfs.snapshot([at(a, '1')]);
  await copy(zfs, full(at(a, '1')), asNew(b, null, { 'pando:id': 'x' }));
  expect((await zfs.listOnly([b]))[0]?.properties).toEqual({});
  expect(await zfs.estimate(full(at(a, '1')))).toBeNull();
  expect(await zfs.changeToken(a)).toBeNull();
  expect(codeOf(await outcomeOf(zfs.holds([at(a, '1')])))).toBe('ZFS_UNSUPPORTED');
});

/** One thing that a person or Pando may do; names are chosen from a few, so that refusals are common. */
const dataset = fc.constantFrom('tank/a', 'tank/a/x', 'tank/b', 'tank/b/y', 'tank/c').map(parseDatasetName);
const label = fc.constantFrom('1', '2', '3', '4').map(parseSnapshotName);
const reference = fc.record({ dataset, snapshot: label });
type Operation = (zfs: MemoryZfs) => Promise<unknown>;
const operation: fc.Arbitrary<Operation> = fc.oneof(
  dataset.map(
    (name): Operation =>
      (zfs) =>
        zfs.create(name),
  ),
  fc.tuple(dataset, label).map(
    ([name, text]): Operation =>
      async (zfs) =>
        zfs.write(name, text, text),
  ),
  fc.array(reference, { minLength: 1, maxLength: 3 }).map(
    (all): Operation =>
      (zfs) =>
        zfs.snapshot(all),
  ),
  fc.tuple(reference, dataset).map(
    ([origin, target]): Operation =>
      (zfs) =>
        zfs.clone(origin, target),
  ),
  dataset.map(
    (name): Operation =>
      (zfs) =>
        zfs.promote(name),
  ),
  fc.tuple(dataset, dataset).map(
    ([from, to]): Operation =>
      (zfs) =>
        zfs.rename(from, to),
  ),
  fc.tuple(reference, label).map(
    ([from, to]): Operation =>
      (zfs) =>
        zfs.renameSnapshot(from, to),
  ),
  dataset.map(
    (name): Operation =>
      (zfs) =>
        zfs.destroy(name),
  ),
  reference.map(
    (each): Operation =>
      (zfs) =>
        zfs.destroySnapshot(each),
  ),
  reference.map(
    (each): Operation =>
      (zfs) =>
        zfs.hold(tag('t'), [each]),
  ),
  reference.map(
    (each): Operation =>
      (zfs) =>
        zfs.release(tag('t'), [each]),
  ),
  reference.map(
    (each): Operation =>
      (zfs) =>
        zfs.rollback(each, { destroyNewer: true }),
  ),
  fc.tuple(reference, reference, dataset, fc.boolean()).map(
    ([base, snapshot, target, intermediates]): Operation =>
      (zfs) =>
        copy(zfs, increment(base, snapshot, intermediates), base.snapshot > '2' ? into(target) : asNew(target)),
  ),
  fc.tuple(reference, dataset).map(
    ([snapshot, target]): Operation =>
      (zfs) =>
        copy(zfs, full(snapshot), asNew(target)),
  ),
);

test('whatever is done, names are unique, origins exist, order is by createtxg, and guids stay with their content', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 60 }), async (operations) => {
      const zfs = tank();
      const contents = new Map<string, string>();
      for (const each of operations) {
        const outcome = await outcomeOf(each(zfs));
        expect(codeOf(outcome)).toMatch(/^(done|ZFS_[A-Z_]+)$/);
        checkInvariants(await zfs.list(parseDatasetName('tank')), zfs, contents);
      }
    }),
    { numRuns: 60 },
  );
});

function checkInvariants(datasets: readonly ListedDataset[], zfs: MemoryZfs, contents: Map<string, string>): void {
  const names = datasets.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, origin, snapshots } of datasets) {
    if (name !== 'tank') expect(names).toContain(name.slice(0, name.lastIndexOf('/')));
    expect(new Set(snapshots.map((snapshot) => snapshot.name)).size).toBe(snapshots.length);
    const order = snapshots.map(({ createtxg }) => createtxg);
    expect(order).toEqual(order.toSorted((one, other) => one - other));
    for (const snapshot of snapshots)
      checkContent(zfs, { dataset: name, snapshot: snapshot.name }, snapshot.guid, contents);
    if (origin !== null) checkOrigin(datasets, origin.reference, origin.guid);
  }
}

function checkContent(zfs: MemoryZfs, place: SnapshotReference, guid: string, contents: Map<string, string>): void {
  const content = JSON.stringify(Object.entries(zfs.contentsOf(place)).toSorted());
  expect(contents.get(guid) ?? content).toBe(content);
  contents.set(guid, content);
}

function checkOrigin(
  datasets: readonly ListedDataset[],
  { dataset: name, snapshot }: SnapshotReference,
  guid: string | null,
) {
  const origin = datasets.find((each): each is ListedDataset & { name: DatasetName } => each.name === name);
  expect(origin?.snapshots.find((each) => each.name === snapshot)?.guid).toBe(guid);
}
