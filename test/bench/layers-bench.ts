/** What containers cost on Pando: against the bare `zfs clone`, against containerd's own snapshotters, and against unpacking a second time. */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { SNAPSHOT_PROPERTY } from '../../src/core/layers/layer-names.ts';
import { SPARE_MARK } from '../../src/features/snapshots/marks.ts';
import { startGrpcServer } from '../../src/interfaces/grpc/server.ts';
import { LayerWorld } from '../features/layers/layer-world.ts';
import { SnapshotsClient } from '../interfaces/grpc/snapshots-client.ts';
import { ContainerHost } from '../platform/container-host.ts';
import { connect, Host } from '../torture/host.ts';
import { type GeneratedImage, generateImage } from './generated-image.ts';
import { countingZfs, countRoots, prepareParent, type RootCosts } from './root-costs.ts';

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

/** Many roots of one parent, with a `zfs` between that writes down what it is asked. */
async function measureRoots(host: Host, work: string): Promise<RootCosts> {
  const { stdout: real } = await execa('sh', ['-c', 'command -v zfs']);
  const [commandLog, shim] = [join(work, 'commands'), join(work, 'shim')];
  await mkdir(shim);
  await writeFile(join(shim, 'zfs'), countingZfs(real, commandLog));
  await chmod(join(shim, 'zfs'), 0o755);
  await host.killNode();
  await host.startNode({ PATH: `${shim}:${process.env.PATH}` });
  const run = (program: string, ...words: string[]): Promise<string> => host.run(program, ...words);
  const place = { pool: host.pool, store: `${host.pool}/images`, run, commandLog };
  return onClient(host, (client) => countRoots(place, client, { rootsMax: ROOTS_MAX, parts: 1 }));
}

/** Of snapshots that were prepared in a node over ZFS in memory, as containerd would ask for them. */
async function measureList(work: string): Promise<number[]> {
  const world = await LayerWorld.start();
  const { snapshots } = world.node.node;
  const socket = join(work, 'list.sock');
  const client = new SnapshotsClient(socket);
  const undo = [() => world.remove(), async () => client.close()];
  try {
    const server = await startGrpcServer({ socket, snapshots, report: (error) => process.stderr.write(`${error}\n`) });
    undo.push(() => server.close());
    const parent = await prepareParent(client, 'listed');
    for (let index = 1; index < LISTED; index += 1) {
      const [key, at] = [`k8s.io/${index}/sha256:${index.toString(16).padStart(64, '0')}`, new Date().toISOString()];
      await client.mounts('Prepare', { key, parent, labels: { 'containerd.io/gc.root': at, 'example.com/as': key } });
    }
    const milliseconds: number[] = [];
    for (let time = 0; time < LISTS; time += 1) {
      let keys: readonly string[] = [];
      milliseconds.push(1000 * (await seconds(async () => (keys = await client.keys()))));
      if (keys.length !== LISTED) throw new Error(`${keys.length} snapshots were listed`);
    }
    return milliseconds;
  } finally {
    for (const step of undo.reverse()) await step();
  }
}
