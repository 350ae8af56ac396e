/** Each checker finds what it is there for, in a world where nothing is wrong but that. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type DatasetName,
  type HoldTag,
  lineageName,
  type RelativeName,
  type SnapshotGuid,
  type SnapshotName,
  type TreeName,
} from '../../src/core/ids.ts';
import { boundedMemory } from './checkers/bounded-memory.ts';
import type { Checker } from './checkers/checker.ts';
import { convergence } from './checkers/convergence.ts';
import { logIsTruth } from './checkers/log-is-truth.ts';
import { nothingLeft } from './checkers/nothing-left.ts';
import { nothingLost } from './checkers/nothing-lost.ts';
import { oneOwner } from './checkers/one-owner.ts';
import { sameAgain } from './checkers/same-again.ts';
import type { Machine } from './machine.ts';
import { Random } from './random.ts';
import { Trace } from './trace.ts';
import { World } from './world.ts';

const CHECKERS = { boundedMemory, convergence, logIsTruth, nothingLeft, nothingLost, oneOwner, sameAgain };
/** Long enough, in ms, for a snapshot to be noticed and mirrored. */
const A_WHILE_MS = 30_000;

let world: World;
let owner: Machine;
let replica: Machine;

const SNAPSHOT = { dataset: 'n0/own' as DatasetName, snapshot: 's' as SnapshotName };
const COPY = 'n1/of-tree-n0' as DatasetName;

beforeEach(async () => {
  world = new World(new Random(1), new Trace(), 2);
  await world.build('star');
  [owner, replica] = world.machines as [Machine, Machine];
  owner.zfs.write('n0/own', 'file', 'text');
  await owner.zfs.snapshot([SNAPSHOT]);
  await world.scheduler.until(world.scheduler.pause(A_WHILE_MS));
  await world.syncAll();
  await findings();
});

afterEach(() => {
  vi.restoreAllMocks();
});

async function findings(): Promise<string[]> {
  const found: string[] = [];
  for (const [name, { check }] of Object.entries<Checker>(CHECKERS)) {
    for (const { machine } of await check(world)) found.push(`${name}: ${machine}`);
  }
  return [...new Set(found)];
}

describe('the checkers', () => {
  it('find nothing where nothing is wrong', async () => {
    expect(await replica.zfs.listOnly([COPY])).toHaveLength(1);
    expect(await findings()).toEqual([]);
  });

  it('find a snapshot that is gone though nobody destroyed it', async () => {
    await replica.zfs.destroySnapshot({ ...SNAPSHOT, dataset: COPY });
    expect(await findings()).toEqual(['convergence: n1', 'logIsTruth: n1', 'nothingLost: n1']);
  });

  it('find no fault with one that somebody destroyed by hand', async () => {
    await replica.guids.allow(() => replica.zfs.destroySnapshot({ ...SNAPSHOT, dataset: COPY }));
    expect(await findings()).toEqual(['logIsTruth: n1']);
  });

  it('find what is named otherwise than at the owner, and not noticed', async () => {
    await owner.zfs.renameSnapshot(SNAPSHOT, 't' as SnapshotName);
    expect(await findings()).toEqual(['convergence: n1', 'logIsTruth: n0']);
  });

  it('find holds and temporary datasets that are left', async () => {
    await owner.zfs.hold('pando:left' as HoldTag, [SNAPSHOT]);
    await replica.zfs.create('n1/1-successor' as DatasetName);
    expect(await findings()).toEqual(['nothingLeft: n0', 'nothingLeft: n1']);
  });

  it('find a second owner', async () => {
    const { node } = replica;
    const [root] = node?.trees.graph(tree()).datasets.values() ?? [];
    if (node == null || root === undefined) expect.fail('the replica is there');
    const claimed = { type: 'ownership.claimed', dataset: root.id, owner: { node: replica.id, epoch: 1 } } as const;
    await world.scheduler.until(node.history.record(tree(), 'command', [claimed]));
    expect(await findings()).toEqual(['oneOwner: n1']);
  });

  it('find what was still to be done when everybody was asked again', async () => {
    await owner.zfs.snapshot([{ ...SNAPSHOT, snapshot: 'later' as SnapshotName }]);
    await world.syncAll();
    expect(await findings()).toEqual(['sameAgain: n1']);
  });

  it('find no fault with a lineage holder that people wrote to, so that it stays', async () => {
    const [elsewhere, web] = ['n0/elsewhere', 'n0/own/web'] as [DatasetName, DatasetName];
    await owner.zfs.create(elsewhere);
    await owner.zfs.snapshot([{ ...SNAPSHOT, dataset: elsewhere }]);
    await owner.zfs.clone({ ...SNAPSHOT, dataset: elsewhere }, web);
    owner.zfs.write(web, 'file', 'text');
    await owner.zfs.snapshot([{ ...SNAPSHOT, dataset: web }]);
    await world.scheduler.until(world.scheduler.pause(A_WHILE_MS));
    const copy = `${COPY}/web` as DatasetName;
    const [{ origin } = expect.fail('it is there')] = await replica.zfs.listOnly([copy]);
    const holder = origin?.reference ?? expect.fail('it is a clone');
    await replica.zfs.setProperties([holder.dataset], { readonly: 'off' });
    replica.zfs.write(holder.dataset, 'file', 'by hand');
    await replica.zfs.setProperties([holder.dataset], { readonly: 'on' });
    await owner.guids.allow(() => owner.zfs.destroy(web));
    await replica.guids.allow(() => replica.zfs.destroy(copy));
    await world.scheduler.until(world.scheduler.pause(A_WHILE_MS));
    await world.syncAll();
    const outcomes = world.lastSyncs.flatMap(({ report }) => (report instanceof Error ? [] : report.steps));
    expect(outcomes).toMatchObject([{ step: { kind: 'destroy-dataset' }, outcome: { result: 'kept' } }]);
    expect(await findings()).toEqual([]);
    await replica.zfs.rollback(holder, { destroyNewer: false });
    expect(await findings(), 'nothing speaks for it any more').toEqual(['sameAgain: n1']);
  });

  it('find a peer for whom too much waits', async () => {
    world.network.bufferedBytesMax = 1024 ** 3;
    expect(await findings()).toEqual(['boundedMemory: the network']);
  });

  it('find connections that nobody closed', async () => {
    vi.spyOn(world.network.wires, 'open', 'get').mockReturnValue({ ends: 2, streams: 1 });
    expect(await findings()).toEqual(['boundedMemory: the network']);
    vi.spyOn(world.network.wires, 'open', 'get').mockReturnValue({ ends: 3, streams: 0 });
    expect(await findings()).toEqual(['boundedMemory: the network']);
  });

  it('find a node that waits for more than its peers and mirrors can ask of it', async () => {
    owner.timersMax = 17;
    vi.spyOn(replica, 'timers', 'get').mockReturnValue(10);
    expect(await findings()).toEqual(['boundedMemory: n0', 'boundedMemory: n1']);
  });
});

describe('in a team, the checkers', () => {
  const web = 'n0/own/web' as DatasetName;
  let copies: readonly Machine[];

  beforeEach(async () => {
    world = new World(new Random(1), new Trace(), 3);
    await world.build('team');
    [owner, ...copies] = world.machines as [Machine, ...Machine[]];
    await owner.zfs.create(web);
    owner.zfs.write(web, 'file', 'text');
    await owner.zfs.snapshot([{ ...SNAPSHOT, dataset: web }]);
    await world.scheduler.until(world.scheduler.pause(A_WHILE_MS));
    await world.syncAll();
    await findings();
  });

  it('find nothing where nothing is wrong, also once one has taken over what another owned', async () => {
    expect(await findings()).toEqual([]);
    await world.scheduler.until(taken());
    await world.scheduler.until(world.scheduler.pause(A_WHILE_MS));
    await world.syncAll();
    expect(await findings()).toEqual([]);
    expect(ownersOfWeb()).toEqual([copies[0]?.id, copies[0]?.id, copies[0]?.id]);
  });

  it('find two owners, in two epochs, of which one has not heard of the other', async () => {
    for (const { id } of copies) world.network.wires.cut(owner.id, id);
    await world.scheduler.until(taken({ withoutOwner: true }));
    expect(await findings()).toContain('oneOwner: n1');
  });

  it('find a copy that others than its owner can write to', async () => {
    await copies[1]?.zfs.setProperties(['n2/of-tree-n0/web' as DatasetName], { readonly: 'off' });
    expect(await findings()).toEqual(['oneOwner: n2']);
  });

  it('find a lineage holder that anybody can write to, whoever is said to own it', async () => {
    const [machine = expect.fail('there are others')] = copies;
    const holder = `n1/of-tree-n0/${lineageName('1' as SnapshotGuid)}` as DatasetName;
    for (const above of ['n1/of-tree-n0/.pando', 'n1/of-tree-n0/.pando/lineage']) {
      const there = await machine.zfs.listOnly([above as DatasetName]);
      if (there.length === 0) await machine.zfs.create(above as DatasetName);
    }
    await machine.zfs.create(holder);
    await machine.zfs.setProperties([holder], { readonly: 'off' });
    await world.scheduler.until(world.scheduler.pause(A_WHILE_MS));
    expect(await findings()).toContain('oneOwner: n1');
  });

  /** The second machine makes the dataset its own. */
  function taken({ withoutOwner = false } = {}): Promise<unknown> {
    const { node } = copies[0] ?? expect.fail('there are others');
    const name = 'web' as RelativeName;
    return node?.ownership.take({ tree: treeOf(), name, recursive: false, withoutOwner }) ?? expect.fail('it is up');
  }

  function ownersOfWeb() {
    return world.machines.map(({ node }) => node?.trees.graph(treeOf()).named('web' as RelativeName)?.owner.node);
  }

  function treeOf(): TreeName {
    return [...owner.shared][0] ?? expect.fail('they share a tree');
  }
});

function tree() {
  const [mirror] = replica.mirrors.values();
  return mirror?.tree ?? expect.fail('there is a mirror');
}
