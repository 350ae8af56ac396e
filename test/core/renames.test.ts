/** What a look finds when names were handed round, and snapshots with promotes, several times since the last one. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseEvent, type TreeEventBody } from '../../src/core/events.ts';
import { fold } from '../../src/core/graph/fold.ts';
import { type Dataset, Graph } from '../../src/core/graph/graph.ts';
import type { ObservedDataset } from '../../src/core/graph/observed.ts';
import { reconcile } from '../../src/core/graph/reconcile.ts';
import type { RelativeName } from '../../src/core/ids.ts';
import { datasetId, graph, OWNER, SELF } from './graph-language.ts';

function observed(seen: Graph): ObservedDataset[] {
  return seen.sorted().map(({ id, name, kind, guid, origin, properties, snapshots, bookmarks, holds }) => ({
    ...{ id, name, kind, guid, properties, snapshots, bookmarks, holds, referenced: 1, written: 1 },
    origin: origin && { ...origin, dataset: (origin.dataset && seen.get(origin.dataset)?.name) ?? null },
  }));
}

/** The events of a look, as they are once they have been to a peer. */
function told(before: Graph, seen: Graph): readonly TreeEventBody[] {
  const options = {
    scope: 'tree' as const,
    mint: () => datasetId('new'),
    ownerOf: () => OWNER,
    saidOwnerOf: () => undefined,
    claimOf: () => undefined,
    self: SELF,
  };
  const { events } = reconcile(before, observed(seen), options);
  const place = { v: 1, at: 1, cause: 'observed' } as const;
  const stored = events.map((body, index) => parseEvent({ ...place, seq: index + 1, ...body }));
  expect(shape(fold(before, stored))).toEqual(shape(seen));
  return events;
}

function shape(one: Graph) {
  return one
    .sorted()
    .map(({ id, name, origin, snapshots }) => ({ id, name, origin, guids: snapshots.map((s) => s.guid) }));
}

/** Where each of some datasets lies: below which of those before it, in which order they were put there. */
const placement = fc
  .uniqueArray(fc.nat(9), { minLength: 1, maxLength: 10 })
  .chain((labels) =>
    fc.tuple(fc.constant(labels), fc.array(fc.nat(), { minLength: labels.length, maxLength: labels.length })),
  );

/** Names are few, so that most of them are handed on. */
function placed([labels, parents]: readonly [readonly number[], readonly number[]]): Graph {
  const names = [''];
  const lines = labels.map((label, index) => {
    const parent = names[(parents[index] as number) % names.length] as string;
    const below = names.filter((name) => name !== '' && name.slice(0, Math.max(0, name.lastIndexOf('/'))) === parent);
    const leaf = 'abcdefghij'[below.length] as string;
    const name = parent === '' ? leaf : `${parent}/${leaf}`;
    names.push(name);
    return `${name}#d${label} @1`;
  });
  return graph('. @r', ...lines);
}

/** Snapshots have the same place in time wherever they are seen. */
function withSnapshotsOf(seen: Graph, known: Graph): Graph {
  const datasets = Array.from(seen.datasets.values(), (one): [Dataset['id'], Dataset] => [
    one.id,
    { ...one, snapshots: known.get(one.id)?.snapshots ?? one.snapshots },
  ]);
  return new Graph(seen.root, new Map(datasets));
}

/** The same names, but one of the datasets has changed places with the root. */
function exchanged(seen: Graph, pick: number): Graph {
  const all = seen.sorted();
  const root = all[0] as Dataset;
  const other = all[pick % all.length] as Dataset;
  const datasets = new Map(seen.datasets);
  datasets.set(root.id, { ...root, name: other.name });
  return new Graph(seen.root, datasets.set(other.id, { ...other, name: root.name }));
}

describe('a look', () => {
  it('finds every dataset also where another is the root', () => {
    fc.assert(
      fc.property(placement, fc.nat(), placement, fc.nat(), (one, pick, other, otherPick) => {
        const before = exchanged(placed(one), pick);
        told(before, withSnapshotsOf(exchanged(placed(other), otherPick), before));
      }),
      { numRuns: 300 },
    );
  });

  it('finds every dataset under its name, however the names were handed round since the last', () => {
    fc.assert(
      fc.property(placement, placement, (one, other) => {
        const before = placed(one);
        told(before, withSnapshotsOf(placed(other), before));
      }),
      { numRuns: 300 },
    );
  });

  it('finds one that went below what has its own former name', () => {
    const events = told(graph('. @r', 'd @1', 'd/x @1'), graph('. @r', 'd#new @1', 'd/e#d @1', 'd/e/x#d/x @1'));
    expect(events.map(({ type }) => type)).not.toContain('dataset.destroyed');
  });

  it('finds one where it was although what lay above it has another name, and something new has that', () => {
    const before = graph('. @r', 'a @1', 'a/b @1');
    const events = told(before, withSnapshotsOf(graph('. @r', 'a#new @1', 'a/b @1', 'b#a @1'), before));
    expect(events.map(({ type }) => type)).not.toContain('dataset.destroyed');
  });

  it('tells of swapped names as names that every peer takes, however long they are', () => {
    const [a, b] = ['a'.repeat(240), 'b'.repeat(240)] as [RelativeName, RelativeName];
    const before = graph('. @r', `${a}#x @1`, `${b}#y @1`);
    const events = told(before, withSnapshotsOf(graph('. @r', `${a}#y @1`, `${b}#x @1`), before));
    expect(events.map(({ type }) => type)).toEqual(Array.from({ length: 3 }, () => 'dataset.renamed'));
  });

  it('tells promotes of a chain, each after the one before', () => {
    const before = graph('. @r', 'a @1', 'b < a@1 @2', 'c < b@2 @3');
    const [a, b, c] = ['a', 'b', 'c'].map((name) => before.named(name as RelativeName) as Dataset) as [
      Dataset,
      Dataset,
      Dataset,
    ];
    const [first, second] = [a.snapshots[0]?.guid, b.snapshots[0]?.guid] as [never, never];
    const seen = new Graph(
      before.root,
      new Map([...before.datasets])
        .set(a.id, { ...a, snapshots: [], origin: { dataset: c.id, snapshot: first } })
        .set(b.id, { ...b, snapshots: [], origin: { dataset: c.id, snapshot: second } })
        .set(c.id, { ...c, snapshots: [...a.snapshots, ...b.snapshots, ...c.snapshots], origin: null }),
    );
    expect(told(before, seen).map(({ type }) => type)).toEqual(['dataset.promoted', 'dataset.promoted']);
  });
});
