import { randomBytes } from 'node:crypto';
import { pipeline, Transform } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { isPandoError, type PandoError } from '../../src/core/errors.ts';
import { difference } from '../../src/core/graph/difference.ts';
import {
  nameInBetween,
  type RelativeName,
  type SnapshotName,
  streamIdOf,
  type TreeName,
  uuidFrom,
} from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import { PREPARE } from '../../src/transfer/protocol.ts';
import { at, codeOf, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

/** A base with two snapshots, a layer cloned from it, and a container root cloned from that, each with files. */
async function buildHierarchy({ zfs }: WorldNode): Promise<void> {
  await zfs.create(dataset('alpha/images'));
  await zfs.create(dataset('alpha/images/base'));
  zfs.write('alpha/images/base', 'etc/os', 'debian');
  await zfs.snapshot([at('alpha/images', 'r'), at('alpha/images/base', '1')]);
  zfs.write('alpha/images/base', 'etc/version', '12');
  await zfs.snapshot([at('alpha/images/base', '2')]);
  await zfs.clone(at('alpha/images/base', '2'), dataset('alpha/images/layer'));
  zfs.write('alpha/images/layer', 'bin/app', 'v1');
  await zfs.snapshot([at('alpha/images/layer', 'extracted')]);
  await zfs.clone(at('alpha/images/layer', 'extracted'), dataset('alpha/images/web'));
  zfs.write('alpha/images/web', 'var/log', 'started');
  await zfs.snapshot([at('alpha/images/web', 'a'), at('alpha/images/layer', 'later')]);
}

async function shareAndMirror(filter = EVERYTHING): Promise<void> {
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...filter });
}

async function expectSameGraphs(): Promise<void> {
  const theirs = alpha.node.trees.graph(IMAGES);
  expect(difference(theirs, beta.node.trees.graph(IMAGES))).toEqual([]);
  for (const one of theirs.datasets.values()) {
    for (const { name } of one.snapshots) {
      const path = one.name === '' ? '' : `/${one.name}`;
      expect(beta.zfs.contentsOf(`beta/copy${path}@${name}`)).toEqual(
        alpha.zfs.contentsOf(`alpha/images${path}@${name}`),
      );
    }
  }
}

async function heldSnapshots({ zfs, pool }: WorldNode): Promise<string[]> {
  const listed = await zfs.list(dataset(pool));
  return listed.flatMap(({ name, snapshots }) =>
    snapshots.filter(({ userrefs }) => userrefs > 0).map((snapshot) => `${name}@${snapshot.name}`),
  );
}

/** Larger than what lies in buffers between a send and its receive. */
const BIG_BYTES = 2_000_000;

async function addBigDataset(): Promise<void> {
  await alpha.zfs.create(dataset('alpha/images/big'));
  alpha.zfs.write('alpha/images/big', 'file', 'x'.repeat(BIG_BYTES));
  await alpha.zfs.snapshot([at('alpha/images/big', '1')]);
}

/** Calls `act` once, as soon as beta's ZFS has taken a quarter of the stream of `big`. Gives how to ask for the bytes it took in all. */
function inTheMiddle(act: () => void): () => number {
  const receive = beta.zfs.receive.bind(beta.zfs);
  let passed = 0;
  beta.zfs.receive = (request, source, signal) => {
    if (source.kind !== 'stream' || request.target !== 'beta/copy/big') return receive(request, source, signal);
    const watched = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        const before = passed;
        passed += chunk.length;
        if (before < BIG_BYTES / 4 && passed >= BIG_BYTES / 4) act();
        done(null, chunk);
      },
    });
    const stream = pipeline(source.stream, watched, () => undefined);
    return receive(request, { kind: 'stream', stream }, signal);
  };
  return () => passed;
}

function codesOf(steps: SyncReport['steps']): string[] {
  return steps.flatMap(({ step, outcome }) =>
    outcome.result === 'failed' ? [`${step.name}: ${outcome.error.code}`] : [],
  );
}

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  await introduce(alpha, beta);
  await buildHierarchy(alpha);
});

afterEach(() => world.stop());

describe('a mirror', () => {
  it('has the same names, origins, guids, order and contents as its owner after the first sync', async () => {
    await shareAndMirror();
    const report = await syncImages(beta);
    expect(report.steps.map(({ outcome }) => outcome.result)).toEqual(report.steps.map(() => 'done'));
    await expectSameGraphs();
  });

  it('follows with increments alone when the owner goes on', async () => {
    await shareAndMirror();
    await syncImages(beta);
    alpha.zfs.write('alpha/images/web', 'var/log', 'stopped');
    await alpha.zfs.snapshot([at('alpha/images/web', 'b')]);
    await alpha.zfs.clone(at('alpha/images/layer', 'later'), dataset('alpha/images/db'));
    await alpha.zfs.snapshot([at('alpha/images/db', 'x')]);
    const { plan } = await syncImages(beta);
    expect(plan.steps.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'receive-clone db',
      'receive-incremental web',
    ]);
    await expectSameGraphs();
  });

  it('does nothing, with no command to ZFS, when nothing changed', async () => {
    await shareAndMirror();
    await syncImages(beta);
    await syncImages(beta, { refresh: false });
    const before = [alpha.zfs.commandCount, beta.zfs.commandCount];
    const report = await syncImages(beta, { refresh: false });
    expect(report.plan.steps).toEqual([]);
    expect([alpha.zfs.commandCount, beta.zfs.commandCount]).toEqual(before);
  });

  it('leaves no hold at either end', async () => {
    await shareAndMirror();
    await syncImages(beta);
    expect([...(await heldSnapshots(alpha)), ...(await heldSnapshots(beta))]).toEqual([]);
  });

  it('keeps replicas read-only, not mounted by themselves, and marked with the id of their dataset', async () => {
    await shareAndMirror();
    await syncImages(beta);
    const ids = new Map(
      alpha.node.trees
        .graph(IMAGES)
        .sorted()
        .map(({ name, id }) => [`beta/copy/${name}`, id]),
    );
    for (const { name, properties } of await beta.zfs.list(dataset('beta/copy'))) {
      const id = ids.get(name === 'beta/copy' ? 'beta/copy/' : name);
      expect(properties).toMatchObject({ readonly: 'on', canmount: 'noauto', 'pando:id': id });
      expect(properties).toMatchObject({ setuid: 'off', devices: 'off', exec: 'off' });
    }
  });

  it('logs what it received as received, owned by the owner', async () => {
    await shareAndMirror();
    await syncImages(beta);
    const stream = beta.node.history.ownStream(IMAGES);
    const causes = new Set<string>();
    for await (const events of beta.node.history.events(stream, 2)) for (const { cause } of events) causes.add(cause);
    expect([...causes]).toEqual(['received']);
    const owners = beta.node.trees
      .graph(IMAGES)
      .sorted()
      .map(({ owner }) => owner.node);
    expect(new Set(owners)).toEqual(new Set([alpha.node.id]));
  });

  it('renames its replica when the owner renamed, without a stream', async () => {
    await shareAndMirror();
    await syncImages(beta);
    await alpha.zfs.rename(dataset('alpha/images/web'), dataset('alpha/images/site'));
    const { plan, bytes } = await syncImages(beta);
    expect(plan.steps.map(({ kind }) => kind)).toEqual(['rename']);
    expect(bytes).toBe(0);
    await expectSameGraphs();
  });

  it('renames nothing else that has the name of a replica by now, whatever was last seen of it', async () => {
    await shareAndMirror();
    await syncImages(beta);
    await beta.zfs.rename(dataset('beta/copy/web'), dataset('beta/copy/aside'));
    await beta.zfs.create(dataset('beta/copy/web'), { readonly: 'off' });
    beta.zfs.write('beta/copy/web', 'mine', 'text');
    await alpha.zfs.rename(dataset('alpha/images/web'), dataset('alpha/images/shop'));
    const { steps } = await syncImages(beta);
    expect(steps.map(({ step, outcome }) => `${step.kind} ${outcome.result}`)).toEqual(['rename done']);
    expect(beta.zfs.read('beta/copy/web', 'mine')).toBe('text');
    expect(beta.zfs.read('beta/copy/shop', 'var/log')).toBe('started');
  });

  it('asks for no stream again that what was written here refused, until people do or something has changed', async () => {
    await shareAndMirror();
    await syncImages(beta);
    // Below what this node has of its own nothing can be put aside
    const origin = { tree: IMAGES, name: 'base' as RelativeName, snapshot: '1' as SnapshotName };
    await beta.node.trees.clone(origin, 'layer/own' as RelativeName);
    await beta.zfs.setProperties([dataset('beta/copy/layer')], { readonly: 'off' });
    beta.zfs.write('beta/copy/layer', 'mine', 'text');
    await alpha.zfs.snapshot([at('alpha/images/layer', 'latest')]);
    const send = vi.spyOn(alpha.zfs, 'send');
    const started = async (refresh: boolean) => {
      send.mockClear();
      const { plan } = await syncImages(beta, { refresh });
      expect(plan.conflicts).toMatchObject([{ name: 'layer', reason: 'not-owned-together' }]);
      return send.mock.calls.length;
    };
    expect(await started(true)).toBe(1);
    expect(await started(false)).toBe(0);
    expect(await started(true)).toBe(1);
    await beta.zfs.rollback(at('beta/copy/layer', 'later'), { destroyNewer: false });
    await syncImages(beta);
    expect(beta.zfs.contentsOf('beta/copy/layer@latest')).not.toHaveProperty('mine');
  });

  it('is left out by a third node that leaves out what it is called, also while it is on its way to that name', async () => {
    await shareAndMirror();
    await syncImages(beta);
    const web = beta.node.trees.graph(IMAGES).named('web' as RelativeName)?.id ?? expect.fail();
    const between = nameInBetween(web);
    await beta.zfs.rename(dataset('beta/copy/web'), dataset(`beta/copy/${between}`));
    await beta.node.verifier.verify(IMAGES);
    const gamma = await world.start('gamma');
    await introduce(beta, gamma);
    const place = { tree: IMAGES, from: beta.node.id, root: dataset('gamma/copy') };
    await gamma.node.mirrors.add({ ...place, ...EVERYTHING, except: ['web'] });
    const here = () =>
      gamma.node.trees
        .graph(IMAGES)
        .sorted()
        .map(({ name }) => name);
    const { plan } = await syncImages(gamma);
    expect(plan.waiting).toEqual([{ dataset: web, name: between, reason: 'name-waits' }]);
    expect(here()).toEqual(['', 'base', 'layer']);
    await syncImages(beta);
    expect((await syncImages(gamma)).plan).toMatchObject({ steps: [], waiting: [] });
    await gamma.node.mirrors.change(IMAGES, { except: [] });
    await syncImages(gamma);
    expect(here()).toContain('web');
  });

  it('can itself be mirrored by a third node', async () => {
    await shareAndMirror();
    await syncImages(beta);
    const gamma = await world.start('gamma');
    await introduce(beta, gamma);
    await gamma.node.mirrors.add({ tree: IMAGES, from: beta.node.id, root: dataset('gamma/copy'), ...EVERYTHING });
    await syncImages(gamma);
    expect(difference(alpha.node.trees.graph(IMAGES), gamma.node.trees.graph(IMAGES))).toEqual([]);
  });

  it('takes only what its globs select, and what that needs', async () => {
    await shareAndMirror({ ...EVERYTHING, only: ['layer'] });
    await syncImages(beta);
    const names = beta.node.trees
      .graph(IMAGES)
      .sorted()
      .map(({ name }) => name);
    expect(names).toEqual(['', 'base', 'layer']);
  });

  it('replaces its placeholder once the owner takes a first snapshot of the root', async () => {
    await alpha.zfs.destroySnapshot(at('alpha/images', 'r'));
    await shareAndMirror();
    await syncImages(beta);
    expect(beta.node.trees.graph(IMAGES).sorted()[0]?.snapshots).toEqual([]);
    await alpha.zfs.snapshot([at('alpha/images', 'first')]);
    const { steps } = await syncImages(beta);
    expect(steps.map(({ outcome }) => outcome.result)).toEqual(['done']);
    await expectSameGraphs();
  });
});

/** Any resume token. */
const SOME: unknown = expect.any(String);

describe('what goes wrong in a sync', () => {
  it('keeps aside what was snapshotted by hand in a replica, and goes on from the last snapshot in common', async () => {
    await shareAndMirror();
    await syncImages(beta);
    await beta.zfs.snapshot([at('beta/copy/web', 'mine')]);
    await beta.node.observer.look({
      tree: IMAGES,
      root: dataset('beta/copy'),
      ownerOf: () => ({ node: beta.node.id, epoch: 1 }),
      saidOwnerOf: () => undefined,
      claims: () => () => undefined,
      atOwner: () => new Set<never>(),
      heard: () => null,
      mayBeAbsent: true,
    });
    await alpha.zfs.snapshot([at('alpha/images/web', 'b'), at('alpha/images/layer', 'b')]);
    const { plan, steps } = await syncImages(beta);
    expect(plan.conflicts).toEqual([]);
    expect(steps.map(({ step, outcome }) => `${step.kind} ${step.name} ${outcome.result}`)).toEqual([
      'preserve web done',
      'receive-incremental layer done',
      'receive-incremental web done',
    ]);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
    const kept = (await beta.zfs.list(dataset('beta/copy/.pando/diverged'))).slice(1);
    expect(kept.map(({ snapshots }) => snapshots.map(({ name }) => name))).toEqual([['mine']]);
  });

  it('skips what depends on a step that failed, and completes it with the next sync', async () => {
    await shareAndMirror();
    await beta.zfs.create(dataset('beta/copy'));
    await beta.zfs.create(dataset('beta/copy/layer'));
    const { steps } = await syncImages(beta);
    const results = steps.map(({ step, outcome }) => `${step.name}: ${outcome.result}`);
    const others = results.slice(1);
    expect(steps[0]).toMatchObject({ step: { name: '' }, outcome: { error: { code: 'ZFS_DATASET_EXISTS' } } });
    expect(others.length).toBeGreaterThan(0);
    expect(others.filter((result) => !result.endsWith(': skipped'))).toEqual([]);
    await beta.zfs.destroy(dataset('beta/copy/layer'));
    await beta.zfs.destroy(dataset('beta/copy'));
    await syncImages(beta);
    await expectSameGraphs();
    expect([...(await heldSnapshots(alpha)), ...(await heldSnapshots(beta))]).toEqual([]);
  });

  it('is a refusal when the owner shares no such tree, in the same words as when there is none', async () => {
    await shareAndMirror();
    await alpha.node.grants.give(beta.node.id, { trees: 'other-*', role: 'reader' });
    await alpha.node.grants.revoke(beta.node.id, '*');
    expect(await codeOf(syncImages(beta))).toBe('TREE_UNKNOWN');
    expect(beta.node.history.head(streamIdOf(alpha.node.id, IMAGES))).toBeNull();
    // Whoever asks for streams all the same, knowing guids from elsewhere, learns no more
    const hidden = await refusalOf(IMAGES);
    const missing = await refusalOf('nowhere' as TreeName);
    expect(hidden.code).toBe('TREE_UNKNOWN');
    expect(hidden.message.replaceAll(IMAGES, 'nowhere')).toBe(missing.message);
    expect({ ...hidden.evidence, tree: 'nowhere' }).toEqual(missing.evidence);
  });

  /** What alpha answers beta when that asks for a stream that there is in `images`, as of a tree of that name. */
  async function refusalOf(tree: TreeName): Promise<PandoError> {
    const [first] = alpha.node.trees.graph(IMAGES).sorted();
    const snapshot = { dataset: first?.id, guid: first?.snapshots[0]?.guid };
    const transfer = uuidFrom(Date.now(), randomBytes(16));
    const wanted = {
      transfer,
      tree,
      streams: [{ snapshot, base: null, flags: null, resume: null }],
      mode: 'sealed',
      takes: '',
      resumable: false,
    };
    const answer = beta.node.hub.session(alpha.node.id)?.call(PREPARE, wanted);
    const error = await answer?.catch((thrown: unknown) => thrown);
    if (isPandoError(error)) return error;
    throw new Error('was not refused');
  }

  it('goes on with the next sync when it is cancelled in the middle of a stream, and leaves nothing behind then', async () => {
    await addBigDataset();
    await shareAndMirror();
    const cancel = new AbortController();
    const passed = inTheMiddle(() => cancel.abort());
    const { steps } = await syncImages(beta, { signal: cancel.signal });
    expect(codesOf(steps)).toContain('big: ZFS_ABORTED');
    expect(passed()).toBeLessThan(BIG_BYTES);
    expect(await beta.zfs.listOnly([dataset('beta/copy/big')])).toMatchObject([{ snapshots: [], resumeToken: SOME }]);
    await syncImages(beta);
    await expectSameGraphs();
    expect([...(await heldSnapshots(alpha)), ...(await heldSnapshots(beta))]).toEqual([]);
  });

  it('leaves nothing behind when it is cancelled in the middle of a stream that cannot go on', async () => {
    await addBigDataset();
    await shareAndMirror();
    const capabilities = await beta.zfs.capabilities();
    beta.zfs.capabilities = async () => ({ ...capabilities, resumableReceive: false });
    const receive = beta.zfs.receive.bind(beta.zfs);
    beta.zfs.receive = (request, source, signal) => receive({ ...request, keepPartial: false }, source, signal);
    const cancel = new AbortController();
    inTheMiddle(() => cancel.abort());
    expect(codesOf((await syncImages(beta, { signal: cancel.signal })).steps)).toContain('big: ZFS_ABORTED');
    expect(await beta.zfs.listOnly([dataset('beta/copy/big')])).toEqual([]);
    expect([...(await heldSnapshots(alpha)), ...(await heldSnapshots(beta))]).toEqual([]);
    await syncImages(beta);
    await expectSameGraphs();
  });

  it('goes on when the link is back that was cut in the middle of a stream, and leaves nothing behind then', async () => {
    await addBigDataset();
    await shareAndMirror();
    const passed = inTheMiddle(() => world.network.cut(alpha.node.id, beta.node.id));
    const { steps } = await syncImages(beta);
    expect(codesOf(steps)).toContain('big: CONNECTION_CLOSED');
    expect(passed()).toBeLessThan(BIG_BYTES);
    expect(await beta.zfs.listOnly([dataset('beta/copy/big')])).toMatchObject([{ snapshots: [], resumeToken: SOME }]);
    world.network.mend(alpha.node.id, beta.node.id);
    await syncImages(beta);
    await expectSameGraphs();
    expect([...(await heldSnapshots(alpha)), ...(await heldSnapshots(beta))]).toEqual([]);
  });

  it('is a refusal to add a mirror over a dataset that exists, without a parent, or over another tree', async () => {
    const mirror = { tree: IMAGES, from: alpha.node.id, ...EVERYTHING };
    await beta.zfs.create(dataset('beta/mine'));
    expect(await codeOf(beta.node.mirrors.add({ ...mirror, root: dataset('beta/mine') }))).toBe('ZFS_DATASET_EXISTS');
    expect(await codeOf(beta.node.mirrors.add({ ...mirror, root: dataset('beta/no/where') }))).toBe(
      'TREE_ROOT_MISSING',
    );
    await beta.node.trees.add({ tree: 'mine' as typeof IMAGES, root: dataset('beta/mine') });
    expect(await codeOf(beta.node.mirrors.add({ ...mirror, root: dataset('beta/mine/x') }))).toBe('TREE_OVERLAP');
  });
});

describe('verify', () => {
  it('finds a replica in order, and its logs', async () => {
    await shareAndMirror();
    await syncImages(beta);
    const verdict = await beta.node.verifier.verify(IMAGES);
    expect(verdict).toMatchObject({ ok: true, differences: [], unnoticed: 0, datasets: 4 });
    expect(verdict.logs.map(({ fault }) => fault)).toEqual([null, null]);
  });

  it('finds what is missing on a replica', async () => {
    await shareAndMirror();
    await syncImages(beta);
    await alpha.zfs.snapshot([at('alpha/images/web', 'new')]);
    const verdict = await beta.node.verifier.verify(IMAGES);
    expect(verdict.ok).toBe(false);
    expect(verdict.differences).toMatchObject([{ kind: 'snapshot-missing', name: 'web', snapshot: 'new' }]);
  });

  it('does not mind what a replica keeps after its owner destroyed it', async () => {
    await shareAndMirror();
    await syncImages(beta);
    await alpha.zfs.destroySnapshot(at('alpha/images/base', '1'));
    const verdict = await beta.node.verifier.verify(IMAGES);
    expect(verdict).toMatchObject({ ok: true, kept: [{ kind: 'snapshot-extra', snapshot: '1' }] });
  });
});
