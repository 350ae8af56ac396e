/** Nodes that meet only through one in the middle: what one of them claims reaches the other under its own signature. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { hashText } from '../../src/core/codec/chain.ts';
import type { Role } from '../../src/core/grants.ts';
import { type RelativeName, type SnapshotName, streamIdOf } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { withNewKey } from '../../src/sync/identity.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

const WEB = 'web' as RelativeName;

let world: MemoryWorld;
let owner: WorldNode;
let hub: WorldNode;
let standby: WorldNode;

/** The hub mirrors the owner's tree, the standby the hub's. Owner and standby know each other, and have no connection. */
beforeEach(async () => {
  world = new MemoryWorld();
  owner = await world.start('owner');
  hub = await world.start('hub');
  standby = await world.start('standby');
  world.network.cut(owner.node.id, standby.node.id);
  await owner.zfs.create(dataset('owner/images'));
  await owner.zfs.create(dataset('owner/images/web'));
  owner.zfs.write('owner/images/web', 'file', 'text');
  for (const name of ['owner/images', 'owner/images/web']) await owner.zfs.snapshot([at(name, '1')]);
  await owner.node.trees.add({ tree: IMAGES, root: dataset('owner/images') });
  for (const [from, to] of [
    [owner, hub],
    [hub, standby],
  ] as const) {
    await introduce(from, to);
    const root = dataset(`${to.pool}/images`);
    await to.node.mirrors.add({ tree: IMAGES, from: from.node.id, root, ...EVERYTHING });
    await syncImages(to);
  }
  await introduce(owner, standby);
  await grant(owner, standby, 'standby');
  await grant(hub, standby, 'standby');
  // The claim is heard where the one who makes it may be read
  await grant(standby, hub, 'reader');
});

afterEach(() => world.stop());

function grant(who: WorldNode, whom: WorldNode, role: Role): Promise<void> {
  return who.node.grants.give(whom.node.id, { trees: '*', role });
}

function ownerOf({ node }: WorldNode) {
  return node.trees.graph(IMAGES).named(WEB)?.owner;
}

function toldBy(author: WorldNode, { node }: WorldNode) {
  const head = node.history.head(streamIdOf(author.node.id, IMAGES));
  return head === null ? null : { seq: head.seq, hash: hashText(head.hash) };
}

async function takeOver(): Promise<void> {
  await standby.node.ownership.take({ tree: IMAGES, name: WEB, recursive: false, withoutOwner: true });
  await hub.node.hub.sync(standby.node.id);
  await owner.node.hub.sync(hub.node.id);
  await owner.node.hub.sync(hub.node.id);
}

async function yielded(): Promise<void> {
  await expect.poll(() => ownerOf(owner)?.node).toBe(standby.node.id);
}

it('gives up what a standby has taken over, though nobody told it but the hub', async () => {
  await grant(hub, owner, 'contributor');
  expect(ownerOf(standby)).toMatchObject({ node: owner.node.id });
  await takeOver();
  await yielded();
  expect(ownerOf(owner)).toEqual({ node: standby.node.id, epoch: 2 });
  const [there] = await owner.zfs.listOnly([dataset('owner/images/web')]);
  expect(there?.properties).toMatchObject({ readonly: 'on' });
  expect(toldBy(standby, owner)).toEqual(toldBy(standby, standby));
});

it('hears of it after a restart of all three, in whatever order they come back', async () => {
  await grant(hub, owner, 'contributor');
  await owner.node.stop();
  await standby.node.ownership.take({ tree: IMAGES, name: WEB, recursive: false, withoutOwner: true });
  await hub.node.hub.sync(standby.node.id);
  await standby.node.stop();
  await hub.node.stop();
  owner = await world.start('owner', owner);
  hub = await world.start('hub', hub);
  await owner.node.hub.sync(hub.node.id);
  await owner.node.hub.sync(hub.node.id);
  await yielded();
  standby = await world.start('standby', standby);
  expect(ownerOf(standby)).toEqual({ node: standby.node.id, epoch: 2 });
});

it('is not told by a hub where it only reads', async () => {
  await grant(hub, owner, 'reader');
  await takeOver();
  expect(toldBy(standby, hub)).not.toBeNull();
  expect(toldBy(standby, owner)).toBeNull();
  expect(ownerOf(owner)?.node).toBe(owner.node.id);
});

it('does not want to hear of who may take over nothing here', async () => {
  await grant(hub, owner, 'contributor');
  await grant(owner, standby, 'reader');
  await takeOver();
  expect(toldBy(standby, owner)).toBeNull();
  await grant(owner, standby, 'standby');
  await yielded();
});

it('hears it from the standby itself once they meet, and from the hub again when that is over', async () => {
  await grant(hub, owner, 'contributor');
  await takeOver();
  await yielded();
  world.network.mend(owner.node.id, standby.node.id);
  await owner.node.hub.sync(standby.node.id).catch(() => undefined);
  await standby.node.hub.sync(owner.node.id);
  expect(owner.node.hub.session(hub.node.id)?.followed.size).toBe(0);
  world.network.cut(owner.node.id, standby.node.id);
  await expect.poll(() => owner.node.hub.session(hub.node.id)?.followed.size).toBe(1);
  standby.zfs.write('standby/images/web', 'file', 'more');
  const snapshot = '2' as SnapshotName;
  await standby.node.trees.snapshot({ tree: IMAGES, name: WEB, snapshot }, { recursive: false });
  await expect.poll(() => toldBy(standby, owner)?.seq).toBe(toldBy(standby, standby)?.seq);
});

it('believes nothing that was signed with a key which the standby has replaced', async () => {
  await grant(hub, owner, 'contributor');
  const before = standby;
  world.network.cut(hub.node.id, standby.node.id);
  world.network.mend(owner.node.id, standby.node.id);
  await standby.node.stop();
  standby = await world.start('standby', { ...before, identity: withNewKey(before.identity) });
  await standby.node.hub.sync(owner.node.id);
  await standby.node.stop();
  world.network.cut(owner.node.id, standby.node.id);
  world.network.mend(hub.node.id, standby.node.id);
  // Somebody with an old copy of its data directory, whom the hub cannot tell from it
  standby = await world.start('standby', before);
  await takeOver();
  expect(toldBy(standby, hub)).toEqual(toldBy(standby, standby));
  expect(toldBy(standby, owner)).toBeNull();
  expect(ownerOf(owner)?.node).toBe(owner.node.id);
  expect(owner.warnings.join()).toContain('has replaced since');
});
