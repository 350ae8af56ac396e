/** What a node does that lost its log, or some of it, and kept its key and its pools. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import {
  type HoldTag,
  holdTagOf,
  ID_PROPERTY,
  type NodeId,
  parseTransferId,
  type RelativeName,
  ROOT_STAND_IN,
  type SnapshotName,
  uuidFrom,
} from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { successorOf } from '../../src/transfer/preservation.ts';
import { outsideOf } from '../../src/transfer/root-exchange.ts';
import { DurableLog } from '../sim/durable-log.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, surviving, syncImages, type WorldNode } from './memory-world.ts';

const BASE = 'base' as RelativeName;
const WEB = 'web' as RelativeName;

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/base'));
  await alpha.zfs.snapshot([at('alpha/images', 'r'), at('alpha/images/base', '1')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await introduce(alpha, beta);
  await mirror(beta, alpha.node.id);
  await syncImages(beta);
});

afterEach(() => world.stop());

function mirror({ node, pool }: WorldNode, from: NodeId): Promise<void> {
  return node.mirrors.add({ tree: IMAGES, from, root: dataset(`${pool}/copy`), ...EVERYTHING });
}

/** The node starts with nothing in its log, and its operator adds peer and mirror again. */
async function forget(one: WorldNode, peer: WorldNode): Promise<WorldNode> {
  await one.node.stop();
  const again = await world.start(one.pool, { ...one, log: new MemoryLog() });
  await introduce(peer, again);
  await mirror(again, peer.node.id);
  return again;
}

/** Beta owns a clone in alpha's tree, and alpha mirrors it back, as that tells. */
async function contribute() {
  for (const [who, whom] of [
    [alpha, beta],
    [beta, alpha],
  ] as const) {
    await who.node.grants.give(whom.node.id, { trees: '*', role: 'contributor' });
  }
  await beta.node.trees.clone({ tree: IMAGES, name: BASE, snapshot: '1' as SnapshotName }, WEB);
  await beta.zfs.snapshot([at('beta/copy/web', 'w1')]);
  const contributions = { tree: IMAGES, from: beta.node.id, root: dataset('alpha/images'), ...EVERYTHING };
  await alpha.node.mirrors.add(contributions);
  await syncImages(alpha, { from: beta });
  return contributions;
}

function ownersIn({ node }: WorldNode): Record<string, NodeId> {
  const { datasets } = node.trees.graph(IMAGES);
  return Object.fromEntries(Array.from(datasets.values(), ({ name, owner }) => [name || 'root', owner.node]));
}

describe('a node that lost its log', () => {
  it('does not take a replica for its own that its owner has given up meanwhile', async () => {
    await alpha.zfs.destroy(dataset('alpha/images/base'));
    await syncImages(beta);
    beta = await forget(beta, alpha);
    await syncImages(beta);
    await beta.node.stop();
    beta = await world.start('beta', { ...beta, log: new MemoryLog() });
    await introduce(alpha, beta);
    await beta.node.hub.sync(alpha.node.id, { refresh: true });
    await mirror(beta, alpha.node.id);
    expect(ownersIn(beta)).toEqual({ root: alpha.node.id, base: alpha.node.id });
  });

  it('takes its peer for the owner only until that one says who is', async () => {
    let gamma = await world.start('gamma');
    await introduce(beta, gamma);
    await mirror(gamma, beta.node.id);
    await syncImages(gamma);
    gamma = await forget(gamma, beta);
    await syncImages(gamma);
    await gamma.node.verifier.verify(IMAGES);
    expect(ownersIn(gamma)).toEqual({ root: alpha.node.id, base: alpha.node.id });
  });

  it('does not take for its own what others brought into the tree that it shares', async () => {
    const contributions = await contribute();
    const owners = { root: alpha.node.id, base: alpha.node.id, web: beta.node.id };
    expect(ownersIn(alpha)).toEqual(owners);
    // It has what beta owns as well, and is told that this is alpha's, before beta has a say
    const gamma = await world.start('gamma');
    await introduce(alpha, gamma);
    await mirror(gamma, alpha.node.id);
    await syncImages(gamma);
    await alpha.node.stop();
    alpha = await world.start('alpha', { ...alpha, log: new MemoryLog() });
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    for (const [peer, replica] of [
      [gamma, 'gamma'],
      [beta, 'beta'],
    ] as const) {
      await introduce(alpha, peer);
      await alpha.node.grants.give(peer.node.id, { trees: '*', role: 'contributor' });
      await peer.node.grants.give(alpha.node.id, { trees: '*', role: 'contributor' });
      await alpha.node.hub.reach(peer.node.id);
      await syncImages(peer, { from: alpha });
      expect(ownersIn(alpha), `before ${replica} was heard`).toMatchObject({ web: alpha.node.id });
      await alpha.node.mirrors.add({ ...contributions, from: peer.node.id });
      await syncImages(alpha, { from: peer });
      await alpha.node.verifier.verify(IMAGES);
    }
    expect(ownersIn(alpha)).toEqual(owners);
    await beta.zfs.snapshot([at('beta/copy/web', 'w2')]);
    const { steps } = await syncImages(alpha, { from: beta });
    expect(steps.map(({ step }) => `${step.kind} ${step.name}`)).toEqual(['receive-incremental web']);
  });

  it('still knows that it only guessed, once it was restarted before anybody had a say', async () => {
    const contributions = await contribute();
    await alpha.node.stop();
    await beta.node.stop();
    alpha = await world.start('alpha', { ...alpha, log: surviving(new MemoryLog()) });
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    expect(ownersIn(alpha)).toMatchObject({ web: alpha.node.id });
    await alpha.node.stop();
    alpha = await world.start('alpha', alpha);
    beta = await world.start('beta', beta);
    await introduce(alpha, beta);
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    await alpha.node.mirrors.add(contributions);
    await syncImages(alpha);
    await alpha.node.verifier.verify(IMAGES);
    expect(ownersIn(alpha)).toEqual({ root: alpha.node.id, base: alpha.node.id, web: beta.node.id });
  });

  it('that goes back to before anything was brought only guesses that it owns that, and learns better from a standby that knows', async () => {
    const log = new DurableLog();
    await alpha.node.stop();
    alpha = await world.start('alpha', { ...alpha, log: surviving(log) });
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    const before = log.writes;
    await introduce(alpha, beta);
    await introduce(beta, alpha);
    const contributions = await contribute();
    const gamma = await world.start('gamma');
    await introduce(alpha, gamma);
    await mirror(gamma, alpha.node.id);
    await syncImages(gamma);
    await alpha.node.stop();
    await log.goBackTo(before);
    alpha = await world.start('alpha', alpha);
    await alpha.node.verifier.verify(IMAGES).catch(() => undefined);
    const web = () => alpha.node.trees.graph(IMAGES).named(WEB)?.owner;
    expect(web()).toEqual({ node: alpha.node.id, epoch: 1, isGuess: true });
    // The owner itself is not there any more
    await introduce(alpha, gamma);
    await alpha.node.grants.give(gamma.node.id, { trees: '*', role: 'contributor' });
    await gamma.node.grants.give(alpha.node.id, { trees: '*', role: 'reader' });
    await alpha.node.mirrors.add({ ...contributions, from: gamma.node.id });
    await syncImages(alpha, { from: gamma });
    await alpha.node.verifier.verify(IMAGES);
    expect(web(), 'a contributor is not asked about others').toMatchObject({ node: alpha.node.id });
    await alpha.node.grants.give(gamma.node.id, { trees: '*', role: 'standby' });
    await alpha.node.verifier.verify(IMAGES);
    expect(web()).toEqual({ node: beta.node.id, epoch: 1 });
  });

  it('takes a peer for the owner only until that one tells that it has no such dataset', async () => {
    await beta.node.trees.clone({ tree: IMAGES, name: BASE, snapshot: '1' as SnapshotName }, WEB);
    await beta.zfs.snapshot([at('beta/copy/web', 'w1')]);
    const gamma = await world.start('gamma');
    for (const peer of [alpha, beta]) {
      await introduce(peer, gamma);
      await mirror(gamma, peer.node.id);
      await syncImages(gamma, { from: peer });
    }
    expect(ownersIn(gamma)).toMatchObject({ web: beta.node.id });
    await gamma.node.stop();
    const again = await world.start('gamma', { ...gamma, log: new MemoryLog() });
    await introduce(alpha, again);
    await mirror(again, alpha.node.id);
    expect(ownersIn(again), 'nothing was heard yet').toMatchObject({ web: alpha.node.id });
    await introduce(beta, again);
    await mirror(again, beta.node.id);
    for (const from of [alpha, beta]) await syncImages(again, { from });
    await again.node.verifier.verify(IMAGES);
    expect(ownersIn(again)).toMatchObject({ base: alpha.node.id, web: beta.node.id });
  });

  it('gives up a guess about a peer that guesses otherwise itself', async () => {
    const gamma = await world.start('gamma');
    for (const peer of [alpha, beta]) {
      await introduce(peer, gamma);
      await mirror(gamma, peer.node.id);
      await syncImages(gamma, { from: peer });
    }
    const id = gamma.node.trees.graph(IMAGES).named(BASE)?.id ?? expect.fail();
    // Of two that are as good the one with the smaller id is
    const [denying = expect.fail(), other = expect.fail()] = [alpha.node.id, beta.node.id].sort();
    const guess = async ({ node }: WorldNode, owner: NodeId) => {
      const claimed = {
        type: 'ownership.claimed',
        dataset: id,
        owner: { node: owner, epoch: 1, isGuess: true },
      } as const;
      await node.history.record(IMAGES, 'observed', [claimed]);
    };
    for (const peer of [alpha, beta]) await guess(peer, other);
    await guess(gamma, denying);
    for (const { node } of [alpha, beta]) await gamma.node.hub.sync(node.id, { refresh: false });
    await gamma.node.verifier.verify(IMAGES);
    expect(ownersIn(gamma)).toMatchObject({ base: other });
  });

  it('finds the root of its mirror that was changing places, and brings nothing again', async () => {
    await beta.node.stop();
    await beta.zfs.rename(dataset('beta/copy'), outsideOf(dataset('beta/copy')));
    const again = await world.start('beta', { ...beta, log: new MemoryLog() });
    await introduce(alpha, again);
    await mirror(again, alpha.node.id);
    expect(await syncImages(again)).toMatchObject({ steps: [], bytes: 0 });
    expect((await again.node.verifier.verify(IMAGES)).ok).toBe(true);
  });

  it('keeps aside what diverged, and brings nothing again, where it was in the middle of that', async () => {
    const [root, base] = [dataset('beta/copy'), dataset('beta/copy/base')];
    await beta.zfs.setProperties([base], { readonly: 'off' });
    beta.zfs.write(base, 'file', 'mine');
    await beta.zfs.snapshot([at(base, 'mine')]);
    await beta.zfs.setProperties([base], { readonly: 'on' });
    const successor = successorOf(root, parseTransferId(uuidFrom(1, new Uint8Array(16))));
    for (const hidden of ['.pando', '.pando/diverged']) await beta.zfs.create(dataset(`${root}/${hidden}`));
    const { [ID_PROPERTY]: id = expect.fail(), readonly = '' } = (await beta.zfs.listOnly([base]))[0]?.properties ?? {};
    await beta.zfs.clone(at(base, '1'), successor, { [ID_PROPERTY]: id, readonly });
    await beta.zfs.promote(successor);
    await alpha.zfs.snapshot([at('alpha/images/base', '2')]);
    beta = await forget(beta, alpha);
    const { steps } = await syncImages(beta);
    expect(steps.map(({ step, outcome }) => `${step.kind} ${outcome.result}`)).toEqual([
      'preserve done',
      'receive-incremental done',
    ]);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
    const [kept, ...others] = await beta.node.diverged.list(IMAGES);
    expect(others).toEqual([]);
    expect(beta.zfs.read(`${root}/.pando/diverged/${kept?.copy}`, 'file')).toBe('mine');
    expect(await beta.zfs.listOnly([successor])).toEqual([]);
  });

  it('looks at the rest where a root that was changing places cannot be brought home whole, says why not, and tries again', async () => {
    await beta.node.stop();
    const [root, outside] = [dataset('beta/copy'), outsideOf(dataset('beta/copy'))];
    await beta.zfs.rename(root, outside);
    await beta.zfs.create(root, { [ID_PROPERTY]: ROOT_STAND_IN });
    const rename = beta.zfs.rename.bind(beta.zfs);
    const refusing = vi.spyOn(beta.zfs, 'rename').mockImplementation(async (from, to) => {
      if (from === `${outside}/base`) throw new PandoError('ZFS_BUSY', `Cannot rename "${from}": somebody is in it.`);
      await rename(from, to);
    });
    const again = await world.start('beta', { ...beta, log: new MemoryLog() });
    await introduce(alpha, again);
    await mirror(again, alpha.node.id);
    expect((await syncImages(again)).steps).not.toEqual([]);
    expect(again.warnings, 'once, however often it looks').toEqual([expect.stringContaining('somebody is in it')]);
    refusing.mockRestore();
    await again.node.verifier.verify(IMAGES);
    await syncImages(again);
    expect((await again.node.verifier.verify(IMAGES)).ok).toBe(true);
    expect(await again.zfs.listOnly([outside])).toEqual([]);
  });

  it("releases the holds of its own that nobody knows of any more, and nobody else's", async () => {
    const lost = parseTransferId(uuidFrom(1, new Uint8Array(16)));
    const snapshot = at('beta/copy/base', '1');
    const others: HoldTag[] = [holdTagOf(alpha.node.id, lost), 'mine' as HoldTag];
    for (const tag of [...others, holdTagOf(beta.node.id, lost)]) await beta.zfs.hold(tag, [snapshot]);
    await beta.node.stop();
    beta = await world.start('beta', beta);
    expect(await beta.zfs.holds([snapshot])).toEqual([others]);
  });
});

describe('a replica that somebody renamed', () => {
  it('gets its name back by itself, though nothing changed at its owner', async () => {
    await beta.node.stop();
    beta = await world.start('beta', beta, {}, { follow: true });
    await beta.zfs.rename(dataset('beta/copy/base'), dataset('beta/copy/elsewhere'));
    const look = () => beta.zfs.listOnly([dataset('beta/copy/base')]);
    await beta.node.verifier.verify(IMAGES);
    await expect.poll(look).toHaveLength(1);
  });
});
