/** What the kernel's ZFS makes different for containers: containerd mounts their datasets itself, layers are compared with `zfs diff`, and nothing is mounted that nobody uses. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { installPackages } from '../../peers/provision/debian-packages.ts';
import { chainOf } from '../../src/core/layers/digest.ts';
import { busybox, layerWith, links, whiteouts, writeImage } from './sample-image.ts';
import { Guest } from './vm/guest.ts';
import { type Machine, startMachine } from './vm/machine.ts';

const BUILD_AND_BOOT_MS_MAX = 40 * 60_000;
const EMULATED_TEST_MS_MAX = 10 * 60_000;
vi.setConfig({ testTimeout: EMULATED_TEST_MS_MAX, hookTimeout: BUILD_AND_BOOT_MS_MAX });

const IMAGE = 'docker.io/library/made:one';
const MEBIBYTE = 1024 * 1024;
/** How long it may wait before it dials again (gRPC, `doc/connection-backoff.md`), and for an emulated processor. */
const DIALS = { timeout: 240_000, interval: 2_000 };
const SNAPSHOTS = 'snapshots --snapshotter pando';

let work: string;
let chain: readonly string[];
let machine: Machine | undefined;
let guest: Guest;
let root: string;

beforeAll(async () => {
  expect(await installPackages(['busybox-static'])).toBeNull();
  work = await mkdtemp(join(tmpdir(), 'pando-openzfs-containers-'));
  const layers = [await layerWith(busybox), await layerWith(links), await layerWith(whiteouts)];
  chain = chainOf(layers.map(({ diffId }) => diffId));
  const layout = await writeImage(join(work, 'image'), 'one', layers);
  await execa('tar', ['-C', layout, '-cf', join(work, 'image.tar'), '.']);
  machine = await startMachine();
  guest = await Guest.install(machine);
  root = `${guest.pool}/images`;
  await guest.run('zfs', 'create', root);
  await guest.pando('tree', 'add', 'images', root);
  await guest.pando('layers', 'init', 'images');
  await guest.shell('cat > /image.tar', await readFile(join(work, 'image.tar')));
  await guest.ctr('images import --snapshotter pando --base-name docker.io/library/made /image.tar');
});

afterAll(async () => {
  await machine?.stop();
  await rm(work, { recursive: true, force: true });
});

/** What `zfs` says of each file system below a place, by its name there. */
async function told(property: string, place: 'runtime' | 'storage'): Promise<Record<string, string>> {
  const below = `${root}/${place}/`;
  const words = ['get', '-Hp', '-o', 'name,value', '-t', 'filesystem', '-r', property, `${root}/${place}`];
  const rows = (await guest.run('zfs', ...words)).split('\n').map((line) => line.split('\t') as [string, string]);
  return Object.fromEntries(
    rows.filter(([name]) => name.startsWith(below)).map(([name, value]) => [name.slice(below.length), value]),
  );
}

/** Bytes and files of a snapshot, as containerd hears of them. */
async function usageOf(key: string): Promise<readonly number[]> {
  const [, row = ''] = (await guest.ctr(`${SNAPSHOTS} usage -b`, key)).split('\n');
  return row.trim().split(/\s+/).slice(1).map(Number);
}

describe('containerd on the kernel’s ZFS', () => {
  it('has unpacked an image to clones of each other, none of which is mounted behind it', async () => {
    const origins = await told('origin', 'storage');
    const below = ['empty', ...chain.slice(0, -1)].map((name) => `${root}/storage/${name}@extracted`);
    expect(chain.map((layer) => origins[layer])).toEqual(below);
    expect(new Set(Object.values(await told('mounted', 'storage')))).toEqual(new Set(['no']));
  });

  it('mounts the dataset of a container itself, as what its root is', async () => {
    const script = 'cat /etc/config; echo; ls /srv/data; grep " / " /proc/mounts';
    const [config, data, mount = ''] = (await guest.runContainer(IMAGE, 'looking', script, '--rm')).split('\n');
    expect([config, data]).toEqual(['second', 'three']);
    expect(mount).toMatch(new RegExp(`^${root}/runtime/[^ ]+ / zfs rw,nodev`));
  });

  it('hears what a container wrote, and nothing is mounted for that', async () => {
    await guest.runContainer(IMAGE, 'writing', 'dd if=/dev/urandom of=/srv/large bs=1M count=3');
    const [bytes = 0, files = 0] = await usageOf('writing');
    expect(bytes).toBeGreaterThanOrEqual(3 * MEBIBYTE);
    expect(bytes).toBeLessThan(6 * MEBIBYTE);
    // Its own, and what a runtime puts there, such as /etc/resolv.conf
    expect(files).toBeGreaterThanOrEqual(1);
    expect(files).toBeLessThan(8);
    expect(Object.values(await told('mounted', 'runtime'))).not.toContain('yes');
  });

  it('makes a layer of that, reads it through a view that nobody writes to, and removes it whatever snapshots others took', async () => {
    await guest.ctr(`${SNAPSHOTS} label writing containerd.io/gc.root=kept`);
    await guest.ctr('containers delete --keep-snapshot writing');
    await guest.ctr(`${SNAPSHOTS} commit written writing`);
    await guest.ctr(`${SNAPSHOTS} view seen written`);
    const look = 'ls /view/srv/large; touch /view/new 2>&1 || true; umount /view';
    const seen = await guest.shell(`mkdir /view; ${await guest.ctr(`${SNAPSHOTS} mounts /view seen`)} && { ${look}; }`);
    expect(seen).toBe('/view/srv/large\ntouch: /view/new: Read-only file system');
    expect((await usageOf('written'))[0]).toBeGreaterThanOrEqual(3 * MEBIBYTE);
    await guest.run('zfs', 'snapshot', '-r', `${root}/runtime@autosnap`);
    for (const key of ['seen', 'written']) await guest.ctr(`${SNAPSHOTS} rm`, key);
    await guest.ctr('images tag', IMAGE, 'docker.io/library/made:gone');
    await guest.ctr('images rm --sync docker.io/library/made:gone');
    expect(await told('name', 'runtime')).toEqual({});
  });
});

describe('a layer store on the kernel’s ZFS', () => {
  it('packages what is new in a layer, in an image that containerd runs', async () => {
    await guest.pando('image', 'extract', '/image.tar', '--name', 'team/web:v1');
    const directory = await guest.pando('root', 'create', 'web-1', '--image', 'team/web:v1');
    await guest.shell(`cd ${directory} && echo written > srv/written && rm etc/config && mv srv/data srv/moved`);
    await guest.pando('root', 'commit', 'web-1', '--as', 'team/web:v2');
    await guest.pando('image', 'export', 'team/web:v2', '/export.tar');
    await guest.ctr('images import --snapshotter pando /export.tar');
    const script = 'cat /srv/written; ls /srv/moved; ls -d /srv/data /etc/config 2>&1 || true';
    expect(await guest.runContainer('team/web:v2', 'exported', script, '--rm')).toBe(
      'written\nthree\nls: /srv/data: No such file or directory\nls: /etc/config: No such file or directory',
    );
  });
});

describe('a node on the kernel’s ZFS that is killed and started again', () => {
  it('has what was prepared before, with its files', async () => {
    await guest.ctr(`${SNAPSHOTS} prepare survives`, chain.at(-1) ?? '');
    await guest.shell(`${await guest.ctr(`${SNAPSHOTS} mounts /mnt survives`)} && echo here > /mnt/file`);
    await guest.killNode();
    await guest.startNode();
    expect(await guest.said()).not.toContain('"level":40');
    await guest.shell('umount /mnt');
    // Containerd dials again in its own time
    await expect.poll(() => guest.ctr(`${SNAPSHOTS} commit survived survives`).catch(() => null), DIALS).toBe('');
    await guest.ctr(`${SNAPSHOTS} view look survived`);
    expect(
      await guest.shell(`${await guest.ctr(`${SNAPSHOTS} mounts /mnt look`)} && cat /mnt/file && umount /mnt`),
    ).toBe('here');
  });
});
