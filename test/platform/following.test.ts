/**
 * Random histories on real ZFS, made with plain `zfs` behind Pando's back: the replica has the same guids, names, origins and order as its owner, and the same
 * bytes in every file. The generator is that of the properties in memory; a failing seed is printed, and PANDO_TEST_SEED plays it again.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import type { DatasetName, RelativeName, SnapshotGuid, SnapshotName, TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SnapshotReference } from '../../src/zfs/zfs.ts';
import { type Action, arbitraryHistory } from '../core/forest.ts';
import { Gardener } from '../suites/gardener.ts';
import { MortalZfs } from './mortal-zfs.ts';
import { below, introduceReal, type RealNode, reopen, startRealNode, syncTree } from './real-node.ts';

const IMAGES = 'images' as TreeName;
/** Histories of a run, each followed by a sync; more would take minutes. */
const ROUNDS = 3;
const ACTIONS = 14;
/** What would show if it came again. */
const LARGE_BYTES = 1024 ** 2;

let zfs: AvailableZfs;
let alpha: RealNode;
let beta: RealNode;

beforeAll(async () => {
  zfs = await ensureZfs();
}, 300_000);
afterAll(() => zfs.stop());

beforeEach(async () => {
  alpha = await startRealNode('alpha');
  beta = await startRealNode('beta');
  await alpha.node.zfs.create(below(alpha.pool, 'images'));
  await alpha.node.trees.add({ tree: IMAGES, root: below(alpha.pool, 'images') });
  await introduceReal(alpha, beta, true);
  const mirror = { tree: IMAGES, from: alpha.node.id, root: below(beta.pool, 'copy'), ...EVERYTHING };
  await beta.node.mirrors.add(mirror);
}, 120_000);

afterEach(async () => {
  await beta.remove();
  await alpha.remove();
}, 120_000);

function pathOf({ pool }: RealNode, name: DatasetName): string {
  return join(pool.mountpoint, name.slice(pool.name.length));
}

/** SHA-256 over the files of a snapshot, by name, read in a clone of it. */
async function checksum(node: RealNode, snapshot: SnapshotReference): Promise<string> {
  const clone = below(node.pool, 'reading');
  await execa('zfs', ['clone', `${snapshot.dataset}@${snapshot.snapshot}`, clone]);
  try {
    const directory = pathOf(node, clone);
    const hash = createHash('sha256');
    for (const entry of (await readdir(directory, { withFileTypes: true })).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      if (entry.isFile()) hash.update(entry.name).update(await readFile(join(directory, entry.name)));
    }
    return hash.digest('hex');
  } finally {
    // Through the driver, which waits until zfs-fuse has let go of the mount
    await node.node.zfs.destroy(clone);
  }
}

async function snapshotsOf(node: RealNode): Promise<Map<SnapshotGuid, SnapshotReference>> {
  const listed = await node.node.zfs.list(node.pool.name as DatasetName);
  return new Map(
    listed.flatMap(({ name, snapshots }) =>
      snapshots.map((snapshot) => [snapshot.guid, { dataset: name, snapshot: snapshot.name }] as const),
    ),
  );
}

/** Differences that nobody has explained: not by a conflict, and not by something that has to wait. */
async function sync() {
  const { plan, steps } = await syncTree(beta, IMAGES);
  const failed = steps.flatMap(({ step, outcome }) =>
    outcome.result === 'failed' ? [`${step.kind} ${step.name}: ${outcome.error.code} ${outcome.error.message}`] : [],
  );
  const excused = new Set([...plan.conflicts, ...plan.waiting].map(({ dataset }) => dataset));
  const differences = beta.node.mirrors.compare(IMAGES).filter((found) => {
    const isCopy = found.kind === 'origin' && found.actual === null;
    return !isCopy && !found.kind.endsWith('-extra') && !excused.has(found.dataset);
  });
  return { failed, differences };
}

/** Writes the file `mine` into a replica, as somebody does who has not understood what it is. */
async function writeByHand(replica: DatasetName): Promise<void> {
  await execa('zfs', ['set', 'readonly=off', replica]);
  await execa('zfs', ['mount', replica]);
  await writeFile(join(pathOf(beta, replica), 'mine'), 'written by hand');
}

/** Where the files of a copy are that was kept aside, once it is restored. */
async function restoredFrom(copy: string): Promise<string> {
  await beta.node.diverged.restore(IMAGES, copy, 'kept' as RelativeName);
  const restored = below(beta.pool, 'copy/kept');
  const mounted = await execa('zfs', ['get', '-H', '-o', 'value', 'mounted', restored]);
  if (mounted.stdout.trim() === 'no') await execa('zfs', ['mount', restored]);
  return pathOf(beta, restored);
}

async function live(histories: readonly Action[][]): Promise<void> {
  const people = new Gardener({
    zfs: alpha.node.zfs,
    root: below(alpha.pool, 'images'),
    write: async (name, path, text) => {
      const directory = pathOf(alpha, name);
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, path), text);
    },
  });
  for (const history of histories) {
    await people.live(history);
    expect(await sync()).toEqual({ failed: [], differences: [] });
  }
}

describe('a replica on real ZFS', () => {
  it('is as its owner has it after whatever people did there, byte for byte', async () => {
    const seed = Number(process.env.PANDO_TEST_SEED ?? Date.now() % 2 ** 31);
    const history = fc.array(arbitraryHistory(ACTIONS), { minLength: ROUNDS, maxLength: ROUNDS });
    const [histories = []] = fc.sample(history, { seed, numRuns: 1 });
    const told = `PANDO_TEST_SEED=${seed}`;
    await live(histories).catch((error: unknown) => {
      throw new Error(`with ${told}`, { cause: error });
    });
    const there = await snapshotsOf(alpha);
    const here = await snapshotsOf(beta);
    for (const [guid, snapshot] of here) {
      const original = there.get(guid);
      if (original === undefined) continue;
      expect(await checksum(beta, snapshot), told).toBe(await checksum(alpha, original));
    }
    const listed = [
      ...(await beta.node.zfs.list(beta.pool.name as DatasetName)),
      ...(await alpha.node.zfs.list(alpha.pool.name as DatasetName)),
    ];
    expect(
      listed.flatMap(({ snapshots }) => snapshots.filter(({ userrefs }) => userrefs > 0)),
      'holds left',
    ).toEqual([]);
  });

  it('keeps what was written to it by hand, in the same sync that finds it out, and goes on', async () => {
    const [web, replica] = [below(alpha.pool, 'images/web'), below(beta.pool, 'copy/web')];
    await alpha.node.zfs.create(web);
    const take = async (name: string) => {
      await writeFile(join(pathOf(alpha, web), name), name);
      await alpha.node.zfs.snapshot([{ dataset: web, snapshot: name as SnapshotName }]);
    };
    await take('one');
    expect(await sync()).toEqual({ failed: [], differences: [] });
    await writeByHand(replica);
    await take('two');
    const { failed, differences } = await sync();
    expect(failed.filter((one) => !one.includes('ZFS_MODIFIED'))).toEqual([]);
    expect(differences).toEqual([]);
    const [kept] = await beta.node.diverged.list(IMAGES);
    expect(kept?.from).toBe(replica);
    const restored = await restoredFrom(kept?.copy ?? '');
    expect(await readFile(join(restored, 'mine'), 'utf8')).toBe('written by hand');
    expect(await readdir(restored)).not.toContain('two');
  });

  it('keeps what was written to its root by hand, and what lies below is where it was, mounted as it was', async () => {
    const [images, copy] = [below(alpha.pool, 'images'), below(beta.pool, 'copy')];
    const [web, own] = [below(beta.pool, 'copy/web'), below(beta.pool, 'copy/own')];
    await alpha.node.zfs.create(below(alpha.pool, 'images/web'));
    const take = async (name: string) => {
      await writeFile(join(pathOf(alpha, images), name), name);
      for (const dataset of [images, below(alpha.pool, 'images/web')]) {
        await alpha.node.zfs.snapshot([{ dataset, snapshot: name as SnapshotName }]);
      }
    };
    await take('one');
    await alpha.node.zfs.clone({ dataset: images, snapshot: 'one' as SnapshotName }, below(alpha.pool, 'images/clone'));
    await alpha.node.zfs.snapshot([{ dataset: below(alpha.pool, 'images/clone'), snapshot: 'c' as SnapshotName }]);
    expect(await sync()).toEqual({ failed: [], differences: [] });
    await writeByHand(copy);
    await execa('zfs', ['create', own]);
    await writeFile(join(pathOf(beta, own), 'file'), 'of this node');
    const guidOf = async (name: DatasetName) => (await beta.node.zfs.listOnly([name]))[0]?.guid;
    const guids = [await guidOf(web), await guidOf(own)];
    await take('two');
    const { failed, differences } = await sync();
    expect(failed.filter((one) => !one.includes('ZFS_MODIFIED'))).toEqual([]);
    expect(differences).toEqual([]);
    expect([await guidOf(web), await guidOf(own)]).toEqual(guids);
    expect(await readFile(join(pathOf(beta, own), 'file'), 'utf8')).toBe('of this node');
    const [kept, ...others] = await beta.node.diverged.list(IMAGES);
    expect(others).toEqual([]);
    expect(kept?.from).toBe(copy);
    const restored = await restoredFrom(kept?.copy ?? '');
    expect(await readFile(join(restored, 'mine'), 'utf8')).toBe('written by hand');
    const listed = await beta.node.zfs.list(beta.pool.name as DatasetName);
    expect(listed.filter(({ name }) => /\/(pando|renaming)-|-successor$/.test(name))).toEqual([]);
  });

  it('keeps what was written to it by hand also where it was killed over that and lost its log, and brings nothing again', async () => {
    const [web, replica] = [below(alpha.pool, 'images/web'), below(beta.pool, 'copy/web')];
    await alpha.node.zfs.create(web);
    await writeFile(join(pathOf(alpha, web), 'large'), randomBytes(LARGE_BYTES));
    const take = (name: string) => alpha.node.zfs.snapshot([{ dataset: web, snapshot: name as SnapshotName }]);
    await take('one');
    expect(await sync()).toEqual({ failed: [], differences: [] });
    await writeByHand(replica);
    await take('two');
    const mortal = new MortalZfs();
    await beta.halt();
    beta = await reopen(beta, (inner) => mortal.around(inner));
    // The successor has been made by then, and has all that both have
    mortal.dieBeforeNext('rename');
    await sync().catch(() => undefined);
    expect(mortal.isDead).toBe(true);
    await beta.halt();
    await rm(join(beta.directory, 'data', 'log'), { recursive: true });
    beta = await reopen(beta);
    await introduceReal(alpha, beta, true);
    const mirror = { tree: IMAGES, from: alpha.node.id, root: below(beta.pool, 'copy'), ...EVERYTHING };
    await beta.node.mirrors.add(mirror);
    const { bytes } = await syncTree(beta, IMAGES);
    expect(bytes).toBeLessThan(LARGE_BYTES / 10);
    expect(await sync()).toEqual({ failed: [], differences: [] });
    const [kept, ...others] = await beta.node.diverged.list(IMAGES);
    expect(others).toEqual([]);
    expect(await readFile(join(await restoredFrom(kept?.copy ?? ''), 'mine'), 'utf8')).toBe('written by hand');
    const listed = await beta.node.zfs.list(beta.pool.name as DatasetName);
    expect(listed.filter(({ name }) => /\/(pando|renaming)-|-successor$/.test(name))).toEqual([]);
  });

  it('has a root that was promoted over and has gone on since, as the clone that it is there', async () => {
    const images = below(alpha.pool, 'images');
    const take = (name: string) => alpha.node.zfs.snapshot([{ dataset: images, snapshot: name as SnapshotName }]);
    await take('one');
    await alpha.node.zfs.clone({ dataset: images, snapshot: 'one' as SnapshotName }, below(alpha.pool, 'images/clone'));
    expect(await sync()).toEqual({ failed: [], differences: [] });
    await alpha.node.zfs.promote(below(alpha.pool, 'images/clone'));
    await writeFile(join(pathOf(alpha, images), 'file'), 'more');
    await take('two');
    expect(await sync()).toEqual({ failed: [], differences: [] });
    expect(await sync()).toEqual({ failed: [], differences: [] });
    const [root] = await beta.node.zfs.listOnly([below(beta.pool, 'copy')]);
    expect(root?.origin?.reference.dataset).toBe(below(beta.pool, 'copy/clone'));
    expect(root?.snapshots.map(({ name }) => name)).toEqual(['two']);
  });
});
