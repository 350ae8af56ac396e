import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EVENT_VERSION, type Ownership, type Properties, type TreeEventBody } from '../../src/core/events.ts';
import { difference } from '../../src/core/graph/difference.ts';
import { GraphDraft } from '../../src/core/graph/draft.ts';
import { fold } from '../../src/core/graph/fold.ts';
import { type Dataset, Graph } from '../../src/core/graph/graph.ts';
import type { ObservationScope, ObservedDataset } from '../../src/core/graph/observed.ts';
import { reconcile } from '../../src/core/graph/reconcile.ts';
import type { RelativeName } from '../../src/core/ids.ts';
import { OWNER_PROPERTY, ownerMark } from '../../src/core/ownership.ts';
import { REPLICA_PROPERTIES } from '../../src/core/replica-marks.ts';
import { asEvent } from '../log/bodies.ts';
import { arbitraryHistory, grow, startForest } from './forest.ts';
import { datasetId, graph, OWNER, SELF } from './graph-language.ts';

/** What ZFS shows when it is as the graph says, of all datasets or of some. */
function shown(seen: Graph, scope: ObservationScope): ObservedDataset[] {
  return seen
    .sorted()
    .filter(({ name }) => scope === 'tree' || scope.has(name))
    .map(({ id, name, kind, guid, origin, properties, snapshots, bookmarks, holds }) => ({
      ...{ id, name, kind, guid, properties, snapshots, bookmarks, holds, referenced: 0, written: 1 },
      origin:
        origin === null
          ? null
          : {
              dataset: origin.dataset === null ? null : (seen.get(origin.dataset)?.name ?? null),
              snapshot: origin.snapshot,
            },
    }));
}

function told(
  before: Graph,
  now: Graph,
  {
    scope = 'tree',
    said,
    claim,
  }: { readonly scope?: ObservationScope; readonly said?: Ownership; readonly claim?: Ownership } = {},
): readonly TreeEventBody[] {
  const { events } = reconcile(before, shown(now, scope), {
    scope,
    mint: () => datasetId('fresh'),
    ownerOf: () => OWNER,
    saidOwnerOf: () => said,
    claimOf: () => claim,
    self: SELF,
  });
  return events;
}

describe('a look at some datasets', () => {
  const before = graph('base @a @b', 'web < base@a @c');
  const promoted = graph('base < web@a @b', 'web @a=a @c');
  const web = promoted.get(datasetId('web'));
  const base = before.get(datasetId('base'));
  // The snapshot that went over is the same one
  const after = {
    ...promoted,
    sorted: () =>
      promoted.sorted().map((dataset) => {
        if (dataset.id === web?.id) {
          const moved = base?.snapshots.slice(0, 1) ?? [];
          return { ...dataset, snapshots: [...moved, ...dataset.snapshots.slice(1)] };
        }
        return {
          ...dataset,
          origin: { dataset: datasetId('web'), snapshot: base?.snapshots[0]?.guid ?? expect.fail() },
        };
      }),
    get: promoted.get.bind(promoted),
  } as Graph;

  it('tells a promote that it shows whole', () => {
    expect(told(before, after).map(({ type }) => type)).toEqual(['dataset.promoted']);
  });

  it('tells anew what came in the place of another under its id, also where its origin is not shown', () => {
    const known = graph('base @a', 'old#web @x');
    const now = graph('base @a', 'web < base@a @c');
    const web = { ...(now.get(datasetId('web')) ?? expect.fail()), guid: '77' };
    const seen = new Graph(now.root, new Map(now.datasets).set(web.id, web));
    const events = told(known, seen, { scope: new Set(['web' as RelativeName]) });
    expect(events.map(({ type }) => type)).toEqual([
      'dataset.renamed',
      'dataset.destroyed',
      'dataset.created',
      'snapshot.created',
    ]);
    expect(difference(now, fold(known, events.map(asEvent)))).toEqual([]);
  });

  it('tells nothing of a promote of which it shows only the side that lost by it: what is missing would contradict it', () => {
    expect(told(before, after, { scope: new Set(['base' as RelativeName]) })).toEqual([]);
  });
});

/** Clones that hang off a snapshot which the graph has nowhere. */
function dangling(of: Graph): string[] {
  return of.sorted().flatMap(({ name, origin }) => {
    const parent = origin?.dataset == null ? undefined : of.get(origin.dataset);
    const isThere = parent?.snapshots.some(({ guid }) => guid === origin?.snapshot) === true;
    return origin?.dataset == null || isThere ? [] : [name];
  });
}

describe('a look at what was cloned and promoted since', () => {
  const before = graph('base @a @b', 'web < base@b @c', 'old < base@a');
  const draft = new GraphDraft(graph('base @a @b', 'web < base@b @c', 'old < base@a', 'next < base@b'));
  draft.promote(datasetId('next'));
  const after = draft.finish();
  const folded = (scope: ObservationScope): Graph => fold(before, told(before, after, { scope }).map(asEvent));

  it('tells that, and nothing of what else hung off there', () => {
    expect(told(before, after).map(({ type }) => type)).toEqual(['dataset.created', 'dataset.promoted']);
    expect(difference(after, folded('tree'))).toEqual([]);
  });

  it('leaves no clone without its origin, though it shows only the two', () => {
    const seen = folded(new Set(['base', 'next'] as RelativeName[]));
    expect(difference(after, seen)).toEqual([]);
    expect(dangling(seen)).toEqual([]);
  });

  it('tells of the snapshot, too, that was taken for it', () => {
    const known = graph('base @a', 'old < base@a');
    const taken = new GraphDraft(graph('base @a @n', 'old < base@a', 'next < base@n'));
    taken.promote(datasetId('next'));
    for (const scope of ['tree', new Set(['base', 'next'] as RelativeName[])] as const) {
      const events = told(known, taken.finish(), { scope });
      expect(events.map(({ type }) => type)).toEqual(['snapshot.created', 'dataset.created', 'dataset.promoted']);
      const seen = fold(known, events.map(asEvent));
      expect(difference(taken.finish(), seen)).toEqual([]);
      expect(dangling(seen)).toEqual([]);
    }
  });

  it('takes it for a clone of what it shares most with, whichever is shown first', () => {
    const known = graph('base @a @b', 'web < base@a @c', 'old < web@c');
    const later = new GraphDraft(known);
    later.promote(datasetId('web'));
    const [web, top] = [later.get(datasetId('web')), graph('x').named('x' as RelativeName)];
    later.add({
      ...(top ?? expect.fail()),
      snapshots: [],
      origin: { dataset: datasetId('web'), snapshot: web?.snapshots[1]?.guid ?? expect.fail() },
    });
    later.promote(datasetId('x'));
    const now = later.finish();
    const events = told(known, now, { scope: new Set(['base', 'web', 'x'] as RelativeName[]) });
    expect(events.map(({ type }) => type)).toEqual(['dataset.created', 'dataset.promoted', 'dataset.promoted']);
    const seen = fold(known, events.map(asEvent));
    expect(difference(now, seen)).toEqual([]);
    expect(dangling(seen)).toEqual([]);
  });

  it('takes a copy of it for what it is: that has the same snapshots, and so has the original', () => {
    const now = graph('base @a @b', 'web < base@b @c', 'old < base@a', 'copy @x');
    const copied = { ...now.named('copy' as RelativeName), snapshots: now.named('base' as RelativeName)?.snapshots };
    const datasets = new Map(now.datasets).set(datasetId('copy'), copied as Dataset);
    expect(told(before, new Graph(now.root, datasets)).map(({ type }) => type)).toEqual([
      ...['dataset.created', 'snapshot.created', 'snapshot.created'],
    ]);
  });

  it('tells of one promote after the other, and of names that were given on', () => {
    const later = new GraphDraft(after);
    later.rename(datasetId('next'), 'between' as RelativeName);
    later.rename(datasetId('base'), 'next' as RelativeName);
    later.rename(datasetId('next'), 'base' as RelativeName);
    const origin = { dataset: datasetId('next'), snapshot: after.named('old' as RelativeName)?.origin?.snapshot };
    const top = graph('top').named('top' as RelativeName) ?? expect.fail();
    later.add({ ...top, snapshots: [], origin: origin as Dataset['origin'] });
    later.promote(top.id);
    const now = later.finish();
    const events = told(before, now);
    expect(events.map(({ type }) => type).filter((type) => type !== 'dataset.renamed')).toEqual([
      ...['dataset.created', 'dataset.promoted', 'dataset.created', 'dataset.promoted'],
    ]);
    expect(difference(now, fold(before, events.map(asEvent)))).toEqual([]);
  });
});

describe('a look at both sides of a promote, one of which is another dataset by now', () => {
  it('tells both anew, so that neither hangs off the other twice', () => {
    const before = graph('base#old @a @b', 'web < base@a @c');
    const now = graph('base#old < web@a', 'web @a @c');
    const replaced = {
      ...now,
      get: now.get.bind(now),
      sorted: () => now.sorted().map((one) => (one.name === 'base' ? { ...one, guid: '77' } : one)),
    } as Graph;
    const scope = new Set(['base', 'web'] as RelativeName[]);
    const after = fold(
      before,
      told(before, replaced, { scope }).map((body, index) => ({
        v: EVENT_VERSION,
        seq: index + 1,
        at: 1,
        cause: 'observed' as const,
        ...body,
      })),
    );
    const origins = after.sorted().map(({ name, origin }) => [name, origin?.dataset ?? null]);
    expect(origins).toEqual([
      ['base', datasetId('web')],
      ['web', null],
    ]);
  });
});

describe('a look at two clones that both show the snapshot that one of them hung off', () => {
  it('tells of no promote: somebody has made a copy', () => {
    const known = graph('c @x', 'b < c@x @s', 'a < b@s @t');
    const draft = new GraphDraft(known);
    draft.promote(datasetId('a'));
    const moved = draft.get(datasetId('a'))?.snapshots[0] ?? expect.fail();
    draft.change(datasetId('b')).snapshots.push(moved);
    draft.change(datasetId('b')).origin = {
      dataset: datasetId('c'),
      snapshot: known.get(datasetId('b'))?.origin?.snapshot ?? expect.fail(),
    };
    const now = draft.finish();
    const events = told(known, now);
    expect(events.map(({ type }) => type)).not.toContain('dataset.promoted');
    expect(difference(now, fold(known, events.map(asEvent)))).toEqual([]);
  });
});

describe('what a peer says of who owns a dataset', () => {
  const tree = graph('base @a');
  const other: Ownership = { node: SELF, epoch: 1 };

  it('is taken over where this node had it otherwise', () => {
    expect(told(tree, tree, { said: other })).toEqual([
      { type: 'ownership.claimed', dataset: datasetId('base'), owner: other },
    ]);
  });

  it('is taken over of a dataset that has to be told anew, too', () => {
    const now = graph('base @a', 'web < base@a', 'old @x');
    expect(told(graph('base @a', 'web < old@x', 'old @x'), now, { said: other })).toContainEqual(
      expect.objectContaining({ type: 'dataset.created', dataset: datasetId('web'), owner: other }),
    );
  });

  it('is nothing new where this node says the same, nor where nobody says anything', () => {
    expect([...told(tree, tree, { said: OWNER }), ...told(tree, tree)]).toEqual([]);
  });

  it('does not count where it is of an earlier epoch, or about what this node owns itself', () => {
    const datasets = (owner: Ownership) => new Map(Array.from(tree.datasets, ([id, one]) => [id, { ...one, owner }]));
    const owned = (owner: Ownership): Graph => Object.assign(Object.create(tree), { datasets: datasets(owner) });
    expect(told(owned({ ...OWNER, epoch: 2 }), tree, { said: other })).toEqual([]);
    expect(told(owned({ node: SELF, epoch: 1 }), tree, { said: OWNER })).toEqual([]);
  });

  it('confirms a guess, and corrects one of its own only where nobody can write to it', () => {
    const owned = (owner: Ownership, properties: Properties = {}): Graph =>
      new Graph(tree.root, new Map(Array.from(tree.datasets, ([id, one]) => [id, { ...one, owner, properties }])));
    const guessed = { ...OWNER, isGuess: true } as const;
    expect(told(owned(guessed), tree, { said: OWNER })).toMatchObject([{ owner: OWNER }]);
    expect(told(owned(OWNER), tree, { said: { ...other, isGuess: true } }), 'by another guess').toEqual([]);
    const mine = { ...other, isGuess: true } as const;
    const marks = REPLICA_PROPERTIES.filesystem;
    expect(told(owned(mine, marks), owned(mine, marks), { said: OWNER })).toMatchObject([{ owner: OWNER }]);
    const writable = { ...marks, readonly: 'off' };
    expect(told(owned(mine, writable), owned(mine, writable), { said: OWNER })).toEqual([]);
  });
});

describe('a dataset that carries that this node took it over', () => {
  const tree = graph('base @a');
  const taken = { node: SELF, epoch: 3 };
  const properties = { [OWNER_PROPERTY]: ownerMark(taken) };
  const known = (owner: Ownership) =>
    new Graph(tree.root, new Map(Array.from(tree.datasets, ([id, one]) => [id, { ...one, owner, properties }])));

  it("is this node's, though its log knows nothing of that, or nothing of the dataset", () => {
    expect(told(known(OWNER), known(OWNER), { said: OWNER })).toEqual([
      { type: 'ownership.claimed', dataset: datasetId('base'), owner: taken },
    ]);
    const empty = new Graph(tree.root, new Map());
    expect(told(empty, known(OWNER), { said: OWNER })).toContainEqual(
      expect.objectContaining({ type: 'dataset.created', dataset: datasetId('base'), owner: taken }),
    );
  });

  it('is not where somebody took it over since', () => {
    const later = known({ ...OWNER, epoch: 4 });
    expect(told(later, later)).toEqual([]);
  });
});

describe('a claim of a peer that may take datasets over', () => {
  const tree = graph('base @a');
  const claim: Ownership = { ...OWNER, epoch: 2 };

  /** The tree, owned by that node, and whether anybody can write to it. */
  function owned(owner: Ownership, readonly: 'on' | 'off'): Graph {
    const properties = { readonly };
    return new Graph(tree.root, new Map(Array.from(tree.datasets, ([id, one]) => [id, { ...one, owner, properties }])));
  }

  it("takes this node's own dataset once nobody can write to it here, and not before", () => {
    const mine = { node: SELF, epoch: 1 };
    expect(told(owned(mine, 'off'), owned(mine, 'off'), { claim })).toEqual([]);
    expect(told(owned(mine, 'on'), owned(mine, 'on'), { claim })).toEqual([
      { type: 'ownership.claimed', dataset: datasetId('base'), owner: claim },
    ]);
  });

  it('goes before what the owner itself says, and never back to an earlier epoch', () => {
    const theirs = owned(OWNER, 'on');
    expect(told(theirs, theirs, { claim, said: OWNER })).toMatchObject([{ owner: claim }]);
    const later = owned({ ...OWNER, epoch: 3 }, 'on');
    expect(told(later, later, { claim })).toEqual([]);
  });
});

describe('a look at a whole tree', () => {
  /** What a graph says that a look can find out. */
  function facts(of: Graph): unknown[] {
    return of
      .sorted()
      .map(({ id, name, origin, snapshots, bookmarks }) => ({ id, name, origin, snapshots, bookmarks }));
  }

  it('after whatever people did tells what leads there, bookmarks too', () => {
    fc.assert(
      fc.property(arbitraryHistory(60), arbitraryHistory(40), (earlier, later) => {
        const forest = startForest();
        const before = grow(forest, earlier);
        const now = grow(forest, later);
        const after = fold(before, told(before, now).map(asEvent));
        expect(facts(after)).toEqual(facts(now));
        expect(dangling(after)).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});
