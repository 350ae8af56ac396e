/** Mirrors on OpenZFS: what is encrypted travels raw, and what was cut short goes on. Two nodes of one process, each with a pool of the virtual machine. */
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { DatasetName, RelativeName } from '../../src/core/ids.ts';
import { OWNER_PROPERTY } from '../../src/core/ownership.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { hasReplicaMarks, REPLICA_PROPERTY } from '../../src/core/replica-marks.ts';
import { STREAM_PROPERTY } from '../../src/core/stream-flags.ts';
import { CliZfs } from '../../src/zfs/cli/cli-zfs.ts';
import { quotedForShell } from '../../src/zfs/cli/command-line.ts';
import type { ResumePoint } from '../../src/zfs/zfs.ts';
import { at, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from '../main/memory-world.ts';
import { below } from '../suites/zfs-world.ts';
import { type RemoteZfs, remoteZfs } from './remote-zfs.ts';
import { type Machine, startMachine } from './vm/machine.ts';

const BUILD_AND_BOOT_MS_MAX = 40 * 60_000;
const EMULATED_TEST_MS_MAX = 10 * 60_000;
vi.setConfig({ testTimeout: EMULATED_TEST_MS_MAX, hookTimeout: BUILD_AND_BOOT_MS_MAX });

let machine: Machine | undefined;
let remote: RemoteZfs | undefined;
const world = new MemoryWorld();
beforeAll(async () => {
  machine = await startMachine();
  remote = await remoteZfs(machine.ssh);
});
afterAll(async () => {
  await world.stop();
  await remote?.cleanup();
  await machine?.stop();
});

/** A node on a ZFS of its own, where the world would give it one in memory. */
async function nodeOn(name: string, zfs: CliZfs): Promise<WorldNode> {
  const node = await world.start(name);
  await node.node.stop();
  return world.start(name, { ...node, zfs: zfs as never });
}

describe('A mirror on OpenZFS', () => {
  test('of encrypted datasets is raw, goes on where a stream was cut short, and takes increments, from a bookmark too', async () => {
    if (remote === undefined || machine === undefined) throw new Error('there is no machine');
    const { shell, encryption, pool, otherPool } = remote;
    const drivers = [0, 1].map(() => new CliZfs({ prefix: machine?.ssh ?? [], remoteShell: true }));
    const [alpha, beta] = [
      await nodeOn('alpha', drivers[0] as CliZfs),
      await nodeOn('beta', drivers[1] as CliZfs),
    ] as const;
    await introduce(alpha, beta);
    const root = below(pool, 'images');
    const [secret, plain] = [below(root, 'secret'), below(root, 'plain')];
    await alpha.zfs.create(root);
    await encryption?.create(secret);
    await alpha.zfs.create(plain);
    const change = async (dataset: DatasetName, snapshot: string): Promise<void> => {
      await shell(`head -c 3000000 /dev/urandom > ${quotedForShell(`/${dataset}/${snapshot}`)}`);
      await alpha.zfs.snapshot([at(dataset, snapshot)]);
    };
    await alpha.zfs.snapshot([at(root, '1')]);
    for (const dataset of [secret, plain]) await change(dataset, '1');
    await alpha.node.trees.add({ tree: IMAGES, root });
    const copy = below(otherPool, 'copy');
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: copy, ...EVERYTHING });
    const results = async (): Promise<string[]> =>
      (await syncImages(beta)).steps.map(({ outcome }) => (outcome.result === 'failed' ? outcome.error.code : 'done'));

    const points: (ResumePoint | null)[] = [];
    const { readToken, send } = drivers[0] as CliZfs;
    alpha.zfs.readToken = async (token) => {
      const point = await readToken.call(drivers[0], token);
      points.push(point);
      return point;
    };
    let cutting = 2;
    alpha.zfs.send = async (request, target, signal) => {
      const whole = request.snapshot.dataset === root || cutting === 0;
      if (whole) return send.call(drivers[0], request, target, signal);
      cutting -= 1;
      const pipe = new PassThrough();
      const [chunks] = await Promise.all([
        pipe.toArray(),
        send.call(drivers[0], request, { kind: 'stream', stream: pipe }, signal),
      ]);
      const bytes = Buffer.concat(chunks as Buffer[]);
      const stream = target.kind === 'stream' ? target.stream : target.socket;
      await new Promise<void>((resolve) => stream.end(bytes.subarray(0, (bytes.length * 2) / 3), resolve));
      throw new PandoError('ZFS_FAILED', 'Cannot send: it was killed.');
    };

    expect(await results()).toEqual(['done', 'TRANSFER_FAILED', 'TRANSFER_FAILED']);
    const partial = (await beta.zfs.list(copy)).filter(({ resumeToken }) => resumeToken !== null);
    expect(partial.map(({ snapshots }) => snapshots)).toEqual([[], []]);
    await encryption?.lock(secret);
    expect(await results()).toEqual(['done', 'done']);
    expect(points.map((point) => point?.snapshot?.dataset).toSorted()).toEqual([plain, secret]);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
    const listed = await beta.zfs.list(copy);
    expect(listed.map(({ encrypted }) => encrypted)).toEqual([false, false, true]);
    expect(listed.map(({ properties }) => properties[STREAM_PROPERTY])).toEqual(['cLe', 'cLe', 'wcLe']);

    await encryption?.unlock(secret);
    await shell(`zfs mount ${quotedForShell(secret)} || true`);
    for (const dataset of [secret, plain]) await change(dataset, '2');
    cutting = 2;
    expect(await results()).toEqual(['TRANSFER_FAILED', 'TRANSFER_FAILED']);
    expect(await results()).toEqual(['done', 'done']);
    expect(points).toHaveLength(4);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
    // Cursors move behind the back of whoever syncs
    const cursorsOf = async () =>
      (await alpha.zfs.list(root)).map(({ bookmarks }) => bookmarks.map(({ guid }) => guid));
    const newest = (await alpha.zfs.list(root)).map(({ snapshots }) => [snapshots.at(-1)?.guid]);
    await expect.poll(cursorsOf).toEqual(newest);
    await shell(`zfs mount ${quotedForShell(secret)} || true`);
    for (const dataset of [secret, plain]) {
      await alpha.zfs.destroySnapshot(at(dataset, '2'));
      await change(dataset, '3');
    }
    expect(await results()).toEqual(['done', 'done']);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
    const all = [...(await alpha.zfs.list(root)), ...(await beta.zfs.list(copy))];
    expect(all.filter(({ resumeToken }) => resumeToken !== null)).toEqual([]);
    expect(all.flatMap(({ snapshots }) => snapshots).filter(({ userrefs }) => userrefs > 0)).toEqual([]);
    await encryption?.unlock(below(copy, 'secret'));
    const sums = await shell(
      `zfs mount ${quotedForShell(below(copy, 'secret'))}; cd / && sha256sum ${[secret, below(copy, 'secret')].map((dataset) => quotedForShell(`/${dataset}/3`)).join(' ')} | cut -d ' ' -f 1 | sort -u | wc -l`,
    );
    expect(sums.trim()).toBe('1');
  });

  test('of a volume follows it, and its clones', async () => {
    if (remote === undefined || machine === undefined) throw new Error('there is no machine');
    const { shell, pool, otherPool } = remote;
    const drivers = [0, 1].map(() => new CliZfs({ prefix: machine?.ssh ?? [], remoteShell: true }));
    const [alpha, beta] = [
      await nodeOn('owner', drivers[0] as CliZfs),
      await nodeOn('mirror', drivers[1] as CliZfs),
    ] as const;
    await introduce(alpha, beta);
    const [root, copy] = [below(pool, 'disks'), below(otherPool, 'disks')];
    const [disk, clone] = [below(root, 'disk'), below(root, 'clone')];
    await alpha.zfs.create(root);
    await shell(`zfs create -V 4M ${quotedForShell(disk)}`);
    await alpha.zfs.snapshot([at(root, '1'), at(disk, '1')]);
    await alpha.zfs.clone(at(disk, '1'), clone);
    await alpha.zfs.snapshot([at(clone, '2')]);
    await alpha.node.trees.add({ tree: IMAGES, root });
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: copy, ...EVERYTHING });
    const results = async (): Promise<string[]> =>
      (await syncImages(beta)).steps.map(({ outcome }) => (outcome.result === 'failed' ? outcome.error.code : 'done'));
    expect(await results()).toEqual(['done', 'done', 'done']);
    await alpha.zfs.promote(clone);
    await alpha.zfs.snapshot([at(disk, '3')]);
    // The disk has no snapshot of its own at first, and comes anew as the clone that it is
    expect(new Set(await results())).toEqual(new Set(['done']));
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
    const listed = (await beta.zfs.list(copy)).filter(({ name }) => !name.includes('/.pando'));
    expect(listed.map(({ kind, origin }) => [kind, origin?.reference.dataset ?? null])).toEqual([
      ['filesystem', null],
      ['volume', null],
      ['volume', below(copy, 'clone')],
    ]);
    for (const { kind, properties } of listed) {
      expect(properties).toMatchObject({ readonly: 'on', 'pando:id': expect.any(String) });
      expect(hasReplicaMarks(kind, properties)).toBe(true);
    }
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'standby' });
    await beta.node.ownership.take({ tree: IMAGES, name: '' as RelativeName, recursive: true, withoutOwner: false });
    const taken = (await beta.zfs.list(copy)).filter(({ name }) => !name.includes('/.pando'));
    for (const { properties } of taken) {
      expect(properties).toMatchObject({ readonly: 'off', [OWNER_PROPERTY]: `${beta.node.id}/2` });
      expect(properties).not.toHaveProperty(REPLICA_PROPERTY);
    }
  });
});
