/** What `zfs` of a peer could make that Pando never asks for. */
import { PassThrough } from 'node:stream';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import type { DatasetName, SnapshotGuid } from '../../src/core/ids.ts';
import { CliZfs } from '../../src/zfs/cli/cli-zfs.ts';
import { below, type RealNode, startRealNode } from './real-node.ts';

describe('a stream with properties', () => {
  let zfs: AvailableZfs;
  let alpha: RealNode;
  let beta: RealNode;
  let source: DatasetName;
  let target: DatasetName;

  beforeAll(async () => {
    zfs = await ensureZfs();
    alpha = await startRealNode('alpha');
    beta = await startRealNode('beta');
    source = below(alpha.pool, 'evil');
    target = below(beta.pool, 'copy');
    await execa('zfs', [
      'create',
      '-o',
      'com.example:run=rm',
      '-o',
      'mountpoint=/etc/evil',
      '-o',
      'canmount=noauto',
      source,
    ]);
    for (const snapshot of ['0', '1', '2']) await execa('zfs', ['snapshot', `${source}@${snapshot}`]);
  });

  afterAll(async () => {
    await beta.remove();
    await alpha.remove();
    await zfs.stop();
  });

  async function guidOf(snapshot: string): Promise<SnapshotGuid> {
    const words = ['get', '-Hp', '-o', 'value', 'guid', `${source}@${snapshot}`];
    return (await execa('zfs', words)).stdout as SnapshotGuid;
  }

  /** All snapshots that came after the base, or the first one in full. */
  async function receive(base: string | null, ...flags: readonly string[]): Promise<unknown> {
    const range = base === null ? [`${source}@0`] : ['-I', `@${base}`, `${source}@2`];
    const { stdout } = await execa('zfs', ['send', ...flags, ...range], { encoding: 'buffer' });
    const stream = new PassThrough();
    stream.end(stdout);
    const [toGuid, fromGuid] = base === null ? [await guidOf('0'), null] : [await guidOf('1'), await guidOf(base)];
    const expected = { toGuid, fromGuid, raw: false, several: base !== null };
    const create = base === null ? { origin: null, properties: {}, snapshot: null } : null;
    const request = { target, create, overPlaceholder: false, baseHeld: false, keepPartial: false, expected };
    return new CliZfs().receive(request, { kind: 'stream', stream }, new AbortController().signal);
  }

  it('is refused, and nothing of it is kept', async () => {
    await expect(receive(null, '-p')).rejects.toMatchObject({
      code: 'ZFS_STREAM_MISMATCH',
      message: expect.stringContaining('properties'),
    });
    expect(await new CliZfs().listOnly([target])).toEqual([]);
  });

  it('is none without them, also where it brings several snapshots', async () => {
    await receive(null);
    await expect(receive('0', '-p')).rejects.toMatchObject({ code: 'ZFS_STREAM_MISMATCH' });
    await receive('0');
    const [copy] = await new CliZfs().listOnly([target]);
    expect(copy?.snapshots).toHaveLength(3);
    expect(Object.keys(copy?.properties ?? {})).not.toContain('com.example:run');
  });
});
