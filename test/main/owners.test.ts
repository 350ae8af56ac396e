/** Several nodes write to one tree, each to what it owns (design §7: wanted is, for each dataset, its owner's view). */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lineageName, type RelativeName, type SnapshotGuid, type SnapshotName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import { at, codeOf, dataset, IMAGES, introduce, MemoryWorld, type WorldNode } from './memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.snapshot([at('alpha/images', 'r')]);
  await alpha.zfs.create(dataset('alpha/images/base'));
  alpha.zfs.write('alpha/images/base', 'file', 'x'.repeat(10_000));
  await alpha.zfs.snapshot([at('alpha/images/base', '1')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await acquaint(alpha, beta);
  await mirror(beta, alpha, 'beta/images');
  await sync(beta, alpha);
});

afterEach(() => world.stop());

/** Both share all their trees with each other, and take from each other what the other owns. */
async function acquaint(one: WorldNode, other: WorldNode): Promise<void> {
  await introduce(one, other);
  for (const [who, whom] of [
    [one, other],
    [other, one],
  ] as const) {
    const [peer] = who.node.peers.list().filter(({ peer: id }) => id === whom.node.id);
    if (peer !== undefined) await who.node.peers.add(peer, [{ trees: '*', role: 'contributor' }]);
  }
}

async function mirror(who: WorldNode, from: WorldNode, root: string): Promise<void> {
  await who.node.mirrors.add({ tree: IMAGES, from: from.node.id, root: dataset(root), ...EVERYTHING });
}

function sync({ node }: WorldNode, from: WorldNode): Promise<SyncReport> {
  const options = { signal: new AbortController().signal, onPlan: () => undefined, onProgress: () => undefined };
  return node.mirrors.sync(IMAGES, { ...options, refresh: true }, from.node.id);
}

function stepsOf({ steps }: SyncReport): string[] {
  return steps.map(({ step, outcome }) => `${step.kind} ${step.name} ${outcome.result}`);
}

async function take({ zfs }: WorldNode, name: string, snapshot: string): Promise<void> {
  zfs.write(name, 'own', `${name}@${snapshot}`);
  await zfs.snapshot([at(name, snapshot)]);
}

/** A dataset of beta's own in the tree, cloned from what it mirrors. */
async function cloneOnBeta(name = 'web'): Promise<void> {
  await beta.node.trees.clone(
    { tree: IMAGES, name: 'base' as RelativeName, snapshot: '1' as never },
    name as RelativeName,
  );
  await take(beta, `beta/images/${name}`, 'w1');
}

async function guidOf({ zfs }: WorldNode, name: string, snapshot: string): Promise<SnapshotGuid | undefined> {
  return (await zfs.listSnapshots([at(name, snapshot)]))[0]?.guid;
}

function isAtHolder(origin: Awaited<ReturnType<typeof originOf>>): boolean {
  return origin?.reference.dataset.includes('/.pando/lineage/') === true;
}

async function originOf({ zfs }: WorldNode, name: string) {
  return (await zfs.listOnly([dataset(name)]))[0]?.origin ?? null;
}

describe('a clone that another node made of what it mirrors', () => {
  beforeEach(async () => {
    await cloneOnBeta();
    await mirror(alpha, beta, 'alpha/images');
  });

  it('is mirrored back as a clone of the original, and follows its own owner from then on', async () => {
    const report = await sync(alpha, beta);
    expect(stepsOf(report)).toEqual(['receive-clone web done']);
    expect(report.bytes).toBeLessThan(1_000);
    expect(await originOf(alpha, 'alpha/images/web')).toMatchObject({ reference: at('alpha/images/base', '1') });
    await take(beta, 'beta/images/web', 'w2');
    expect(stepsOf(await sync(alpha, beta))).toEqual(['receive-incremental web done']);
    expect(stepsOf(await sync(beta, alpha)), 'its owner takes nothing of it back').toEqual([]);
    await beta.node.trees.rename({ tree: IMAGES, name: 'web' as RelativeName }, 'site' as RelativeName);
    expect(stepsOf(await sync(alpha, beta))).toEqual(['rename site done']);
    expect(alpha.node.mirrors.compare(IMAGES)).toEqual([]);
    expect(beta.node.mirrors.compare(IMAGES)).toEqual([]);
  });

  /** Mirrors the tree from alpha without the original, and from beta whatever that has. */
  async function mirrorWithoutOriginal(): Promise<WorldNode> {
    const gamma = await world.start('gamma');
    for (const peer of [alpha, beta]) await acquaint(peer, gamma);
    const rules = { ...EVERYTHING, except: ['base'], graceMs: 0 };
    await gamma.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('gamma/images'), ...rules });
    const all = { ...EVERYTHING, graceMs: 0 };
    await gamma.node.mirrors.add({ tree: IMAGES, from: beta.node.id, root: dataset('gamma/images'), ...all });
    return gamma;
  }

  it('brings the original along to where that is left out, and that stays as it is then', async () => {
    const gamma = await mirrorWithoutOriginal();
    expect(stepsOf(await sync(gamma, alpha))).toEqual(['receive-full  done']);
    expect(stepsOf(await sync(gamma, beta))).toEqual(['receive-full base done', 'receive-clone web done']);
    await take(beta, 'beta/images/web', 'w2');
    expect(stepsOf(await sync(gamma, beta))).toEqual(['receive-incremental web done']);
    await take(alpha, 'alpha/images/base', '2');
    await sync(beta, alpha);
    expect(stepsOf(await sync(gamma, alpha))).toEqual([]);
    expect(stepsOf(await sync(gamma, beta))).toEqual(['receive-incremental base done']);
    expect(gamma.node.mirrors.compare(IMAGES)).toEqual([]);
    expect((await gamma.node.verifier.verify(IMAGES)).ok).toBe(true);
    await beta.zfs.destroy(dataset('beta/images/web'));
    expect(stepsOf(await sync(gamma, beta))).toEqual(['destroy-dataset web done']);
    await take(alpha, 'alpha/images/base', '3');
    await sync(beta, alpha);
    for (const from of [alpha, beta]) expect(stepsOf(await sync(gamma, from))).toEqual([]);
  });

  it('has whoever kept the original from before keep it as it was, whatever the one that it comes from now gives up', async () => {
    const gamma = await world.start('gamma');
    for (const peer of [alpha, beta]) await acquaint(peer, gamma);
    await take(alpha, 'alpha/images/base', '2');
    await take(alpha, 'alpha/images/base', '3');
    await mirror(gamma, alpha, 'gamma/images');
    await sync(gamma, alpha);
    await beta.node.mirrors.change(IMAGES, { keep: { last: 1 } });
    await sync(beta, alpha);
    const place = { tree: IMAGES, from: beta.node.id, root: dataset('gamma/images') };
    await gamma.node.mirrors.add({ ...place, ...EVERYTHING, keep: { last: 1 }, graceMs: 0 });
    await gamma.node.mirrors.change(IMAGES, { except: ['base'] }, alpha.node.id);
    for (let round = 1; round <= 2; round += 1) for (const from of [beta, alpha]) await sync(gamma, from);
    expect(await originOf(gamma, 'gamma/images/web')).toMatchObject({ reference: at('gamma/images/base', '1') });
    const [base] = await gamma.zfs.listOnly([dataset('gamma/images/base')]);
    expect(base?.snapshots.map(({ name }) => name)).toEqual(['1', '2', '3']);
  });

  it('that was destroyed keeps nothing from being left out', async () => {
    await beta.zfs.destroy(dataset('beta/images/web'));
    const gamma = await mirrorWithoutOriginal();
    expect(stepsOf(await sync(gamma, beta))).toEqual([]);
    expect(stepsOf(await sync(gamma, alpha))).toEqual(['receive-full  done']);
    expect(stepsOf(await sync(gamma, beta))).toEqual([]);
  });

  it('can be written and run at its owner, and has no powers elsewhere', async () => {
    await sync(alpha, beta);
    const powers = async ({ zfs }: WorldNode, name: string) => {
      const { readonly, setuid, devices, exec } = (await zfs.listOnly([dataset(name)]))[0]?.properties ?? {};
      return [readonly, setuid, devices, exec];
    };
    expect(await powers(beta, 'beta/images/web')).toEqual(['off', 'on', 'on', 'on']);
    const web = { tree: IMAGES, name: 'web' as RelativeName, snapshot: 'w1' as SnapshotName };
    await beta.node.trees.clone(web, 'next' as RelativeName);
    expect(await powers(beta, 'beta/images/next'), 'whatever lies above it').toEqual(['off', 'on', 'on', 'on']);
    expect(await powers(alpha, 'alpha/images/web')).toEqual(['on', 'off', 'off', 'off']);
  });

  it('does not come back once its owner has destroyed it', async () => {
    await sync(alpha, beta);
    await beta.node.trees.destroy({ tree: IMAGES, name: 'web' as RelativeName });
    expect(stepsOf(await sync(beta, alpha))).toEqual([]);
    expect(stepsOf(await sync(alpha, beta)), 'others keep it, by their own rules').toEqual([]);
    expect(stepsOf(await sync(beta, alpha))).toEqual([]);
    expect(await guidOf(alpha, 'alpha/images/web', 'w1')).toBeDefined();
  });

  it('is not for others to change', async () => {
    await sync(alpha, beta);
    const web = { tree: IMAGES, name: 'web' as RelativeName };
    expect(await codeOf(alpha.node.trees.destroy(web))).toBe('DATASET_NOT_OWNED');
    expect(await codeOf(alpha.node.trees.promote(web))).toBe('DATASET_NOT_OWNED');
    expect(await codeOf(beta.node.trees.promote(web)), 'its origin belongs to another').toBe('DATASET_NOT_OWNED');
  });

  it('keeps its origin in a lineage holder where the owner of that has destroyed it', async () => {
    const guid = (await guidOf(alpha, 'alpha/images/base', '1')) as SnapshotGuid;
    await take(alpha, 'alpha/images/base', '2');
    await alpha.zfs.destroySnapshot(at('alpha/images/base', '1'));
    await sync(alpha, beta);
    expect(stepsOf(await sync(alpha, beta)), 'what was done behind its back is found out by the first').toEqual([
      `receive-full ${lineageName(guid)} done`,
      'receive-clone web done',
    ]);
    expect(await originOf(alpha, 'alpha/images/web')).toMatchObject({ guid });
    expect(stepsOf(await sync(alpha, beta))).toEqual([]);
    const holder = { tree: IMAGES, name: lineageName(guid), snapshot: 'mine' as SnapshotName };
    const snapshot = alpha.node.trees.snapshot(holder, { recursive: false });
    const refusal = { code: 'DATASET_NOT_OWNED', message: expect.stringContaining('only keeps what clones hang off') };
    await expect(snapshot, 'nobody changes it').rejects.toMatchObject(refusal);
    const base = { tree: IMAGES, name: 'base' as RelativeName };
    expect(await codeOf(alpha.node.trees.rename(base, lineageName('4711' as SnapshotGuid)))).toBe('NAME_INVALID');
  });

  it('takes nothing of the original along when it is promoted by hand', async () => {
    await sync(alpha, beta);
    await beta.zfs.promote(dataset('beta/images/web'));
    const { plan, steps } = await sync(alpha, beta);
    expect(steps).toEqual([]);
    expect(plan.conflicts).toMatchObject([{ name: 'web', reason: 'not-owned-together' }]);
    expect(await originOf(alpha, 'alpha/images/base')).toBeNull();
  });

  it('stays when the mirror ends, and the tree with it', async () => {
    await sync(alpha, beta);
    expect(await codeOf(alpha.node.trees.remove(IMAGES))).toBe('TREE_UNKNOWN');
    await alpha.node.mirrors.remove(IMAGES);
    expect(alpha.node.trees.graph(IMAGES).root).toBe('alpha/images');
    expect(await originOf(alpha, 'alpha/images/web')).not.toBeNull();
  });
});

describe('a name that two nodes gave at once', () => {
  it('is settled on both sides, and both keep theirs', async () => {
    for (const [who, pool] of [
      [alpha, 'alpha'],
      [beta, 'beta'],
    ] as const) {
      await who.zfs.create(dataset(`${pool}/images/new`), { readonly: 'off' });
      await take(who, `${pool}/images/new`, pool);
    }
    await mirror(alpha, beta, 'alpha/images');
    const [here, there] = [await sync(alpha, beta), await sync(beta, alpha)];
    for (const { plan, steps } of [here, there]) {
      expect(plan.conflicts).toEqual([]);
      expect(steps.map(({ outcome }) => outcome.result)).toEqual(['done']);
      expect(plan.contested).toMatchObject([{ name: 'new' }]);
    }
    expect(await guidOf(alpha, 'alpha/images/new', 'alpha')).toBeDefined();
    expect(await guidOf(beta, 'beta/images/new', 'beta')).toBeDefined();
    const shown = here.plan.contested[0]?.shown;
    expect(await guidOf(alpha, `alpha/images/${shown}`, 'beta')).toBe(await guidOf(beta, 'beta/images/new', 'beta'));
    expect(stepsOf(await sync(alpha, beta))).toEqual([]);
    await beta.node.trees.rename({ tree: IMAGES, name: 'new' as RelativeName }, 'newer' as RelativeName);
    expect(stepsOf(await sync(alpha, beta))).toEqual(['rename newer done']);
    await sync(beta, alpha);
    expect(await guidOf(beta, 'beta/images/new', 'alpha')).toBeDefined();
  });
});

describe('a mirror of two owners', () => {
  let gamma: WorldNode;

  beforeEach(async () => {
    await cloneOnBeta();
    gamma = await world.start('gamma');
    await acquaint(alpha, gamma);
    await acquaint(beta, gamma);
    await mirror(gamma, alpha, 'gamma/images');
    await mirror(gamma, beta, 'gamma/images');
  });

  it('takes from each what that owns, in whatever order it asks', async () => {
    const early = await sync(gamma, beta);
    expect(early.plan.conflicts).toEqual([]);
    expect(early.plan.waiting.map(({ name }) => name)).toEqual(['web']);
    await sync(gamma, alpha);
    expect(stepsOf(await sync(gamma, beta))).toEqual(['receive-clone web done']);
    expect(await originOf(gamma, 'gamma/images/web')).toMatchObject({ reference: at('gamma/images/base', '1') });
    expect(gamma.node.mirrors.compare(IMAGES)).toEqual([]);
  });

  it('takes no lineage holder from the one for what it takes from the other', async () => {
    await sync(gamma, alpha);
    await sync(gamma, beta);
    // At alpha the clone will hang off a holder, at beta it hangs off the replica of what alpha destroyed
    await take(alpha, 'alpha/images/base', '2');
    await alpha.zfs.destroySnapshot(at('alpha/images/base', '1'));
    await alpha.node.verifier.verify(IMAGES);
    await mirror(alpha, beta, 'alpha/images');
    await sync(alpha, beta);
    expect(isAtHolder(await originOf(alpha, 'alpha/images/web'))).toBe(true);
    expect(stepsOf(await sync(gamma, alpha))).toEqual(['receive-incremental base done']);
    expect(gamma.node.mirrors.wanted(gamma.node.mirrors.get(IMAGES, alpha.node.id)).sorted()).toMatchObject([
      { name: '' },
      { name: 'base' },
    ]);
    expect(isAtHolder(await originOf(gamma, 'gamma/images/web'))).toBe(false);
    expect(await guidOf(gamma, 'gamma/images/web', 'w1')).toBe(await guidOf(beta, 'beta/images/web', 'w1'));
  });

  it('has a clone that the one made hang off its origin where the other promoted that to, which the one has not heard of', async () => {
    await mirror(alpha, beta, 'alpha/images');
    await sync(alpha, beta);
    const web = { tree: IMAGES, name: 'web' as RelativeName, snapshot: 'w1' as SnapshotName };
    await alpha.node.trees.clone(web, 'mine' as RelativeName);
    await take(alpha, 'alpha/images/mine', '1');
    await beta.node.trees.clone(web, 'site' as RelativeName);
    await take(beta, 'beta/images/site', 's1');
    await beta.zfs.promote(dataset('beta/images/site'));
    await sync(gamma, alpha);
    await sync(gamma, beta);
    expect(stepsOf(await sync(gamma, alpha))).toEqual(['receive-clone mine done']);
    expect(await originOf(gamma, 'gamma/images/mine')).toMatchObject({ reference: at('gamma/images/site', 'w1') });
    for (const from of [beta, alpha]) expect(stepsOf(await sync(gamma, from))).toEqual([]);
  });

  it('gives up no lineage holder with the one that the other needs', async () => {
    await sync(gamma, alpha);
    const base = { tree: IMAGES, name: 'base' as RelativeName, snapshot: '1' as SnapshotName };
    await gamma.node.trees.clone(base, 'tool' as RelativeName);
    await take(gamma, 'gamma/images/tool', '1');
    const guid = (await guidOf(gamma, 'gamma/images/tool', '1')) as SnapshotGuid;
    for (const peer of [alpha, beta]) {
      await mirror(peer, gamma, `${peer === alpha ? 'alpha' : 'beta'}/images`);
      await sync(peer, gamma);
    }
    const tool = { ...base, name: 'tool' as RelativeName };
    await alpha.node.trees.clone(tool, 'left-out' as RelativeName);
    await take(alpha, 'alpha/images/left-out', '1');
    // Without a snapshot it keeps what lies below it waiting
    await beta.node.trees.clone(base, 'shell' as RelativeName);
    for (const name of ['early', 'shell/late']) {
      await beta.node.trees.clone(tool, name as RelativeName);
      await take(beta, `beta/images/${name}`, '1');
    }
    await gamma.zfs.destroy(dataset('gamma/images/tool'));
    await gamma.node.verifier.verify(IMAGES);
    await gamma.node.mirrors.change(IMAGES, { except: ['left-out'] }, alpha.node.id);
    await gamma.node.mirrors.change(IMAGES, { graceMs: 0 }, beta.node.id);
    expect(stepsOf(await sync(gamma, beta))).toContain(`receive-full ${lineageName(guid)} done`);
    await beta.node.trees.destroy({ tree: IMAGES, name: 'early' as RelativeName });
    expect(stepsOf(await sync(gamma, beta))).toEqual(['destroy-dataset early done']);
    for (const from of [alpha, beta]) expect(stepsOf(await sync(gamma, from))).toEqual([]);
    await take(beta, 'beta/images/shell', '1');
    await sync(gamma, beta);
    expect(await originOf(gamma, 'gamma/images/shell/late')).toMatchObject({ guid });
    await beta.node.trees.destroy({ tree: IMAGES, name: 'shell/late' as RelativeName });
    await sync(gamma, beta);
    await sync(gamma, alpha);
    const left = (await gamma.zfs.list(dataset('gamma/images'))).map(({ name }) => name);
    expect(left, 'once nobody does').not.toContain(`gamma/images/${lineageName(guid)}`);
  });

  it('takes what is new from its owner, whatever later epoch another claims it in that may not take it over', async () => {
    const base = beta.node.trees.graph(IMAGES).named('base' as RelativeName) ?? expect.fail();
    const owner = { node: beta.node.id, epoch: 99 };
    await beta.node.history.record(IMAGES, 'command', [{ type: 'ownership.claimed', dataset: base.id, owner }]);
    await gamma.node.hub.sync(beta.node.id);
    await sync(gamma, alpha);
    expect(gamma.node.trees.graph(IMAGES).get(base.id)?.owner).toEqual({ node: alpha.node.id, epoch: 1 });
  });

  it('takes it from who claims it where that may take over others, and where nobody else does', async () => {
    const base = beta.node.trees.graph(IMAGES).named('base' as RelativeName) ?? expect.fail();
    const owner = { node: beta.node.id, epoch: 2 };
    await beta.node.history.record(IMAGES, 'command', [{ type: 'ownership.claimed', dataset: base.id, owner }]);
    const other = await world.start('other');
    await gamma.node.grants.give(beta.node.id, { trees: '*', role: 'standby' });
    await acquaint(beta, other);
    await mirror(other, beta, 'other/images');
    for (const one of [gamma, other]) {
      await one.node.hub.sync(beta.node.id);
      for (const from of one === gamma ? [alpha, beta] : [beta]) await sync(one, from);
      expect(one.node.trees.graph(IMAGES).get(base.id)?.owner).toEqual(owner);
    }
  });

  it('takes what its globs select by the names that its peer gives, whatever these are here', async () => {
    for (const { node } of [alpha, beta]) await gamma.node.mirrors.change(IMAGES, { except: ['base', 'web'] }, node.id);
    await sync(gamma, alpha);
    await gamma.zfs.create(dataset('gamma/images/base'));
    await gamma.zfs.snapshot([at('gamma/images/base', 'mine')]);
    await gamma.node.verifier.verify(IMAGES);
    await gamma.node.mirrors.change(IMAGES, { only: ['base'], except: [] }, alpha.node.id);
    await gamma.node.mirrors.change(IMAGES, { except: [] }, beta.node.id);
    for (let round = 1; round <= 2; round += 1) for (const from of [alpha, beta]) await sync(gamma, from);
    const names = [...gamma.node.trees.graph(IMAGES).datasets.values()].map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['base', expect.stringMatching(/^base-/), 'web']));
  });

  it('is not told by one owner what happened to what another owns', async () => {
    await sync(gamma, alpha);
    await sync(gamma, beta);
    await gamma.node.mirrors.change(IMAGES, { graceMs: 0 }, beta.node.id);
    const graph = beta.node.trees.graph(IMAGES);
    const base = graph.named('base' as RelativeName);
    await beta.zfs.promote(dataset('beta/images/web'));
    await beta.zfs.destroy(dataset('beta/images/base'));
    // Beta also claims what is not its own
    await beta.node.history.record(IMAGES, 'command', [
      { type: 'ownership.claimed', dataset: base?.id as never, owner: { node: beta.node.id, epoch: 99 } },
    ]);
    for (let round = 1; round <= 2; round += 1) {
      await sync(gamma, beta);
      await sync(gamma, alpha);
    }
    expect(await guidOf(gamma, 'gamma/images/base', '1')).toBe(await guidOf(alpha, 'alpha/images/base', '1'));
    expect(await originOf(gamma, 'gamma/images/base')).toBeNull();
  });
});
