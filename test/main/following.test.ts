/** A replica follows whatever happens to a hierarchy: whole nodes in memory, random histories made with plain `zfs` on either side. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { Difference } from '../../src/core/graph/difference.ts';
import type { SnapshotGuid } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { PLACEHOLDER_PROPERTY } from '../../src/core/plan/steps.ts';
import type { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { type Action, arbitraryHistory } from '../core/forest.ts';
import { Gardener } from '../suites/gardener.ts';
import { type HeldByPando, heldByPando } from '../suites/held.ts';
import { dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

/** Runs of the property; PANDO_TEST_RUNS asks for more. */
const RUNS = Number(process.env.PANDO_TEST_RUNS ?? 20);
/** A run takes a fraction of a second; a node that hangs is found by its seed then, in ms. */
const HANGS_AFTER_MS = 20_000;
/** What fails is told of after this time, in ms, however far it has shrunk: before the test itself runs out of time, with no seed to see. */
const TOLD_AFTER_MS = 60_000;
const HERE = dataset('beta/copy');

function gardener({ zfs }: WorldNode, root: string): Gardener {
  return new Gardener({
    zfs,
    root: dataset(root),
    write: async (name, path, text) => {
      // What is written into a stand-in keeps its dataset from coming, with a clear error at each sync, and that for ever
      const [listed] = await zfs.listOnly([name]);
      if (listed?.properties[PLACEHOLDER_PROPERTY] !== undefined) throw new PandoError('ZFS_PERMISSION', 'a stand-in');
      await zfs.setProperties([name], { readonly: 'off' });
      zfs.write(name, path, text);
    },
  });
}

/** All snapshots of a pool with their content, by guid. */
async function contents(zfs: MemoryZfs, root: string): Promise<Map<SnapshotGuid, Record<string, string>>> {
  const listed = await zfs.list(dataset(root));
  return new Map(
    listed.flatMap(({ name, snapshots }) =>
      snapshots.map(({ guid, name: snapshot }) => [guid, zfs.contentsOf({ dataset: name, snapshot })] as const),
    ),
  );
}

async function holdsOn(zfs: MemoryZfs, root: string): Promise<HeldByPando[]> {
  return heldByPando(zfs, await zfs.list(dataset(root)));
}

describe('a replica', () => {
  let world: MemoryWorld;
  let alpha: WorldNode;
  let beta: WorldNode;

  const begin = async () => {
    world = new MemoryWorld();
    alpha = await world.start('alpha');
    beta = await world.start('beta');
    await alpha.zfs.create(dataset('alpha/images'));
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    await introduce(alpha, beta);
    const from = alpha.node.id;
    await beta.node.mirrors.add({ tree: IMAGES, from, root: HERE, ...EVERYTHING });
  };

  beforeEach(begin);
  afterEach(() => world.stop());

  /** Differences that nobody has explained: not by a conflict, and not by something that has to wait. */
  async function unexplained() {
    const { plan, steps } = await syncImages(beta);
    const failed = steps.filter(({ outcome }) => outcome.result !== 'done');
    const excused = new Set([...plan.conflicts, ...plan.waiting].map((one) => one.dataset));
    const differences = beta.node.mirrors.compare(IMAGES).filter((found) => {
      // A copy in full where a clone would do costs space, and is told by "pando verify"; nothing is missing
      const isCopy = found.kind === 'origin' && found.actual === null;
      return !isCopy && !found.kind.endsWith('-extra') && !excused.has(found.dataset);
    });
    return { failed, differences };
  }

  async function follows(histories: readonly Action[][]): Promise<void> {
    const people = gardener(alpha, 'alpha/images');
    let had = new Map<SnapshotGuid, Record<string, string>>();
    for (const history of histories) {
      await people.live(history);
      expect(await unexplained()).toEqual({ failed: [], differences: [] });
      const there = await contents(alpha.zfs, 'alpha/images');
      const here = await contents(beta.zfs, 'beta');
      for (const [guid, content] of here) expect(content).toEqual(there.get(guid) ?? had.get(guid));
      for (const guid of had.keys()) expect(here.has(guid), 'invariant 1: nothing is lost').toBe(true);
      expect(await holdsOn(beta.zfs, 'beta'), 'invariant 6: no hold is left').toEqual([]);
      expect(await holdsOn(alpha.zfs, 'alpha'), 'invariant 6: no hold is left').toEqual([]);
      had = new Map([...had, ...here]);
    }
  }

  /** Whether a snapshot is missing behind which the replica has gone already. */
  function isOlder(found: Difference): boolean {
    if (found.kind !== 'snapshot-missing') return false;
    const snapshots = alpha.node.trees.graph(IMAGES).get(found.dataset)?.snapshots ?? [];
    const here = new Set(
      beta.node.trees
        .graph(IMAGES)
        .get(found.dataset)
        ?.snapshots.map(({ guid }) => guid),
    );
    return (
      snapshots.findIndex(({ guid }) => guid === found.guid) < snapshots.findLastIndex(({ guid }) => here.has(guid))
    );
  }

  /** What is done to the replica by hand, without anyone's leave. */
  async function recovers(rounds: readonly (readonly [Action[], Action[]])[]): Promise<void> {
    const people = gardener(alpha, 'alpha/images');
    const vandals = gardener(beta, 'beta/copy');
    for (const [history, mess] of rounds) {
      await people.live(history);
      await syncImages(beta);
      await vandals.live(mess);
      const before = await contents(beta.zfs, 'beta');
      // What was written to shows with the stream that is refused; what that makes room for comes with the sync after
      for (let round = 1; round <= 3; round += 1) await syncImages(beta);
      const { failed, differences } = await unexplained();
      // What was cloned and promoted by hand hangs off what belongs to this node; an older snapshot that was destroyed by hand cannot come back
      const lasting = differences.filter((found) => found.kind !== 'origin' && !isOlder(found));
      expect({ failed, lasting }).toEqual({ failed: [], lasting: [] });
      const here = await contents(beta.zfs, 'beta');
      for (const [guid, content] of before) expect(here.get(guid), 'invariant 1: nothing is lost').toEqual(content);
      expect(await holdsOn(beta.zfs, 'beta'), 'invariant 6: no hold is left').toEqual([]);
    }
  }

  it('goes on after whatever was done to it by hand, and keeps that', async () => {
    await fc.assert(
      fc
        .asyncProperty(
          fc.array(fc.tuple(arbitraryHistory(20), arbitraryHistory(5)), { minLength: 1, maxLength: 3 }),
          recovers,
        )
        .beforeEach(begin)
        .afterEach(() => world.stop()),
      { numRuns: RUNS, timeout: HANGS_AFTER_MS, interruptAfterTimeLimit: TOLD_AFTER_MS },
    );
  });

  it('is as its owner has it after whatever people did there, and has lost nothing', async () => {
    await fc.assert(
      fc
        .asyncProperty(fc.array(arbitraryHistory(25), { minLength: 2, maxLength: 3 }), follows)
        .beforeEach(begin)
        .afterEach(() => world.stop()),
      { numRuns: RUNS, timeout: HANGS_AFTER_MS, interruptAfterTimeLimit: TOLD_AFTER_MS },
    );
  });
});
