/** Syncs that are cut short: by people, by the link, by a pool or a replica that goes away, by the end of the node. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { at, codeOf, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
/** Runs when beta's ZFS is told to receive: the data connection stands then, and the sender is at work. */
let onReceive: () => void | Promise<void>;

beforeEach(async () => {
  onReceive = () => undefined;
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta', undefined, {
    onCommand: async (command) => {
      if (command.includes('receive')) await onReceive();
    },
  });
  await introduce(alpha, beta);
  await alpha.zfs.create(dataset('alpha/images'));
  for (const name of ['one', 'two']) {
    await alpha.zfs.create(dataset(`alpha/images/${name}`));
    alpha.zfs.write(`alpha/images/${name}`, 'file', 'x'.repeat(300_000));
  }
  await alpha.zfs.snapshot(['', '/one', '/two'].map((name) => at(`alpha/images${name}`, 's')));
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await beta.node.mirrors.add(mirror());
});

afterEach(() => world.stop());

function mirror() {
  return { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING };
}

async function holds(): Promise<number> {
  const listed = [...(await alpha.zfs.list(dataset('alpha'))), ...(await beta.zfs.list(dataset('beta')))];
  return listed.flatMap(({ snapshots }) => snapshots).reduce((sum, { userrefs }) => sum + userrefs, 0);
}

async function expectMirrored(): Promise<void> {
  expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  expect(beta.zfs.contentsOf('beta/copy/two@s')).toEqual(alpha.zfs.contentsOf('alpha/images/two@s'));
  await expect.poll(holds).toBe(0);
}

/** Calls `act` at the receive of that number. */
function atReceive(number: number, act: () => void | Promise<void>): void {
  let receives = 0;
  onReceive = () => {
    receives += 1;
    return receives === number ? act() : undefined;
  };
}

/** A receive that stays where it is until it is opened, and the moment at which it is reached. */
function stuckReceive() {
  let [reach, open] = [(): void => undefined, (): void => undefined];
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  atReceive(1, () => {
    reach();
    return opened;
  });
  return { reached, open: () => open() };
}

describe('a sync that is cut short while a stream is under way', () => {
  it('by whoever asked for it leaves nothing behind, and the next one completes it', async () => {
    const cancel = new AbortController();
    atReceive(2, () => cancel.abort());
    const { steps } = await syncImages(beta, { signal: cancel.signal });
    expect(steps.map(({ outcome }) => outcome.result)).not.toContain('skipped');
    expect(steps.map(({ outcome }) => outcome.result)).toContain('failed');
    expect(await holds()).toBe(0);
    await syncImages(beta);
    await expectMirrored();
  });

  it('by the loss of the link says so, and the next one completes it', async () => {
    atReceive(2, () => world.network.cut(alpha.node.id, beta.node.id));
    const { steps } = await syncImages(beta);
    const codes = steps.flatMap(({ outcome }) => (outcome.result === 'failed' ? [outcome.error.code] : []));
    expect(codes).toContain('CONNECTION_CLOSED');
    // What was under way may go on, so that its snapshots stay held at the sender until it is asked again
    world.network.mend(alpha.node.id, beta.node.id);
    await syncImages(beta);
    await expectMirrored();
  });

  it('by a pool that is exported clears up when the pool is back, without a restart', async () => {
    await syncImages(beta);
    for (const name of ['one', 'two']) await alpha.zfs.snapshot([at(`alpha/images/${name}`, 't')]);
    atReceive(1, () => beta.zfs.exportPool('beta'));
    const { steps } = await syncImages(beta);
    const codes = steps.flatMap(({ outcome }) => (outcome.result === 'failed' ? [outcome.error.code] : []));
    expect(new Set(codes)).toEqual(new Set(['ZFS_NO_POOL']));
    beta.zfs.importPool('beta');
    await syncImages(beta);
    await expectMirrored();
  });

  it('by the end of the mirror leaves nothing behind, and the mirror added again goes on from what is there', async () => {
    const { reached, open } = stuckReceive();
    const syncing = syncImages(beta);
    await reached;
    const removed = beta.node.mirrors.remove(IMAGES);
    open();
    await Promise.all([removed, syncing]);
    expect(beta.node.mirrors.list()).toEqual([]);
    expect(await holds()).toBe(0);
    await beta.node.mirrors.add(mirror());
    await syncImages(beta);
    await expectMirrored();
    await beta.node.mirrors.remove(IMAGES);
    await beta.node.mirrors.add(mirror());
    expect((await syncImages(beta)).steps).toEqual([]);
  });
});

describe('a sync that waits', () => {
  it('for a running one can be cancelled, and does not keep the node from stopping', async () => {
    const { reached, open } = stuckReceive();
    const first = syncImages(beta).catch(() => undefined);
    await reached;
    const cancel = new AbortController();
    const second = codeOf(syncImages(beta, { signal: cancel.signal }));
    const third = codeOf(syncImages(beta));
    cancel.abort();
    expect(await second).toBe('TRANSFER_CANCELLED');
    const stopping = beta.node.stop();
    expect(await third).toBe('TRANSFER_CANCELLED');
    open();
    await Promise.all([stopping, first]);
  });

  it('for a peer that is connected but does not answer can be cancelled', async () => {
    const answers = stuckLook();
    const cancel = new AbortController();
    const syncing = codeOf(syncImages(beta, { signal: cancel.signal, refresh: true }));
    await answers.reached;
    cancel.abort();
    expect(await syncing).toBe('TRANSFER_CANCELLED');
    answers.open();
  });
});

/** Holds up alpha's look at its ZFS. */
function stuckLook() {
  const list = alpha.zfs.list.bind(alpha.zfs);
  let [reach, open] = [(): void => undefined, (): void => undefined];
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  alpha.zfs.write('alpha/images/one', 'changed', 'y');
  alpha.zfs.list = async (...words) => {
    reach();
    await opened;
    return list(...words);
  };
  alpha.zfs.changeToken = async () => null;
  return { reached, open: () => open() };
}

describe('a replica that was destroyed by hand', () => {
  it('is received anew', async () => {
    await syncImages(beta);
    for (const name of ['/one', '/two', '']) await beta.zfs.destroy(dataset(`beta/copy${name}`));
    await beta.node.verifier.verify(IMAGES);
    expect(beta.node.trees.graph(IMAGES).datasets.size).toBe(0);
    const { steps } = await syncImages(beta);
    expect(steps.map(({ step }) => step.kind)).toEqual(['receive-full', 'receive-full', 'receive-full']);
    await expectMirrored();
  });

  it('is not forgotten while its pool is only away', async () => {
    await syncImages(beta);
    const before = beta.node.trees.graph(IMAGES);
    beta.zfs.exportPool('beta');
    expect(await codeOf(beta.node.verifier.verify(IMAGES))).toBe('ZFS_NO_POOL');
    expect(beta.node.trees.graph(IMAGES)).toBe(before);
    beta.zfs.importPool('beta');
  });
});

describe('a peer that asks this node to look at its ZFS', () => {
  it('hears of trouble in the trees that it may read, and of no others', async () => {
    alpha.zfs.addPool('secret');
    await alpha.zfs.create(dataset('secret/plans'));
    await alpha.node.trees.add({ tree: 'plans' as typeof IMAGES, root: dataset('secret/plans') });
    await alpha.node.grants.give(beta.node.id, { trees: IMAGES, role: 'reader' });
    await alpha.node.grants.revoke(beta.node.id, '*');
    alpha.zfs.exportPool('secret');
    await syncImages(beta, { refresh: true });
    await expectMirrored();
    alpha.zfs.importPool('secret');
    alpha.zfs.exportPool('alpha');
    expect(await codeOf(syncImages(beta, { refresh: true }))).toBe('ZFS_NO_POOL');
    alpha.zfs.importPool('alpha');
  });
});

describe('what was received but could not be verified', () => {
  it('does not count, and is marked before the next sync', async () => {
    let refuse = true;
    const gamma = await world.start('gamma', undefined, { capabilities: { receiveProperties: false } });
    await introduce(alpha, gamma);
    const set = gamma.zfs.setProperties.bind(gamma.zfs);
    gamma.zfs.setProperties = async (...words) => {
      if (refuse) throw new Error('no');
      return set(...words);
    };
    await gamma.node.mirrors.add({ ...mirror(), root: dataset('gamma/copy') });
    const { steps } = await syncImages(gamma);
    expect(new Set(steps.map(({ outcome }) => outcome.result))).toEqual(new Set(['failed']));
    refuse = false;
    await syncImages(gamma);
    expect((await gamma.node.verifier.verify(IMAGES)).ok).toBe(true);
    const [copy] = await gamma.zfs.listOnly([dataset('gamma/copy')]);
    expect(copy?.properties).toMatchObject({ readonly: 'on', canmount: 'noauto' });
  });
});
