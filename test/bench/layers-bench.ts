/** What containers cost on Pando: against the bare `zfs clone`, against containerd's own snapshotters, and against unpacking a second time. */
import { appendFile, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import { execa } from 'execa';
import type { RelativeName, TreeName } from '../../src/core/ids.ts';
import type { SnapshotKept } from '../../src/core/layer-events.ts';
import { SNAPSHOT_PROPERTY } from '../../src/core/layers/layer-names.ts';
import { SPARE_MARK } from '../../src/features/snapshots/marks.ts';
import { SnapshotJournal } from '../../src/features/snapshots/snapshot-journal.ts';
import { Snapshots } from '../../src/features/snapshots/snapshots.ts';
import { startGrpcServer } from '../../src/interfaces/grpc/server.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { SnapshotsClient } from '../interfaces/grpc/snapshots-client.ts';
import { ContainerHost } from '../platform/container-host.ts';
import { connect, Host } from '../torture/host.ts';
import { type GeneratedImage, generateImage } from './generated-image.ts';

const IMAGE_LAYERS = 10;
const IMAGE_BASE = 'docker.io/library/made';
/** Prepares, Views and bare clones, in turns. */
const ROUNDS = 60;
/** How often it is asked whether a clone in advance is there. */
const QUESTIONS_MAX = 100;
/** As far as zfs-fuse has room for them (`ZFS_OUT_OF_MOUNTS`). */
const ROOTS_MAX = 1_000;
const LISTED = 10_000;
const LISTS = 9;
const NANOSECONDS_PER_MS = 1_000_000;
/** Nobody looks on his own while it is counted what was asked for. */
const SETTINGS = 'observeEverySeconds: 86400\n';

export interface LayersTimes {
  readonly prepareMs: readonly number[];
  /** A View is always cloned while its caller waits, as are the first two Prepares over a parent. */
  readonly viewMs: readonly number[];
  readonly cloneMs: readonly number[];
  readonly prepareRatio: number;
  readonly roots: RootCosts;
  readonly image: Omit<GeneratedImage, 'layout' | 'archive'>;
  /** Seconds to unpack the image, by how. */
  readonly unpackSeconds: Readonly<Record<Unpacker, number>>;
  readonly second: { readonly unpackSeconds: number; readonly mirrorSeconds: number; readonly mirrorBytes: number };
  readonly listMs: readonly number[];
}

export interface RootCosts {
  readonly roots: number;
  readonly seconds: number;
  /** Of the pool, for each. */
  readonly bytesEach: number;
  /** `zfs` processes, for each. */
  readonly processesEach: number;
  /** Commands that list all datasets, and not only what they name. */
  readonly listings: number;
}

type Unpacker = 'pando' | 'pando image extract' | 'native' | 'overlayfs';

export async function measureLayers(): Promise<LayersTimes> {
  const undo: (() => Promise<unknown>)[] = [];
  try {
    const work = await mkdtemp(join(tmpdir(), 'pando-bench-layers-'));
    undo.push(() => rm(work, { recursive: true, force: true }));
    const image = await generateImage(work, IMAGE_LAYERS);
    const one = await Host.start({ name: 'one', address: '10.213.9.1', interface: 'toother', settings: SETTINGS });
    undo.push(() => one.remove());
    const other = await Host.start({ name: 'other', address: '10.213.9.2', interface: 'toone', settings: SETTINGS });
    undo.push(() => other.remove());
    await connect(one, other, ['toother', 'toone']);
    await makeStore(one, 'images');
    const unpackSeconds = await measureUnpacking(one, image);
    const second = await measureSecond(one, other, image);
    const { prepareMs, viewMs, cloneMs } = await measurePrepare(one);
    const roots = await measureRoots(one, work);
    const listMs = await measureList(work);
    const { layout: _, archive: __, ...told } = image;
    const prepareRatio = median(prepareMs) / median(cloneMs);
    return { prepareMs, viewMs, cloneMs, prepareRatio, roots, image: told, unpackSeconds, second, listMs };
  } finally {
    for (const step of undo.reverse()) await step().catch((error: unknown) => process.stderr.write(`${error}\n`));
  }
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function makeStore(host: Host, tree: string): Promise<void> {
  await host.run('zfs', 'create', `${host.pool}/${tree}`);
  await host.startNode();
  await pando(host, 'tree', 'add', tree, `${host.pool}/${tree}`);
  await pando(host, 'layers', 'init', tree);
}

async function pando(host: Host, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.pando(...words);
  if (code !== 0) throw new Error(`pando ${words.join(' ')} ended with ${code}: ${stderr}`);
  return stdout;
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

async function onClient<T>(host: Host, work: (client: SnapshotsClient) => Promise<T>): Promise<T> {
  const client = new SnapshotsClient(join(host.directory, 'data', 'snapshotter.sock'));
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** The image is in containerd's store already, and what it takes to read it again is left out. The native snapshotter writes to the same pool, overlayfs to the disk below it. */
async function measureUnpacking(host: Host, image: GeneratedImage): Promise<LayersTimes['unpackSeconds']> {
  const extract = await seconds(() => pando(host, 'image', 'extract', image.layout, '--name', 'made:one'));
  await pando(host, 'image', 'rm', 'made:one');
  await pando(host, 'layers', 'gc');
  const place = join(host.directory, 'containerd', 'root', 'io.containerd.snapshotter.v1.native');
  await host.run('zfs', 'create', '-o', `mountpoint=${place}`, `${host.pool}/native`);
  const containerd = await ContainerHost.start(host, { cri: false });
  try {
    const read = async (...words: string[]): Promise<number> =>
      seconds(() => containerd.ctr('images', 'import', '--base-name', IMAGE_BASE, ...words, image.archive));
    await read('--no-unpack');
    const again = await read('--no-unpack');
    const unpack = async (snapshotter: string): Promise<number> => (await read('--snapshotter', snapshotter)) - again;
    const [native, own] = [await unpack('native'), await unpack('pando')];
    // Not everywhere can an overlay lie
    const overlayfs = await unpack('overlayfs').catch(() => Number.NaN);
    return { pando: own, 'pando image extract': extract, native, overlayfs };
  } finally {
    await containerd.stop();
  }
}

/** The same image on a second node: unpacked there, and as a mirror of the first. */
async function measureSecond(one: Host, other: Host, image: GeneratedImage): Promise<LayersTimes['second']> {
  await makeStore(other, 'own');
  const unpackSeconds = await seconds(() =>
    pando(other, 'image', 'extract', image.layout, '--name', 'made:one', '--store', 'own'),
  );
  const [line = ''] = (
    await pando(one, 'peer', 'invite', '--tree', 'images', '--address', `${one.address}:7380`)
  ).split('\n');
  await pando(other, 'peer', 'join', line, '--as', 'one');
  const into = ['--into', `${other.pool}/images`, '--only', 'storage/**'];
  await pando(other, 'mirror', 'add', 'images', '--from', 'one', ...into);
  let mirrorBytes = 0;
  const mirrorSeconds = await seconds(async () => {
    const said = await pando(other, 'sync', 'images', '--json');
    const results = said.split('\n').filter((each) => each.includes('"type":"result"'));
    mirrorBytes = (JSON.parse(results[0] ?? '{}') as { bytes: number }).bytes;
  });
  return { unpackSeconds, mirrorSeconds, mirrorBytes };
}

/** A parent with something in it. */
async function prepareParent(client: SnapshotsClient, name: string): Promise<string> {
  await client.mounts('Prepare', { key: `making-${name}` });
  await client.call('Commit', { name, key: `making-${name}` });
  return name;
}

/**
 * In turns, in the same pool, of snapshots with nothing in them. The bare command is timed where it runs, without what brings it there. Each waits until the clone in advance is there, so that the work
 * which a Prepare leaves for later is in nobody's way here; what many in a row take is told by {@link measureRoots}.
 */
function measurePrepare(host: Host): Promise<Pick<LayersTimes, 'prepareMs' | 'viewMs' | 'cloneMs'>> {
  return onClient(host, async (client) => {
    const parent = await prepareParent(client, 'parent');
    await host.run('zfs', 'create', `${host.pool}/bare`);
    const snapshot = `${host.pool}/images/storage/empty@extracted`;
    const bare = `a=$(date +%s%N); zfs clone ${snapshot} ${host.pool}/bare/$1; b=$(date +%s%N); echo $((b - a))`;
    const [prepareMs, viewMs, cloneMs]: [number[], number[], number[]] = [[], [], []];
    for (const key of ['first', 'second']) await client.mounts('Prepare', { key, parent });
    for (let round = 0; round < ROUNDS; round += 1) {
      await spareIsThere(host);
      prepareMs.push(1000 * (await seconds(() => client.mounts('Prepare', { key: `prepare-${round}`, parent }))));
      await spareIsThere(host);
      viewMs.push(1000 * (await seconds(() => client.mounts('View', { key: `view-${round}`, parent }))));
      cloneMs.push(Number(await host.run('sh', '-c', bare, 'sh', `clone-${round}`)) / NANOSECONDS_PER_MS);
    }
    return { prepareMs, viewMs, cloneMs };
  });
}

async function spareIsThere(host: Host): Promise<void> {
  const words = ['get', '-H', '-r', '-o', 'value', SNAPSHOT_PROPERTY, `${host.pool}/images/runtime`];
  for (let question = 0; question < QUESTIONS_MAX; question += 1) {
    if ((await host.run('zfs', ...words)).split('\n').includes(SPARE_MARK)) return;
  }
  throw new Error('No clone was made in advance');
}

/** Many roots of one parent: what each takes of the pool, and what ZFS is asked meanwhile. */
async function measureRoots(host: Host, work: string): Promise<RootCosts> {
  const { stdout: real } = await execa('sh', ['-c', 'command -v zfs']);
  const log = join(work, 'commands');
  const shim = join(work, 'shim');
  await mkdir(shim);
  await writeFile(join(shim, 'zfs'), `#!/bin/sh\necho "$*" >> ${log}\nexec ${real} "$@"\n`);
  await chmod(join(shim, 'zfs'), 0o755);
  await host.killNode();
  await host.startNode({ PATH: `${shim}:${process.env.PATH}` });
  return onClient(host, async (client) => {
    const parent = await prepareParent(client, 'many');
    const before = await usedBy(host);
    await writeFile(log, '');
    let roots = 0;
    const took = await seconds(async () => {
      while (roots < ROOTS_MAX && (await hasRoomFor(client, `root-${roots}`, parent))) roots += 1;
    });
    await appendFile(log, '');
    const commands = (await readFile(log, 'utf8')).split('\n').filter((line) => line !== '');
    const places = [host.pool, ...['', '/storage', '/runtime'].map((place) => `${host.pool}/images${place}`)];
    const isListing = (line: string): boolean => / -r\b/.test(line) || places.includes(line.split(' ').at(-1) ?? '');
    const listings = commands.filter((line) => /^(list|get) /.test(line) && isListing(line));
    const bytesEach = ((await usedBy(host)) - before) / roots;
    return {
      roots,
      seconds: took,
      bytesEach,
      processesEach: commands.length / roots,
      listings: listings.length,
    };
  });
}

/** Prepares one more; false where ZFS has no room for it. */
async function hasRoomFor(client: SnapshotsClient, key: string, parent: string): Promise<boolean> {
  try {
    await client.mounts('Prepare', { key, parent });
    return true;
  } catch (error) {
    if ((error as ServiceError).code !== status.RESOURCE_EXHAUSTED) throw error;
    return false;
  }
}

/** Bytes, once what was written is on the disk: a property that is set waits for that. */
async function usedBy(host: Host): Promise<number> {
  await host.run('zfs', 'set', `bench:at=${Date.now()}`, host.pool);
  return Number(await host.run('zfs', 'get', '-Hp', '-o', 'value', 'used', host.pool));
}

/** Records without datasets: ten thousand real clones take ten minutes, and a list asks ZFS nothing. */
async function measureList(work: string): Promise<number[]> {
  const history = await History.open({ log: new MemoryLog(), signer: createIdentity(), now: () => Date.now() });
  const journal = await SnapshotJournal.open(history, () => undefined);
  const nothing = (): never => {
    throw new Error('A list needs only what is known');
  };
  const facts = Array.from({ length: LISTED }, (_, index): SnapshotKept => {
    const [key, at] = [`k8s.io/${index}/sha256:${index.toString(16).padStart(64, '0')}`, '1700000000000000000'];
    const labels = { 'containerd.io/snapshot.ref': key, 'containerd.io/gc.root': at };
    const dataset = `runtime/${index}` as RelativeName;
    return {
      type: 'snapshotter.kept',
      tree: 'images' as TreeName,
      key,
      kind: 'active',
      parent: null,
      labels,
      createdAt: at,
      updatedAt: at,
      dataset,
      objects: null,
    };
  });
  for (let from = 0; from < LISTED; from += 1000) await journal.record(facts.slice(from, from + 1000));
  const snapshots = new Snapshots({
    zfs: new MemoryZfs(),
    journal,
    store: nothing,
    hasLayer: nothing,
    fetchLayer: nothing,
    keeping: nothing,
    layerBelow: nothing,
    lookSoon: nothing,
    collectGarbage: nothing,
    mintUuid: nothing,
    now: nothing,
    warn: nothing,
  });
  const socket = join(work, 'list.sock');
  const server = await startGrpcServer({ socket, snapshots, report: nothing });
  const client = new SnapshotsClient(socket);
  try {
    const milliseconds: number[] = [];
    for (let time = 0; time < LISTS; time += 1) {
      milliseconds.push(
        1000 *
          (await seconds(async () => {
            const keys = await client.keys();
            if (keys.length !== LISTED) throw new Error(`${keys.length} snapshots were listed`);
          })),
      );
    }
    return milliseconds;
  } finally {
    client.close();
    await server.close();
    await history.close();
  }
}
