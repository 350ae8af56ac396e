/** A standby takes over what another node owns: who may, what follows, and what becomes of what only the former owner has. */
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { isPandoError, PandoError } from '../../src/core/errors.ts';
import type { Role } from '../../src/core/grants.ts';
import { ADMIN_TREE, type DatasetName, type RelativeName, type SnapshotName, streamIdOf } from '../../src/core/ids.ts';
import { OWNER_PROPERTY } from '../../src/core/ownership.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { Taken } from '../../src/features/ownership/ownership.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { at, codeOf, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

const ROOT = '' as RelativeName;
const WEB = 'web' as RelativeName;

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.snapshot([at('alpha/images', '1')]);
  await alpha.zfs.create(dataset('alpha/images/web'));
  await write(alpha, 'alpha/images/web', '1');
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await introduce(alpha, beta);
  await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/images'), ...EVERYTHING });
  await syncImages(beta);
});

afterEach(() => world.stop());

async function write({ zfs }: WorldNode, name: string, snapshot: string): Promise<void> {
  zfs.write(name, 'file', `${name}@${snapshot}`.repeat(100));
  await zfs.snapshot([at(name, snapshot)]);
}

function grant(role: Role): Promise<void> {
  return alpha.node.grants.give(beta.node.id, { trees: '*', role });
}

function take(
  who: WorldNode,
  options: { name?: RelativeName; recursive?: boolean; withoutOwner?: boolean } = {},
): Promise<Taken> {
  const { name = WEB, recursive = false, withoutOwner = false } = options;
  return who.node.ownership.take({ tree: IMAGES, name, recursive, withoutOwner });
}

function ownerOf(who: WorldNode, name = WEB) {
  return who.node.trees.graph(IMAGES).named(name)?.owner;
}

async function propertiesOf({ zfs }: WorldNode, name: string) {
  return (await zfs.listOnly([dataset(name)]))[0]?.properties;
}

async function snapshotsOf({ zfs }: WorldNode, name: string): Promise<string[]> {
  return ((await zfs.listOnly([dataset(name)]))[0]?.snapshots ?? []).map((snapshot) => snapshot.name);
}

/** Resolves once a node says that another owns the dataset. */
async function yielded(who: WorldNode, to: WorldNode, name = WEB): Promise<void> {
  if (ownerOf(who, name)?.node === to.node.id) return;
  await new Promise<void>((resolve) => {
    const stop = who.node.history.onChange(() => {
      if (ownerOf(who, name)?.node !== to.node.id) return;
      stop();
      resolve();
    });
  });
}

describe('taking over a replica', () => {
  it('makes it writable here, and a replica of this node at its former owner', async () => {
    await grant('standby');
    const taken = await take(beta);
    expect(taken).toEqual({ datasets: [{ name: 'web', epoch: 2, from: alpha.node.id }], letRead: [alpha.node.id] });
    expect(await propertiesOf(beta, 'beta/images/web')).toMatchObject({ readonly: 'off', setuid: 'on', exec: 'on' });
    await yielded(alpha, beta);
    expect(ownerOf(alpha)).toEqual({ node: beta.node.id, epoch: 2 });
    expect(await propertiesOf(alpha, 'alpha/images/web')).toMatchObject({
      readonly: 'on',
      canmount: 'noauto',
      setuid: 'off',
    });
    expect(ownerOf(alpha, ROOT)?.node).toBe(alpha.node.id);
    await write(beta, 'beta/images/web', '2');
    await syncImages(alpha);
    expect(await snapshotsOf(alpha, 'alpha/images/web')).toEqual(['1', '2']);
  });

  it('goes on with what the former owner brings of everything else', async () => {
    await grant('standby');
    await take(beta);
    await yielded(alpha, beta);
    await write(alpha, 'alpha/images', '2');
    await syncImages(beta);
    expect(await snapshotsOf(beta, 'beta/images')).toEqual(['1', '2']);
    await syncImages(beta);
    expect(ownerOf(beta)).toEqual({ node: beta.node.id, epoch: 2 });
  });

  it('takes all below with it where that is asked for, and nothing twice', async () => {
    await grant('standby');
    expect((await take(beta, { name: ROOT, recursive: true })).datasets.map(({ name }) => name)).toEqual(['', 'web']);
    expect(await take(beta, { name: ROOT, recursive: true })).toEqual({ datasets: [], letRead: [] });
  });

  it('may go back and forth', async () => {
    await grant('standby');
    await take(beta);
    await yielded(alpha, beta);
    await write(beta, 'beta/images/web', '2');
    await syncImages(alpha);
    expect(await codeOf(take(alpha))).toBe('GRANT_MISSING');
    await beta.node.grants.give(alpha.node.id, { trees: 'images', role: 'standby' });
    await take(alpha);
    await yielded(beta, alpha);
    expect(ownerOf(beta)).toEqual({ node: alpha.node.id, epoch: 3 });
    expect(await propertiesOf(alpha, 'alpha/images/web')).toMatchObject({ readonly: 'off' });
    await write(alpha, 'alpha/images/web', '3');
    await syncImages(beta);
    expect(await snapshotsOf(beta, 'beta/images/web')).toEqual(['1', '2', '3']);
  });

  it('leaves what lies below with its owner, who can write there as before', async () => {
    await grant('standby');
    await alpha.zfs.setProperties([dataset('alpha/images')], { exec: 'off' });
    await alpha.node.verifier.verify(IMAGES);
    await syncImages(beta);
    await take(beta, { name: ROOT });
    await expect.poll(() => ownerOf(alpha, ROOT)?.node).toBe(beta.node.id);
    expect(ownerOf(alpha)?.node).toBe(alpha.node.id);
    expect(await propertiesOf(alpha, 'alpha/images')).toMatchObject({ readonly: 'on', setuid: 'off', exec: 'off' });
    expect(await propertiesOf(alpha, 'alpha/images/web')).toMatchObject({ readonly: 'off', setuid: 'on', exec: 'off' });
  });

  it('leaves what lies below writable, and nothing else, whatever has its name by now', async () => {
    await grant('standby');
    await take(beta, { name: WEB });
    await yielded(alpha, beta);
    await alpha.zfs.create(dataset('alpha/images/own'));
    await alpha.node.verifier.verify(IMAGES);
    const [web, own, between] = ['web', 'own', 'between'].map((name) => dataset(`alpha/images/${name}`));
    for (const [from, to] of [
      [web, between],
      [own, web],
      [between, own],
    ] as const)
      await alpha.zfs.rename(from as DatasetName, to as DatasetName);
    await syncImages(beta);
    await take(beta, { name: ROOT });
    await yielded(alpha, beta, ROOT);
    await expect.poll(async () => (await propertiesOf(alpha, 'alpha/images'))?.readonly).toBe('on');
    expect(await propertiesOf(alpha, 'alpha/images/web'), 'its own').toMatchObject({ readonly: 'off' });
    expect(await propertiesOf(alpha, 'alpha/images/own'), 'that of beta').toMatchObject({ readonly: 'on' });
  });

  it('is not held up by an owner that is connected and does not answer', async () => {
    await grant('standby');
    world.network.stall(alpha.node.id, beta.node.id);
    const asked = codeOf(take(beta));
    expect((await take(beta, { withoutOwner: true })).datasets).toHaveLength(1);
    expect(await asked).toBe('TRANSFER_CANCELLED');
    world.network.mend(alpha.node.id, beta.node.id);
  });

  it('is finished by asking again where it was cut short behind the claim', async () => {
    await grant('standby');
    let isFull = true;
    const { zfs } = beta;
    const set = zfs.setProperties.bind(zfs);
    zfs.setProperties = async (...given) => {
      if (isFull) throw new PandoError('ZFS_FAILED', 'no');
      return set(...given);
    };
    expect(await codeOf(take(beta))).toBe('ZFS_FAILED');
    expect(await propertiesOf(beta, 'beta/images/web')).toMatchObject({ readonly: 'on' });
    isFull = false;
    await take(beta);
    expect(ownerOf(beta)).toEqual({ node: beta.node.id, epoch: 2 });
    expect(await propertiesOf(beta, 'beta/images/web')).toMatchObject({ readonly: 'off' });
  });

  describe('of what somebody gives another name meanwhile', () => {
    const [web, app] = [dataset('beta/images/web'), dataset('beta/images/app')];

    beforeEach(async () => {
      await grant('standby');
      await alpha.zfs.create(dataset('alpha/images/app'));
      await write(alpha, 'alpha/images/app', '1');
      await alpha.node.verifier.verify(IMAGES);
      await syncImages(beta);
    });

    async function swap(): Promise<void> {
      const between = dataset('beta/images/between');
      for (const [from, to] of [
        [web, between],
        [app, web],
        [between, app],
      ] as const)
        await beta.zfs.rename(from, to);
    }

    it('is refused, and nothing can be written to', async () => {
      await swap();
      expect(await codeOf(take(beta, { withoutOwner: true }))).toBe('PLAN_CONFLICT');
      for (const name of [web, app]) expect(await propertiesOf(beta, name)).toMatchObject({ readonly: 'on' });
      expect(ownerOf(beta)?.node).toBe(alpha.node.id);
    });

    it('leaves what somebody has only just made there to them', async () => {
      const set = beta.zfs.setProperties.bind(beta.zfs);
      vi.spyOn(beta.zfs, 'setProperties').mockImplementationOnce(async (...given) => {
        await beta.zfs.rename(web, dataset('beta/images/elsewhere'));
        await beta.zfs.create(web);
        return set(...given);
      });
      await take(beta, { withoutOwner: true });
      expect(await propertiesOf(beta, web)).toMatchObject({ readonly: 'off' });
      expect(await propertiesOf(beta, web)).not.toHaveProperty(OWNER_PROPERTY);
    });

    it('leaves no other dataset open, also where it was in the last moment, and is finished by asking again', async () => {
      const set = beta.zfs.setProperties.bind(beta.zfs);
      vi.spyOn(beta.zfs, 'setProperties').mockImplementationOnce(async (...given) => {
        await swap();
        return set(...given);
      });
      await take(beta, { withoutOwner: true });
      expect(await propertiesOf(beta, web)).toMatchObject({ readonly: 'on', setuid: 'off' });
      expect(await propertiesOf(beta, web)).not.toHaveProperty(OWNER_PROPERTY);
      await swap();
      await beta.node.verifier.verify(IMAGES);
      await take(beta);
      expect(await propertiesOf(beta, web)).toMatchObject({ readonly: 'off', [OWNER_PROPERTY]: `${beta.node.id}/2` });
      expect(await propertiesOf(beta, app)).toMatchObject({ readonly: 'on' });
    });
  });

  describe('of a dataset that the owner has no snapshot of', () => {
    const EMPTY = 'empty' as RelativeName;

    beforeEach(async () => {
      await grant('standby');
      await alpha.zfs.create(dataset('alpha/images/empty'));
      await alpha.node.trees.snapshot({ tree: IMAGES, name: WEB, snapshot: '2' as SnapshotName }, { recursive: false });
      await alpha.zfs.create(dataset('alpha/images/empty/below'));
      await write(alpha, 'alpha/images/empty/below', '1');
      await alpha.node.verifier.verify(IMAGES);
      await syncImages(beta);
      expect(await propertiesOf(beta, 'beta/images/empty')).toMatchObject({ canmount: 'off' });
    });

    it('makes it one that can be mounted, written to and mirrored', async () => {
      await take(beta, { name: EMPTY, recursive: true });
      expect(await propertiesOf(beta, 'beta/images/empty')).toMatchObject({ readonly: 'off', canmount: 'noauto' });
      expect(await propertiesOf(beta, 'beta/images/empty')).not.toHaveProperty('pando:placeholder');
      await write(beta, 'beta/images/empty', 'b1');
      await yielded(alpha, beta, EMPTY);
      await syncImages(alpha);
      expect(await snapshotsOf(alpha, 'alpha/images/empty')).toEqual(['b1']);
    });

    it('is finished by asking again where it was cut short', async () => {
      vi.spyOn(beta.zfs, 'setProperties').mockRejectedValueOnce(new PandoError('ZFS_FAILED', 'no'));
      expect(await codeOf(take(beta, { name: EMPTY }))).toBe('ZFS_FAILED');
      await take(beta, { name: EMPTY });
      expect(await propertiesOf(beta, 'beta/images/empty')).toMatchObject({ readonly: 'off', canmount: 'noauto' });
    });

    it('can be yielded to another where it was cut short, and received then', async () => {
      vi.spyOn(beta.zfs, 'inheritProperty').mockRejectedValueOnce(new PandoError('ZFS_FAILED', 'no'));
      expect(await codeOf(take(beta, { name: EMPTY }))).toBe('ZFS_FAILED');
      await beta.node.grants.give(alpha.node.id, { trees: 'images', role: 'standby' });
      await yielded(alpha, beta, EMPTY);
      await take(alpha, { name: EMPTY });
      await yielded(beta, alpha, EMPTY);
      await write(alpha, 'alpha/images/empty', 'a1');
      await syncImages(beta);
      expect(await snapshotsOf(beta, 'beta/images/empty')).toEqual(['a1']);
    });
  });

  it('is nothing that a standby does by sharing the tree as its own', async () => {
    await grant('standby');
    await beta.node.mirrors.remove(IMAGES);
    await beta.node.trees.add({ tree: IMAGES, root: dataset('beta/images') });
    await beta.node.grants.give(alpha.node.id, { trees: '*', role: 'reader' });
    await alpha.node.hub.sync(beta.node.id, { refresh: true });
    await alpha.node.verifier.verify(IMAGES);
    expect(ownerOf(alpha)).toEqual({ node: alpha.node.id, epoch: 1 });
    expect((await propertiesOf(alpha, 'alpha/images/web'))?.readonly).toBeUndefined();
  });

  it('waits for what the owner has and this node has not', async () => {
    await grant('standby');
    await write(alpha, 'alpha/images/web', '2');
    expect(await codeOf(take(beta))).toBe('REPLICA_BEHIND');
    expect(await propertiesOf(beta, 'beta/images/web')).toMatchObject({ readonly: 'on' });
    await syncImages(beta);
    expect((await take(beta)).datasets).toHaveLength(1);
  });

  it.each(['reader', 'contributor'] as const)('is refused to a %s, and told in the log of the owner', async (role) => {
    await grant(role);
    expect(await codeOf(take(beta))).toBe('GRANT_MISSING');
    expect(ownerOf(beta)?.node).toBe(alpha.node.id);
    await alpha.node.stop();
    const again = await world.start('alpha', alpha);
    const told: string[] = [];
    for await (const some of again.node.history.events(streamIdOf(again.node.id, ADMIN_TREE), 1)) {
      for (const event of some) if (event.type === 'access.refused') told.push(`${event.action} ${event.tree}`);
    }
    expect(told).toEqual(['take images']);
  });
});

describe('a standby that took over and lost its log', () => {
  beforeEach(async () => {
    await grant('standby');
    await take(beta);
    await yielded(alpha, beta);
  });

  /** It is started with that log, and shares the tree again, and hears of nobody who would know. */
  async function restarted(log: MemoryLog): Promise<void> {
    await alpha.node.stop();
    await beta.node.stop();
    beta = await world.start('beta', { ...beta, log });
  }

  it('still owns that, in the epoch in which it took it', async () => {
    await restarted(new MemoryLog());
    await beta.node.trees.add({ tree: IMAGES, root: dataset('beta/images') });
    expect(ownerOf(beta)).toEqual({ node: beta.node.id, epoch: 2 });
  });

  it('does not once it has yielded', async () => {
    await yieldBack();
    expect(await propertiesOf(beta, 'beta/images/web')).not.toHaveProperty(OWNER_PROPERTY);
    expect(await propertiesOf(alpha, 'alpha/images/web')).toHaveProperty(OWNER_PROPERTY);
    await restarted(new MemoryLog());
    await beta.node.trees.add({ tree: IMAGES, root: dataset('beta/images') });
    expect(ownerOf(beta)).toEqual({ node: beta.node.id, epoch: 1, isGuess: true });
  });

  it('does not once it has yielded, though its people had made it readonly before', async () => {
    await beta.zfs.setProperties([dataset('beta/images/web')], { readonly: 'on' });
    await beta.node.verifier.verify(IMAGES);
    await yieldBack();
    await expect.poll(() => propertiesOf(beta, 'beta/images/web')).not.toHaveProperty(OWNER_PROPERTY);
  });

  it('makes what it only guesses to be its own its own for good, where people say so', async () => {
    await yieldBack();
    await restarted(new MemoryLog());
    await beta.node.trees.add({ tree: IMAGES, root: dataset('beta/images') });
    expect((await take(beta)).datasets).toEqual([{ name: 'web', epoch: 2, from: beta.node.id }]);
    expect(await propertiesOf(beta, 'beta/images/web')).toMatchObject({ readonly: 'off' });
  });

  async function yieldBack(): Promise<void> {
    await beta.node.grants.give(alpha.node.id, { trees: 'images', role: 'standby' });
    await syncImages(alpha);
    await take(alpha);
    await yielded(beta, alpha);
  }
});

describe('an owner that is gone', () => {
  it('is not asked, and yields when it comes back, with what only it has kept aside', async () => {
    await grant('standby');
    await alpha.node.stop();
    await expect(take(beta)).rejects.toThrow('--without-owner');
    await take(beta, { withoutOwner: true });
    await write(beta, 'beta/images/web', 'b2');
    // Written while nobody heard of the other
    await write(alpha, 'alpha/images/web', 'a2');
    alpha = await world.start('alpha', alpha);
    await yielded(alpha, beta);
    expect(await propertiesOf(alpha, 'alpha/images/web')).toMatchObject({ readonly: 'on' });
    await syncImages(alpha);
    expect(await snapshotsOf(alpha, 'alpha/images/web')).toEqual(['1', 'b2']);
    const [kept] = await alpha.node.diverged.list(IMAGES);
    expect(kept).toMatchObject({ from: 'alpha/images/web', snapshots: ['a2'] });
    expect(await snapshotsOf(beta, 'beta/images/web')).toEqual(['1', 'b2']);
  });

  it('keeps what it owns where it never let that node take it over', async () => {
    await alpha.node.stop();
    await take(beta, { withoutOwner: true });
    await write(alpha, 'alpha/images/web', 'a2');
    alpha = await world.start('alpha', alpha);
    await alpha.node.hub.sync(beta.node.id, { refresh: true });
    await alpha.node.observer.stop();
    expect(ownerOf(alpha)).toEqual({ node: alpha.node.id, epoch: 1 });
    expect((await propertiesOf(alpha, 'alpha/images/web'))?.readonly).toBeUndefined();
  });

  it('yields what it has forgotten and finds again, to whoever claimed that meanwhile', async () => {
    await alpha.node.stop();
    await take(beta, { withoutOwner: true });
    alpha = await world.start('alpha', { ...alpha, log: new MemoryLog() });
    await introduce(alpha, beta);
    await grant('standby');
    await beta.node.grants.give(alpha.node.id, { trees: '*', role: 'reader' });
    await alpha.node.hub.sync(beta.node.id, { refresh: true });
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    await yielded(alpha, beta);
    expect(await propertiesOf(alpha, 'alpha/images/web')).toMatchObject({ readonly: 'on' });
  });

  it('yields once it is granted, to what was claimed before', async () => {
    await alpha.node.stop();
    await take(beta, { withoutOwner: true });
    alpha = await world.start('alpha', alpha);
    await alpha.node.hub.sync(beta.node.id, { refresh: true });
    await grant('standby');
    await yielded(alpha, beta);
    expect(alpha.node.mirrors.list().map(({ from }) => from)).toEqual([beta.node.id]);
  });
});

// biome-ignore lint/correctness/useYield: nothing is what it gives
async function* handsOnNothing(): AsyncGenerator<never> {
  throw new PandoError('LOG_COMPACTED', 'Nothing of this can be handed on.');
}

/** Far more than a look at a tree in memory takes, where nothing holds it up. */
async function turnsOfTheLoop(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await setImmediate();
}

describe('two standbys that take over the same', () => {
  let first: WorldNode;
  let second: WorldNode;

  beforeEach(async () => {
    const gamma = await world.start('gamma');
    await introduce(alpha, gamma);
    await gamma.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('gamma/images'), ...EVERYTHING });
    await syncImages(gamma);
    await introduce(beta, gamma);
    for (const [who, whom] of [
      [alpha, beta],
      [alpha, gamma],
      [beta, gamma],
    ] as const) {
      await who.node.grants.give(whom.node.id, { trees: '*', role: 'standby' });
    }
    await gamma.node.peers.add({ peer: beta.node.id, name: 'beta', address: 'beta:1', trustedLink: false }, [
      { trees: '*', role: 'standby' },
    ]);
    await alpha.node.stop();
    [first, second] = beta.node.id < gamma.node.id ? [beta, gamma] : [gamma, beta];
  });

  it('come to one owner: the later epoch, and in one epoch the smaller id', async () => {
    await Promise.all([take(first, { withoutOwner: true }), take(second, { withoutOwner: true })]);
    await yielded(second, first);
    expect(ownerOf(first)).toEqual({ node: first.node.id, epoch: ownerOf(second)?.epoch });
    alpha = await world.start('alpha', alpha);
    await yielded(alpha, first);
  });

  it('ask whoever took it over while they waited', async () => {
    alpha = await world.start('alpha', alpha);
    for (const { node } of [first, second]) await alpha.node.hub.sync(node.id, { refresh: true });
    vi.spyOn(second.node.observer, 'unobserved').mockImplementationOnce(async (_tree, task) => {
      await take(first, { withoutOwner: true });
      await second.node.hub.sync(first.node.id, { refresh: true });
      await first.node.hub.sync(second.node.id, { refresh: true });
      return task();
    });
    // It mirrors nothing from that one, and so cannot ask
    expect(await codeOf(take(second))).toBe('MIRROR_UNKNOWN');
    expect(ownerOf(second)).toEqual({ node: first.node.id, epoch: 2 });
    expect(await propertiesOf(second, `${second.pool}/images/web`)).toMatchObject({ readonly: 'on' });
  });

  it('come to the other where the one that goes before has destroyed it, and was never heard there', async () => {
    world.network.stall(first.node.id, second.node.id);
    await take(first, { withoutOwner: true });
    await take(second, { withoutOwner: true });
    alpha = await world.start('alpha', alpha);
    // Nor through the one between them: an earlier build hands on nothing
    vi.spyOn(alpha.node.history, 'relayed').mockImplementation(handsOnNothing);
    for (const { node } of [first, second]) await alpha.node.hub.sync(node.id, { refresh: true });
    // Which of the two it heard first does not matter, once it has looked again
    await expect.poll(() => ownerOf(alpha)?.node).not.toBe(alpha.node.id);
    await first.node.hub.sync(alpha.node.id, { refresh: true });
    expect(ownerOf(alpha)).toEqual({ node: first.node.id, epoch: 2 });
    expect(ownerOf(second)).toEqual({ node: second.node.id, epoch: 2 });
    await first.node.trees.destroy({ tree: IMAGES, name: WEB });
    for (const { node } of [first, second]) await alpha.node.hub.sync(node.id, { refresh: true });
    await first.node.hub.sync(alpha.node.id, { refresh: true });
    world.network.mend(first.node.id, second.node.id);
    expect(ownerOf(alpha)).toEqual({ node: second.node.id, epoch: 2 });
    expect(await snapshotsOf(alpha, 'alpha/images/web')).toEqual(['1']);
  });

  it('leave nothing that can be written to at the one that yields, though it hears of the other in the middle of it', async () => {
    const set = second.zfs.setProperties.bind(second.zfs);
    const looks: Promise<unknown>[] = [];
    vi.spyOn(second.zfs, 'setProperties').mockImplementationOnce(async (...given) => {
      await take(first, { withoutOwner: true });
      await second.node.hub.sync(first.node.id, { refresh: true });
      // It looks at its ZFS for a peer that asks
      const look = first.node.hub.sync(second.node.id, { refresh: true });
      looks.push(look);
      await Promise.race([look, turnsOfTheLoop(100)]);
      return set(...given);
    });
    await take(second, { withoutOwner: true });
    await Promise.all(looks);
    await yielded(second, first);
    const root = `${second.pool}/images/web`;
    await expect.poll(async () => (await propertiesOf(second, root))?.readonly).toBe('on');
    expect(await propertiesOf(second, root)).not.toHaveProperty(OWNER_PROPERTY);
  });
});

/** More than it takes three nodes to hear of everything. */
const ROUNDS_MAX = 10;

type Act =
  | { readonly kind: 'take'; readonly who: number; readonly withoutOwner: boolean }
  | { readonly kind: 'write' | 'sync' | 'restart'; readonly who: number };

const act: fc.Arbitrary<Act> = fc.oneof(
  fc.record({ kind: fc.constant('take' as const), who: fc.nat(2), withoutOwner: fc.boolean() }),
  fc.record({ kind: fc.constantFrom('write' as const, 'sync' as const, 'restart' as const), who: fc.nat(2) }),
);

/** Three nodes, each of which may take over from each other, and follows both. */
async function standbys(own: MemoryWorld): Promise<WorldNode[]> {
  const nodes = [await own.start('one'), await own.start('two'), await own.start('three')];
  const [first] = nodes as [WorldNode];
  await first.zfs.create(dataset('one/images'));
  await first.zfs.snapshot([at('one/images', '1')]);
  await first.zfs.create(dataset('one/images/web'));
  await write(first, 'one/images/web', '1');
  await first.node.trees.add({ tree: IMAGES, root: dataset('one/images') });
  for (const who of nodes) {
    for (const whom of nodes.filter((other) => other !== who)) {
      await who.node.peers.add({ peer: whom.node.id, name: whom.pool, address: `${whom.pool}:1`, trustedLink: false }, [
        { trees: '*', role: 'standby' },
      ]);
    }
  }
  for (const who of nodes) {
    for (const { node } of nodes.filter((other) => other !== who)) {
      await who.node.mirrors.add({ tree: IMAGES, from: node.id, root: dataset(`${who.pool}/images`), ...EVERYTHING });
    }
  }
  return nodes;
}

/** Ends when a node is away, as people do who try again later. */
async function patiently(work: () => Promise<unknown>): Promise<void> {
  await work().catch((error: unknown) => {
    if (!isPandoError(error, 'REPLICA_BEHIND') && !isPandoError(error, 'CONNECTION_CLOSED')) throw error;
  });
}

/** Resolves with how much there was to do. */
async function syncAll({ node }: WorldNode): Promise<number> {
  const quiet = { signal: new AbortController().signal, onPlan: () => undefined, onProgress: () => undefined };
  let steps = 0;
  for (const { from } of node.mirrors.list()) {
    await node.hub.reach(from);
    const report = await node.mirrors.sync(IMAGES, { ...quiet, refresh: true }, from);
    steps += report.steps.length;
  }
  return steps;
}

/** Does these to the three, and syncs them until there is nothing left to do. Resolves with what was written. */
async function live(own: MemoryWorld, nodes: WorldNode[], acts: readonly Act[]): Promise<string[]> {
  const written: string[] = [];
  const doing: Readonly<Record<Act['kind'], (who: WorldNode, act: Act) => Promise<unknown>>> = {
    take: (who, one) => take(who, { withoutOwner: one.kind === 'take' && one.withoutOwner }),
    sync: syncAll,
    restart: async (who) => {
      await who.node.stop();
      nodes[nodes.indexOf(who)] = await own.start(who.pool, who);
    },
    write: async (who) => {
      const web = `${who.pool}/images/web`;
      if ((await propertiesOf(who, web))?.readonly === 'on') return;
      written.push(`w${written.length}`);
      await write(who, web, `w${written.length - 1}`);
    },
  };
  for (const one of acts) await patiently(() => doing[one.kind](nodes[one.who] as WorldNode, one));
  await comeToRest(nodes);
  return written;
}

async function comeToRest(nodes: readonly WorldNode[]): Promise<void> {
  let rounds = 0;
  for (let steps = 1; steps > 0; rounds += 1) {
    if (rounds > ROUNDS_MAX) throw new Error('They do not come to rest.');
    steps = 0;
    for (const who of nodes) {
      await patiently(async () => {
        steps += await syncAll(who);
      });
    }
  }
}

async function everythingIn({ zfs, pool }: WorldNode): Promise<string[]> {
  return (await zfs.list(dataset(`${pool}/images`))).flatMap(({ snapshots }) => snapshots.map(({ name }) => name));
}

describe('nodes that take over from each other at random', () => {
  it('agree on one owner in the end, and have what that has; nothing that was written is gone', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { minLength: 1, maxLength: 14 }), async (acts) => {
        const own = new MemoryWorld();
        const nodes = await standbys(own);
        for (const who of nodes) await syncAll(who);
        const written = await live(own, nodes, acts);
        const owners = nodes.map((who) => ownerOf(who));
        expect(owners).toEqual([owners[0], owners[0], owners[0]]);
        const owner = nodes.find(({ node }) => node.id === owners[0]?.node) as WorldNode;
        // What only a replica has is in nobody's way before something new comes
        await write(owner, `${owner.pool}/images/web`, 'last');
        await comeToRest(nodes);
        const has = await Promise.all(nodes.map((who) => snapshotsOf(who, `${who.pool}/images/web`)));
        expect(has).toEqual([has[0], has[0], has[0]]);
        const names = new Set((await Promise.all(nodes.map(everythingIn))).flat());
        expect(written.filter((name) => !names.has(name))).toEqual([]);
        await own.stop();
      }),
      { numRuns: 40 },
    );
  });
});
