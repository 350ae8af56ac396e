/** A node in wrong hands does what it is there for, and no more is let through than should be. */
import { expect, it, vi } from 'vitest';
import type { SignedHead } from '../../src/core/codec/chain.ts';
import { parseDatasetName, parseSnapshotName, parseTreeName, type StreamId } from '../../src/core/ids.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import type { Events } from '../../src/sync/messages.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { smallTree } from '../log/bodies.ts';
import { signerOf } from '../log/identity.ts';
import { GuidWatch } from './guid-watch.ts';
import { ForgedLogs } from './hostile/forged-logs.ts';
import { Random } from './random.ts';
import { simulate } from './simulation.ts';

const signer = signerOf(1);
const tree = parseTreeName('images');
const opened = (number: number) =>
  History.open({ log: new MemoryLog(), signer: signerOf(number), now: () => 1_800_000_000_000 });

async function recorded(): Promise<Events> {
  const history = await opened(1);
  await history.record(tree, 'observed', smallTree(1));
  for await (const batch of history.records(history.ownStream(tree), 1)) return { type: 'events', ...batch };
  return expect.fail('there are events');
}

/** What a peer keeps of what it was told; undefined where it takes none of it. */
async function keptBy(number: number, events: Events): Promise<SignedHead | null | undefined> {
  const history = await opened(number);
  const stream: StreamId = events.head.stream;
  return history.ingest(events).then(
    () => history.head(stream),
    () => undefined,
  );
}

it('two peers are told two histories under one incarnation, and believe both', async () => {
  const truth = await recorded();
  const isPair = async (seed: number): Promise<boolean> => {
    const logs = new ForgedLogs(signer, new Random(seed), { nonsense: 0, lies: 1, streams: 0, times: 0 });
    const one = await keptBy(2, logs.instead(truth, signerOf(2).node));
    const other = await keptBy(3, logs.instead(truth, signerOf(3).node));
    if (one == null || other == null) return false;
    expect([one.incarnation, one.seq]).toEqual([other.incarnation, other.seq]);
    expect(logs.headFor(signerOf(2).node, truth.head)).toEqual(one);
    return !Buffer.from(one.hash).equals(Buffer.from(other.hash));
  };
  const pairs = await Promise.all(Array.from({ length: 20 }, (_, seed) => isPair(seed)));
  expect(pairs).toContain(true);
});

it('what was received goes without accusation once its time is over, and what was not never does', async () => {
  let now = 0;
  const zfs = new MemoryZfs();
  const accuse = vi.fn();
  zfs.addPool('n0');
  const pool = parseDatasetName('n0');
  const watch = new GuidWatch({
    zfs,
    pool,
    now: () => now,
    keepingOf: () => [{ keep: 'all', graceMs: 10, isShared: false }],
    accuse,
  });
  const take = (name: string) => zfs.snapshot([{ dataset: pool, snapshot: parseSnapshotName(name) }]);
  const destroy = async (name: string): Promise<void> => {
    const place = { dataset: pool, snapshot: parseSnapshotName(name) };
    await watch.watch('destroySnapshot', [place], () => zfs.destroySnapshot(place));
  };
  for (const name of ['early', 'late']) await watch.watch('receive', [{ target: pool }], () => take(name));
  await take('mine');
  now = 9;
  await destroy('early');
  expect(accuse).toHaveBeenCalledTimes(1);
  now = 10;
  await destroy('late');
  expect(accuse).toHaveBeenCalledTimes(1);
  await destroy('mine');
  expect(accuse).toHaveBeenCalledTimes(2);
});

it('what has as many behind it as are kept goes without accusation, and what has fewer does not', async () => {
  const zfs = new MemoryZfs();
  const accuse = vi.fn();
  zfs.addPool('n0');
  const pool = parseDatasetName('n0');
  const keeping = { keep: { last: 2 }, graceMs: null, isShared: false };
  const watch = new GuidWatch({ zfs, pool, now: () => 0, keepingOf: () => [keeping], accuse });
  for (const name of ['1', '2', '3']) await zfs.snapshot([{ dataset: pool, snapshot: parseSnapshotName(name) }]);
  const destroy = async (name: string): Promise<void> => {
    const place = { dataset: pool, snapshot: parseSnapshotName(name) };
    await watch.watch('destroySnapshot', [place], () => zfs.destroySnapshot(place));
  };
  await destroy('1');
  expect(accuse).not.toHaveBeenCalled();
  await destroy('2');
  expect(accuse).toHaveBeenCalledTimes(1);
});

it('some worlds have one, chosen by their seed', async () => {
  const hostile = new Set<boolean>();
  for (const seed of [0, 1, 2, 3, 4, 5, 6, 7]) {
    hostile.add((await simulate({ seed, nodes: 3, events: 200 })).hostile !== null);
  }
  expect(hostile).toEqual(new Set([true, false]));
});
