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
    await execa('zfs', ['snapshot', `${source}@1`]);
  });

  afterAll(async () => {
    await beta.remove();
    await alpha.remove();
    await zfs.stop();
  });

  async function receive(...flags: readonly string[]): Promise<unknown> {
    const { stdout } = await execa('zfs', ['send', ...flags, `${source}@1`], { encoding: 'buffer' });
    const guid = (await execa('zfs', ['get', '-Hp', '-o', 'value', 'guid', `${source}@1`])).stdout as SnapshotGuid;
    const stream = new PassThrough();
    stream.end(stdout);
    const expected = { toGuid: guid, fromGuid: null, raw: false, several: false };
    const create = { origin: null, properties: {}, snapshot: null };
    const request = { target, create, overPlaceholder: false, baseHeld: false, keepPartial: false, expected };
    return new CliZfs().receive(request, { kind: 'stream', stream }, new AbortController().signal);
  }

  it('is refused, and nothing of it is kept', async () => {
    await expect(receive('-p')).rejects.toMatchObject({
      code: 'ZFS_STREAM_MISMATCH',
      message: expect.stringContaining('properties'),
    });
    expect(await new CliZfs().listOnly([target])).toEqual([]);
  });

  it('is none without them', async () => {
    await receive();
    const [copy] = await new CliZfs().listOnly([target]);
    expect(copy?.snapshots).toHaveLength(1);
    expect(Object.keys(copy?.properties ?? {})).not.toContain('com.example:run');
  });
});
