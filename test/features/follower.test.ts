import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { EventBody } from '../../src/core/events.ts';
import { type BookmarkName, type HoldTag, streamIdOf, type TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import type { Step } from '../../src/core/plan/steps.ts';
import { Follower } from '../../src/features/mirrors/follower.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { systemTimers } from '../../src/sync/timers.ts';
import type { StepOutcome } from '../../src/transfer/progress.ts';
import { datasetId } from '../core/graph-language.ts';
import { smallTree, snapshotCreated } from '../log/bodies.ts';
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

  it('comes back to a sync that the loss of a connection left half done', async () => {
    const timers = new FakeTimers();
    const done: StepOutcome = { result: 'done', bytes: null };
    const outcomes: StepOutcome[] = [{ result: 'skipped' }, done, done];
    const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset('alpha/copy'), ...EVERYTHING };
    const step: Step = { kind: 'promote', dataset: datasetId('a'), name: ROOT, over: ROOT, after: [] };
    const follower = new Follower({
      history: alpha.node.history,
      mirrors: {
        list: () => [mirror],
        sync: async () => {
          const outcome = outcomes.shift() ?? expect.fail('synced once too often');
          return {
            tree: IMAGES,
            from: alpha.node.id,
            plan: { steps: [step], conflicts: [], waiting: [], retained: [], contested: [], estimatedBytes: 0 },
            steps: [{ step, outcome }],
            bytes: 0,
          };
        },
      },
      timers,
      onSynced: () => undefined,
    });
    follower.start();
    await timers.advance(1);
    expect(outcomes).toHaveLength(2);
    // The second of these two is to see whether anything was left
    await timers.advance(3_600_000);
    expect(outcomes).toHaveLength(0);
    await follower.stop();
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

  it('does not complain of a sync that somebody here ended, nor of a mirror that is none any more', async () => {
    expect(await toldOf(new PandoError('TRANSFER_CANCELLED', 'no'), { isMirrored: true })).toEqual([]);
    expect(await toldOf(new PandoError('MIRROR_UNKNOWN', 'no'), { isMirrored: false })).toEqual([]);
  });
});
