/** containerd unpacks and runs containers on the snapshots of a node, is killed in between, and pulls on another host what this one has. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installPackages } from '../../peers/provision/debian-packages.ts';
import type { DatasetName } from '../../src/core/ids.ts';
import { type ChainId, chainOf } from '../../src/core/layers/digest.ts';
import { SNAPSHOT_REF_LABEL } from '../../src/core/snapshots/snapshot.ts';
import type { FixtureLayer } from '../features/layers/images/image-fixture.ts';
import { failureOf, SnapshotsClient } from '../interfaces/grpc/snapshots-client.ts';
import { connect, Host } from '../torture/host.ts';
import { ContainerHost } from './container-host.ts';
import { pullImage } from './cri-client.ts';
import { startRegistry } from './local-registry.ts';
import { busybox, layerWith, links, whiteouts, writeImage, writeTree } from './sample-image.ts';

const IMAGE = 'docker.io/library/made:one';
/** More than any image has; overlay file systems end at 500, and others at 128. */
const STACKED = 128;
const WRITTEN_BYTES = 3 * 1024 * 1024;

let work: string;
let layout: string;
let layers: readonly FixtureLayer[];
let chain: readonly ChainId[];
let build: Host;
let other: Host;
let containerd: ContainerHost;
let client: SnapshotsClient;

beforeAll(async () => {
  expect(await installPackages(['containerd', 'runc', 'docker-registry', 'skopeo', 'busybox-static'])).toBeNull();
  work = await mkdtemp(join(tmpdir(), 'pando-snapshotter-'));
  layers = [await layerWith(busybox), await layerWith(links), await layerWith(whiteouts)];
  chain = chainOf(layers.map(({ diffId }) => diffId));
  layout = await writeImage(join(work, 'image'), 'one', layers);
  await execa('tar', ['-C', layout, '-cf', join(work, 'image.tar'), '.']);
  build = await Host.start({ name: 'build', address: '10.213.8.1', interface: 'torun' });
  other = await Host.start({ name: 'run', address: '10.213.8.2', interface: 'tobuild' });
  await connect(build, other, ['torun', 'tobuild']);
  await build.run('zfs', 'create', `${build.pool}/images`);
  await build.startNode();
  await told(build, 'tree', 'add', 'images', `${build.pool}/images`);
  await told(build, 'layers', 'init', 'images');
  client = new SnapshotsClient(socketOf(build));
  containerd = await ContainerHost.start(build, { cri: false });
  const names = ['--base-name', 'docker.io/library/made', '--snapshotter', 'pando'];
  await containerd.ctr('images', 'import', ...names, join(work, 'image.tar'));
});

afterAll(async () => {
  client?.close();
  await containerd?.stop();
  await other?.remove();
  await build?.remove();
  await rm(work, { recursive: true, force: true });
});

function socketOf(host: Host): string {
  return join(host.directory, 'data', 'snapshotter.sock');
}

/** What a command of Pando prints that must not fail. */
async function told(host: Host, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.pando(...words);
  expect({ words, code, stderr: code === 0 ? '' : stderr }).toEqual({ words, code: 0, stderr: '' });
  return stdout;
}

/** Names below the tree with what `zfs` says of each. */
async function listed(host: Host, property: string, type: 'filesystem' | 'snapshot'): Promise<Record<string, string>> {
  const root = `${host.pool}/images`;
  const lines = (await host.run('zfs', 'get', '-H', '-p', '-o', 'name,value', '-r', property, root)).split('\n');
  const rows = lines.map((line) => line.split('\t') as [string, string]);
  const ofType = rows.filter(([name]) => name.includes('@') === (type === 'snapshot'));
  return Object.fromEntries(ofType.map(([name, value]) => [name.slice(root.length + 1), value]));
}

function isRuntime(name: string): boolean {
  return name.startsWith('runtime/');
}

/** Has containerd remove what it needs no more, which it does in its own time otherwise. */
async function collectGarbage(): Promise<void> {
  await containerd.ctr('images', 'tag', IMAGE, 'docker.io/library/made:gone');
  await containerd.ctr('images', 'rm', '--sync', 'docker.io/library/made:gone');
}

/** Where a snapshot is to be mounted from. */
async function sourceOf(key: string): Promise<string> {
  const { mounts } = await client.mounts('Mounts', { key });
  return mounts[0]?.source ?? '';
}

describe('containerd', () => {
  it('has unpacked an image to a dataset for each layer, each a clone of the one below', async () => {
    const origins = await listed(build, 'origin', 'filesystem');
    const below = ['storage/empty', ...chain.slice(0, -1).map((layer) => `storage/${layer}`)];
    expect(chain.map((layer) => origins[`storage/${layer}`])).toEqual(
      below.map((name) => `${build.pool}/images/${name}@extracted`),
    );
  });

  it('runs a container on it, whose root everybody may enter, and which sees what the layers say', async () => {
    const script = 'stat -c %a /; cat /etc/config; ls /srv/data; stat -c %a /srv/as-owner';
    expect((await containerd.runOnce(IMAGE, 'looking', '/bin/sh', '-c', script)).split('\n')).toEqual([
      '755',
      'secondthree',
      '4755',
    ]);
    await collectGarbage();
    expect(Object.keys(await listed(build, 'name', 'filesystem')).filter(isRuntime)).toEqual([]);
  });

  it('makes a layer of what a container wrote, and another container sees that', async () => {
    const script = 'echo written > /srv/written; rm /etc/config; rm -r /srv/data; mkdir /srv/data; touch /srv/data/new';
    await containerd.ctr('run', '--snapshotter', 'pando', IMAGE, 'writing', '/bin/sh', '-c', script);
    const snapshots = ['snapshots', '--snapshotter', 'pando'];
    // Without its container it would be garbage
    await containerd.ctr(...snapshots, 'label', 'writing', 'containerd.io/gc.root=kept');
    await containerd.ctr('containers', 'delete', '--keep-snapshot', 'writing');
    await containerd.ctr(...snapshots, 'commit', 'written', 'writing');
    await containerd.ctr(...snapshots, 'prepare', 'seen', 'written');
    const key = (await client.keys()).find((name) => name.endsWith('/seen')) ?? '';
    const root = await sourceOf(key);
    expect(await build.run('cat', join(root, 'srv/written'))).toBe('written');
    expect(await build.run('ls', join(root, 'srv/data'), join(root, 'etc'))).toMatch(/data:\nnew$/);
    await containerd.ctr(...snapshots, 'rm', 'seen');
    await containerd.ctr(...snapshots, 'rm', 'written');
    await collectGarbage();
    expect((await client.keys()).filter((name) => /written$|seen$/.test(name))).toEqual([]);
  });

  it('exports the image as it imported it', async () => {
    const target = join(work, 'export.tar');
    await containerd.ctr('images', 'export', target, IMAGE);
    const [there, here] = await Promise.all(
      [`oci-archive:${target}`, `oci:${layout}:one`].map(async (name) => {
        const { Layers } = JSON.parse((await execa('skopeo', ['inspect', name])).stdout) as { Layers: string[] };
        return Layers;
      }),
    );
    expect(there).toEqual(here);
  });

  it('runs an image that Pando made of a container root, and exported', async () => {
    await told(build, 'image', 'extract', layout, '--name', 'team/web:v1');
    const root = (await told(build, 'root', 'create', 'exporting', '--image', 'team/web:v1')).trim();
    await build.run('sh', '-c', 'cd "$1" && echo written > srv/written && rm etc/config', 'sh', root);
    await told(build, 'root', 'commit', 'exporting', '--as', 'team/web:v2');
    const target = join(work, 'exported.tar');
    await told(build, 'image', 'export', 'team/web:v2', target);
    await containerd.ctr('images', 'import', '--snapshotter', 'pando', target);
    const script = 'cat /srv/written; ls /etc/config 2>&1 || true';
    expect(await containerd.runOnce('team/web:v2', 'exported', '/bin/sh', '-c', script)).toBe(
      'written\nls: /etc/config: No such file or directory',
    );
    await containerd.ctr('images', 'rm', '--sync', 'team/web:v2');
    await told(build, 'root', 'rm', 'exporting');
    for (const name of ['team/web:v1', 'team/web:v2']) await told(build, 'image', 'rm', name);
    await told(build, 'layers', 'gc');
  });

  it('is told what a container takes: the bytes that it wrote, and its files', async () => {
    const script = `for i in 1 2 3; do dd if=/dev/urandom of=/srv/large$i bs=1M count=1; done`;
    await containerd.ctr('run', '--snapshotter', 'pando', IMAGE, 'large', '/bin/sh', '-c', script);
    const key = (await client.keys()).find((name) => name.endsWith('/large')) ?? '';
    const { size, inodes } = await client.usage(key);
    expect(Number(size)).toBeGreaterThanOrEqual(WRITTEN_BYTES);
    expect(Number(size)).toBeLessThan(2 * WRITTEN_BYTES);
    // Its own three, and what a runtime puts there, such as /etc/resolv.conf
    expect(Number(inodes)).toBeGreaterThanOrEqual(3);
    expect(Number(inodes)).toBeLessThan(10);
    await containerd.ctr('containers', 'delete', 'large');
    await collectGarbage();
    expect(await client.keys()).not.toContain(key);
  });
});

describe('the snapshots service of a node', () => {
  it('says what is wrong in the words that containerd knows', async () => {
    await client.mounts('Prepare', { key: 'taken' });
    expect(await failureOf(client.mounts('Mounts', { key: 'missing' }))).toMatchObject({ code: status.NOT_FOUND });
    expect(await failureOf(client.mounts('Prepare', { key: 'taken' }))).toMatchObject({ code: status.ALREADY_EXISTS });
    expect(await failureOf(client.mounts('Prepare', { key: 'new', parent: 'taken' }))).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining('not committed'),
    });
    expect(await failureOf(client.mounts('Prepare', { key: 'new', parent: 'missing' }))).toMatchObject({
      code: status.NOT_FOUND,
    });
    await client.call('Commit', { name: 'base', key: 'taken' });
    expect(await failureOf(client.call('Commit', { name: 'again', key: 'taken' }))).toMatchObject({
      code: status.NOT_FOUND,
    });
    expect(await failureOf(client.mounts('Mounts', { key: 'base' }))).toMatchObject({
      code: status.FAILED_PRECONDITION,
    });
    for (const key of ['one', 'two']) await client.mounts('Prepare', { key, parent: 'base' });
    const refused = await failureOf(client.call('Remove', { key: 'base' }));
    expect(refused).toMatchObject({ code: status.FAILED_PRECONDITION, details: expect.stringContaining('remove') });
    expect(refused.details).toMatch(/one.*two|two.*one/);
    for (const key of ['one', 'two', 'base']) await client.call('Remove', { key });
    expect(await failureOf(client.call('Remove', { key: 'base' }))).toMatchObject({ code: status.NOT_FOUND });
  });

  it('gives a view that nobody can write to, wherever it is mounted', async () => {
    await client.mounts('Prepare', { key: 'making' });
    await build.run('touch', join(await sourceOf('making'), 'file'));
    await client.call('Commit', { name: 'made', key: 'making' });
    const { mounts } = await client.mounts('View', { key: 'view', parent: 'made' });
    const [mount] = mounts;
    expect(mount?.options).toContain('ro');
    const target = join(build.directory, 'view');
    await mkdir(target);
    await build.run('mount', '--rbind', '-o', 'ro', mount?.source ?? '', target);
    try {
      for (const directory of [target, mount?.source ?? '']) {
        expect(await build.run('ls', directory)).toBe('file');
        await expect(build.run('touch', join(directory, 'new'))).rejects.toThrow('Read-only file system');
      }
    } finally {
      await build.run('umount', target);
    }
    for (const key of ['view', 'made']) await client.call('Remove', { key });
  });

  it('gives a container the clone that was made in advance, and leaves none behind the last', async () => {
    const before = await listed(build, 'pando:snapshot', 'filesystem');
    const spares = async (): Promise<string[]> =>
      Object.entries(await listed(build, 'pando:snapshot', 'filesystem')).flatMap(([name, mark]) =>
        mark === 'spare' ? [name] : [],
      );
    await client.mounts('Prepare', { key: 'making' });
    await build.run('touch', join(await sourceOf('making'), 'file'));
    await client.call('Commit', { name: 'made', key: 'making' });
    for (const key of ['first', 'second']) await client.mounts('Prepare', { key, parent: 'made' });
    await expect.poll(spares).toHaveLength(1);
    const [spare = 'none'] = await spares();
    const { mounts } = await client.mounts('Prepare', { key: 'third', parent: 'made' });
    const source = mounts[0]?.source ?? '';
    expect(source).toMatch(new RegExp(`/${spare}$`));
    await build.run('touch', join(source, 'new'));
    expect((await build.run('ls', source)).split('\n')).toEqual(['file', 'new']);
    for (const key of ['first', 'second', 'third', 'made']) await client.call('Remove', { key });
    expect(await listed(build, 'pando:snapshot', 'filesystem')).toEqual(before);
  });

  it('removes what others have taken snapshots of', async () => {
    const before = new Set(Object.keys(await listed(build, 'name', 'filesystem')));
    await client.mounts('Prepare', { key: 'watched' });
    const [name = ''] = Object.keys(await listed(build, 'name', 'filesystem')).filter((each) => !before.has(each));
    await build.run('zfs', 'snapshot', `${build.pool}/images/${name}@autosnap_1`);
    await client.call('Remove', { key: 'watched' });
    expect(Object.keys(await listed(build, 'name', 'filesystem'))).not.toContain(name);
  });
});

describe('a node that is killed and started again', () => {
  /** Kills the node when that many programs of ZFS have been seen to run. */
  async function killedDuring(call: Promise<unknown>, programs: number): Promise<void> {
    const outcome = call.then(
      () => 'over',
      () => 'over',
    );
    const seen = new Set<number>();
    const look = async (): Promise<string> => {
      for (const pid of await build.zfsProcesses()) seen.add(pid);
      return seen.size >= programs ? 'seen' : 'not yet';
    };
    while ((await Promise.race([outcome, look()])) === 'not yet');
    await build.killNode();
    await outcome;
    await expect.poll(() => build.zfsProcesses()).toEqual([]);
  }

  async function restarted(): Promise<string[]> {
    client.close();
    await build.startNode();
    client = new SnapshotsClient(socketOf(build));
    return build.said
      .split('\n')
      .filter((line) => /"level":"?(40|warn)/.test(line))
      .map((line) => (JSON.parse(line) as { msg: string }).msg);
  }

  /** What is known, and what there is, in the same words. */
  async function agreeing(): Promise<void> {
    const snapshots = Object.keys(await listed(build, 'name', 'snapshot'));
    for (const { name, kind } of (await client.batches()).flat()) {
      if (kind === 'COMMITTED') continue;
      await build.run('test', '-d', await sourceOf(name));
    }
    const datasets = Object.keys(await listed(build, 'name', 'filesystem')).filter((name) =>
      /^(runtime|storage)\/./.test(name),
    );
    const committed = datasets.filter((name) => snapshots.includes(`${name}@extracted`));
    const { length: known } = (await client.batches()).flat().filter(({ kind }) => kind !== 'COMMITTED');
    expect(datasets.length - committed.length).toBe(known);
  }

  it('has what was prepared before, and commits it', async () => {
    const { mounts } = await client.mounts('Prepare', { key: 'survives', labels: { some: 'label' } });
    await build.run('touch', join(mounts[0]?.source ?? '', 'file'));
    await build.killNode();
    expect(await restarted()).toEqual([]);
    expect(await client.info('Stat', { key: 'survives' })).toMatchObject({ kind: 'ACTIVE', labels: { some: 'label' } });
    await client.call('Commit', { name: 'survived', key: 'survives' });
    await agreeing();
    await client.call('Remove', { key: 'survived' });
  });

  it.each([1, 2, 3])('knows what it was preparing, or has nothing of it (program %i)', async (programs) => {
    await killedDuring(client.mounts('Prepare', { key: `preparing-${programs}` }), programs);
    const warnings = await restarted();
    await agreeing();
    const isThere = (await client.keys()).includes(`preparing-${programs}`);
    for (const warning of warnings) expect(warning).toContain(`"preparing-${programs}", of which the log knew nothing`);
    if (isThere) await client.call('Remove', { key: `preparing-${programs}` });
    else expect(warnings).toEqual([]);
  });

  it.each([1, 2, 3])('has committed what it was committing, or has it as it was (program %i)', async (programs) => {
    const [name, key] = [`committed-${programs}`, `committing-${programs}`];
    const root = (await client.mounts('Prepare', { key })).mounts[0]?.source ?? '';
    await build.run('touch', join(root, 'file'));
    await killedDuring(client.call('Commit', { name, key }), programs);
    const warnings = await restarted();
    await agreeing();
    const keys = await client.keys();
    expect(keys.filter((each) => each === name || each === key)).toHaveLength(1);
    for (const warning of warnings)
      expect(warning).toBe(`Snapshot "${name}" was being committed when this node ended; it is now`);
    if (keys.includes(name)) {
      const view = (await client.mounts('View', { key: 'look', parent: name })).mounts[0]?.source ?? '';
      expect(await build.run('ls', view)).toBe('file');
      await client.call('Remove', { key: 'look' });
    }
    await client.call('Remove', { key: keys.includes(name) ? name : key });
  });

  it('forgets a snapshot whose dataset is gone, and says so', async () => {
    const before = new Set(Object.keys(await listed(build, 'name', 'filesystem')));
    await client.mounts('Prepare', { key: 'destroyed' });
    const [name = ''] = Object.keys(await listed(build, 'name', 'filesystem')).filter((each) => !before.has(each));
    await build.killNode();
    await expect.poll(() => build.zfsProcesses()).toEqual([]);
    await build.zfs.destroy(`${build.pool}/images/${name}` as DatasetName);
    expect(await restarted()).toEqual([`Snapshot "destroyed" is forgotten: its dataset ${name} is gone`]);
    expect(await client.keys()).not.toContain('destroyed');
  });

  it('goes on serving a containerd that knows nothing of it', async () => {
    await build.killNode();
    await restarted();
    // It dials again in its own time
    const connected = () => containerd.ctr('snapshots', '--snapshotter', 'pando', 'ls').catch(() => '');
    await expect.poll(connected).toContain(chain[0]);
    expect(await containerd.runOnce(IMAGE, 'behind', '/bin/echo', 'runs')).toBe('runs');
  });
});

describe('a second host that mirrors the layers', () => {
  let cri: ContainerHost;
  let name: string;

  beforeAll(async () => {
    await other.startNode();
    const invited = await told(build, 'peer', 'invite', '--tree', 'images', '--address', `${build.address}:7380`);
    await told(other, 'peer', 'join', invited.trim().split('\n')[0] ?? '', '--as', 'build');
    const words = ['--from', 'build', '--into', `${other.pool}/images`, '--only', 'storage/**'];
    await told(other, 'mirror', 'add', 'images', ...words);
    await told(other, 'sync', 'images');
    await told(other, 'layers', 'init', 'images');
    cri = await ContainerHost.start(other, { cri: true });
    const registry = await startRegistry(join(work, 'registry'), (program, ...rest) => other.spawn(program, ...rest));
    name = `${registry.address}/made:one`;
    await other.run('skopeo', 'copy', '--dest-tls-verify=false', `oci:${layout}:one`, `docker://${name}`);
  });

  afterAll(() => cri?.stop());

  it('pulls an image as Kubernetes does, and unpacks none of it', async () => {
    const before = await listed(other, 'name', 'filesystem');
    const commands = await other.run('zpool', 'history', other.pool);
    await pullImage(cri.socket, name);
    expect(await listed(other, 'name', 'filesystem')).toEqual(before);
    expect(await other.run('zpool', 'history', other.pool)).toBe(commands);
    const [there, here] = [await listed(build, 'guid', 'snapshot'), await listed(other, 'guid', 'snapshot')];
    for (const layer of chain) {
      expect(here[`storage/${layer}@extracted`]).toMatch(/^\d+$/);
      expect(here[`storage/${layer}@extracted`]).toBe(there[`storage/${layer}@extracted`]);
    }
    const snapshots = new SnapshotsClient(socketOf(other));
    try {
      const infos = (await snapshots.batches()).flat();
      expect(infos.map(({ kind }) => kind)).toEqual(chain.map(() => 'COMMITTED'));
      expect(infos.map(({ labels }) => labels[SNAPSHOT_REF_LABEL]).sort()).toEqual([...chain].sort());
    } finally {
      snapshots.close();
    }
  });

  it('is known to the first one, as the layers there say', async () => {
    const id = (await told(other, 'id')).trim();
    const receivers = async (): Promise<(string | undefined)[]> => {
      const values = await listed(build, 'pando:received-by', 'filesystem');
      return chain.map((layer) => values[`storage/${layer}`]);
    };
    await expect.poll(receivers).toEqual(chain.map(() => id));
  });

  it('runs a container of it', async () => {
    const words = ['--namespace', 'k8s.io', 'run', '--rm', '--snapshotter', 'pando', name, 'elsewhere'];
    expect(await cri.ctr(...words, '/bin/cat', '/etc/config')).toBe('second');
  });

  it('fetches a layer that it has not got when containerd asks for it, and unpacks none of it either', async () => {
    const more = await layerWith((tree) => writeTree(tree, { 'srv/more': 'above' }));
    const image = await writeImage(join(work, 'more'), 'two', [...layers, more]);
    await told(build, 'image', 'extract', image, '--name', 'made:two');
    await other.run(
      'skopeo',
      'copy',
      '--dest-tls-verify=false',
      `oci:${image}:two`,
      `docker://${name.replace('one', 'two')}`,
    );
    await expect.poll(() => told(other, 'image', 'ls')).toContain('made:two');
    await pullImage(cri.socket, name.replace('one', 'two'));
    const top = `storage/${chainOf([...layers, more].map(({ diffId }) => diffId)).at(-1)}@extracted`;
    const [there, here] = [await listed(build, 'guid', 'snapshot'), await listed(other, 'guid', 'snapshot')];
    expect(here[top]).toMatch(/^\d+$/);
    expect(here[top]).toBe(there[top]);
    const words = [
      '--namespace',
      'k8s.io',
      'run',
      '--rm',
      '--snapshotter',
      'pando',
      name.replace('one', 'two'),
      'more',
    ];
    expect(await cri.ctr(...words, '/bin/cat', '/srv/more')).toBe('above');
  });
});

describe('many layers', () => {
  it('shows what was written, renamed and deleted in each layer of many in all above it', async () => {
    let parent = '';
    for (let index = 0; index < STACKED; index += 1) {
      const root = (await client.mounts('Prepare', { key: `active-${index}`, parent })).mounts[0]?.source ?? '';
      // Each layer brings a file, renames the one of the layer below, and takes that of the one below it away
      const script = `echo ${index} > new-${index}; [ ${index} -lt 1 ] || mv new-${index - 1} old-${index - 1}; rm -f old-${index - 2}`;
      await build.run('sh', '-c', `cd "$1" && ${script}`, 'sh', root);
      await client.call('Commit', { name: `layer-${index}`, key: `active-${index}` });
      parent = `layer-${index}`;
    }
    const top = (await client.mounts('View', { key: 'top', parent })).mounts[0]?.source ?? '';
    expect((await build.run('ls', top)).split('\n')).toEqual([`new-${STACKED - 1}`, `old-${STACKED - 2}`]);
    await client.call('Remove', { key: 'top' });
    const [head] = (await client.mounts('View', { key: 'middle', parent: 'layer-64' })).mounts;
    expect((await build.run('ls', head?.source ?? '')).split('\n')).toEqual(['new-64', 'old-63']);
  });
});
