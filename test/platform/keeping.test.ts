/** On real ZFS: what a mirror gives up by its own rules, and the origins outside the tree that its clones share. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import type { DatasetName, TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { below, introduceReal, type RealNode, startRealNode, syncTree } from './real-node.ts';

const IMAGES = 'images' as TreeName;

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
  await run('create', below(alpha.pool, 'images'));
  await run('snapshot', `${below(alpha.pool, 'images')}@r`);
  await alpha.node.trees.add({ tree: IMAGES, root: below(alpha.pool, 'images') });
  await introduceReal(alpha, beta, true);
  const place = { tree: IMAGES, from: alpha.node.id, root: below(beta.pool, 'copy') };
  await beta.node.mirrors.add({ ...place, ...EVERYTHING });
}, 120_000);

afterEach(async () => {
  await beta.remove();
  await alpha.remove();
}, 120_000);

async function run(...words: string[]): Promise<void> {
  await execa('zfs', words);
}

async function take(dataset: string, snapshot: string): Promise<void> {
  await writeFile(join(alpha.pool.mountpoint, dataset, snapshot), randomBytes(100_000));
  await run('snapshot', `${below(alpha.pool, dataset)}@${snapshot}`);
}

async function sync(): Promise<string[]> {
  const { steps } = await syncTree(beta, IMAGES);
  return steps.map(({ step, outcome }) => {
    const why = 'error' in outcome ? ` ${outcome.error.code} ${outcome.error.message}` : '';
    return `${step.kind} ${step.name} ${outcome.result}${why}`;
  });
}

async function copies(): Promise<string[]> {
  const listed = await beta.node.zfs.list(below(beta.pool, 'copy'));
  return listed.flatMap(({ name, snapshots }) => {
    const relative = name.slice(beta.pool.name.length + 1);
    return snapshots.length === 0 ? [relative] : snapshots.map((one) => `${relative}@${one.name}`);
  });
}

describe('a mirror on real ZFS', () => {
  it('destroys what its rule does not keep and what departed, unless it is held or has a clone', async () => {
    await run('create', below(alpha.pool, 'images/web'));
    await run('create', below(alpha.pool, 'images/old'));
    await take('images/old', 'x');
    for (const snapshot of ['1', '2', '3', '4']) await take('images/web', snapshot);
    await sync();
    const replica = below(beta.pool, 'copy/web');
    await run('hold', 'somebody', `${replica}@1`);
    await run('clone', `${replica}@2`, below(beta.pool, 'mine'));
    await alpha.node.zfs.destroy(below(alpha.pool, 'images/old'));
    await beta.node.mirrors.change(IMAGES, { keep: { last: 1 }, graceMs: 0 });
    const outcomes = await sync();
    expect(outcomes).toEqual([
      'destroy-dataset old done',
      expect.stringContaining('destroy-snapshot web kept ZFS_BUSY'),
      expect.stringContaining('destroy-snapshot web kept ZFS_HAS_DEPENDENTS'),
      'destroy-snapshot web done',
    ]);
    expect(await copies()).toEqual(['copy@r', 'copy/web@1', 'copy/web@2', 'copy/web@4']);
    await run('release', 'somebody', `${replica}@1`);
    await beta.node.zfs.destroy(below(beta.pool, 'mine'));
    await take('images/web', '5');
    expect(await sync()).toEqual([
      'receive-incremental web done',
      'destroy-snapshot web done',
      'destroy-snapshot web done',
      'destroy-snapshot web done',
    ]);
    expect(await copies()).toEqual(['copy@r', 'copy/web@5']);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
  });

  it('receives an origin from outside the tree once, and gives it up with its last clone', async () => {
    await run('create', below(alpha.pool, 'elsewhere'));
    await take('elsewhere', 'gold');
    for (const name of ['web', 'app']) {
      await run('clone', `${below(alpha.pool, 'elsewhere')}@gold`, below(alpha.pool, `images/${name}`));
      await take(`images/${name}`, '1');
    }
    expect(await sync()).toEqual([
      'receive-full  done',
      expect.stringMatching(/^receive-full \.pando\/lineage\/\d+ done$/),
      'receive-clone app done',
      'receive-clone web done',
    ]);
    const { stdout } = await execa('zfs', ['get', '-H', '-r', '-o', 'value', 'origin', below(beta.pool, 'copy')]);
    const origins = stdout.split('\n').filter((origin) => origin.includes('@'));
    expect(new Set(origins).size).toBe(1);
    expect(origins).toEqual([expect.stringMatching(/\.pando\/lineage\/\d+@origin$/), origins[0]]);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
    expect(await sync()).toEqual([]);

    for (const name of ['web', 'app']) await alpha.node.zfs.destroy(below(alpha.pool, `images/${name}`) as DatasetName);
    await beta.node.mirrors.change(IMAGES, { graceMs: 0 });
    expect((await sync()).sort()).toEqual([
      expect.stringMatching(/^destroy-dataset \.pando\/lineage\/\d+ done$/),
      'destroy-dataset app done',
      'destroy-dataset web done',
    ]);
    expect(await copies()).toEqual(['copy@r', 'copy/.pando', 'copy/.pando/lineage']);
  });

  it('keeps what a copy that was kept aside hangs off until that is dropped', async () => {
    await run('create', below(alpha.pool, 'images/web'));
    await take('images/web', '1');
    await beta.node.mirrors.change(IMAGES, { keep: { last: 1 } });
    await sync();
    await run('snapshot', `${below(beta.pool, 'copy/web')}@mine`);
    await take('images/web', '2');
    expect(await sync()).toEqual(['preserve web done', 'receive-incremental web done']);
    await take('images/web', '3');
    expect(await sync()).toEqual(['receive-incremental web done', 'destroy-snapshot web done']);
    const retained = [{ name: 'web', snapshot: '1', reason: 'depended-on' }];
    expect(beta.node.mirrors.plan(IMAGES)).toMatchObject({ steps: [], retained });
    const [{ copy } = expect.fail()] = await beta.node.diverged.list(IMAGES);
    await beta.node.diverged.drop(IMAGES, copy);
    expect(await sync()).toEqual(['destroy-snapshot web done']);
    expect(await copies()).toContain('copy/web@3');
  });

  it('receives an origin alone that was not kept when a clone of it comes, and promotes the clone over it', async () => {
    await run('create', below(alpha.pool, 'images/web'));
    for (const snapshot of ['1', '2', '3']) await take('images/web', snapshot);
    await beta.node.mirrors.change(IMAGES, { keep: { last: 1 } });
    await sync();
    await run('clone', `${below(alpha.pool, 'images/web')}@2`, below(alpha.pool, 'images/late'));
    await take('images/late', 'l');
    expect(await sync()).toEqual([
      expect.stringMatching(/^receive-full \.pando\/lineage\/\d+ done$/),
      'receive-clone late done',
    ]);
    const { stdout } = await execa('zfs', ['get', '-H', '-o', 'value', 'origin', below(beta.pool, 'copy/late')]);
    expect(stdout).toMatch(/\/\.pando\/lineage\/\d+@origin$/);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
    await run('promote', below(alpha.pool, 'images/late'));
    const outcomes = await sync();
    expect(outcomes.slice(0, 2)).toEqual(['promote late done', 'rename-snapshot late done']);
    expect(outcomes).toContainEqual(expect.stringMatching(/^destroy-dataset \.pando\/lineage\/\d+ done$/));
    expect(await copies()).toEqual(expect.arrayContaining(['copy/late@2', 'copy/late@l', 'copy/web@3']));
    expect(await sync()).toEqual([]);
  });
});
