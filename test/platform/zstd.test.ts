import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installPackages } from '../../peers/provision/debian-packages.ts';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import type { TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { Zstd } from '../../src/transfer/compression/zstd.ts';
import { describeCompressor } from '../suites/compressor-contract.ts';
import { below, introduceReal, type RealNode, startRealNode, syncTree } from './real-node.ts';

const IMAGES = 'images' as TreeName;
const MIB = 1024 * 1024;

beforeAll(async () => {
  expect(await installPackages(['zstd'])).toBeNull();
});

afterAll(async () => {
  const { stdout } = await execa('ps', ['--ppid', String(process.pid), '-o', 'comm='], { reject: false });
  expect(stdout.split('\n').filter((line) => line.includes('zstd'))).toEqual([]);
});

describeCompressor('zstd', () => new Zstd(), { runs: 20 });

describe.each([{ link: 'sealed' }, { link: 'direct' }] as const)('on a slow $link link', ({ link }) => {
  let zfs: AvailableZfs;
  let alpha: RealNode;
  let beta: RealNode;

  beforeAll(async () => {
    zfs = await ensureZfs();
    alpha = await startRealNode('alpha');
    beta = await startRealNode('beta');
    await execa('zfs', ['create', below(alpha.pool, 'images')]);
    await introduceReal(alpha, beta, link === 'direct');
    await take('1');
    await alpha.node.trees.add({ tree: IMAGES, root: below(alpha.pool, 'images') });
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: below(beta.pool, 'copy'), ...EVERYTHING });
  });

  afterAll(async () => {
    await beta.remove();
    await alpha.remove();
    await zfs.stop();
  });

  async function take(snapshot: string): Promise<void> {
    const text = Buffer.alloc(6 * MIB, `what is in ${snapshot} and repeats itself\n`);
    await writeFile(join(alpha.pool.mountpoint, 'images', 'text'), text);
    await execa('zfs', ['snapshot', `${below(alpha.pool, 'images')}@${snapshot}`]);
  }

  it('streams are compressed once that is known, and come out as they went in', async () => {
    // As if the first had taken a minute; on this machine it takes no time
    beta.node.linkRates.note(alpha.node.id, { compressed: false, bytes: 60 * MIB, ms: 60_000 });
    const report = await syncTree(beta, IMAGES);
    expect(report.steps.map(({ outcome }) => outcome.result)).toEqual(['done']);
    expect(report.bytes).toBeGreaterThan(6 * MIB);
    const use = { mode: link, compressed: true, apart: false };
    expect(beta.node.linkUses.of(alpha.node.id)).toEqual(use);
    expect(alpha.node.linkUses.of(beta.node.id)).toEqual(use);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });

  it('what is cancelled leaves nothing', async () => {
    await take('2');
    const abort = new AbortController();
    await syncTree(beta, IMAGES, {
      signal: abort.signal,
      onProgress: ({ kind }) => {
        if (kind === 'step-started') setImmediate(() => abort.abort());
      },
    }).catch(() => undefined);
    await syncTree(beta, IMAGES);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });
});
