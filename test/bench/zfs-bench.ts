/** Pando against the bare shell pipe and against syncoid, on real ZFS: two nodes in processes of their own, two pools on files. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import { createFilePool, type FilePool, uniquePoolName } from '../../peers/provision/file-pool.ts';
import type { DatasetName, TreeName } from '../../src/core/ids.ts';
import { measureBareEcho } from './bare-echo.ts';
import { MemoryWatch } from './memory-watch.ts';
import type { AskedSync, NodeFarewell, NodeHello, NodeOrder, SyncTimes, Traffic, Usage } from './node-process.ts';
import { mbufferPipe, provideRivals, SshServer } from './rivals.ts';
import { type RoundTrips, roundTripsOf } from './round-trips.ts';

const MIB = 1024 * 1024;
/** Sparse: it takes what is written. */
const POOL_BYTES = 24 * 1024 * MIB;
const NODE_PROCESS = fileURLToPath(new URL('./node-process.js', import.meta.url));
const IDLE_SYNCS = 100;

export interface BenchNode extends NodeHello {
  readonly pid: number;
  order<Answer>(order: NodeOrder): Promise<Answer>;
  stop(): Promise<NodeFarewell>;
}

/** Two pools and two nodes that know each other, with all of it undone at the end. */
export class Bench {
  readonly #undo: (() => Promise<unknown>)[] = [];

  static async run<Result>(
    work: (bench: Bench, source: FilePool, target: FilePool) => Promise<Result>,
  ): Promise<Result> {
    const bench = new Bench();
    try {
      const zfs = await ensureZfs();
      bench.#undo.push(() => zfs.stop());
      return await work(bench, await bench.#pool('from'), await bench.#pool('to'));
    } finally {
      for (const undo of bench.#undo.reverse())
        await undo().catch((error: unknown) => process.stderr.write(`${error}\n`));
    }
  }

  async #directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'pando-bench-'));
    this.#undo.push(() => rm(directory, { recursive: true, force: true }));
    return directory;
  }

  async #pool(purpose: string): Promise<FilePool> {
    const directory = await this.#directory();
    const pool = await createFilePool({
      directory: join(directory, 'pool'),
      name: uniquePoolName(purpose),
      sizeBytes: POOL_BYTES,
    });
    this.#undo.push(() => pool.destroy());
    return pool;
  }

  /** What others use, or why there is nothing to compare with. */
  async rivals(): Promise<{ readonly ssh: SshServer | null; readonly missing: string | null }> {
    const missing = await provideRivals();
    if (missing !== null) return { ssh: null, missing };
    const ssh = await SshServer.start(await this.#directory());
    this.#undo.push(() => ssh.stop());
    return { ssh, missing };
  }

  async node(): Promise<BenchNode> {
    const child = fork(NODE_PROCESS, [await this.#directory()]);
    this.#undo.push(async () => {
      if (child.exitCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    const hello = await answerOf<NodeHello>(child);
    const order = <Answer>(what: NodeOrder): Promise<Answer> => {
      const answer = answerOf<Answer>(child);
      child.send(what);
      return answer;
    };
    const stop = async (): Promise<NodeFarewell> => {
      const farewell = await order<NodeFarewell>({ do: 'stop' });
      child.disconnect();
      return farewell;
    };
    return { ...hello, pid: child.pid ?? 0, order, stop };
  }

  /** A sender and a receiver that know each other. */
  async pair(trustedLink: boolean): Promise<{ readonly sender: BenchNode; readonly receiver: BenchNode }> {
    const [sender, receiver] = [await this.node(), await this.node()];
    await sender.order({
      do: 'introduce',
      peer: receiver.id,
      address: receiver.address,
      trustedLink,
      grants: [{ trees: '*', role: 'reader' }],
    });
    await receiver.order({ do: 'introduce', peer: sender.id, address: sender.address, trustedLink, grants: [] });
    return { sender, receiver };
  }
}

async function answerOf<Answer>(child: ChildProcess): Promise<Answer> {
  const answered = new AbortController();
  const { signal } = answered;
  const ended = once(child, 'exit', { signal }).then(([code]) => [{ error: `the node ended with ${code}` }]);
  ended.catch(() => undefined);
  const [message] = (await Promise.race([once(child, 'message', { signal }), ended])) as [
    { answer?: Answer; error?: string },
  ];
  answered.abort();
  if (message.error !== undefined) throw new Error(message.error);
  return message.answer as Answer;
}

export async function zfs(...words: readonly string[]): Promise<void> {
  await execa('zfs', words);
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** The pipe that people write; names are made here, of harmless characters. */
export async function shell(script: string): Promise<void> {
  await execa('sh', ['-c', script]);
}

/** Random bytes, so that nothing compresses. */
export async function writeFileOf(path: string, bytes: number): Promise<void> {
  const chunk = Buffer.alloc(Math.min(bytes, MIB));
  const file = await open(path, 'w');
  for (let written = 0; written < bytes; written += chunk.length) {
    randomFillSync(chunk);
    await file.write(chunk);
  }
  await file.close();
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

export async function syncOnce(receiver: BenchNode, tree: TreeName): Promise<number> {
  const { milliseconds, failures } = await receiver.order<SyncTimes>({ do: 'sync', tree, times: 1 });
  if (failures.length > 0) throw new Error(`a step failed: ${failures[0]}`);
  return (milliseconds[0] ?? Number.NaN) / 1000;
}

/** CPU that nodes have used so far, in seconds together, children left out. */
async function cpuOf(...nodes: readonly BenchNode[]): Promise<number> {
  const usages = await Promise.all(nodes.map((node) => node.order<Usage>({ do: 'usage' })));
  return usages.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
}

interface CpuOptions {
  readonly mebibytes: number;
  readonly rounds: number;
  readonly trustedLink: boolean;
}

/** CPU of both nodes together for each GiB of large increments, in seconds, children left out: of nodes that have synced before, as a daemon has. */
async function measureCpu(
  bench: Bench,
  source: FilePool,
  target: FilePool,
  { mebibytes, rounds, trustedLink }: CpuOptions,
): Promise<number> {
  const tree = 'grown' as TreeName;
  const [root, copy] = [`${source.name}/grown` as DatasetName, `${target.name}/grown` as DatasetName];
  await zfs('create', root);
  await zfs('snapshot', `${root}@0`);
  const { sender, receiver } = await bench.pair(trustedLink);
  await sender.order({ do: 'share', tree, root });
  await receiver.order({ do: 'mirror', tree, from: sender.id, root: copy });
  await receiver.order({ do: 'catch-up', peer: sender.id });
  await syncOnce(receiver, tree);
  const perGibibyte: number[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    // A file more: zfs-fuse does not tell how much was written, and what only changes counts for nothing there
    await writeFileOf(join(source.mountpoint, 'grown', `data-${round}`), mebibytes * MIB);
    await zfs('snapshot', `${root}@${round}`);
    await sender.order({ do: 'look' });
    await receiver.order({ do: 'catch-up', peer: sender.id });
    const before = await cpuOf(sender, receiver);
    await syncOnce(receiver, tree);
    perGibibyte.push(((await cpuOf(sender, receiver)) - before) / (mebibytes / 1024));
  }
  await sender.stop();
  await receiver.stop();
  for (const dataset of [root, copy]) await zfs('destroy', '-r', dataset);
  return median(perGibibyte);
}

/** What the sealed link is compared with. */
export const SSH = 'zfs send | ssh | zfs receive';
export const SSH_GCM = 'the same with aes128-gcm';
const MBUFFER = 'zfs send | mbuffer over TCP | zfs receive';

export interface BulkTimes {
  readonly mebibytes: number;
  readonly pipeSeconds: readonly number[];
  readonly directSeconds: readonly number[];
  readonly sealedSeconds: readonly number[];
  readonly directRatio: number;
  readonly sealedRatio: number;
  /** CPU of both nodes together, in seconds for each GiB, children left out. */
  readonly directCpuPerGibibyte: number;
  readonly sealedCpuPerGibibyte: number;
  /** Seconds of each rival; none where they are not installed, and then why. */
  readonly rivalSeconds: Readonly<Record<string, readonly number[]>>;
  readonly missing: string | null;
  /** Sealed link / rival, by its name; and the bare pipe / rival, which no encryption at all could go below. */
  readonly sealedAgainst: Readonly<Record<string, number>>;
  readonly pipeAgainst: Readonly<Record<string, number>>;
  readonly nodes: readonly NodeFarewell[];
}

/** A first sync of one large dataset, in turns with the bare pipe; ratios of medians. */
export function measureBulk(mebibytes: number, rounds: number): Promise<BulkTimes> {
  return Bench.run(async (bench, source, target) => {
    const tree = 'bulk' as TreeName;
    const root = `${source.name}/bulk` as DatasetName;
    await zfs('create', root);
    await writeFileOf(join(source.mountpoint, 'bulk', 'data'), mebibytes * MIB);
    await zfs('snapshot', `${root}@1`);
    const farewells: NodeFarewell[] = [];
    const pull = async (trustedLink: boolean): Promise<number> => {
      const copy = `${target.name}/pulled` as DatasetName;
      const { sender, receiver } = await bench.pair(trustedLink);
      await sender.order({ do: 'share', tree, root });
      await receiver.order({ do: 'mirror', tree, from: sender.id, root: copy });
      await receiver.order({ do: 'catch-up', peer: sender.id });
      const seconds = await syncOnce(receiver, tree);
      farewells.push(await sender.stop(), await receiver.stop());
      await zfs('destroy', '-r', copy);
      return seconds;
    };
    const { ssh, missing } = await bench.rivals();
    const [send, receive] = [`zfs send ${root}@1`, `zfs receive -u ${target.name}/pipe`];
    const piped = async (script: string): Promise<number> => {
      const seconds = await timed(() => shell(script));
      await zfs('destroy', '-r', `${target.name}/pipe`);
      return seconds;
    };
    const times = { pipe: [] as number[], direct: [] as number[], sealed: [] as number[] };
    const rivals: Record<string, number[]> = ssh === null ? {} : { [SSH]: [], [SSH_GCM]: [], [MBUFFER]: [] };
    for (let round = 0; round < rounds; round += 1) {
      times.pipe.push(await piped(`${send} | ${receive}`));
      times.direct.push(await pull(true));
      times.sealed.push(await pull(false));
      if (ssh === null) continue;
      rivals[SSH]?.push(await piped(`${send} | ${ssh.command()} ${receive}`));
      rivals[SSH_GCM]?.push(await piped(`${send} | ${ssh.command('aes128-gcm@openssh.com')} ${receive}`));
      rivals[MBUFFER]?.push(await piped(await mbufferPipe(send, receive)));
    }
    const against = (ours: readonly number[]): Record<string, number> =>
      Object.fromEntries(Object.entries(rivals).map(([name, seconds]) => [name, median(ours) / median(seconds)]));
    return {
      mebibytes,
      pipeSeconds: times.pipe,
      directSeconds: times.direct,
      sealedSeconds: times.sealed,
      directRatio: median(times.direct) / median(times.pipe),
      sealedRatio: median(times.sealed) / median(times.pipe),
      directCpuPerGibibyte: await measureCpu(bench, source, target, { mebibytes, rounds, trustedLink: true }),
      sealedCpuPerGibibyte: await measureCpu(bench, source, target, { mebibytes, rounds, trustedLink: false }),
      rivalSeconds: rivals,
      missing,
      sealedAgainst: against(times.sealed),
      pipeAgainst: against(times.pipe),
      nodes: farewells,
    };
  });
}

export interface IdleTimes {
  readonly snapshots: number;
  readonly medianMilliseconds: number;
  readonly worstMilliseconds: number;
  readonly zfsCalls: number;
  readonly nodes: readonly NodeFarewell[];
}

/** Syncs with nothing to do, over a tree of many snapshots that both sides have. */
export function measureIdle(datasets: number, snapshotsEach: number): Promise<IdleTimes> {
  return Bench.run(async (bench, source, target) => {
    const tree = 'idle' as TreeName;
    const root = `${source.name}/idle` as DatasetName;
    await zfs('create', root);
    for (let index = 1; index < datasets; index += 1) await zfs('create', `${root}/d${index}`);
    for (let index = 0; index < snapshotsEach; index += 1) await zfs('snapshot', '-r', `${root}@s${index}`);
    const { sender, receiver } = await bench.pair(true);
    await sender.order({ do: 'share', tree, root });
    await receiver.order({ do: 'mirror', tree, from: sender.id, root: `${target.name}/idle` as DatasetName });
    await syncOnce(receiver, tree);
    await syncOnce(receiver, tree);
    const { milliseconds, zfsCalls } = await receiver.order<SyncTimes>({ do: 'sync', tree, times: IDLE_SYNCS });
    return {
      snapshots: datasets * snapshotsEach,
      medianMilliseconds: median(milliseconds),
      worstMilliseconds: Math.max(...milliseconds),
      zfsCalls,
      nodes: [await sender.stop(), await receiver.stop()],
    };
  });
}

/** What it took a replica to follow something that was done to a whole family. */
export interface FamilyChange {
  readonly what: string;
  readonly steps: number;
  readonly streams: number;
  /** On the control connection, both ways. */
  readonly wireBytes: number;
  readonly seconds: number;
}

/** A family of clones that is renamed, re-rooted and destroyed at its owner, by plain `zfs`. */
export function measureFamily(clones: number, mebibytes: number): Promise<readonly FamilyChange[]> {
  return Bench.run(async (bench, source, target) => {
    const tree = 'family' as TreeName;
    const root = `${source.name}/family` as DatasetName;
    const names = Array.from({ length: clones }, (_, index) => `c${index}`);
    await zfs('create', root);
    await zfs('create', `${root}/base`);
    await writeFileOf(join(source.mountpoint, 'family', 'base', 'data'), mebibytes * MIB);
    await zfs('snapshot', `${root}/base@1`);
    for (const name of names) await zfs('clone', '-o', 'canmount=off', `${root}/base@1`, `${root}/${name}`);
    await zfs('snapshot', '-r', `${root}@2`);
    const { sender, receiver } = await bench.pair(true);
    await sender.order({ do: 'share', tree, root });
    await receiver.order({ do: 'mirror', tree, from: sender.id, root: `${target.name}/family` as DatasetName });
    await syncOnce(receiver, tree);
    await zfs('unmount', `${root}/base`);
    const changes: FamilyChange[] = [];
    const follow = async (what: string, change: () => Promise<unknown>): Promise<void> => {
      await change();
      const { bytes: before } = await receiver.order<Traffic>({ do: 'traffic' });
      await sender.order({ do: 'look' });
      await receiver.order({ do: 'catch-up', peer: sender.id });
      const { milliseconds, failures, steps, streams } = await receiver.order<SyncTimes>({
        do: 'sync',
        tree,
        times: 1,
      });
      if (failures.length > 0) throw new Error(`a step failed: ${failures[0]}`);
      const { bytes: after } = await receiver.order<Traffic>({ do: 'traffic' });
      changes.push({ what, steps, streams, wireBytes: after - before, seconds: (milliseconds[0] ?? 0) / 1000 });
    };
    await follow('promote', () => zfs('promote', `${root}/c7`));
    await follow('rename', async () => {
      for (const name of names) await zfs('rename', `${root}/${name}`, `${root}/renamed-${name}`);
    });
    await follow('destroy', async () => {
      for (const name of names.filter((one) => one !== 'c7')) await zfs('destroy', '-r', `${root}/renamed-${name}`);
    });
    await sender.stop();
    await receiver.stop();
    return changes;
  });
}

export interface StreamTimes {
  readonly mebibytes: number;
  readonly seconds: number;
  /** Round trips on the control connection while all of it ran, in ms. */
  readonly roundTrips: RoundTrips;
  /** CPU of both nodes together, in seconds for each GiB, children left out. */
  readonly cpuSecondsPerGibibyte: number;
  /** Of each node, and of the processes that seal for it together, in MB (10^6 bytes), every half second. */
  readonly memory: Readonly<Record<string, readonly number[]>>;
}

/** The root of datasets `d0`, `d1` …, each with one large file and a snapshot `1`. */
async function createStreams(source: FilePool, datasets: number, mebibytesEach: number): Promise<DatasetName> {
  const root = `${source.name}/streams` as DatasetName;
  await zfs('create', root);
  for (let index = 0; index < datasets; index += 1) {
    await zfs('create', `${root}/d${index}`);
    await writeFileOf(join(source.mountpoint, 'streams', `d${index}`, 'data'), mebibytesEach * MIB);
  }
  await zfs('snapshot', '-r', `${root}@1`);
  return root;
}

/** Round trips of two processes that do nothing else, beside as many bare pipes side by side. */
export function measureBareRoundTrips(datasets: number, mebibytesEach: number): Promise<RoundTrips> {
  return Bench.run(async (_bench, source, target) => {
    const root = await createStreams(source, datasets, mebibytesEach);
    return measureBareEcho(() =>
      Promise.all(
        Array.from({ length: datasets }, (_, index) =>
          shell(`zfs send ${root}/d${index}@1 | zfs receive -u ${target.name}/d${index}`),
        ),
      ),
    );
  });
}

/** Several large streams side by side: what they cost the nodes, and how long the control connection takes meanwhile. */
export function measureStreams(datasets: number, mebibytesEach: number, trustedLink: boolean): Promise<StreamTimes> {
  return Bench.run(async (bench, source, target) => {
    const tree = 'streams' as TreeName;
    const root = await createStreams(source, datasets, mebibytesEach);
    const { sender, receiver } = await bench.pair(trustedLink);
    await sender.order({ do: 'share', tree, root });
    await receiver.order({ do: 'mirror', tree, from: sender.id, root: `${target.name}/streams` as DatasetName });
    await receiver.order({ do: 'catch-up', peer: sender.id });
    const before = await cpuOf(sender, receiver);
    const watch = new MemoryWatch({ sender: sender.pid, receiver: receiver.pid });
    const { milliseconds, failures, roundTripMilliseconds } = await receiver.order<AskedSync>({
      do: 'sync-and-ask',
      tree,
      peer: sender.id,
    });
    const memory = watch.stop();
    if (failures.length > 0) throw new Error(`a step failed: ${failures[0]}`);
    const mebibytes = datasets * mebibytesEach;
    const cpuSecondsPerGibibyte = ((await cpuOf(sender, receiver)) - before) / (mebibytes / 1024);
    await sender.stop();
    await receiver.stop();
    return {
      mebibytes,
      seconds: (milliseconds[0] ?? Number.NaN) / 1000,
      roundTrips: roundTripsOf(roundTripMilliseconds),
      cpuSecondsPerGibibyte,
      memory,
    };
  });
}
