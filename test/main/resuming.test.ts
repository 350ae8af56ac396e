/** Streams that were cut short go on where they were, as long as that fits; otherwise what came is given up, and nothing is left in the way. */
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { RelativeName, TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { PLAIN_STREAM } from '../../src/core/stream-flags.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import type { MemoryZfsOptions } from '../../src/zfs/memory/memory-zfs.ts';
import type { SendTarget } from '../../src/zfs/zfs.ts';
import { DurableLog } from '../sim/durable-log.ts';
import {
  at,
  codeOf,
  dataset,
  IMAGES,
  introduce,
  MemoryWorld,
  surviving,
  syncImages,
  type WorldNode,
} from './memory-world.ts';

const FILES = 9;

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
/** What alpha's ZFS was told to send, word by word. */
let sent: (readonly string[])[];
/** Which of alpha's streams end early, counted from here on, and after which part of their bytes. */
let cut: { readonly streams: number; readonly part: number };

beforeEach(async () => {
  sent = [];
  cut = { streams: 0, part: 0.7 };
  world = new MemoryWorld();
  const zfs: MemoryZfsOptions = {
    onCommand: (command) => void (command[1] === 'send' && sent.push(command.slice(2))),
  };
  alpha = await world.start('alpha', undefined, zfs);
  beta = await world.start('beta');
  await introduce(alpha, beta);
  cutStreams();
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/web'));
  await alpha.zfs.snapshot([at('alpha/images', '1')]);
  await change('web', '1');
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await beta.node.mirrors.add(mirror());
});

afterEach(() => world.stop());

function mirror() {
  return { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING };
}

async function change(name: string, snapshot: string): Promise<void> {
  for (let file = 0; file < FILES; file += 1) {
    alpha.zfs.write(`alpha/images/${name}`, `${snapshot}-${file}`, `${snapshot} ${file} `.repeat(20_000));
  }
  await alpha.zfs.snapshot([at(`alpha/images/${name}`, snapshot)]);
}

/** Lets alpha's `zfs send` of a large dataset die in the midst of its stream, as often as `cut` says. */
function cutStreams(): void {
  const send = alpha.zfs.send.bind(alpha.zfs);
  alpha.zfs.send = async (request, target: SendTarget, signal) => {
    if (cut.streams === 0 || request.snapshot.dataset === 'alpha/images') return send(request, target, signal);
    cut = { ...cut, streams: cut.streams - 1 };
    const whole = new PassThrough();
    const [chunks] = await Promise.all([whole.toArray(), send(request, { kind: 'stream', stream: whole }, signal)]);
    const bytes = Buffer.concat(chunks as Buffer[]);
    const stream = target.kind === 'stream' ? target.stream : target.socket;
    await new Promise<void>((resolve) => stream.end(bytes.subarray(0, Math.floor(bytes.length * cut.part)), resolve));
    throw new PandoError('ZFS_FAILED', 'Cannot send: it was killed.');
  };
}

async function failures(): Promise<string[]> {
  const { steps } = await syncImages(beta);
  return steps.flatMap(({ outcome }) => (outcome.result === 'failed' ? [outcome.error.code] : []));
}

async function holds(): Promise<number> {
  const listed = [...(await alpha.zfs.list(dataset('alpha'))), ...(await beta.zfs.list(dataset('beta')))];
  return listed.flatMap(({ snapshots }) => snapshots).reduce((sum, { userrefs }) => sum + userrefs, 0);
}

async function partial(): Promise<string[]> {
  return (await beta.zfs.list(dataset('beta')))
    .filter(({ resumeToken }) => resumeToken !== null)
    .map(({ name }) => name);
}

async function expectMirrored(): Promise<void> {
  expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  expect(beta.zfs.contentsOf('beta/copy/web')).toEqual(alpha.zfs.contentsOf('alpha/images/web'));
  expect(await partial()).toEqual([]);
  await expect.poll(holds).toBe(0);
}

function resumed(): number {
  return sent.filter(([word]) => word === '-t').length;
}

describe('a first stream that was cut short', () => {
  it('goes on with the next sync, and is no dataset of the tree before', async () => {
    cut = { ...cut, streams: 1 };
    expect(await failures()).toEqual(['TRANSFER_FAILED']);
    expect(await partial()).toEqual(['beta/copy/web']);
    await beta.node.verifier.verify(IMAGES);
    expect([...beta.node.trees.graph(IMAGES).datasets.values()].map(({ name }) => name)).toEqual(['']);
    const { steps, bytes } = await syncImages(beta);
    expect(steps.map(({ outcome }) => outcome.result)).toEqual(['done']);
    expect(resumed()).toBe(1);
    expect(bytes).toBeLessThan(FILES * 20_000 * 4 * 0.5);
    await expectMirrored();
  });

  it('goes on after both ends were started anew, and when it is cut again', async () => {
    cut = { ...cut, streams: 1 };
    await failures();
    await beta.node.stop();
    beta = await world.start('beta', beta);
    await alpha.node.stop();
    alpha = await world.start('alpha', alpha);
    cut = { streams: 1, part: 0.6 };
    await failures();
    await failures();
    expect(resumed()).toBeGreaterThan(0);
    await expectMirrored();
  });

  it('keeps its snapshot at the sender, and is given up when that is gone all the same', async () => {
    cut = { ...cut, streams: 1 };
    await failures();
    const snapshot = at('alpha/images/web', '1');
    expect(await codeOf(alpha.zfs.destroySnapshot(snapshot))).toBe('ZFS_BUSY');
    await change('web', '2');
    for (const tag of (await alpha.zfs.holds([snapshot])).flat()) await alpha.zfs.release(tag, [snapshot]);
    await alpha.zfs.destroySnapshot(snapshot);
    expect(await failures()).toEqual([]);
    expect(resumed()).toBe(0);
    await expectMirrored();
  });

  it('is given up when its dataset is not wanted any more, or its mirror is no more', async () => {
    cut = { ...cut, streams: 1 };
    await failures();
    await beta.node.mirrors.change(IMAGES, { only: ['nothing'] });
    await syncImages(beta);
    expect(await partial()).toEqual([]);
    await beta.node.mirrors.change(IMAGES, { only: [] });
    cut = { ...cut, streams: 1 };
    await failures();
    expect(await partial()).toEqual(['beta/copy/web']);
    await beta.node.mirrors.remove(IMAGES);
    await beta.node.stop();
    beta = await world.start('beta', beta);
    expect(await partial()).toEqual([]);
  });

  describe('where the log that knew of it was lost', () => {
    beforeEach(async () => {
      cut = { ...cut, streams: 1 };
      expect(await failures()).toEqual(['TRANSFER_FAILED']);
      await beta.node.stop();
      beta = await world.start('beta', { ...beta, log: new MemoryLog() });
      await introduce(alpha, beta);
    });

    it('goes on with the next sync', async () => {
      await beta.node.mirrors.add(mirror());
      expect(await failures()).toEqual([]);
      expect(resumed()).toBe(1);
      await expectMirrored();
    });

    it('is given up when its dataset is not wanted any more', async () => {
      await beta.node.mirrors.add({ ...mirror(), only: ['nothing'] });
      expect(await failures()).toEqual([]);
      expect(await partial()).toEqual([]);
    });

    it('stays as it is in a tree that nobody mirrors here', async () => {
      await beta.node.trees.add({ tree: 'own' as TreeName, root: dataset('beta/copy') });
      expect(await partial()).toEqual(['beta/copy/web']);
    });
  });

  it('goes on from the peer that has its dataset, where a tree comes from several and nothing was written down of it', async () => {
    const gamma = await world.start('gamma');
    await gamma.zfs.create(dataset('gamma/images'));
    await gamma.zfs.snapshot([at('gamma/images', '1')]);
    await gamma.node.trees.add({ tree: IMAGES, root: dataset('gamma/images') });
    await beta.node.stop();
    const log = new DurableLog();
    beta = await world.start('beta', { ...beta, log: surviving(log) });
    for (const peer of [gamma, alpha]) await introduce(peer, beta);
    await beta.node.mirrors.add({ ...mirror(), from: gamma.node.id, only: ['web'] });
    await beta.node.mirrors.add(mirror());
    for (const peer of [gamma, alpha]) await beta.node.hub.sync(peer.node.id, { refresh: true });
    const before = log.writes;
    cut = { ...cut, streams: 1 };
    expect((await syncImages(beta, { from: alpha })).steps.map(({ outcome }) => outcome.result)).toContain('failed');
    await beta.node.stop();
    await log.goBackTo(before);
    beta = await world.start('beta', beta);
    for (const from of [gamma, alpha]) await syncImages(beta, { from });
    expect(resumed()).toBe(1);
    await expectMirrored();
  });

  it('is looked at while something else goes, which the next sync brings again', async () => {
    await alpha.zfs.create(dataset('alpha/images/other'));
    await change('other', '1');
    await syncImages(beta);
    await change('web', '2');
    cut = { ...cut, streams: 1 };
    await failures();
    await beta.node.mirrors.change(IMAGES, { except: ['web'] });
    const other = beta.node.trees.graph(IMAGES).named('other' as RelativeName) ?? expect.fail();
    const listOnly = beta.zfs.listOnly.bind(beta.zfs);
    vi.spyOn(beta.zfs, 'listOnly').mockImplementation(async (names, ...given) => {
      const listed = await listOnly(names, ...given);
      if (names.join() !== 'beta/copy/web' || beta.node.trees.graph(IMAGES).get(other.id) === undefined) return listed;
      await beta.zfs.destroySnapshot(at('beta/copy/other', '1'));
      await beta.zfs.destroy(dataset('beta/copy/other'));
      const gone = { type: 'dataset.destroyed', dataset: other.id, name: other.name } as const;
      await beta.node.history.record(IMAGES, 'observed', [gone]);
      return listed;
    });
    await syncImages(beta);
    expect(beta.node.trees.graph(IMAGES).get(other.id)).toBeUndefined();
    const { steps } = await syncImages(beta, { refresh: false });
    expect(steps.map(({ step, outcome }) => `${step.kind} ${step.name} ${outcome.result}`)).toEqual([
      'receive-full other done',
    ]);
  });

  it('is given up when the sender sees that it is something else', async () => {
    cut = { ...cut, streams: 1 };
    await failures();
    const [web] = await beta.zfs.listOnly([dataset('beta/copy/web')]);
    const readToken = alpha.zfs.readToken.bind(alpha.zfs);
    alpha.zfs.readToken = async (token) => {
      expect(token).toBe(web?.resumeToken);
      const point = await readToken(token);
      return point === null ? null : { ...point, snapshot: at('alpha/images', '1') };
    };
    expect(await failures()).toEqual([]);
    expect(resumed()).toBe(0);
    await expectMirrored();
  });
});

describe('an increment that was cut short', () => {
  it('goes on with the snapshot that was under way, and brings those behind it', async () => {
    await syncImages(beta);
    for (const snapshot of ['2', '3', '4']) await change('web', snapshot);
    cut = { streams: 1, part: 0.5 };
    expect(await failures()).toEqual(['TRANSFER_FAILED']);
    expect((await beta.zfs.listOnly([dataset('beta/copy/web')]))[0]?.snapshots).toHaveLength(2);
    sent = [];
    expect(await failures()).toEqual([]);
    expect(resumed()).toBe(1);
    expect(sent.filter(([word]) => word !== '-nvPt')).toHaveLength(2);
    await expectMirrored();
  });

  it('is given up when its owner has gone back behind it', async () => {
    await syncImages(beta);
    await change('web', '2');
    cut = { ...cut, streams: 1 };
    await failures();
    for (const each of ['1', '2']) {
      const snapshot = at('alpha/images/web', each);
      for (const tag of (await alpha.zfs.holds([snapshot])).flat()) await alpha.zfs.release(tag, [snapshot]);
    }
    await alpha.zfs.rollback(at('alpha/images/web', '1'), { destroyNewer: true });
    await change('web', 'another');
    expect(await failures()).toEqual([]);
    expect(resumed()).toBe(0);
    await expectMirrored();
  });

  it('that nobody wrote down goes with its dataset, where its owner has destroyed that', async () => {
    await leaveIncrement();
    for (const snapshot of ['1', '2']) await alpha.zfs.destroySnapshot(at('alpha/images/web', snapshot));
    await alpha.zfs.destroy(dataset('alpha/images/web'));
    await beta.node.mirrors.change(IMAGES, { graceMs: 0 });
    await syncImages(beta);
    const { steps } = await syncImages(beta);
    expect(steps).toEqual([]);
    expect(await beta.zfs.listOnly([dataset('beta/copy/web')])).toEqual([]);
  });

  it('that nobody wrote down is found when it stands in the way, and goes on', async () => {
    await leaveIncrement();
    expect(await failures()).toEqual(['ZFS_BUSY']);
    expect(await failures()).toEqual([]);
    expect(resumed()).toBe(1);
    await expectMirrored();
  });

  /** Leaves what came of an increment in the replica, of which no log knows. */
  async function leaveIncrement(): Promise<void> {
    await syncImages(beta);
    await change('web', '2');
    const whole = new PassThrough();
    const { signal } = new AbortController();
    const flags = (await alpha.zfs.capabilities()).streamFlags;
    const request = {
      snapshot: at('alpha/images/web', '2'),
      base: { ...at('alpha/images/web', '1'), intermediates: false },
      flags: { ...flags, raw: false },
      resumeToken: null,
    };
    const [chunks] = await Promise.all([
      whole.toArray(),
      alpha.zfs.send(request, { kind: 'stream', stream: whole }, signal),
    ]);
    const bytes = Buffer.concat(chunks as Buffer[]);
    const stream = new PassThrough();
    stream.end(bytes.subarray(0, bytes.length / 2));
    const target = { target: dataset('beta/copy/web'), create: null, overPlaceholder: false, baseHeld: false };
    const receiving = beta.zfs.receive(
      { ...target, expected: null, keepPartial: true },
      { kind: 'stream', stream },
      signal,
    );
    expect(await codeOf(receiving)).toBe('ZFS_STREAM_INVALID');
  }

  it(', or a dataset, that somebody made with a stream of their own stays as it is', async () => {
    await syncImages(beta);
    await alpha.zfs.create(dataset('alpha/mine'));
    alpha.zfs.write('alpha/mine', 'one', 'x'.repeat(200_000));
    alpha.zfs.write('alpha/mine', 'two', 'y'.repeat(200_000));
    await alpha.zfs.snapshot([at('alpha/mine', 'x')]);
    const [whole, half] = [new PassThrough(), new PassThrough()];
    const { signal } = new AbortController();
    const request = { snapshot: at('alpha/mine', 'x'), base: null, flags: PLAIN_STREAM, resumeToken: null };
    const [chunks] = await Promise.all([
      whole.toArray(),
      alpha.zfs.send(request, { kind: 'stream', stream: whole }, signal),
    ]);
    const bytes = Buffer.concat(chunks as Buffer[]);
    half.end(bytes.subarray(0, (bytes.length * 2) / 3));
    const theirs = {
      target: dataset('beta/copy/new'),
      create: { origin: null, properties: {}, snapshot: null },
      ...{ overPlaceholder: false, expected: null, keepPartial: true, baseHeld: false },
    };
    await beta.zfs.receive(theirs, { kind: 'stream', stream: half }, signal).catch(() => undefined);
    const token = async () => (await beta.zfs.listOnly([theirs.target]))[0]?.resumeToken ?? null;
    const before = await token();
    expect(before).not.toBeNull();
    await alpha.zfs.create(dataset('alpha/images/new'));
    await alpha.zfs.snapshot([at('alpha/images/new', '1')]);
    expect(await failures()).toEqual(['ZFS_DATASET_EXISTS']);
    expect(await failures()).toEqual(['ZFS_DATASET_EXISTS']);
    expect(await token()).toBe(before);
  });
});
