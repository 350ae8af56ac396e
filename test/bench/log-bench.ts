/**
 * How fast the log is: what a node appends, replays and opens. Each function measures one thing on a real LevelDB in a directory of its
 * own, and says what it found.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chainHash, genesisHash, signHead } from '../../src/core/codec/chain.ts';
import { encodeEvent } from '../../src/core/codec/event-codec.ts';
import { EVENT_VERSION, type EventBody } from '../../src/core/events.ts';
import {
  type DatasetId,
  type DatasetName,
  type RelativeName,
  type SnapshotGuid,
  type SnapshotName,
  streamIdOf,
  type TreeName,
} from '../../src/core/ids.ts';
import { History } from '../../src/log/history.ts';
import { LevelLog } from '../../src/log/level-log.ts';
import { signerOf } from '../log/identity.ts';

const signer = signerOf(1);
const tree = 'bench' as TreeName;
const BATCH_EVENTS = 1_000;

/** The tree that "a large graph" means: a hundred thousand layers with ten snapshots each. */
const LARGE_DATASETS = 100_000;
const LARGE_SNAPSHOTS_EACH = 10;

export interface Throughput {
  readonly events: number;
  readonly seconds: number;
  readonly eventsPerSecond: number;
}

export interface OpenedLargeGraph {
  readonly snapshots: number;
  /** From the start of `LevelLog.open` to a History that answers. */
  readonly seconds: number;
  /** Resident memory of a process that did nothing else, in MB (10^6 bytes). */
  readonly residentMegabytes: number;
  /** Of `History.record` with ten bodies in that process: the median of several, in ms. */
  readonly appendTenMilliseconds: number;
}

function openHistory(directory: string): Promise<History> {
  return LevelLog.open(directory).then((log) => History.open({ log, signer, now: Date.now }));
}

async function inDirectory<Result>(measure: (directory: string) => Promise<Result>): Promise<Result> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-bench-'));
  try {
    return await measure(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function timed(events: number, task: () => Promise<unknown>): Promise<Throughput> {
  const start = performance.now();
  await task();
  const seconds = (performance.now() - start) / 1_000;
  return { events, seconds, eventsPerSecond: Math.round(events / seconds) };
}

function datasetId(number: number): DatasetId {
  return `01900000-0000-7000-8000-${String(number).padStart(12, '0')}` as DatasetId;
}

function datasetCreated(number: number): EventBody {
  return {
    type: 'dataset.created',
    dataset: datasetId(number),
    kind: 'filesystem',
    guid: guidOf(number + 500_000_000),
    name: `layers/${number}` as RelativeName,
    origin: null,
    owner: { node: signer.node, epoch: 1 },
    properties: {},
  };
}

/** A number as large as real guids are: they make up most of a graph. */
function guidOf(number: number): SnapshotGuid {
  return BigInt.asUintN(64, (BigInt(number) + 1n) * 11_400_714_819_323_198_485n).toString() as SnapshotGuid;
}

function snapshotCreated(dataset: number, number: number, round: number): EventBody {
  return {
    type: 'snapshot.created',
    dataset: datasetId(dataset),
    snapshot: {
      guid: guidOf(number),
      name: `autosnap-${round}-daily` as SnapshotName,
      createtxg: number + 1,
      creation: 1_750_000_000 + round,
      referenced: 4_000_000_000 + number,
      written: 1_048_576 + number,
    },
  };
}

/** The bodies of a tree whose datasets get their snapshots in rounds, as a schedule makes them. */
function* bodiesOf(datasets: number, snapshotsEach: number): Generator<EventBody> {
  yield { type: 'tree.added', root: 'tank/bench' as DatasetName };
  for (let number = 0; number < datasets; number += 1) yield datasetCreated(number);
  for (let round = 0; round < snapshotsEach; round += 1) {
    for (let number = 0; number < datasets; number += 1)
      yield snapshotCreated(number, round * datasets + number, round);
  }
}

/** The same in batches, each made when it is asked for: a pile of bodies would only keep the garbage collector busy. */
function* batchesOf(datasets: number, snapshotsEach: number, size: number): Generator<EventBody[]> {
  let batch: EventBody[] = [];
  for (const body of bodiesOf(datasets, snapshotsEach)) {
    batch.push(body);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** Sums up what `task` takes for each batch. */
async function timedBatches<Batch extends { readonly length: number }>(
  batches: Iterable<Batch>,
  task: (batch: Batch) => Promise<unknown>,
): Promise<Throughput> {
  let events = 0;
  let seconds = 0;
  for (const batch of batches) {
    events += batch.length;
    seconds += (await timed(batch.length, () => task(batch))).seconds;
  }
  return { events, seconds, eventsPerSecond: Math.round(events / seconds) };
}

/** `History.record` in batches of 1,000: stamped, folded, encoded, hashed, signed and synced to disk, checkpoints included. */
export function measureRecord(): Promise<Throughput> {
  return inDirectory(async (directory) => {
    const history = await openHistory(directory);
    const batches = batchesOf(1_000, 199, BATCH_EVENTS);
    const result = await timedBatches(batches, (bodies) => history.record(tree, 'command', bodies));
    await history.close();
    return result;
  });
}

/** One level below: `LevelLog.append` of encoded events in batches of 1,000, hashed by author and log, signed and synced to disk. */
export function measureAppend(): Promise<Throughput> {
  return inDirectory(async (directory) => {
    const log = await LevelLog.open(directory);
    const stream = streamIdOf(signer.node, tree);
    let seq = 0;
    let hash = genesisHash(stream, 1);
    const result = await timedBatches(encodedBatches(), (events) => {
      seq += events.length;
      hash = events.reduce(chainHash, hash);
      return log.append({ stream, events, head: signHead({ stream, incarnation: 1, seq, hash }, signer) });
    });
    await log.close();
    return result;
  });
}

function* encodedBatches(): Generator<Uint8Array[]> {
  for (const bodies of batchesOf(1_000, 199, BATCH_EVENTS)) {
    yield bodies.map((body, index) =>
      encodeEvent({ v: EVENT_VERSION, seq: index + 1, at: index, cause: 'command', ...body }),
    );
  }
}

/**
 * Opening a stream without a checkpoint in a process that does nothing else: pages read, every hash checked, events decoded and folded.
 */
export function measureReplay(): Promise<Throughput> {
  return inDirectory(async (directory) => {
    const log = await LevelLog.open(directory);
    const history = await History.open({ log, signer, now: Date.now, checkpointPolicy: () => false });
    for (const bodies of batchesOf(1_000, 499, BATCH_EVENTS)) await history.record(tree, 'command', bodies);
    await history.close();
    return (await inChild('replay', directory)) as Throughput;
  });
}

/** Child: opens the log. */
async function replay(directory: string): Promise<Throughput> {
  const start = performance.now();
  const history = await openHistory(directory);
  const seconds = (performance.now() - start) / 1_000;
  const events = history.head(history.ownStream(tree))?.seq ?? 0;
  await history.close();
  return { events, seconds, eventsPerSecond: Math.round(events / seconds) };
}

/** Opens a graph of a million snapshots from its checkpoint, in a process that does nothing else. */
export function measureLargeGraph(): Promise<OpenedLargeGraph> {
  return inDirectory(async (directory) => {
    await inChild('write', directory);
    return (await inChild('open', directory)) as OpenedLargeGraph;
  });
}

async function inChild(task: 'write' | 'open' | 'replay', directory: string): Promise<unknown> {
  const child = fork(fileURLToPath(import.meta.url), [task, directory]);
  let answer: unknown;
  child.once('message', (message) => {
    answer = message;
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`The process that was to ${task} a large graph ended with ${code}.`);
  return answer;
}

/** Child: records the large tree, with one checkpoint at its end. */
async function writeLargeGraph(directory: string): Promise<void> {
  const log = await LevelLog.open(directory);
  const total = 1 + LARGE_DATASETS * (1 + LARGE_SNAPSHOTS_EACH);
  let left = total;
  const history = await History.open({ log, signer, now: Date.now, checkpointPolicy: () => left === 0 });
  for (const bodies of batchesOf(LARGE_DATASETS, LARGE_SNAPSHOTS_EACH, 10_000)) {
    left -= bodies.length;
    await history.record(tree, 'observed', bodies);
  }
  await history.close();
}

const APPENDS_MEASURED = 21;

/** Child: opens it, and appends to it. */
async function openLargeGraph(directory: string): Promise<OpenedLargeGraph> {
  const start = performance.now();
  const history = await openHistory(directory);
  const seconds = (performance.now() - start) / 1_000;
  const residentMegabytes = Math.round(process.memoryUsage.rss() / 1e6);
  const snapshots = history.graph(history.ownStream(tree)).snapshotCount;
  const times: number[] = [];
  for (let round = 0; round < APPENDS_MEASURED; round += 1) {
    const bodies = Array.from({ length: 10 }, (_, index) =>
      snapshotCreated(index, 2e9 + round * 10 + index, 50 + round),
    );
    times.push((await timed(10, () => history.record(tree, 'command', bodies))).seconds * 1_000);
  }
  await history.close();
  const appendTenMilliseconds = times.sort((a, b) => a - b)[(APPENDS_MEASURED - 1) / 2] ?? 0;
  return { snapshots, seconds, residentMegabytes, appendTenMilliseconds };
}

const [, main, task, directory] = process.argv;
if (main === fileURLToPath(import.meta.url) && directory !== undefined) {
  if (task === 'write') await writeLargeGraph(directory);
  else process.send?.(await (task === 'open' ? openLargeGraph : replay)(directory));
}
