import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import { difference } from '../../src/core/graph/difference.ts';
import type { SnapshotName, TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import { below, introduceReal, type RealNode, reopen, startRealNode, syncTree } from './real-node.ts';

const IMAGES = 'images' as TreeName;
const FILE_BYTES = 200_000;

let zfs: AvailableZfs;
let alpha: RealNode;
let beta: RealNode;

async function zfsCommand(...words: readonly string[]): Promise<string> {
  return (await execa('zfs', words)).stdout;
}

function results({ steps }: SyncReport): string[] {
  return steps.map(({ step, outcome }) => {
    const why = outcome.result === 'failed' ? ` ${outcome.error.code} ${outcome.error.message}` : '';
    return `${step.kind} ${step.name} ${outcome.result}${why}`;
  });
}

async function writeRandom(node: RealNode, dataset: string, file: string, bytes = FILE_BYTES): Promise<void> {
  await writeFile(join(node.pool.mountpoint, dataset, file), randomBytes(bytes));
}

/** With plain `zfs`, as a person would: names with a space and a colon, clones of clones, several snapshots each. */
async function buildHierarchy(): Promise<void> {
  const name = (path: string) => below(alpha.pool, path);
  await zfsCommand('create', name('images'));
  await zfsCommand('create', name('images/base image'));
  await writeRandom(alpha, 'images/base image', 'one');
  await zfsCommand('snapshot', '-r', `${name('images')}@first`);
  await writeRandom(alpha, 'images/base image', 'two');
  await zfsCommand('snapshot', `${name('images/base image')}@v:2`);
  await zfsCommand('clone', `${name('images/base image')}@v:2`, name('images/layer'));
  await writeRandom(alpha, 'images/layer', 'three');
  await zfsCommand('snapshot', `${name('images/layer')}@extracted`);
  await zfsCommand('clone', `${name('images/layer')}@extracted`, name('images/web'));
  for (const one of ['a', 'b']) {
    await writeRandom(alpha, 'images/web', one);
    await zfsCommand('snapshot', `${name('images/web')}@${one}`);
  }
}

/** SHA-256 of each file of a dataset, by name; a replica is read through a clone, since it is not mounted. */
async function checksums(node: RealNode, dataset: string, snapshot: string): Promise<Record<string, string>> {
  const clone = below(node.pool, 'reading');
  await zfsCommand('clone', `${below(node.pool, dataset)}@${snapshot}`, clone);
  try {
    const directory = join(node.pool.mountpoint, 'reading');
    const entries = await readdir(directory, { withFileTypes: true });
    const files = entries.flatMap((entry) => (entry.isFile() ? [entry.name] : [])).sort();
    const sums = await Promise.all(files.map(async (file) => [file, sha256(await readFile(join(directory, file)))]));
    return Object.fromEntries(sums);
  } finally {
    // Through the driver, which waits until zfs-fuse has let go of the mount.
    await node.node.zfs.destroy(clone);
  }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function expectSame(): Promise<void> {
  const theirs = alpha.node.trees.graph(IMAGES);
  expect(difference(theirs, beta.node.trees.graph(IMAGES))).toEqual([]);
  for (const { name, snapshots } of theirs.sorted()) {
    const newest = snapshots.at(-1)?.name ?? '';
    const path = name === '' ? '' : `/${name}`;
    expect(await checksums(beta, `copy${path}`, newest)).toEqual(await checksums(alpha, `images${path}`, newest));
  }
}

async function heldSnapshots(node: RealNode): Promise<string[]> {
  const { stdout } = await execa('zfs', ['get', '-Hpr', '-o', 'name,value', 'userrefs', node.pool.name]);
  return stdout.split('\n').filter((line) => /\t[1-9][0-9]*$/.test(line));
}

/** Processes that run `zfs` on the pools of these nodes. */
async function zfsChildren(): Promise<string[]> {
  const { stdout } = await execa('ps', ['-e', '-o', 'args=']);
  const streams = stdout.split('\n').filter((line) => /\bzfs (send|receive)\b/.test(line));
  return streams.filter((line) => [alpha, beta].some(({ pool }) => line.includes(pool.name)));
}

async function share(trustedLink: boolean): Promise<void> {
  await introduceReal(alpha, beta, trustedLink);
  await alpha.node.trees.add({ tree: IMAGES, root: below(alpha.pool, 'images') });
  const mirror = { tree: IMAGES, from: alpha.node.id, root: below(beta.pool, 'copy'), ...EVERYTHING };
  await beta.node.mirrors.add(mirror);
}

beforeAll(async () => {
  zfs = await ensureZfs();
});

afterAll(() => zfs?.stop());

beforeEach(async () => {
  alpha = await startRealNode('alpha');
  beta = await startRealNode('beta');
  await buildHierarchy();
});

afterEach(async () => {
  await alpha?.remove();
  await beta?.remove();
});

describe.each([
  { link: 'a sealed link', trustedLink: false },
  { link: 'a direct link', trustedLink: true },
])('a mirror over $link', ({ trustedLink }) => {
  it('stands as its owner stands, file by file, and follows by increments', async () => {
    await share(trustedLink);
    const first = await syncTree(beta, IMAGES);
    expect(results(first)).toEqual(first.plan.steps.map(({ kind, name }) => `${kind} ${name} done`));
    await expectSame();
    const powers = ['get', '-H', '-o', 'value', 'setuid,devices,exec', below(beta.pool, 'copy/web')];
    expect((await zfsCommand(...powers)).split('\n')).toEqual(['off', 'off', 'off']);
    await writeRandom(alpha, 'images/web', 'c');
    await zfsCommand('snapshot', `${below(alpha.pool, 'images/web')}@c`);
    await zfsCommand('clone', `${below(alpha.pool, 'images/layer')}@extracted`, below(alpha.pool, 'images/db'));
    await zfsCommand('snapshot', `${below(alpha.pool, 'images/db')}@x`);
    const second = await syncTree(beta, IMAGES);
    expect(results(second)).toEqual(['receive-clone db done', 'receive-incremental web done']);
    expect(second.bytes).toBeLessThan(2 * FILE_BYTES);
    await expectSame();
    expect([...(await heldSnapshots(alpha)), ...(await heldSnapshots(beta))]).toEqual([]);
    expect(await zfsChildren()).toEqual([]);
    const verdict = await beta.node.verifier.verify(IMAGES);
    expect(verdict).toMatchObject({ ok: true, unnoticed: 0, differences: [], kept: [] });
  });

  it('leaves no hold, no child and no partial dataset when it is cancelled, and the next sync completes it', async () => {
    await writeRandom(alpha, 'images/base image', 'large', 30_000_000);
    await zfsCommand('snapshot', `${below(alpha.pool, 'images/base image')}@large`);
    await share(trustedLink);
    const cancel = new AbortController();
    const planned = beta.node.mirrors.sync(IMAGES, {
      signal: cancel.signal,
      refresh: true,
      onPlan: () => undefined,
      onProgress: (progress) => {
        if (progress.kind === 'step-started' && progress.estimatedBytes > FILE_BYTES) cancel.abort();
      },
    });
    const report = await planned;
    expect(report.steps.map(({ outcome }) => outcome.result)).toContain('failed');
    expect([...(await heldSnapshots(alpha)), ...(await heldSnapshots(beta))]).toEqual([]);
    expect(await zfsChildren()).toEqual([]);
    const last = await syncTree(beta, IMAGES);
    expect(results(last).filter((line) => !line.endsWith(' done'))).toEqual([]);
    await expectSame();
  });
});

describe('the observer', () => {
  it('tells a rename from a destroy and a create, and agrees with ZFS afterwards', async () => {
    await share(false);
    // By the driver, which waits until zfs-fuse has let go of the mount; the log knows nothing of it.
    await alpha.node.zfs.rename(below(alpha.pool, 'images/web'), below(alpha.pool, 'images/site'));
    await zfsCommand('snapshot', `${below(alpha.pool, 'images/site')}@after`);
    const stream = alpha.node.history.ownStream(IMAGES);
    const before = alpha.node.history.head(stream)?.seq ?? 0;
    expect((await alpha.node.verifier.verify(IMAGES)).unnoticed).toBe(2);
    const types: string[] = [];
    for await (const events of alpha.node.history.events(stream, before + 1)) {
      types.push(...events.map(({ type, cause }) => `${cause} ${type}`));
    }
    expect(types).toEqual(['observed dataset.renamed', 'observed snapshot.created']);
    expect((await alpha.node.verifier.verify(IMAGES)).unnoticed).toBe(0);
  });

  it('notices what happened while the daemon was down', async () => {
    await share(false);
    await alpha.halt();
    await zfsCommand('snapshot', `${below(alpha.pool, 'images/web')}@down`);
    await zfsCommand('destroy', `${below(alpha.pool, 'images/web')}@a`);
    alpha = await reopen(alpha);
    const web = alpha.node.trees
      .graph(IMAGES)
      .sorted()
      .find(({ name }) => name === 'web');
    expect(web?.snapshots.map(({ name }) => name)).toEqual(['b', 'down']);
  });

  it('destroys nothing in the log while the pool is exported', async () => {
    await share(false);
    const before = alpha.node.trees.graph(IMAGES);
    await execa('zpool', ['export', alpha.pool.name]);
    try {
      await expect(alpha.node.verifier.verify(IMAGES)).rejects.toMatchObject({ code: 'ZFS_NO_POOL' });
      expect(alpha.node.trees.graph(IMAGES)).toBe(before);
    } finally {
      await execa('zpool', ['import', '-d', join(alpha.directory, 'pool'), alpha.pool.name]);
    }
    expect((await alpha.node.verifier.verify(IMAGES)).ok).toBe(true);
  });
});

describe('commands', () => {
  it('change ZFS and the log as one', async () => {
    await share(false);
    const place = { tree: IMAGES, name: 'web' as never };
    await alpha.node.trees.snapshot({ ...place, snapshot: 'by-pando' as SnapshotName }, { recursive: false });
    await alpha.node.trees.clone({ ...place, snapshot: 'by-pando' as SnapshotName }, 'copy' as never);
    await alpha.node.trees.rename({ tree: IMAGES, name: 'copy' as never }, 'copy 2' as never);
    await expect(alpha.node.trees.destroy(place)).rejects.toMatchObject({
      code: 'ZFS_HAS_DEPENDENTS',
      evidence: { dependents: ['copy 2'] },
    });
    await alpha.node.trees.destroy({ tree: IMAGES, name: 'copy 2' as never });
    expect((await alpha.node.verifier.verify(IMAGES)).unnoticed).toBe(0);
    expect(await zfsCommand('list', '-H', '-o', 'name', '-r', below(alpha.pool, 'images'))).not.toContain('copy 2');
  });

  it('refuse to change a replica, naming its owner', async () => {
    await share(false);
    await syncTree(beta, IMAGES);
    const place = { tree: IMAGES, name: 'web' as never, snapshot: 'mine' as SnapshotName };
    await expect(beta.node.trees.snapshot(place, { recursive: false })).rejects.toMatchObject({
      code: 'DATASET_NOT_OWNED',
      message: expect.stringContaining(alpha.node.id),
    });
  });
});
