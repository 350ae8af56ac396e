/** Who gets in, how far, and until when: grants, invitations and what the log tells of both. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { keysOf } from '../../src/core/codec/key-proof.ts';
import type { Event } from '../../src/core/events.ts';
import { ROLES, type Role } from '../../src/core/grants.ts';
import { ADMIN_TREE, type RelativeName, type SnapshotName, streamIdOf, type TreeName } from '../../src/core/ids.ts';
import { formatInvitation, parseInvitation } from '../../src/core/invitation.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { TreeChange } from '../../src/features/trees/tree-changes.ts';
import { systemSurroundings } from '../../src/main/surroundings.ts';
import { withNewKey } from '../../src/sync/identity.ts';
import { PREPARE } from '../../src/transfer/protocol.ts';
import {
  addressOf,
  at,
  codeOf,
  dataset,
  gate,
  IMAGES,
  introduce,
  MemoryWorld,
  syncImages,
  type WorldNode,
} from './memory-world.ts';

const DAY_MS = 86_400_000;

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
/** What the nodes take for the time, in Unix ms. */
let now: number;

beforeEach(async () => {
  now = Date.UTC(2026, 0, 1);
  world = new MemoryWorld({ ...systemSurroundings, now: () => now });
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.snapshot([at('alpha/images', '1')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
});

afterEach(() => world.stop());

async function auditOf({ node }: WorldNode): Promise<Event[]> {
  const events: Event[] = [];
  for await (const some of node.history.events(node.history.ownStream(ADMIN_TREE), 1)) events.push(...some);
  return events;
}

async function typesOf(who: WorldNode): Promise<string[]> {
  return (await auditOf(who)).map(({ type }) => type);
}

async function refusalsOf(who: WorldNode): Promise<string[]> {
  await who.node.stop();
  const events = await auditOf(await world.start(who.pool, who));
  return events.flatMap((event) =>
    event.type === 'access.refused' ? [`${event.action} ${event.tree ?? '-'} ${event.times}`] : [],
  );
}

/** Resolves once one node has dialled another, and one of the two would not have that. */
async function turnedAway(who: WorldNode, from: WorldNode): Promise<void> {
  const trying = () => who.node.hub.status().find(({ node }) => node === from.node.id);
  await expect.poll(() => trying()?.lastError?.code).toMatch(/^PEER_(REFUSED|UNKNOWN)$/);
  expect(trying()?.state).not.toBe('connected');
}

function invite(role: Role = 'reader', given: { lifetimeMs?: number; name?: string } = {}): Promise<string> {
  const { lifetimeMs = DAY_MS, name = null } = given;
  return alpha.node.invitations.make({ trees: IMAGES, role, address: addressOf('alpha'), lifetimeMs, name });
}

const ANYTHING = { trees: '*', address: addressOf('alpha'), lifetimeMs: DAY_MS, name: null };

function join({ node, pool }: WorldNode, line: string, shares: readonly string[] = []) {
  return node.invitations.join(line, { as: 'alpha', name: pool, address: addressOf(pool), shares });
}

async function follow(): Promise<void> {
  await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/images'), ...EVERYTHING });
}

async function has({ zfs }: WorldNode, name: string, snapshot: string): Promise<boolean> {
  const [found] = await zfs.listSnapshots([at(name, snapshot)]);
  return found != null;
}

/** Resolves when the session that this node has with another ends. */
function sessionEnded({ node }: WorldNode): Promise<void> {
  return new Promise((resolve) => {
    const stop = node.hub.onDisconnected(() => {
      stop();
      resolve();
    });
  });
}

describe('an invitation', () => {
  it('makes two nodes peers for good, with what it was made for', async () => {
    const joined = await join(beta, await invite());
    expect(joined).toMatchObject({
      peer: { name: 'alpha', address: addressOf('alpha') },
      trees: 'images',
      role: 'reader',
    });
    await follow();
    await syncImages(beta);
    expect(await has(beta, 'beta/images', '1')).toBe(true);
    expect(alpha.node.peers.list()).toMatchObject([{ peer: beta.node.id, name: 'beta', address: addressOf('beta') }]);
    expect(alpha.node.grants.list()).toEqual([{ peer: beta.node.id, trees: 'images', role: 'reader' }]);
    expect(alpha.node.invitations.list()).toEqual([]);
  });

  it('is good for one node only, though that may come again', async () => {
    const line = await invite();
    await join(beta, line);
    await join(beta, line);
    const gamma = await world.start('gamma');
    expect(await codeOf(join(gamma, line))).toBe('INVITATION_INVALID');
    expect(alpha.node.peers.list()).toHaveLength(1);
    expect(gamma.node.peers.list()).toEqual([]);
    expect((await typesOf(alpha)).filter((type) => type === 'invitation.used')).toHaveLength(1);
  });

  it('is good until it expires, by the clock of the node that made it', async () => {
    const line = await invite('reader', { lifetimeMs: 1_000 });
    now += 1_001;
    expect(await codeOf(join(beta, line))).toBe('INVITATION_INVALID');
    // As if the line said otherwise, and the check were made to fit
    const later = formatInvitation({ ...parseInvitation(line), expiresAt: now + DAY_MS });
    expect(await codeOf(join(beta, later))).toBe('INVITATION_INVALID');
    expect(alpha.node.peers.list()).toEqual([]);
    expect(alpha.node.invitations.list()).toEqual([]);
  });

  it('is useless once it is withdrawn', async () => {
    const line = await invite();
    const [open] = alpha.node.invitations.list();
    await alpha.node.invitations.withdraw(open?.invitation ?? expect.fail());
    expect(await codeOf(join(beta, line))).toBe('INVITATION_INVALID');
    expect(await codeOf(alpha.node.invitations.withdraw(open?.invitation ?? expect.fail()))).toBe('INVITATION_UNKNOWN');
  });

  it('gives its secret to nobody but the node that made it, and keeps it nowhere', async () => {
    const line = parseInvitation(await invite());
    const gamma = await world.start('gamma');
    const led = formatInvitation({ ...line, address: addressOf('gamma') });
    expect(await codeOf(join(beta, led))).toBe('PEER_UNKNOWN');
    expect(await codeOf(join(alpha, formatInvitation(line)))).toBe('INVITATION_INVALID');
    expect(JSON.stringify(await auditOf(alpha))).not.toContain(Buffer.from(line.secret).toString('hex'));
    expect(gamma.node.peers.list()).toEqual([]);
  });

  it('is refused with a secret that nobody gave out, which the log tells', async () => {
    const line = parseInvitation(await invite());
    const guessed = formatInvitation({ ...line, secret: line.secret.map((byte) => byte ^ 1) });
    for (let time = 0; time < 3; time += 1) expect(await codeOf(join(beta, guessed))).toBe('INVITATION_INVALID');
    expect(await refusalsOf(alpha)).toEqual(['join - 1', 'join - 2']);
  });

  it('names the peer as it was told to, and tells two of one name apart', async () => {
    await join(beta, await invite('reader', { name: 'backup' }));
    const gamma = await world.start('gamma');
    await join(gamma, await invite('reader', { name: 'backup' }));
    expect(alpha.node.peers.list().map(({ name }) => name)).toEqual(['backup', 'backup-2']);
  });

  it('survives a restart of the node that made it', async () => {
    const line = await invite();
    await alpha.node.stop();
    alpha = await world.start('alpha', alpha);
    await join(beta, line);
    expect(alpha.node.peers.list()).toHaveLength(1);
  });

  it('gives the node that made it nothing that the people at the other one have not said', async () => {
    await join(beta, await alpha.node.invitations.make({ ...ANYTHING, role: 'contributor' }));
    expect(beta.node.grants.list()).toEqual([]);
    await join(beta, await invite('contributor'), ['images']);
    expect(beta.node.grants.list()).toEqual([{ peer: alpha.node.id, trees: 'images', role: 'reader' }]);
    expect(await codeOf(join(beta, await invite(), ['*a*a*a*b']))).toBe('ARGUMENT_INVALID');
  });

  it('lowers no role that a peer has already', async () => {
    await join(beta, await invite('operator'));
    await join(beta, await invite('reader'));
    expect(alpha.node.grants.list()).toMatchObject([{ role: 'operator' }]);
    await beta.node.grants.give(alpha.node.id, { trees: IMAGES, role: 'operator' });
    await join(beta, await invite('contributor'), ['images']);
    expect([...alpha.node.grants.list(), ...beta.node.grants.list()].map(({ role }) => role)).toEqual([
      'operator',
      'operator',
    ]);
  });

  it('is of no use to a node that was sent away since', async () => {
    const line = await invite();
    await join(beta, line);
    await alpha.node.peers.remove(beta.node.id);
    expect(await codeOf(join(beta, line))).toBe('INVITATION_INVALID');
  });

  it('is refused to people who ask for what cannot be', async () => {
    const { invitations } = alpha.node;
    const request = { trees: 'images', role: 'reader', address: 'a:1', lifetimeMs: 1, name: null } as const;
    for (const wrong of [
      { trees: '../x' },
      { address: 'nowhere' },
      { lifetimeMs: 0 },
      { lifetimeMs: 31 * DAY_MS },
      { name: '-' },
    ]) {
      expect(await codeOf(invitations.make({ ...request, ...wrong }))).toBe('ARGUMENT_INVALID');
    }
  });
});

describe('a peer without a grant for a tree', () => {
  it('learns nothing of it, and what it asks for all the same is told in the log', async () => {
    await introduce(alpha, beta);
    await alpha.node.grants.give(beta.node.id, { trees: 'homes', role: 'operator' });
    await alpha.node.grants.revoke(beta.node.id, '*');
    await beta.node.hub.sync(alpha.node.id);
    expect(beta.node.history.streams().filter(({ stream }) => stream === streamIdOf(alpha.node.id, IMAGES))).toEqual(
      [],
    );
    const snapshot = { dataset: '0197f2a0-0000-7000-8000-000000000001', guid: '1' };
    const asked = beta.node.hub.session(alpha.node.id)?.call(PREPARE, {
      transfer: '0197f2a0-0000-7000-8000-000000000002',
      tree: IMAGES,
      streams: [{ snapshot, base: null, flags: null, resume: null }],
      mode: 'sealed',
      takes: '',
      resumable: false,
    });
    await expect(asked).rejects.toMatchObject({ code: 'TREE_UNKNOWN' });
    expect(await refusalsOf(alpha)).toEqual(['read images 1']);
  });
});

describe('a grant that is taken back', () => {
  beforeEach(async () => {
    await introduce(alpha, beta);
    await follow();
    await syncImages(beta);
  });

  it('ends the session within a second, and what comes after is not told to the peer', async () => {
    const ended = sessionEnded(beta);
    const since = performance.now();
    await alpha.node.grants.revoke(beta.node.id, '*');
    await ended;
    expect(performance.now() - since).toBeLessThan(1_000);
    await alpha.zfs.snapshot([at('alpha/images', '2')]);
    await alpha.node.verifier.verify(IMAGES);
    expect(await codeOf(syncImages(beta))).toBe('TREE_UNKNOWN');
    expect(await codeOf(beta.node.verifier.verify(IMAGES))).toBe('TREE_UNKNOWN');
    const told = beta.node.history.graph(streamIdOf(alpha.node.id, IMAGES));
    expect(told.named('' as RelativeName)?.snapshots).toHaveLength(1);
  });

  it('ends the transfer that lived by it, and leaves no hold', async () => {
    alpha.zfs.write('alpha/images', 'file', 'x'.repeat(10_000));
    await alpha.zfs.snapshot([at('alpha/images', '2')]);
    const begun = gate();
    const { send } = alpha.zfs;
    alpha.zfs.send = (request, target, signal) => {
      begun.open();
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          send.call(alpha.zfs, request, target, signal).catch(reject);
        });
      });
    };
    const syncing = syncImages(beta);
    await begun.opened;
    await alpha.node.grants.revoke(beta.node.id, '*');
    const { steps } = await syncing;
    expect(steps.map(({ outcome }) => outcome.result)).toEqual(['failed']);
    const [listed] = await alpha.zfs.list(dataset('alpha/images'));
    expect(listed?.snapshots.map(({ userrefs }) => userrefs)).toEqual([0, 0]);
  });

  it('leaves the peer what it was granted besides', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: IMAGES, role: 'reader' });
    const ended = sessionEnded(beta);
    await alpha.node.grants.revoke(beta.node.id, '*');
    await ended;
    await beta.node.hub.reach(alpha.node.id);
    await alpha.zfs.snapshot([at('alpha/images', '2')]);
    await syncImages(beta);
    expect(await has(beta, 'beta/images', '2')).toBe(true);
  });

  it('is one that was given, by exactly that name or glob, to somebody who is a peer', async () => {
    const { grants } = alpha.node;
    expect(await codeOf(grants.revoke(beta.node.id, 'images'))).toBe('GRANT_UNKNOWN');
    const stranger = (await world.start('gamma')).node.id;
    expect(await codeOf(grants.give(stranger, { trees: 'images', role: 'reader' }))).toBe('PEER_UNKNOWN');
  });
});

describe('a tree that this node shares', () => {
  beforeEach(async () => {
    await introduce(alpha, beta);
    await beta.node.grants.give(alpha.node.id, { trees: '*', role: 'reader' });
    await follow();
    await syncImages(beta);
    const root = { tree: IMAGES, name: '' as RelativeName, snapshot: '1' as never };
    await beta.node.trees.clone(root, 'web' as RelativeName);
    await beta.zfs.snapshot([at('beta/images/web', 'w')]);
    await alpha.node.mirrors.add({ tree: IMAGES, from: beta.node.id, root: dataset('alpha/images'), ...EVERYTHING });
  });

  const take = () =>
    alpha.node.mirrors.sync(IMAGES, {
      signal: new AbortController().signal,
      refresh: true,
      onPlan: () => undefined,
      onProgress: () => undefined,
    });
  const hasWeb = async () => (await alpha.zfs.listOnly([dataset('alpha/images/web')])).length === 1;

  it.each(ROLES)('takes what a %s owns into it only if that may contribute', async (role) => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role });
    if (role === 'reader') {
      expect(await codeOf(take())).toBe('GRANT_MISSING');
    } else {
      await take();
    }
    expect(await hasWeb()).toBe(role !== 'reader');
  });

  it('tells of the refusal in the log, and stays whole for all others', async () => {
    expect(await codeOf(take())).toBe('GRANT_MISSING');
    expect(await codeOf(take())).toBe('GRANT_MISSING');
    expect((await alpha.node.verifier.verify(IMAGES)).ok).toBe(true);
    expect(await refusalsOf(alpha)).toEqual(['contribute images 1', 'contribute images 1']);
  });

  it('is not warned of at each word of a peer that may not contribute', async () => {
    const ended = sessionEnded(beta);
    await alpha.node.stop();
    await ended;
    alpha = await world.start('alpha', alpha, {}, { follow: true });
    await beta.node.hub.reach(alpha.node.id);
    for (const name of ['1', '2', '3']) {
      await beta.zfs.snapshot([at('beta/images/web', `more-${name}`)]);
      await beta.node.verifier.verify(IMAGES);
      await alpha.node.hub.sync(beta.node.id);
    }
    expect(await codeOf(take())).toBe('GRANT_MISSING');
    expect(alpha.warnings.filter((text) => text.includes('brought up to date'))).toEqual([]);
  });

  it('keeps what came from a contributor that is none any more, and takes nothing more', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    await take();
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'reader' });
    await beta.zfs.snapshot([at('beta/images/web', 'x')]);
    expect(await codeOf(take())).toBe('GRANT_MISSING');
    expect(await hasWeb()).toBe(true);
    expect(await has(alpha, 'alpha/images/web', 'x')).toBe(false);
  });

  it('brings back nothing that its owner has destroyed', async () => {
    await alpha.zfs.create(dataset('alpha/images/old'));
    await alpha.zfs.snapshot([at('alpha/images/old', '1')]);
    await syncImages(beta);
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    await alpha.node.trees.destroySnapshot({
      tree: IMAGES,
      name: 'old' as RelativeName,
      snapshot: '1' as SnapshotName,
    });
    await alpha.node.trees.destroy({ tree: IMAGES, name: 'old' as RelativeName });
    await take();
    expect(await alpha.zfs.listOnly([dataset('alpha/images/old')])).toEqual([]);
    expect(await hasWeb()).toBe(true);
  });

  it('takes nothing that a contributor says to be its own', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    const web = beta.node.trees.graph(IMAGES).named('web' as RelativeName) ?? expect.fail();
    const claim = { type: 'ownership.claimed', dataset: web.id, owner: { node: alpha.node.id, epoch: 1 } } as const;
    await beta.node.history.record(IMAGES, 'command', [claim]);
    await take();
    expect(await hasWeb()).toBe(false);
  });

  it('makes nothing its own on the word of a contributor', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    await take();
    const web = beta.node.trees.graph(IMAGES).named('web' as RelativeName) ?? expect.fail();
    const claim = { type: 'ownership.claimed', dataset: web.id, owner: { node: alpha.node.id, epoch: 2 } } as const;
    await beta.node.history.record(IMAGES, 'command', [claim]);
    await take();
    await alpha.node.verifier.verify(IMAGES);
    expect(alpha.node.trees.graph(IMAGES).get(web.id)?.owner.node).toBe(beta.node.id);
  });

  it('knows whose a replica is whose owner lost its grant while it came', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    const { settle } = alpha.node.observer;
    alpha.node.observer.settle = async (...given) => {
      alpha.node.observer.settle = settle;
      await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'reader' });
      return settle.apply(alpha.node.observer, given);
    };
    await take();
    const web = () => alpha.node.trees.graph(IMAGES).named('web' as RelativeName);
    expect(web()?.owner.node).toBe(beta.node.id);
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    await beta.zfs.snapshot([at('beta/images/web', 'x')]);
    await take();
    expect(await has(alpha, 'alpha/images/web', 'x')).toBe(true);
  });

  it('takes nothing of a third node that hands its own on through a contributor', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    const gamma = await world.start('gamma');
    await introduce(beta, gamma);
    await introduce(gamma, beta);
    await beta.node.grants.give(gamma.node.id, { trees: '*', role: 'contributor' });
    const rules = { tree: IMAGES, ...EVERYTHING };
    await gamma.node.mirrors.add({ ...rules, from: beta.node.id, root: dataset('gamma/images') });
    await syncImages(gamma);
    const root = { tree: IMAGES, name: '' as RelativeName, snapshot: '1' as never };
    await gamma.node.trees.clone(root, 'theirs' as RelativeName);
    await gamma.zfs.snapshot([at('gamma/images/theirs', 't')]);
    await beta.node.mirrors.add({ ...rules, from: gamma.node.id, root: dataset('beta/images') });
    const quiet = {
      signal: new AbortController().signal,
      refresh: true,
      onPlan: () => undefined,
      onProgress: () => undefined,
    };
    await beta.node.mirrors.sync(IMAGES, quiet, gamma.node.id);
    expect(await beta.zfs.listOnly([dataset('beta/images/theirs')])).toHaveLength(1);
    await take();
    expect(await hasWeb()).toBe(true);
    expect(await alpha.zfs.listOnly([dataset('alpha/images/theirs')])).toEqual([]);
    // As long as it may contribute itself it can come this way; what is here then stays, and nothing more comes
    await introduce(alpha, gamma);
    await alpha.node.grants.give(gamma.node.id, { trees: '*', role: 'contributor' });
    await take();
    expect(await has(alpha, 'alpha/images/theirs', 't')).toBe(true);
    await alpha.node.peers.remove(gamma.node.id);
    await gamma.zfs.snapshot([at('gamma/images/theirs', 'u')]);
    await beta.node.mirrors.sync(IMAGES, quiet, gamma.node.id);
    await take();
    expect([await has(alpha, 'alpha/images/theirs', 't'), await has(alpha, 'alpha/images/theirs', 'u')]).toEqual([
      true,
      false,
    ]);
  });
});

it('a stranger that knocks is told of in the log', async () => {
  await beta.node.peers.add({
    peer: alpha.node.id,
    name: 'alpha',
    address: addressOf('alpha'),
    trustedLink: false,
  });
  await turnedAway(beta, alpha);
  const [first] = await refusalsOf(alpha);
  expect(first).toBe('connect - 1');
});

it('grants of a peer go with it', async () => {
  await introduce(alpha, beta);
  await alpha.node.peers.remove(beta.node.id);
  expect(alpha.node.grants.list()).toEqual([]);
  expect(alpha.node.grants.allows(beta.node.id, 'images' as TreeName, 'read')).toBe(false);
});

describe('a contributor', () => {
  const FILESYSTEMS = 3;
  const SNAPSHOTS = 5;
  let build: WorldNode;

  beforeEach(async () => {
    build = await world.start(
      'build',
      undefined,
      {},
      { contributions: { filesystems: FILESYSTEMS, snapshots: SNAPSHOTS } },
    );
    await build.zfs.create(dataset('build/shared'));
    await build.zfs.snapshot([at('build/shared', '1')]);
    await build.node.trees.add({ tree: SHARED, root: dataset('build/shared') });
    await introduce(build, beta);
    await build.node.grants.give(beta.node.id, { trees: '*', role: 'contributor' });
    await beta.node.grants.give(build.node.id, { trees: '*', role: 'reader' });
    await beta.node.mirrors.add({ tree: SHARED, from: build.node.id, root: dataset('beta/shared'), ...EVERYTHING });
    await beta.node.mirrors.sync(SHARED, QUIET);
    await build.node.mirrors.add({ tree: SHARED, from: beta.node.id, root: dataset('build/shared'), ...EVERYTHING });
  });

  const SHARED = 'shared' as TreeName;
  const QUIET = {
    signal: new AbortController().signal,
    refresh: true,
    onPlan: () => undefined,
    onProgress: () => undefined,
  };

  async function contribute(name: string, ...snapshots: readonly string[]): Promise<void> {
    if ((await beta.zfs.listOnly([dataset(`beta/shared/${name}`)])).length === 0) {
      await beta.zfs.create(dataset(`beta/shared/${name}`), { readonly: 'off' });
    }
    for (const snapshot of snapshots) await beta.zfs.snapshot([at(`beta/shared/${name}`, snapshot)]);
  }

  async function take(): Promise<string[]> {
    const { plan } = await build.node.mirrors.sync(SHARED, QUIET);
    return plan.conflicts.map((conflict) =>
      conflict.reason === 'limit-reached' ? `${conflict.name} ${conflict.limit} ${conflict.allowed}` : conflict.reason,
    );
  }

  async function here(): Promise<string[]> {
    const listed = await build.zfs.list(dataset('build/shared'));
    return listed.slice(1).map(({ name, snapshots }) => `${name.slice('build/shared/'.length)} ${snapshots.length}`);
  }

  it('brings as many as people set for it', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await contribute(name, '1');
    await build.node.limits.setContributions(beta.node.id, { filesystems: 4, snapshots: null });
    expect(await take()).toEqual([]);
    await contribute('d', '2', '3');
    expect(await take()).toEqual(['d snapshots 5']);
    await build.node.limits.setContributions(beta.node.id, { filesystems: null, snapshots: 0 });
    // What is here stays
    expect(await take()).toEqual(['d snapshots 0']);
    expect(await here()).toEqual(['a 1', 'b 1', 'c 1', 'd 2']);
    await build.node.limits.setContributions(beta.node.id, { filesystems: null, snapshots: 6 });
    expect(await take()).toEqual([]);
    expect(await here()).toEqual(['a 1', 'b 1', 'c 1', 'd 3']);
  });

  it('brings by itself what it may from now on', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await contribute(name, '1');
    expect(await take()).toEqual(['d filesystems 3']);
    await build.node.stop();
    const contributions = { filesystems: FILESYSTEMS, snapshots: SNAPSHOTS };
    build = await world.start('build', build, {}, { contributions, follow: true });
    await expect.poll(here).toEqual(['a 1', 'b 1', 'c 1']);
    await build.node.limits.setContributions(beta.node.id, { filesystems: 4, snapshots: null });
    await expect.poll(here).toEqual(['a 1', 'b 1', 'c 1', 'd 1']);
  });

  it('brings as many datasets as it may, and is told what is left out', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await contribute(name, '1');
    expect(await take()).toEqual(['d filesystems 3']);
    expect(await here()).toEqual(['a 1', 'b 1', 'c 1']);
    expect((await build.node.verifier.verify(SHARED)).ok).toBe(true);
    await beta.node.hub.sync(build.node.id);
    expect(beta.node.notices.of(build.node.id)).toMatchObject([
      { tree: 'shared', text: expect.stringContaining('"d"') },
    ]);
    expect(beta.warnings.filter((text) => text.includes('has reached a limit'))).toHaveLength(1);
    await beta.zfs.destroy(dataset('beta/shared/d'));
    expect(await take()).toEqual([]);
    // What was said to it before this answer has arrived
    await beta.node.hub.sync(build.node.id);
    expect(beta.node.notices.of(build.node.id)).toEqual([]);
  });

  it('brings as many snapshots as it may, the oldest of them, and the others go on', async () => {
    await contribute('a', '1', '2', '3');
    await contribute('b', '1');
    expect(await take()).toEqual([]);
    await contribute('a', '4', '5');
    expect(await take()).toEqual(['a snapshots 5']);
    expect(await here()).toEqual(['a 4', 'b 1']);
    await beta.node.mirrors.sync(SHARED, QUIET);
    await build.zfs.snapshot([at('build/shared', '2')]);
    await beta.node.mirrors.sync(SHARED, QUIET);
    expect(await has(beta, 'beta/shared', '2')).toBe(true);
  });

  it('cannot have more and more kept aside by diverging again and again', async () => {
    await contribute('a', 'base');
    await take();
    const told: string[][] = [];
    for (let round = 0; round < FILESYSTEMS + 2; round += 1) {
      await contribute('a', `left-${round}`);
      await take();
      await beta.zfs.rollback(at('beta/shared/a', 'base'), { destroyNewer: true });
      await contribute('a', `right-${round}`);
      told.push(await take());
      await beta.zfs.rollback(at('beta/shared/a', 'base'), { destroyNewer: true });
    }
    expect(told.at(-1)).toEqual(['aside-full']);
    const { diverged } = build.node;
    const copies = await diverged.list(SHARED);
    expect(copies.length).toBe(FILESYSTEMS);
    for (const { copy } of copies) await diverged.drop(SHARED, copy);
    await contribute('a', 'again');
    expect(await take()).toEqual([]);
  });

  it('gains nothing by destroying what it brought, as long as that is kept here', async () => {
    for (const name of ['a', 'b', 'c']) await contribute(name, '1');
    await take();
    for (const name of ['a', 'b']) await beta.zfs.destroy(dataset(`beta/shared/${name}`));
    await contribute('e', '1');
    expect(await take()).toEqual(['e filesystems 3']);
    expect(await here()).toEqual(['a 1', 'b 1', 'c 1']);
  });
});

describe('a peer that has this node change a tree', () => {
  const ROOT_NAME = '' as RelativeName;
  const snapshot = {
    change: 'snapshot',
    tree: IMAGES,
    name: ROOT_NAME,
    snapshot: '2' as never,
    recursive: false,
  } as const;
  const ask = (change: TreeChange) => beta.node.operators.ask({ peer: alpha.node.id, name: 'alpha' }, change);

  beforeEach(async () => {
    await introduce(alpha, beta);
  });

  it.each(ROLES)('has it done if it is an operator, and is refused as a %s', async (role) => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role });
    const outcome = await ask(snapshot).then(
      () => 'done',
      ({ code }: { readonly code: string }) => code,
    );
    expect(outcome).toBe(role === 'operator' ? 'done' : 'GRANT_MISSING');
    expect(await has(alpha, 'alpha/images', '2')).toBe(role === 'operator');
    expect(await refusalsOf(alpha)).toEqual(role === 'operator' ? [] : ['operate images 1']);
  });

  it('learns nothing of a tree that it may not read', async () => {
    await alpha.node.grants.revoke(beta.node.id, '*');
    await expect(ask(snapshot)).rejects.toMatchObject({ code: 'TREE_UNKNOWN' });
    await expect(ask({ ...snapshot, tree: 'nowhere' as TreeName })).rejects.toMatchObject({ code: 'TREE_UNKNOWN' });
  });

  it('can do all that people here can, and is kept from what they are kept from', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'operator' });
    const web = { tree: IMAGES, name: 'web' as RelativeName };
    const first = { snapshot: '1' as SnapshotName };
    await ask({ change: 'clone', tree: IMAGES, name: ROOT_NAME, ...first, to: web.name });
    await ask({ change: 'snapshot', ...web, snapshot: 'a' as SnapshotName, recursive: false });
    await ask({ change: 'rename-snapshot', ...web, snapshot: 'a' as SnapshotName, to: 'b' as SnapshotName });
    await ask({ change: 'rollback', ...web, snapshot: 'b' as SnapshotName, destroyNewer: false });
    await ask({ change: 'promote', ...web });
    await ask({ change: 'rename', ...web, to: 'shop' as RelativeName });
    const shop = { tree: IMAGES, name: 'shop' as RelativeName };
    await expect(ask({ change: 'destroy', ...shop })).rejects.toMatchObject({
      code: 'ZFS_HAS_DEPENDENTS',
      message: expect.stringMatching(/^On "alpha": /),
    });
    await ask({ change: 'destroy-snapshot', ...shop, snapshot: 'b' as SnapshotName });
    const [, listed] = await alpha.zfs.list(dataset('alpha/images'));
    expect(listed).toMatchObject({ name: 'alpha/images/shop', snapshots: [{ name: '1' }] });
  });

  it('gets no powers for what it brought, by a clone of it that it asks for', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'operator' });
    await beta.node.grants.give(alpha.node.id, { trees: '*', role: 'reader' });
    await follow();
    await syncImages(beta);
    await beta.zfs.create(dataset('beta/images/web'), { readonly: 'off' });
    await beta.zfs.snapshot([at('beta/images/web', 'w')]);
    await alpha.node.mirrors.add({ tree: IMAGES, from: beta.node.id, root: dataset('alpha/images'), ...EVERYTHING });
    await alpha.node.mirrors.sync(IMAGES, {
      signal: new AbortController().signal,
      refresh: true,
      onPlan: () => undefined,
      onProgress: () => undefined,
    });
    const web = { tree: IMAGES, name: 'web' as RelativeName, snapshot: 'w' as SnapshotName };
    for (const to of ['web/theirs', 'theirs']) await ask({ change: 'clone', ...web, to: to as RelativeName });
    await alpha.node.trees.clone(web, 'web/ours' as RelativeName);
    const execOf = async (name: string) => (await alpha.zfs.listOnly([dataset(name)]))[0]?.properties.exec;
    expect(await execOf('alpha/images/web/theirs')).toBe('off');
    expect(await execOf('alpha/images/theirs'), 'also below what is this node’s own').toBe('off');
    expect(await execOf('alpha/images/web/ours')).toBe('on');
  });

  it('is refused what is not well formed, or no change at all', async () => {
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'operator' });
    for (const wrong of [
      null,
      {},
      { ...snapshot, change: 'format' },
      { ...snapshot, name: '../etc' },
      { ...snapshot, more: 1 },
    ]) {
      const asked = beta.node.hub.reach(alpha.node.id).then((session) => session.call('tree.change', wrong));
      await expect(asked).rejects.toMatchObject({ code: 'PROTOCOL_FRAME_INVALID' });
    }
  });
});

describe('a node with a new key', () => {
  /** The node as it starts again with this identity. */
  async function restarted(who: WorldNode, identity: WorldNode['identity']): Promise<WorldNode> {
    const other = who === alpha ? beta : alpha;
    const ended = other.node.hub.connected().length === 0 ? undefined : sessionEnded(other);
    await who.node.stop();
    await ended;
    return world.start(who.pool, { ...who, identity });
  }

  beforeEach(async () => {
    await introduce(alpha, beta);
    await follow();
    await syncImages(beta);
  });

  it('is the same to its peers, whose logs say that it has one; its own streams go on', async () => {
    const { node } = alpha;
    alpha = await restarted(alpha, withNewKey(alpha.identity));
    expect(alpha.node.id).toBe(node.id);
    await alpha.zfs.snapshot([at('alpha/images', '2')]);
    await beta.node.hub.reach(alpha.node.id);
    await syncImages(beta);
    expect(await has(beta, 'beta/images', '2')).toBe(true);
    expect((await alpha.node.verifier.verify(IMAGES)).ok).toBe(true);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
    expect((await auditOf(beta)).filter(({ type }) => type === 'peer.rekeyed')).toMatchObject([
      { peer: alpha.node.id, keys: keysOf(alpha.identity.keyProof) },
    ]);
  });

  it('keeps out whoever has the old one, also after its peers have started again', async () => {
    const old = alpha.identity;
    alpha = await restarted(alpha, withNewKey(old));
    await beta.node.hub.reach(alpha.node.id);
    beta = await restarted(beta, beta.identity);
    alpha = await restarted(alpha, old);
    await turnedAway(beta, alpha);
    expect(alpha.node.hub.connected()).toEqual([]);
    expect(await refusalsOf(beta)).toContain(`connect - 1`);
  });

  it('may be known by its old key again to a peer that has forgotten it', async () => {
    const old = alpha.identity;
    alpha = await restarted(alpha, withNewKey(old));
    await beta.node.hub.reach(alpha.node.id);
    alpha = await restarted(alpha, old);
    await beta.node.mirrors.remove(IMAGES);
    await beta.node.peers.remove(alpha.node.id);
    await introduce(alpha, beta);
    await beta.node.hub.reach(alpha.node.id);
    expect(beta.node.hub.connected()).toEqual([alpha.node.id]);
  });
});
