import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Difference, difference } from '../../src/core/graph/difference.ts';
import { type Dataset, EMPTY_GRAPH, Graph } from '../../src/core/graph/graph.ts';
import type { DatasetId, DatasetName, SnapshotName } from '../../src/core/ids.ts';
import { EVERYTHING, type MirrorFilter, wantedGraph } from '../../src/core/plan/filter.ts';
import { plan } from '../../src/core/plan/plan.ts';
import { isReceive, type Plan, type Step } from '../../src/core/plan/steps.ts';
import { applyPlan } from './apply-plan.ts';
import { arbitraryHistory, grow, startForest } from './forest.ts';
import { datasetId, graph } from './graph-language.ts';

function planFor(source: Graph, local: Graph = EMPTY_GRAPH, filter: MirrorFilter = EVERYTHING): Plan {
  return plan({ source, wanted: wantedGraph(source, filter), local });
}

/** The graph with one snapshot under another name. */
function renamed(before: Graph, from: string, to: string): Graph {
  const datasets = Array.from(before.datasets, ([id, dataset]): [DatasetId, Dataset] => {
    const snapshots = dataset.snapshots.map((one) => (one.name === from ? { ...one, name: to as SnapshotName } : one));
    return [id, { ...dataset, snapshots }];
  });
  return new Graph(before.root, new Map(datasets));
}

/** A step in a line: `clone web base@b..@d -I`. */
function inWords(step: Step): string {
  const name = step.name === '' ? '.' : step.name;
  if (step.kind === 'rename') return `rename ${step.from} → ${name}`;
  if (step.kind === 'create-placeholder') return `placeholder ${name}`;
  const how = 'intermediates' in step ? (step.intermediates ? ' -I' : ' -i') : '';
  const base = 'base' in step ? `${step.base.name === '' ? '.' : step.base.name}@${step.base.snapshot.name}..` : '';
  return `${step.kind.replace('receive-', '')} ${name} ${base}@${step.to.name}${how}`;
}

function steps(source: Graph, local?: Graph, filter?: MirrorFilter): string[] {
  return planFor(source, local, filter).steps.map(inWords);
}

/** A snapshot that became wanted only after the replica had gone past it: nothing older can be received any more. */
function outOfReach(found: Difference, source: Graph, before: Graph): boolean {
  if (found.kind !== 'snapshot-missing') return false;
  const snapshots = source.get(found.dataset)?.snapshots ?? [];
  const newest = before.get(found.dataset)?.snapshots.at(-1)?.guid;
  const position = (guid: string | undefined) => snapshots.findIndex((snapshot) => snapshot.guid === guid);
  return position(found.guid) < position(newest);
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

  it('receives a clone in full when its origin lies outside the tree', () => {
    expect(steps(graph('. @r', 'web < elsewhere@a @c @d'))).toEqual([
      'full . @r',
      'full web @c',
      'incremental web web@c..@d -i',
    ]);
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
    expect(planFor(same, same)).toEqual({ steps: [], conflicts: [], waiting: [], estimatedBytes: 0 });
  });

  it('continues from the newest snapshot here', () => {
    expect(steps(graph('. @a @b @c'), graph('. @a'))).toEqual(['incremental . .@a..@c -I']);
  });

  it('does not mind older snapshots that only one side has', () => {
    expect(steps(graph('. @b @c'), graph('. @a @b'))).toEqual(['incremental . .@b..@c -i']);
  });

  it('renames without sending data, parents first, and increments under the new name', () => {
    const local = graph('. @r', 'old#dir @a', 'old/web#web @b');
    expect(steps(graph('. @r', 'new#dir @a', 'new/web#web @b @c'), local)).toEqual([
      'rename old → new',
      'incremental new/web new/web@b..@c -i',
    ]);
  });

  it('receives a full stream over its own placeholder', () => {
    const before = graph('.', 'base @a');
    const local = applyPlan(before, EMPTY_GRAPH, planFor(before));
    const planned = planFor(graph('. @r', 'base @a'), local);
    expect(planned.steps).toMatchObject([{ kind: 'receive-full', name: '', overPlaceholder: true }]);
  });
});

describe('a conflict', () => {
  it('names the snapshots that only the replica has, and leaves the other datasets to go on', () => {
    const planned = planFor(graph('. @r', 'a @1 @2', 'b @1 @2'), graph('. @r', 'a @1 @mine', 'b @1'));
    expect(planned.conflicts).toEqual([
      { dataset: datasetId('a'), name: 'a', reason: 'diverged', lastCommon: '1', localOnly: ['mine'] },
    ]);
    expect(planned.steps.map(inWords)).toEqual(['incremental b b@1..@2 -i']);
  });

  it('is found before a byte is sent when a snapshot here has the name of another one to come', () => {
    const local = graph('. @r', 'a @daily @base');
    const planned = planFor(renamed(graph('. @r', 'a @base @fresh @later', 'b @1'), 'fresh', 'daily'), local);
    expect(planned.conflicts).toEqual([
      { dataset: datasetId('a'), name: 'a', reason: 'snapshot-name-taken', snapshot: 'daily' },
    ]);
    expect(planned.steps.map(inWords)).toEqual(['full b @1']);
  });

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

  it('is reported when something else has the name', () => {
    const planned = planFor(graph('. @r', 'a @1'), graph('. @r', 'a#other @1'));
    expect(planned.conflicts).toMatchObject([{ name: 'a', reason: 'name-taken', by: datasetId('other') }]);
  });

  it('is reported for all below a dataset that cannot come', () => {
    const planned = planFor(graph('. @r', 'a @1', 'a/b @1'), graph('. @r', 'a#other @1'));
    expect(planned.conflicts.map(({ name, reason }) => `${name} ${reason}`)).toEqual([
      'a name-taken',
      'a/b parent-missing',
    ]);
  });

  it('is reported when the replica of a clone hangs off another origin', () => {
    const source = graph('. @r', 'base @a @b', 'web < base@b @c @d');
    const planned = planFor(source, graph('. @r', 'base @a @b', 'web < base@a @c'));
    expect(planned.conflicts).toMatchObject([{ name: 'web', reason: 'origin-differs' }]);
  });

  it('is reported when names were swapped, and nothing is renamed', () => {
    const planned = planFor(graph('. @r', 'b#a @1', 'a#b @1'), graph('. @r', 'a @1', 'b @1'));
    expect(planned.conflicts.map(({ name, reason }) => `${name} ${reason}`).sort()).toEqual([
      'a rename-blocked',
      'b rename-blocked',
    ]);
    expect(planned.steps).toEqual([]);
  });
});

describe('a mirror of the newest snapshots', () => {
  const newest: MirrorFilter = { only: [], except: [], snapshots: 'newest' };

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
});

describe('any plan', () => {
  const filters = fc.constantFrom<MirrorFilter>(
    EVERYTHING,
    { only: [], except: [], snapshots: 'newest' },
    { only: ['d1*', '*/d2*'], except: [], snapshots: 'all' },
    { only: [], except: ['*3*'], snapshots: 'newest' },
  );

  it('turns what is here into what is wanted, for random forests that grow between two syncs', () => {
    fc.assert(
      fc.property(arbitraryHistory(60), arbitraryHistory(60), filters, (before, after, filter) => {
        const forest = startForest();
        let local: Graph = EMPTY_GRAPH;
        for (const history of [before, after]) {
          const source = grow(forest, history);
          const wanted = wantedGraph(source, filter);
          const planned = plan({ source, wanted, local });
          const former = local;
          local = applyPlan(source, local, planned);
          const excused = new Set([...planned.conflicts, ...planned.waiting].map(({ dataset }) => dataset));
          const left = difference(wanted, local).filter(
            (found) =>
              !found.kind.endsWith('-extra') && !excused.has(found.dataset) && !outOfReach(found, source, former),
          );
          expect(left).toEqual([]);
          expect(plan({ source, wanted, local }).steps).toEqual([]);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('has no conflict when a forest only grows', () => {
    fc.assert(
      fc.property(arbitraryHistory(80), arbitraryHistory(40), (before, after) => {
        const forest = startForest({ destroys: false });
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
