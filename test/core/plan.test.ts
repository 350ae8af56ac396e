import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MirrorRules, Snapshot } from '../../src/core/events.ts';
import { type Difference, difference } from '../../src/core/graph/difference.ts';
import { GraphDraft } from '../../src/core/graph/draft.ts';
import { type Dataset, EMPTY_GRAPH, Graph, snapshotOf } from '../../src/core/graph/graph.ts';
import {
  type BookmarkName,
  type DatasetId,
  type DatasetName,
  type RelativeName,
  type SnapshotGuid,
  type SnapshotName,
  shortDatasetId,
} from '../../src/core/ids.ts';
import { EVERYTHING, wantedGraph } from '../../src/core/plan/filter.ts';
import { plan } from '../../src/core/plan/plan.ts';
import { standInFor } from '../../src/core/plan/stand-in.ts';
import { type Conflict, isReceive, type Plan } from '../../src/core/plan/steps.ts';
import { apply, applyPlan } from './apply-plan.ts';
import { arbitraryHistory, grow, growingHistory, startForest } from './forest.ts';
import { datasetId, graph, OWNER, REPLICA, ROOT, SELF } from './graph-language.ts';
import { inWords } from './step-words.ts';

function planFor(source: Graph, local: Graph = EMPTY_GRAPH, filter: MirrorRules = EVERYTHING): Plan {
  return plan({ source, wanted: wantedGraph(source, filter, { local, now: 0 }), local, ...REPLICA });
}

/** The graph with one dataset that the node of the replica owns. */
function owned(before: Graph, name: string): Graph {
  const datasets = Array.from(before.datasets, ([id, dataset]): [DatasetId, Dataset] => [
    id,
    dataset.name === name ? { ...dataset, owner: { node: SELF, epoch: 1 } } : dataset,
  ]);
  return new Graph(before.root, new Map(datasets));
}

/** The graph after the owner promoted these datasets, one after the other. */
function afterPromotes(before: Graph, ...names: string[]): Graph {
  const draft = new GraphDraft(before);
  for (const name of names) draft.promote(datasetId(name));
  return draft.finish();
}

function steps(source: Graph, local?: Graph, filter?: MirrorRules): string[] {
  return planFor(source, local, filter).steps.map(inWords);
}

/**
 * A snapshot that became wanted only after the replica had gone past it: nothing older can be received any more. So it is with an origin that a dataset
 * got by a promote, of which the replica never had the snapshot.
 */
function outOfReach(found: Difference, source: Graph, before: Graph): boolean {
  const had = new Set(
    Array.from(before.datasets.values()).flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid)),
  );
  const { snapshots = [], bookmarks = [] } = source.get(found.dataset) ?? {};
  const hadHere = [...snapshots, ...bookmarks].filter(({ guid }) => had.has(guid));
  const newestHad = Math.max(-1, ...hadHere.map(({ createtxg }) => createtxg));
  if (found.kind === 'snapshot-missing')
    return (snapshots.find(({ guid }) => guid === found.guid)?.createtxg ?? 0) < newestHad;
  if (found.kind !== 'origin' || found.actual !== null || found.expected === null || had.has(found.expected))
    return false;
  return newestHad >= 0 || before.get(found.dataset) !== undefined;
}

function guidsOf(datasets: Iterable<Dataset>): SnapshotGuid[] {
  return Array.from(datasets).flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid));
}

describe('a plan for an empty replica', () => {
  it('receives the first snapshot in full and all others as one increment', () => {
    expect(steps(graph('. @a @b @c'))).toEqual(['full . @a', 'incremental . .@a..@c -I']);
  });

  it('receives a clone as one increment from its origin', () => {
    expect(steps(graph('. @r', 'base @a @b', 'web < base@a @c @d'))).toEqual([
      'full . @r',
      'full base @a',
      'incremental base base@a..@b -i',
      'clone web base@a..@d -I',
    ]);
  });

  it('receives an origin before its clone, whatever their names', () => {
    const order = steps(graph('. @r', 'a < z@1 @2', 'z @1'));
    expect(order.indexOf('full z @1')).toBeLessThan(order.indexOf('clone a z@1..@2 -i'));
  });

  it('lets a clone wait for just the step that brings its origin', () => {
    const { steps: planned } = planFor(graph('. @r', 'base @a @b', 'web < base@a @c'));
    expect(planned.map(({ after }) => after)).toEqual([[], [0], [1], [0, 1]]);
  });

  it('makes a placeholder of a parent without snapshots, and lets a leaf without snapshots wait', () => {
    const planned = planFor(graph('.', 'base @a', 'empty'));
    expect(planned.steps.map(inWords)).toEqual(['placeholder .', 'full base @a']);
    expect(planned.waiting).toEqual([{ dataset: datasetId('empty'), name: 'empty', reason: 'no-snapshot' }]);
  });

  it('lets a clone without snapshots wait, and with it what lies below, since nothing could be received in its place later', () => {
    const planned = planFor(graph('. @r', 'web < .@r', 'web/data @1'));
    expect(planned.steps.map(inWords)).toEqual(['full . @r']);
    expect(planned.waiting.map(({ name, reason }) => `${name} ${reason}`)).toEqual([
      'web no-snapshot',
      'web/data parent-waits',
    ]);
  });

  it('has what lies below a waiting clone wait with it, also where that grew from there', () => {
    const source = graph(
      '. @r',
      'top < top/clone/base/deep@1',
      'top/clone < top/clone/base@1 @2',
      'top/clone/base @1',
      'top/clone/base/deep @1',
    );
    const planned = planFor(source);
    expect(planned.steps.map(inWords)).toEqual(['full . @r']);
    expect(planned.conflicts).toEqual([]);
    expect(planned.waiting.map(({ name, reason }) => `${name} ${reason}`).sort()).toEqual([
      'top no-snapshot',
      'top/clone parent-waits',
      'top/clone/base parent-waits',
      'top/clone/base/deep parent-waits',
    ]);
    expect(planFor(source, applyPlan(source, EMPTY_GRAPH, planned)).steps).toEqual([]);
  });

  it('has what is here wait for its place below a waiting clone, and brings nothing beside what has no place', () => {
    const local = graph('. @r', 'c#moved @s1 @s2');
    const source = graph('. @r', 'a < a/c@s1', 'a/c#moved @s1 @s2', 'a/c/b < a/c/b/a@s1 @s1 @s2', 'a/c/b/a @s1');
    const planned = planFor(source, local);
    expect(planned.steps).toEqual([]);
    expect(planned.conflicts).toEqual([]);
    expect(planned.waiting.map(({ name }) => name).sort()).toEqual(['a', 'a/c', 'a/c/b', 'a/c/b/a']);
  });

  it('has what lies below a dataset that is refused told of that, though it would wait as well', () => {
    const local = owned(graph('. @r', 'x @1'), 'x');
    const planned = planFor(graph('. @r', 'base @1', 'x#theirs < base@1', 'x/y @1', 'x/z < x/y@1 @2'), local);
    const told = planned.conflicts.map(({ name, reason }) => `${name} ${reason}`);
    expect(told.sort()).toEqual(['x name-taken', 'x/y parent-missing', 'x/z parent-missing']);
  });

  it('receives a clone in full when its origin lies outside the tree', () => {
    expect(steps(graph('. @r', 'web < elsewhere@a @c @d'))).toEqual([
      'full . @r',
      'full web @c',
      'incremental web web@c..@d -i',
    ]);
  });

  it('lets a clone wait as long as its origin is in the tree, and not known to be there', () => {
    const planned = planFor(graph('. @r', 'base @b', 'web < base@a @c @d'));
    expect(planned.steps.map(inWords)).toEqual(['full . @r', 'full base @b']);
    expect(planned.waiting.map(({ name, reason }) => `${name} ${reason}`)).toEqual(['web origin-waits']);
  });

  it('estimates full streams by what is referenced and increments by what was written', () => {
    const planned = planFor(graph('. @a @b @c'));
    expect(planned.steps.map((step) => isReceive(step) && step.estimatedBytes)).toEqual([1000, 20]);
    expect(planned.estimatedBytes).toBe(1020);
  });
});

describe('a plan for a replica that is behind', () => {
  it('is empty when nothing changed', () => {
    const same = graph('. @a', 'base @a', 'web < base@a @b');
    expect(planFor(same, same)).toEqual({
      steps: [],
      conflicts: [],
      waiting: [],
      retained: [],
      contested: [],
      estimatedBytes: 0,
    });
  });

  it('continues from the newest snapshot here', () => {
    expect(steps(graph('. @a @b @c'), graph('. @a'))).toEqual(['incremental . .@a..@c -I']);
  });

  it('does not mind older snapshots that only one side has', () => {
    expect(steps(graph('. @b @c'), graph('. @a @b'))).toEqual(['incremental . .@b..@c -i']);
  });

  it('promotes nothing back and forth where two datasets would need the same past', () => {
    const source = afterPromotes(graph('. @r', 'held < .@r @1 @2', 'app < held@1 @3'), 'app');
    const local = graph('. @r', 'held < .@r @1 @2', 'app < held@2');
    const planned = planFor(source, local);
    // Neither is promoted over the other: the empty clone comes anew, with a copy of what both would need
    expect(planned.steps.map(inWords)).toEqual(['preserve app behind @undefined: ', 'clone app .@r..@3 -I']);
    const after = planFor(source, applyPlan(source, local, planned));
    expect(after.steps).toEqual([]);
    expect(after.conflicts).toMatchObject([{ name: 'held', reason: 'origin-differs' }]);
  });

  it('promotes nothing back and forth for a snapshot of which its source keeps several copies', () => {
    const shared = graph('. @a').sorted()[0]?.snapshots ?? [];
    const withCopy = (text: string): Graph => {
      const { root, datasets } = graph('. @a @b', text);
      const id = datasetId('copy');
      const copy = datasets.get(id) as Dataset;
      const snapshots = copy.origin === null ? shared : [];
      return new Graph(root, new Map(datasets).set(id, { ...copy, snapshots }));
    };
    expect(steps(withCopy('copy'), withCopy('copy < .@a'))).toEqual([]);
  });

  it('renames without sending data, parents first, and increments under the new name', () => {
    const local = graph('. @r', 'old#dir @a', 'old/web#web @b');
    expect(steps(graph('. @r', 'new#dir @a', 'new/web#web @b @c'), local)).toEqual([
      'rename old → new',
      'incremental new/web new/web@b..@c -i',
    ]);
  });

  it('swaps names that are the temporary ones of its source, which is in the middle of renames itself', () => {
    const [a, b] = ['a', 'b'].map((label) => `renaming-${datasetId(label).slice(-12)}`);
    const source = graph('. @r', `${a}#b @1`, `${b}#a @2`);
    const local = graph('. @r', `${a}#a @2`, `${b}#b @1`);
    expect(
      applyPlan(source, local, planFor(source, local))
        .sorted()
        .map(({ name }) => name),
    ).toEqual(source.sorted().map(({ name }) => name));
  });

  it('hands a name on into which whoever made way for it took something along', () => {
    const local = graph('. @r', 'a#one @1', 'd#top @1', 'd/b#middle @1', 'd/b/b#low @1');
    const source = graph('. @r', 'a#low @1', 'c#top @1', 'd#middle @1', 'd/b#one @1');
    expect(steps(source, local)).toEqual([
      'rename d → c',
      'rename c/b → d',
      `rename d/b → renaming-${datasetId('low').slice(-12)}`,
      'rename a → d/b',
      `rename renaming-${datasetId('low').slice(-12)} → a`,
    ]);
    const renamed = applyPlan(source, local, planFor(source, local));
    expect(difference(source, renamed)).toEqual([]);
  });

  it('receives a full stream over its own placeholder', () => {
    const before = graph('.', 'base @a');
    const local = applyPlan(before, EMPTY_GRAPH, planFor(before));
    const planned = planFor(graph('. @r', 'base @a'), local);
    expect(planned.steps).toMatchObject([{ kind: 'receive-full', name: '', overPlaceholder: true }]);
  });
});

describe('a conflict', () => {
  it('keeps a dataset out whose name is reserved for Pando', () => {
    const planned = planFor(graph('. @r', '.pando @1', '.pando/diverged @1', 'b @1'));
    expect(planned.conflicts).toMatchObject([
      { name: '.pando', reason: 'name-reserved' },
      { name: '.pando/diverged', reason: 'name-reserved' },
    ]);
    expect(planned.steps.map(inWords)).toEqual(['full . @r', 'full b @1']);
  });

  it('lets only the first of two datasets have the name that a source gives to both', () => {
    const planned = planFor(graph('. @r', 'a @1', 'a#other @2'));
    expect(planned.conflicts).toMatchObject([
      { dataset: datasetId('other'), reason: 'name-taken', by: datasetId('a') },
    ]);
    expect(planned.steps.map(inWords)).toEqual(['full . @r', 'full a @1']);
  });

  it('says that a name is too long here, below a longer root than at its source', () => {
    const long = 'x'.repeat(200);
    const local = new Graph(
      'tank/a-root-of-more-than-fifty-characters-in-one-component' as DatasetName,
      graph('. @r').datasets,
    );
    const planned = planFor(graph('. @r', `${long} @1`), local);
    expect(planned.conflicts).toMatchObject([{ name: long, reason: 'name-too-long' }]);
    expect(planned.steps).toEqual([]);
  });

  it('is reported when nothing is in common', () => {
    const planned = planFor(graph('. @r', 'a @2'), graph('. @r', 'a @1'));
    expect(planned.conflicts).toMatchObject([{ name: 'a', reason: 'no-common-snapshot', localOnly: ['1'] }]);
    expect(planned.steps).toEqual([]);
  });

  it('is reported when something that this node owns has the name, and for all below', () => {
    const local = owned(graph('. @r', 'a#other @1'), 'a');
    const planned = planFor(graph('. @r', 'a @1', 'a/b @1'), local);
    expect(planned.conflicts.map(({ name, reason }) => `${name} ${reason}`)).toEqual([
      'a name-taken',
      'a/b parent-missing',
    ]);
    expect(planned.steps).toEqual([]);
  });

  it('is reported when a promote would take snapshots from what this node owns', () => {
    const local = owned(graph('. @r', 'base @a', 'web < base@a @1'), 'base');
    const planned = planFor(afterPromotes(graph('. @r', 'base @a', 'web < base@a @1'), 'web'), local);
    expect(planned.conflicts).toMatchObject([{ name: 'web', reason: 'not-owned-together', by: 'base' }]);
    expect(planned.steps).toEqual([]);
  });

  it('is reported when a pool is the root and has what its owner has not, since it can have no other name', () => {
    const local = new Graph('tank' as DatasetName, graph('. @r @mine').datasets);
    const planned = planFor(graph('. @r @s', 'a @1'), local);
    expect(planned.conflicts).toMatchObject([
      { name: '', reason: 'root-diverged', lastCommon: 'r', localOnly: ['mine'] },
    ]);
    expect(planned.steps.map(inWords)).toEqual(['full a @1']);
  });

  it('is reported when the replica of a clone hangs off another snapshot, and keeps it from nothing', () => {
    const source = graph('. @r', 'base @a @b', 'web < base@b @c @d');
    const planned = planFor(source, graph('. @r', 'base @a @b', 'web < base@a @c'));
    expect(planned.conflicts).toMatchObject([{ name: 'web', reason: 'origin-differs' }]);
    expect(planned.steps.map(inWords)).toEqual(['incremental web web@c..@d -i']);
  });
});

describe('names that changed hands', () => {
  it('are swapped through a temporary one', () => {
    expect(steps(graph('. @r', 'b#a @1', 'a#b @1'), graph('. @r', 'a @1', 'b @1'))).toEqual([
      expect.stringMatching(/^rename b → renaming-/),
      'rename a → b',
      expect.stringMatching(/^rename renaming-\w+ → a$/),
    ]);
  });

  it('are handed on without one where that is possible', () => {
    const local = graph('. @r', 'a @1', 'b @1', 'c @1');
    expect(steps(graph('. @r', 'b#a @1', 'c#b @1', 'd#c @1'), local)).toEqual([
      'rename c → d',
      'rename b → c',
      'rename a → b',
    ]);
  });

  it('take along what lies below, which is not renamed itself', () => {
    const planned = steps(graph('. @r', 'new#a @1', 'new/x#a/x @1'), graph('. @r', 'a @1', 'a/x @1'));
    expect(planned).toEqual(['rename a → new']);
  });

  it('wait for a parent that is still to be received', () => {
    expect(steps(graph('. @r', 'new @1', 'new/a#a @1 @2'), graph('. @r', 'a @1'))).toEqual([
      'full new @1',
      'rename a → new/a',
      'incremental new/a new/a@1..@2 -i',
    ]);
  });

  it('are taken from a dataset that its owner gave up, which stays beside', () => {
    expect(steps(graph('. @r', 'a#second @1'), graph('. @r', 'a @1'))).toEqual([
      expect.stringMatching(/^rename a → a-given-up-/),
      'full a @1',
    ]);
  });

  it('come back when somebody has swapped them with what stays beside', () => {
    const beside = `a-given-up-${shortDatasetId(datasetId('old'))}`;
    const local = graph('. @r', 'a#old @1', `${beside}#second @1`);
    const again = beside.replace('given-up', 'given-up-again');
    expect(steps(graph('. @r', 'a#second @1'), local)).toEqual([`rename a → ${again}`, `rename ${beside} → a`]);
  });

  it('are handed on however long the chain is', () => {
    const numbers = Array.from({ length: 3_000 }, (_, index) => index);
    const local = graph('. @r', `a ${numbers.map((number) => `@${number}`).join(' ')}`);
    const source = graph('. @r', `a ${numbers.map((number) => `@${number + 1}=${number}`).join(' ')}`);
    const planned = planFor(source, local);
    expect(difference(source, applyPlan(source, local, planned))).toEqual([]);
    expect(planned.steps.length).toBeLessThan(1.01 * numbers.length);
  });

  it('are those of snapshots too: swapped, handed round, and taken from what the owner gave up', () => {
    expect(steps(graph('. @r', 'a @2=1 @1=2'), graph('. @r', 'a @1 @2'))).toEqual([
      expect.stringMatching(/^rename a@1 → @renaming-/),
      'rename a@2 → @1',
      expect.stringMatching(/^rename a@renaming-\d+ → @2$/),
    ]);
    expect(steps(graph('. @r', 'a @y=x @z=y'), graph('. @r', 'a @x @y'))).toEqual([
      'rename a@y → @z',
      'rename a@x → @y',
    ]);
    expect(steps(graph('. @r', 'a @base @daily=fresh'), graph('. @r', 'a @daily @base'))).toEqual([
      expect.stringMatching(/^rename a@daily → @daily-\d+$/),
      'incremental a a@base..@daily -i',
    ]);
  });
});

describe('a clone family that was re-rooted', () => {
  const family = () => graph('. @r', 'base @a @b', 'web < base@b @c', 'test < web@c @d');

  it('is re-rooted here by the fewest promotes', () => {
    expect(steps(afterPromotes(family(), 'web', 'test'), family())).toEqual([
      'promote test over web',
      'promote test over base',
    ]);
    expect(steps(afterPromotes(family(), 'web', 'base'), family())).toEqual([]);
  });

  it('gets a dataset that was cloned and promoted since, without a byte', () => {
    const cloned = graph('. @r', 'base @a @b', 'next < base@b');
    expect(steps(afterPromotes(cloned, 'next'), graph('. @r', 'base @a @b'))).toEqual([
      'clone-here next base@b',
      'promote next over base',
    ]);
  });

  it('is left to people where bookmarks of one name would come together', () => {
    const local = family();
    const draft = new GraphDraft(local);
    const name = 'mine' as BookmarkName;
    for (const { id, snapshots } of local.sorted()) {
      const [first] = snapshots;
      if (first !== undefined) draft.addBookmark(id, { ...first, name });
    }
    const planned = planFor(afterPromotes(family(), 'web'), draft.finish());
    expect(planned.steps).toEqual([]);
    const conflict = {
      dataset: datasetId('web'),
      name: 'web',
      reason: 'same-bookmarks',
      by: 'base',
      bookmarks: [name],
    };
    expect(planned.conflicts).toEqual([conflict]);
  });

  it('has the snapshots renamed first whose names would collide', () => {
    const local = graph('. @r', 'base @c @b', 'web < base@b @c');
    const source = new GraphDraft(local);
    source.renameSnapshot(
      datasetId('web'),
      local.named('web' as RelativeName)?.snapshots[0]?.guid as SnapshotGuid,
      'x' as SnapshotName,
    );
    source.promote(datasetId('web'));
    expect(steps(source.finish(), local)).toEqual(['rename web@c → @x', 'promote web over base']);
  });
});

describe('a family that cannot be had as its source has it', () => {
  it('is left as it is, and told of, where a promote would take from one what another is to have alone', () => {
    const source = afterPromotes(graph('. @r', 'base @1 @2', 'web < base@1 @x'), 'web');
    const planned = planFor(source, graph('. @r', 'base @1 @2', 'web < base@2 @x'));
    expect(planned.steps).toEqual([]);
    expect(planned.conflicts).toContainEqual({ dataset: datasetId('web'), name: 'web', reason: 'origin-differs' });
  });
});

describe('a replica that has what its owner has not', () => {
  it('keeps it aside, and goes on from the newest snapshot in common', () => {
    const planned = planFor(graph('. @r', 'a @1 @2', 'b @1 @2'), graph('. @r', 'a @1 @mine', 'b @1'));
    expect(planned.conflicts).toEqual([]);
    expect(planned.steps.map(inWords)).toEqual([
      'preserve a behind @1: mine',
      'incremental a a@1..@2 -i',
      'incremental b b@1..@2 -i',
    ]);
  });

  it('keeps what was written to it as well', () => {
    const source = graph('. @r', 'a @1 @2');
    const modified = new Set([datasetId('a')]);
    const planned = plan({ source, wanted: source, local: graph('. @r', 'a @1'), ...REPLICA, modified });
    expect(planned.steps.map(inWords)).toEqual(['preserve a behind @1: ', 'incremental a a@1..@2 -i']);
  });

  it('is received anew when it shares nothing with its owner but the origin', () => {
    const planned = planFor(graph('. @r', 'base @a', 'web < base@a @2'), graph('. @r', 'base @a', 'web < base@a @1'));
    expect(planned.steps.map(inWords)).toEqual(['preserve web behind @undefined: 1', 'clone web base@a..@2 -i']);
  });

  it('is received anew as a clone where a promote has left it without snapshots', () => {
    const source = graph('. @r', 'web @1', 'base < web@1 @2');
    const planned = planFor(source, graph('. @r', 'web @1', 'base < web@1'));
    expect(planned.conflicts).toEqual([]);
    expect(planned.steps.map(inWords)).toEqual(['preserve base behind @undefined: ', 'clone base web@1..@2 -i']);
  });

  it('goes on under its old name while what it was moved below waits for a first snapshot', () => {
    const source = graph('. @r', 'base @1', 'new < base@1', 'new/data#data @1 @2');
    const planned = planFor(source, graph('. @r', 'base @1', 'data @1'));
    expect(planned.conflicts).toEqual([]);
    expect(planned.steps.map(inWords)).toEqual(['incremental data data@1..@2 -i']);
    expect(planned.waiting.map(({ name, reason }) => `${name} ${reason}`)).toEqual([
      'new no-snapshot',
      'new/data parent-waits',
    ]);
  });

  it('lets what lies below a dataset with a conflict wait with that, rather than have conflicts of its own', () => {
    const source = graph(
      '. @r',
      'base @1',
      'new < base@1',
      'new/data#data @1',
      'new/data/x#x @1 @2',
      'new/data/x/y#y @1',
    );
    const planned = planFor(source, graph('. @r', 'base @1', 'data @mine', 'data/x#x @1', 'data/x/y#y @1'));
    expect(planned.conflicts.map(({ name, reason }) => `${name} ${reason}`)).toEqual(['new/data no-common-snapshot']);
    expect(planned.steps.map(inWords)).toEqual(['incremental data/x data/x@1..@2 -i']);
    expect(planned.waiting.map(({ name, reason }) => `${name} ${reason}`)).toEqual([
      'new no-snapshot',
      'new/data parent-waits',
      'new/data/x parent-waits',
      'new/data/x/y parent-waits',
    ]);
  });

  it('has what lies below it moved away meanwhile', () => {
    const planned = steps(graph('. @r', 'a @1 @2', 'a/x @1'), graph('. @r', 'a @1 @mine', 'a/x @1'));
    expect(planned).toEqual([
      expect.stringMatching(/^rename a\/x → renaming-/),
      'preserve a behind @1: mine',
      expect.stringMatching(/^rename renaming-\w+ → a\/x$/),
      'incremental a a@1..@2 -i',
    ]);
  });

  it('has what lies below it back, also where its owner gave that up', () => {
    const local = graph('. @r', 'a @1 @mine', 'a/old @1', 'a/old/x @1');
    const back = [expect.stringMatching(/^rename a\/old → renaming-/), 'preserve a behind @1: mine'];
    expect(steps(graph('. @r', 'a @1 @2'), local)).toEqual([
      ...back,
      'incremental a a@1..@2 -i',
      expect.stringMatching(/^rename renaming-\w+ → a\/old$/),
    ]);
    expect(steps(graph('. @r', 'b#a @1 @2'), local).at(-1)).toMatch(/^rename renaming-\w+ → b\/old$/);
    const clones = graph('. @r', 'base @a', 'web < base@a @1', 'web/old @1');
    expect(steps(graph('. @r', 'base @a', 'web < base@a @2'), clones).slice(-2)).toEqual([
      'clone web base@a..@2 -i',
      expect.stringMatching(/^rename renaming-\w+ → web\/old$/),
    ]);
  });
});

describe('the root of a replica', () => {
  it('is kept aside where it has what its owner has not, and what lies below stays, whoever owns that', () => {
    const local = owned(graph('. @r @mine', 'a @1', 'a/x @1', 'own#own @1'), 'own');
    const planned = planFor(graph('. @r @s', 'a @1 @2', 'a/x @1'), local);
    expect(planned.conflicts).toEqual([]);
    expect(planned.steps.map(inWords)).toEqual([
      'preserve . behind @r: mine',
      'incremental . .@r..@s -i',
      'incremental a a@1..@2 -i',
    ]);
    expect(planned.steps.map(({ after }) => after)).toEqual([[], [0], [0]]);
  });

  it('is kept aside where it was only written to', () => {
    const source = graph('. @r @s');
    const modified = new Set([datasetId('.')]);
    const planned = plan({ source, wanted: source, local: graph('. @r'), ...REPLICA, modified });
    expect(planned.steps.map(inWords)).toEqual(['preserve . behind @r: ', 'incremental . .@r..@s -i']);
  });

  it('follows a promote of what was cloned from it, and what its owner takes of it afterwards', () => {
    const before = graph('. @r', 'web < .@r @1');
    const promoted = afterPromotes(before, 'web');
    expect(steps(promoted, before)).toEqual(['promote web over .']);
    const local = applyPlan(promoted, before, planFor(promoted, before));
    const source = graph('. < web@r=r @s', 'web @1');
    const [root, web] = [source.named('' as RelativeName) as Dataset, local.named('web' as RelativeName) as Dataset];
    const guid = web.snapshots[0]?.guid as SnapshotGuid;
    const later = new Graph(
      source.root,
      new Map([[web.id, web]]).set(root.id, { ...root, origin: { dataset: web.id, snapshot: guid } }),
    );
    expect(steps(later, local)).toEqual([
      'preserve . behind @undefined: ',
      expect.stringMatching(/^clone renaming-\w+ web@r..@s -i$/),
      expect.stringMatching(/^take-root renaming-\w+, former root → renaming-\w+$/),
      expect.stringMatching(/^destroy renaming-\w+$/),
    ]);
    expect(difference(later, applyPlan(later, local, planFor(later, local)))).toEqual([]);
  });

  it('that is a clone of something below it comes beside a stand-in, which goes then', () => {
    const source = graph('. < web@r @s', 'web @r', 'web/logs @1');
    expect(steps(source)).toEqual([
      'placeholder .',
      'full web @r',
      expect.stringMatching(/^clone renaming-\w+ web@r..@s -i$/),
      expect.stringMatching(/^take-root renaming-\w+, former root → renaming-\w+$/),
      'full web/logs @1',
      expect.stringMatching(/^destroy renaming-\w+$/),
    ]);
    expect(difference(source, applyPlan(source, EMPTY_GRAPH, planFor(source)))).toEqual([]);
  });

  it('has a stand-in that stays where whoever took it over has others below it, and goes otherwise', () => {
    const without = graph('. @r', 'base @1');
    const { datasets } = graph('. @r', 'base @1', 'kept/web < base@1');
    const kept = { ...standInFor({ owner: OWNER }), name: 'kept' as RelativeName };
    const source = new Graph(without.root, new Map(datasets).set(kept.id, kept));
    expect(steps(source, without)).toEqual(['placeholder kept']);
    const local = new Graph(without.root, new Map(without.datasets).set(kept.id, kept));
    expect(steps(source, local)).toEqual([]);
    expect(steps(without, local)).toEqual(['destroy kept']);
    const taken = new Map(local.datasets).set(kept.id, { ...kept, owner: { ...OWNER, epoch: 2 } });
    const others = { ...REPLICA, follows: ({ id }: Dataset) => id !== kept.id };
    const planned = plan({ source, wanted: without, local: new Graph(without.root, taken), ...others });
    expect(planned.steps, 'with the mirror of another peer').toEqual([]);
  });

  it('that is a clone without snapshots keeps nothing below it from coming', () => {
    const planned = planFor(graph('. < web@r', 'web @r'));
    expect(planned.steps.map(inWords)).toEqual(['placeholder .', 'full web @r']);
    expect(planned.waiting).toMatchObject([{ name: '', reason: 'no-snapshot' }]);
  });

  it('changes places with what its owner made the root, and what lay below either is where it is there', () => {
    const local = graph('. @r', 'web @1', 'web/logs @1', 'x @1');
    const source = graph('.#web @1', 'logs#web/logs @1', 'old#. @r', 'old/x#x @1');
    expect(steps(source, local)).toEqual([
      expect.stringMatching(/^rename web\/logs → renaming-/),
      expect.stringMatching(/^take-root web, former root → renaming-/),
      expect.stringMatching(/^rename renaming-\w+ → logs$/),
      expect.stringMatching(/^rename renaming-\w+ → old$/),
      'rename x → old/x',
    ]);
    expect(difference(source, applyPlan(source, local, planFor(source, local)))).toEqual([]);
  });

  it('stays where it is when it is a pool, which can have no other name', () => {
    const local = new Graph('tank' as DatasetName, graph('. @r', 'web @1').datasets);
    const planned = planFor(graph('.#web @1', 'old#. @r'), local);
    expect(planned.conflicts).toMatchObject([
      { name: '', reason: 'rename-blocked', current: 'web' },
      { name: 'old', reason: 'rename-blocked', current: '' },
    ]);
  });
});

describe('a new clone', () => {
  it('hangs off its origin wherever that is here, where a conflict keeps that from being moved to where it belongs', () => {
    const local = owned(graph('. @r', 'base @1 @2'), 'base');
    const source = afterPromotes(graph('. @r', 'base @1 @2', 'web < base@2 @w'), 'web');
    const web = source.get(datasetId('web')) as Dataset;
    const origin = { dataset: web.id, snapshot: (web.snapshots[0] as Snapshot).guid };
    const { datasets } = graph('. @r', 'app @a');
    const app = { ...(datasets.get(datasetId('app')) as Dataset), origin };
    const planned = planFor(new Graph(ROOT, new Map(source.datasets).set(app.id, app)), local);
    expect(planned.conflicts).toMatchObject([{ name: 'web', reason: 'not-owned-together' }]);
    expect(planned.steps.map(inWords)).toEqual(['clone app base@1..@a -i']);
  });
});

describe('a mirror of the newest snapshots', () => {
  const newest: MirrorRules = { ...EVERYTHING, keep: { last: 1 } };

  it('jumps over what is not wanted with a plain increment', () => {
    expect(steps(graph('. @a @b @c'), graph('. @a'), newest)).toEqual(['incremental . .@a..@c -i']);
  });

  it('keeps the snapshots that clones hang off', () => {
    expect(steps(graph('. @r', 'base @a @b @c @d', 'web < base@b @x @y'), undefined, newest)).toEqual([
      'full . @r',
      'full base @b',
      'incremental base base@b..@d -i',
      'clone web base@b..@y -i',
    ]);
  });

  it('has what a later clone hangs off come alone, once, where newer snapshots are here', () => {
    const source = graph('. @r', 'base @a @b @c', 'web < base@b @x', 'db < base@b @y');
    const local = graph('. @r', 'base @c');
    const planned = planFor(source, local, newest);
    expect(planned.steps.map(inWords)).toEqual([
      expect.stringMatching(/^full \.pando\/lineage\/\d+ @origin$/),
      expect.stringMatching(/^clone db \.pando\/lineage\/\d+@origin..@y -i$/),
      expect.stringMatching(/^clone web \.pando\/lineage\/\d+@origin..@x -i$/),
    ]);
    expect(planned.conflicts).toEqual([]);
    const after = applyPlan(source, local, planned);
    expect(steps(source, after, newest), 'once they are here').toEqual([]);
    const without = graph('. @r', 'base @a @b @c', 'db < base@b @y');
    const freed = { ...after, datasets: new Map([...after.datasets].filter(([id]) => id !== datasetId('web'))) };
    expect(steps(without, new Graph(ROOT, freed.datasets), newest), 'while one is left').toEqual([]);
    const alone = new Graph(ROOT, new Map([...freed.datasets].filter(([id]) => id !== datasetId('db'))));
    expect(steps(graph('. @r', 'base @a @b @c'), alone, newest), 'behind the last').toEqual([
      expect.stringMatching(/^destroy \.pando\/lineage\/\d+$/),
    ]);
  });

  it('promotes a clone over what came alone for it, when its owner promotes it', () => {
    const before = graph('. @r', 'base @a @b @c', 'web < base@b @x');
    const replica = graph('. @r', 'base @c');
    const local = applyPlan(before, replica, planFor(before, replica, newest));
    const source = afterPromotes(before, 'web');
    const planned = planFor(source, local, newest);
    expect(planned.steps.map(inWords)).toEqual([
      expect.stringMatching(/^promote web over \.pando\/lineage\/\d+$/),
      'rename web@origin → @b',
      expect.stringMatching(/^destroy \.pando\/lineage\/\d+$/),
    ]);
    expect(planned.conflicts).toEqual([]);
  });

  it('lets what is behind a newer snapshot come with a promote, rather than alone', () => {
    const before = graph('. @r', 'base @a @b @c', 'web < base@b @x');
    const source = afterPromotes(before, 'web');
    const web = source.get(datasetId('web')) as Dataset;
    const db = {
      ...web,
      id: datasetId('db'),
      name: 'db' as RelativeName,
      origin: { dataset: web.id, snapshot: (web.snapshots[1] as Snapshot).guid },
      snapshots: web.snapshots.slice(2),
    };
    const cloned = new Graph(ROOT, new Map(source.datasets).set(db.id, db));
    expect(steps(cloned, before)[0]).toBe('promote web over base');
    expect(steps(cloned, before).filter((step) => step.includes('.pando'))).toEqual([]);
  });

  it('has an origin come alone also where its dataset follows another peer', () => {
    const source = graph('. @r', 'base @a @b @c', 'web < base@b @x');
    const local = graph('. @r', 'base @c');
    const others = { ...REPLICA, follows: ({ id }: Dataset) => id !== datasetId('base') };
    const wanted = new Graph(ROOT, new Map([...source.datasets].filter(([id]) => id !== datasetId('base'))));
    const planned = plan({ source, wanted, local, ...others });
    expect(planned.steps.map(inWords)).toEqual([
      expect.stringMatching(/^full \.pando\/lineage\/\d+ @origin$/),
      expect.stringMatching(/^clone web \.pando\/lineage\/\d+@origin..@x -i$/),
    ]);
    expect(planned.waiting, 'as long as that is not past it').toEqual([]);
    const behind = plan({ source, wanted, local: graph('. @r', 'base @a'), ...others });
    expect(behind.waiting).toMatchObject([{ name: 'web', reason: 'origin-waits' }]);
    expect(behind.steps).toEqual([]);
  });

  it('counts what comes alone among what a peer may bring', () => {
    const source = graph('. @r', 'base @a @b @c', 'web < base@b @x');
    const local = graph('. @r', 'base @c');
    const wanted = wantedGraph(source, newest, { local, now: 0 });
    const allowed = (filesystems: number) =>
      plan({ source, wanted, local, ...REPLICA, allowance: { filesystems, snapshots: 100 } });
    expect(allowed(4).conflicts).toEqual([]);
    expect(allowed(3).conflicts).toMatchObject([{ name: 'web', reason: 'limit-reached', limit: 'filesystems' }]);
  });
});

describe('a source that has destroyed what the replica goes on from', () => {
  /** The graph where one of the snapshots is left as a bookmark only. */
  function bookmarked(before: Graph, name: string, label: string): Graph {
    const draft = new GraphDraft(before);
    const snapshots = before.get(datasetId(name))?.snapshots ?? [];
    const { guid, createtxg } = snapshots.find((snapshot) => snapshot.name === label) as Snapshot;
    draft.addBookmark(datasetId(name), { guid, name: 'cursor' as BookmarkName, createtxg });
    draft.destroySnapshot(datasetId(name), guid);
    return draft.finish();
  }

  it('sends an increment from a bookmark of it, and all behind that as one', () => {
    const source = bookmarked(graph('. @r', 'base @a @b @c @d @e'), 'base', 'b');
    expect(steps(source, graph('. @r', 'base @a @b'))).toEqual([
      'incremental base base@b..@c -i',
      'incremental base base@c..@e -I',
    ]);
  });

  it('keeps aside what was taken on the replica behind the bookmark, and goes on from there', () => {
    const source = bookmarked(graph('. @r', 'base @a @b @c'), 'base', 'b');
    expect(steps(source, graph('. @r', 'base @a @b @mine'))).toEqual([
      'preserve base behind @b: mine',
      'incremental base base@b..@c -i',
    ]);
  });

  it('has nothing to do while nothing lies behind the bookmark', () => {
    expect(steps(bookmarked(graph('. @r', 'base @a @b'), 'base', 'b'), graph('. @r', 'base @a @b'))).toEqual([]);
  });

  it('makes no use of a bookmark that is not of the newest snapshot here', () => {
    const source = bookmarked(graph('. @r', 'base @a @b @c @d'), 'base', 'b');
    expect(steps(source, graph('. @r', 'base @a @b @c'))).toEqual(['incremental base base@c..@d -i']);
  });
});
/** What can be wrong with a root: nothing is in common, what is in common hangs off a snapshot that one of the two has destroyed, or people's bookmarks are in the way. */
const FOR_PEOPLE: ReadonlySet<string> = new Set([
  ...['no-common-snapshot', 'written-without-snapshot', 'origin-differs', 'same-bookmarks'],
]);
/** Whether a conflict is one that people have to solve, or follows from one: of what it grew from, or what it lies below. */
function isForPeople(conflict: Conflict | undefined, conflicts: readonly Conflict[], source: Graph): boolean {
  const seen = new Set<Conflict>();
  for (let at = conflict; at !== undefined && !seen.has(at); at = causeOf(at, conflicts, source)) {
    if (FOR_PEOPLE.has(at.reason)) return true;
    seen.add(at);
  }
  return false;
}

function causeOf(conflict: Conflict, conflicts: readonly Conflict[], source: Graph): Conflict | undefined {
  const { dataset: id, reason } = conflict;
  if (reason !== 'origin-missing' && reason !== 'parent-missing') return undefined;
  const needed = reason === 'parent-missing' ? source.named(conflict.parent)?.id : source.get(id)?.origin?.dataset;
  return conflicts.find(({ dataset }) => dataset === needed);
}

/** Events that the owner's history is far from: what is done by hand has ids of its own. */
const BY_HAND = 10_000;
/** Plans after which nothing may be left to do: what makes room for something else does so one plan before. */
const ROUNDS_MAX = 3;

describe('any plan', () => {
  const filters = fc.constantFrom<MirrorRules>(
    EVERYTHING,
    { ...EVERYTHING, keep: { last: 1 } },
    { ...EVERYTHING, only: ['d1*', '*/d2*'] },
    { ...EVERYTHING, except: ['*3*'], keep: { last: 1 } },
  );

  it('turns what is here into what is wanted, for random forests that grow between two syncs', () => {
    fc.assert(
      fc.property(arbitraryHistory(60), arbitraryHistory(60), filters, (before, after, filter) => {
        const forest = startForest();
        let local: Graph = EMPTY_GRAPH;
        for (const history of [before, after]) {
          const source = grow(forest, history);
          const wanted = wantedGraph(source, filter, { local, now: 0 });
          const planned = plan({ source, wanted, local, ...REPLICA });
          const former = local;
          const applied = apply(source, local, planned);
          local = applied.graph;
          // Invariant 1: whatever was here is here still, in its place or aside
          const left = new Set([...guidsOf(local.datasets.values()), ...guidsOf(applied.aside)]);
          expect(guidsOf(former.datasets.values()).filter((guid) => !left.has(guid))).toEqual([]);
          const atRoot = planned.conflicts.filter(({ name }) => name === '');
          expect(atRoot.filter((conflict) => !isForPeople(conflict, planned.conflicts, source))).toEqual([]);
          // What a rule has thinned keeps no clone from coming
          const withoutOrigin = planned.conflicts.filter(({ reason }) => reason === 'origin-missing');
          expect(withoutOrigin.filter((one) => causeOf(one, planned.conflicts, source) === undefined)).toEqual([]);
          const excused = new Set([...planned.conflicts, ...planned.waiting].map(({ dataset }) => dataset));
          const missing = difference(wanted, local).filter(
            (found) =>
              !found.kind.endsWith('-extra') && !excused.has(found.dataset) && !outOfReach(found, source, former),
          );
          expect(missing).toEqual([]);
          expect(plan({ source, wanted, local, ...REPLICA }).steps).toEqual([]);
        }
      }),
      { numRuns: 1_500 },
    );
  });

  it('brings back a replica to which anything was done by hand, its root included, and keeps what only that has', () => {
    const follow = (source: Graph, former: Graph, modified: ReadonlySet<DatasetId>) => {
      const planned = plan({ source, wanted: source, local: former, ...REPLICA, modified });
      const { graph: local, aside } = apply(source, former, planned);
      const left = new Set([...guidsOf(local.datasets.values()), ...guidsOf(aside)]);
      expect(guidsOf(former.datasets.values()).filter((guid) => !left.has(guid))).toEqual([]);
      return { local, planned };
    };
    fc.assert(
      fc.property(
        arbitraryHistory(40),
        arbitraryHistory(10),
        arbitraryHistory(20),
        fc.boolean(),
        (before, mess, after, isWritten) => {
          const forest = startForest();
          const first = grow(forest, before);
          const messy = { graph: applyPlan(first, EMPTY_GRAPH, planFor(first)), seq: BY_HAND };
          let local = messy.graph.datasets.size === 0 ? messy.graph : grow(messy, mess);
          const source = grow(forest, after);
          const written = new Set(isWritten ? local.datasets.keys() : []);
          for (let round = 1; round <= ROUNDS_MAX; round += 1) {
            local = follow(source, local, round === 1 ? written : new Set()).local;
          }
          const { planned } = follow(source, local, new Set());
          expect(planned.steps).toEqual([]);
          const atRoot = planned.conflicts.filter(({ name }) => name === '');
          // What it grew from can have been destroyed by hand
          expect(atRoot.filter(({ reason }) => !FOR_PEOPLE.has(reason) && reason !== 'origin-missing')).toEqual([]);
        },
      ),
      { numRuns: 1_000 },
    );
  });

  it('is made for what was seen while somebody destroyed something, of which the clones are still there, or only their origins', () => {
    const seen = (graph: Graph, gone: readonly number[]): Graph => {
      const draft = new GraphDraft(graph);
      for (const pick of gone) {
        const datasets = [...draft.values()];
        const dataset = datasets[pick % datasets.length];
        const snapshot = dataset?.snapshots[pick % Math.max(1, dataset.snapshots.length)];
        if (dataset === undefined || dataset.name === '') continue;
        if (snapshot === undefined) draft.remove(dataset.id);
        else draft.destroySnapshot(dataset.id, snapshot.guid);
      }
      return draft.finish();
    };
    fc.assert(
      fc.property(
        arbitraryHistory(40),
        arbitraryHistory(20),
        fc.array(fc.nat(1000), { maxLength: 10 }),
        filters,
        (before, after, gone, filter) => {
          const forest = startForest();
          const first = grow(forest, before);
          const local = seen(applyPlan(first, EMPTY_GRAPH, planFor(first)), gone);
          const { steps } = planFor(grow(forest, after), local, filter);
          const promoted = steps.filter(({ kind }) => kind === 'promote').map(({ dataset }) => local.get(dataset));
          for (const clone of promoted) {
            const over = clone?.origin?.dataset == null ? undefined : local.get(clone.origin.dataset);
            if (over !== undefined) expect(snapshotOf(over, clone?.origin?.snapshot as SnapshotGuid)).toBeDefined();
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('has no conflict when a forest only grows', () => {
    fc.assert(
      fc.property(growingHistory(80), growingHistory(40), (before, after) => {
        const forest = startForest();
        const first = grow(forest, before);
        const local = applyPlan(first, EMPTY_GRAPH, planFor(first));
        expect(planFor(grow(forest, after), local).conflicts).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it('is the same for the same input', () => {
    fc.assert(
      fc.property(arbitraryHistory(60), (history) => {
        const source = grow(startForest(), history);
        expect(planFor(source)).toEqual(planFor(source));
      }),
      { numRuns: 50 },
    );
  });
});
