import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { EventBody } from '../../src/core/events.ts';
import {
  type BookmarkName,
  type HoldTag,
  lineageName,
  type NodeId,
  type RelativeName,
  type SnapshotName,
  streamIdOf,
  type TreeName,
} from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { Retained, Step, Waiting } from '../../src/core/plan/steps.ts';
import { Follower } from '../../src/features/mirrors/follower.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { systemTimers } from '../../src/sync/timers.ts';
import type { StepOutcome } from '../../src/transfer/progress.ts';
import { datasetId } from '../core/graph-language.ts';
import {
  datasetCreated,
  datasetId as datasetNumbered,
  smallTree,
  snapshot,
  snapshotCreated,
  treeAdded,
} from '../log/bodies.ts';
import { signerOf } from '../log/identity.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, ROOT, type WorldNode } from '../main/memory-world.ts';
import { FakeTimers } from '../sync/fake-timers.ts';

let world: MemoryWorld;
let alpha: WorldNode;

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
});

afterEach(() => world.stop());

describe('a node that follows more mirrors of one peer than that one serves at once', () => {
  it('brings them all, and is refused none', async () => {
    const beta = await world.start('beta', undefined, {}, { follow: true });
    await introduce(alpha, beta);
    const trees = Array.from({ length: 40 }, (_, index) => `tree${index}` as TreeName);
    for (const tree of trees) {
      await alpha.zfs.create(dataset(`alpha/${tree}`));
      await alpha.zfs.snapshot([at(`alpha/${tree}`, '1')]);
      await alpha.node.trees.add({ tree, root: dataset(`alpha/${tree}`) });
    }
    await Promise.all(
      trees.map((tree) =>
        beta.node.mirrors.add({ tree, from: alpha.node.id, root: dataset(`beta/${tree}`), ...EVERYTHING }),
      ),
    );
    const brought = () => beta.node.trees.list().filter(({ snapshots }) => snapshots === 1).length;
    await expect.poll(brought).toBe(trees.length);
    expect(beta.warnings).toEqual([]);
  });
});

describe('a node that follows a mirror with a keep rule', () => {
  it('gives up what a copy that was kept aside hung off as soon as that is dropped', async () => {
    const beta = await world.start('beta', undefined, {}, { follow: true });
    await introduce(alpha, beta);
    await alpha.zfs.create(dataset('alpha/images'));
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    const here = async () => (await beta.zfs.listOnly([dataset('beta/copy')]))[0]?.snapshots.map(({ name }) => name);
    const take = async (name: string) => {
      await alpha.zfs.snapshot([at('alpha/images', name)]);
      await alpha.node.verifier.verify(IMAGES);
    };
    const place = { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy') };
    await beta.node.mirrors.add({ ...place, ...EVERYTHING, keep: { last: 1 } });
    await take('1');
    await expect.poll(here).toEqual(['1']);
    await beta.zfs.snapshot([at('beta/copy', 'mine')]);
    await take('2');
    await expect.poll(here).toEqual(['1', '2']);
    const [{ copy } = expect.fail()] = await beta.node.diverged.list(IMAGES);
    await beta.node.diverged.drop(IMAGES, copy);
    await expect.poll(here).toEqual(['2']);
  });
});

describe('a follower', () => {
  /** What it tells of a mirror whose sync ends with that error. */
  async function toldOf(error: PandoError, { isMirrored }: { readonly isMirrored: boolean }): Promise<unknown[]> {
    const told: unknown[] = [];
    const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset('alpha/copy'), ...EVERYTHING };
    let listed = [mirror];
    const follower = new Follower({
      history: alpha.node.history,
      mirrors: {
        list: () => listed,
        sync: async () => {
          if (!isMirrored) listed = [];
          throw error;
        },
      },
      timers: systemTimers,
      onSynced: (_tree, result) => told.push(result),
    });
    follower.start();
    await new Promise((resolve) => setImmediate(resolve));
    await follower.stop();
    return told;
  }

  it('tells what keeps a mirror from being brought up to date', async () => {
    const error = new PandoError('TREE_UNKNOWN', 'no');
    expect(await toldOf(error, { isMirrored: true })).toEqual([error]);
  });

  /** Follows a mirror whose syncs end so, one after the other; gives how many of them are still to come after each of these times, in ms. */
  async function leaves(outcomes: (StepOutcome | 'awaits-look')[], afterMs: readonly number[]): Promise<number[]> {
    const timers = new FakeTimers();
    const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset('alpha/copy'), ...EVERYTHING };
    const step: Step = { kind: 'promote', dataset: datasetId('a'), name: ROOT, over: ROOT, after: [] };
    const follower = new Follower({
      history: alpha.node.history,
      mirrors: {
        list: () => [mirror],
        sync: async () => {
          const outcome = outcomes.shift() ?? expect.fail('synced once too often');
          const awaitsLook = outcome === 'awaits-look';
          return {
            tree: IMAGES,
            from: alpha.node.id,
            plan: { steps: [step], conflicts: [], waiting: [], retained: [], contested: [], estimatedBytes: 0 },
            steps: awaitsLook ? [] : [{ step, outcome }],
            bytes: 0,
            awaitsLook,
          };
        },
      },
      timers,
      onSynced: () => undefined,
    });
    const left: number[] = [];
    follower.start();
    for (const ms of afterMs) {
      await timers.advance(ms);
      left.push(outcomes.length);
    }
    await follower.stop();
    return left;
  }

  const DONE: StepOutcome = { result: 'done', bytes: null };

  it('comes back to a sync that the loss of a connection left half done', async () => {
    // The second that is done is to see whether anything was left
    expect(await leaves([{ result: 'skipped' }, DONE, DONE], [1, 3_600_000])).toEqual([2, 0]);
  });

  it('comes back to a peer that could not look whether what may go is really gone there, until it can', async () => {
    expect(await leaves(['awaits-look', 'awaits-look', DONE, DONE], [1, 60_000, 60_000])).toEqual([3, 2, 0]);
  });

  it('does nothing for bookmarks and holds at a peer, which change nothing in a mirror', async () => {
    const owner = streamIdOf(signerOf(2).node, IMAGES);
    const { history } = alpha.node;
    const told = await History.open({ log: new MemoryLog(), signer: signerOf(2), now: () => 1_800_000_000_000 });
    let known = 0;
    const tell = async (...bodies: EventBody[]) => {
      await told.record(IMAGES, 'observed', bodies);
      for await (const batch of told.records(owner, known + 1)) await history.ingest(batch);
      known += bodies.length;
    };
    let syncs = 0;
    const mirror = { tree: IMAGES, from: signerOf(2).node, root: dataset('alpha/copy'), ...EVERYTHING };
    const sync = () => {
      syncs += 1;
      return Promise.reject(new PandoError('TRANSFER_CANCELLED', 'no'));
    };
    const mirrors = { list: () => [mirror], sync };
    const follower = new Follower({ history, mirrors, timers: new FakeTimers(), onSynced: () => undefined });
    follower.start();
    await tell(...smallTree(1));
    expect(syncs).toBe(2);
    const [{ id, snapshots } = expect.fail()] = history.graph(owner).sorted();
    const [{ guid, createtxg } = expect.fail()] = snapshots;
    await tell(
      { type: 'bookmark.created', dataset: id, bookmark: { guid, createtxg, name: 'mine' as BookmarkName } },
      { type: 'hold.placed', dataset: id, guid, tag: 'mine' as HoldTag },
    );
    expect(syncs).toBe(2);
    await tell({ type: 'hold.released', dataset: id, guid, tag: 'mine' as HoldTag }, snapshotCreated(1, 2));
    expect(syncs).toBe(3);
    await follower.stop();
  });

  describe('of a tree that is mirrored from two peers', () => {
    const place = { tree: IMAGES, root: dataset('alpha/copy'), ...EVERYTHING };
    const [first, second] = [2, 3].map((key) => ({ ...place, from: signerOf(key).node }));
    const waiting: Waiting = { dataset: datasetId('web'), name: 'web' as RelativeName, reason: 'origin-waits' };
    let synced: NodeId[];
    /** What the syncs with the first peer leave for others to bring, and what they keep for others. */
    let left: readonly Waiting[];
    let kept: readonly Retained[];
    let timers: FakeTimers;
    let follower: Follower;
    let peers: Map<number, History>;

    beforeEach(async () => {
      synced = [];
      peers = new Map();
      left = [waiting];
      kept = [];
      timers = new FakeTimers();
      const mirrors = {
        list: () => [first, second].filter((mirror) => mirror !== undefined),
        sync: async (_tree: TreeName, _options: unknown, from = first?.from ?? expect.fail()) => {
          synced.push(from);
          const isFirst = from === first?.from;
          const plan = { steps: [], conflicts: [], waiting: isFirst ? left : [], retained: isFirst ? kept : [] };
          return {
            tree: IMAGES,
            from,
            plan: { ...plan, contested: [], estimatedBytes: 0 },
            steps: [],
            bytes: 0,
            awaitsLook: false,
          };
        },
      };
      const { history } = alpha.node;
      follower = new Follower({ history, mirrors, timers, onSynced: () => undefined });
      follower.start();
      await settled();
      expect(synced).toEqual([first?.from, second?.from]);
      synced = [];
    });

    afterEach(() => follower.stop());

    function settled(): Promise<void> {
      return new Promise((resolve) => setImmediate(resolve));
    }

    /** The node's own stream of the tree says that. */
    async function happens(cause: 'received' | 'command', ...bodies: EventBody[]): Promise<void> {
      await alpha.node.history.record(IMAGES, cause, bodies);
      await settled();
    }

    it('syncs the one that waits once the other has brought something', async () => {
      await happens('received', ...smallTree(1));
      expect(synced).toEqual([first?.from]);
      left = [];
      await happens('received', snapshotCreated(1, 2));
      await happens('received', snapshotCreated(1, 3));
      expect(synced, 'it waits no more').toEqual([first?.from, first?.from]);
    });

    it('syncs the one that waits once people here have made room for it', async () => {
      const own = { ...datasetCreated(2, 'own'), owner: { node: alpha.node.id, epoch: 1 } };
      await happens('command', treeAdded(), own);
      expect(synced).toEqual([]);
      await happens('command', { type: 'dataset.destroyed', dataset: own.dataset, name: own.name });
      expect(synced).toEqual([first?.from]);
    });

    /** A peer, by its key, tells that of the tree. */
    async function tells(key: number, ...bodies: EventBody[]): Promise<void> {
      const stream = streamIdOf(signerOf(key).node, IMAGES);
      const told =
        peers.get(key) ??
        (await History.open({ log: new MemoryLog(), signer: signerOf(key), now: () => 1_800_000_000_000 }));
      peers.set(key, told);
      const known = told.head(stream)?.seq ?? 0;
      await told.record(IMAGES, 'observed', bodies);
      for await (const batch of told.records(stream, known + 1)) await alpha.node.history.ingest(batch);
      await settled();
    }

    const [web, name] = [datasetNumbered(1), 'd1' as RelativeName];

    it('syncs the one that waits once the other peer makes room for it, and not for snapshots there', async () => {
      await tells(3, ...smallTree(1));
      synced = [];
      await tells(3, snapshotCreated(1, 2));
      expect(synced).toEqual([second?.from]);
      synced = [];
      await tells(3, { type: 'dataset.renamed', dataset: web, from: name, to: 'elsewhere' as RelativeName });
      expect(synced).toEqual([first?.from, second?.from]);
    });

    it('syncs both once one peer has given up what the other has, and not what that never had', async () => {
      left = [];
      await happens('received', ...smallTree(1));
      await tells(3, ...smallTree(1));
      synced = [];
      await tells(3, { type: 'dataset.destroyed', dataset: web, name });
      expect(synced).toEqual([second?.from]);
      await tells(3, ...smallTree(1).slice(1));
      await tells(2, ...smallTree(1));
      synced = [];
      await tells(3, { type: 'dataset.destroyed', dataset: web, name });
      expect(synced).toEqual([first?.from, second?.from]);
    });

    it('syncs both once one peer moves or gives up what clones at the other hang off', async () => {
      left = [];
      const [base, other] = [snapshot(1), snapshot(2)];
      const clone = datasetCreated(2, 'clone', { dataset: web, snapshot: base.guid });
      await tells(2, ...smallTree(2), clone);
      await tells(3, ...smallTree(2), clone);
      synced = [];
      await tells(3, { type: 'snapshot.destroyed', dataset: web, guid: other.guid, name: other.name });
      expect(synced, 'nothing hangs off that').toEqual([second?.from]);
      synced = [];
      await tells(3, { type: 'dataset.promoted', dataset: datasetNumbered(2) });
      expect(synced).toEqual([first?.from, second?.from]);
      synced = [];
      await tells(3, { type: 'snapshot.destroyed', dataset: datasetNumbered(2), guid: base.guid, name: base.name });
      expect(synced).toEqual([first?.from, second?.from]);
    });

    it('syncs both once something was brought or is gone elsewhere, as long as it keeps a lineage holder, which may be needed no more', async () => {
      left = [];
      const holder = datasetCreated(2, lineageName(snapshot(1).guid));
      await happens('received', ...smallTree(1), holder);
      follower.follow(first ?? expect.fail());
      await settled();
      expect(synced, 'what made it needless may have been heard before').toContain(second?.from);
      synced = [];
      await happens('received', snapshotCreated(1, 2));
      expect(synced).toEqual([first?.from, second?.from]);
      const other = datasetCreated(3, 'other');
      await tells(3, ...smallTree(1).slice(0, 1), other);
      synced = [];
      await tells(3, { type: 'dataset.destroyed', dataset: other.dataset, name: other.name });
      expect(synced, 'it may have been needed by that').toEqual([first?.from, second?.from]);
      await happens('received', { type: 'dataset.destroyed', dataset: holder.dataset, name: holder.name });
      synced = [];
      await happens('received', snapshotCreated(1, 3));
      expect(synced).toEqual([]);
    });

    it('syncs the one that keeps something for others a while after any of them has moved on, and as often as that at most', async () => {
      left = [];
      kept = [{ dataset: web, name, snapshot: 's1' as SnapshotName, reason: 'in-common' }];
      await tells(4, ...smallTree(1));
      await timers.advance(3_600_000);
      expect(synced, 'it keeps nothing yet').toEqual([]);
      follower.follow(first ?? expect.fail());
      await settled();
      synced = [];
      for (const number of [2, 3, 4]) {
        await tells(4, snapshotCreated(1, number));
        await timers.advance(10_000);
      }
      expect(synced).toEqual([]);
      await timers.advance(40_000);
      expect(synced).toEqual([first?.from]);
      await timers.advance(3_600_000);
      expect(synced, 'nobody has moved on since').toEqual([first?.from]);
    });

    it('syncs the one that keeps something since something hangs off it, once that is gone here', async () => {
      left = [];
      kept = [{ dataset: web, name, snapshot: 's1' as SnapshotName, reason: 'depended-on' }];
      await happens('received', ...smallTree(1));
      follower.follow(first ?? expect.fail());
      await settled();
      kept = [];
      follower.follow(second ?? expect.fail());
      await settled();
      synced = [];
      await happens('received', snapshotCreated(1, 2));
      expect(synced, 'that frees nothing').toEqual([]);
      await happens('received', { type: 'dataset.destroyed', dataset: web, name });
      expect(synced).toContain(first?.from);
      expect(synced, 'it kept nothing').not.toContain(second?.from);
    });

    it('goes by nobody that the tree is not mirrored from', async () => {
      await tells(4, ...smallTree(1));
      await tells(4, { type: 'dataset.destroyed', dataset: web, name });
      expect(synced).toEqual([]);
    });

    it("syncs none for what a command did to this node's own, and both where it found that somebody had changed a replica by hand", async () => {
      const own = { ...datasetCreated(2, 'own'), owner: { node: alpha.node.id, epoch: 1 } };
      await happens('received', ...smallTree(1));
      synced = [];
      await happens('command', own, snapshotCreated(2, 3));
      expect(synced).toEqual([]);
      const { guid, name: from } = snapshot(1);
      await happens('command', { type: 'snapshot.renamed', dataset: web, guid, from, to: 'mine' as SnapshotName });
      expect(synced).toEqual([first?.from, second?.from]);
      left = [];
      await tells(2, ...smallTree(1));
      synced = [];
      await happens('command', { type: 'dataset.destroyed', dataset: own.dataset, name: own.name });
      expect(synced, 'its own').toEqual([]);
      await happens('command', { type: 'dataset.destroyed', dataset: web, name });
      expect(synced).toEqual([first?.from, second?.from]);
    });

    it('syncs both once a dataset has another owner', async () => {
      await happens('received', ...smallTree(1));
      synced = [];
      const { id } = alpha.node.history.graph(alpha.node.history.ownStream(IMAGES)).sorted()[0] ?? expect.fail();
      const owner = { node: signerOf(3).node, epoch: 2 };
      await happens('received', { type: 'ownership.claimed', dataset: id, owner });
      expect(synced).toEqual([first?.from, second?.from]);
    });
  });

  it('does not complain of a sync that somebody here ended, nor of a mirror that is none any more', async () => {
    expect(await toldOf(new PandoError('TRANSFER_CANCELLED', 'no'), { isMirrored: true })).toEqual([]);
    expect(await toldOf(new PandoError('MIRROR_UNKNOWN', 'no'), { isMirrored: false })).toEqual([]);
  });
});
