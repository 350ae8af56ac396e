import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lastTimestampAt, nextTimestamp, unixMsOf } from '../../src/core/clock.ts';
import type { EventBody } from '../../src/core/events.ts';
import { Fold, fold } from '../../src/core/graph/fold.ts';
import {
  compareNames,
  dependentsOf,
  EMPTY_GRAPH,
  type Graph,
  newestSnapshot,
  requireDataset,
  snapshotOf,
} from '../../src/core/graph/graph.ts';
import type { BookmarkName, DatasetId, RelativeName, SnapshotGuid, SnapshotName } from '../../src/core/ids.ts';
import {
  asEvent,
  contentsOf,
  datasetCreated,
  datasetId,
  fittingBodies,
  smallTree,
  snapshot,
  snapshotCreated,
  treeAdded,
} from '../log/bodies.ts';

function graphOf(...bodies: readonly EventBody[]): Graph {
  return fold(EMPTY_GRAPH, bodies.map(asEvent));
}

function grown(graph: Graph, ...bodies: readonly EventBody[]): Graph {
  return fold(graph, bodies.map(asEvent));
}

const guid = (number: number): SnapshotGuid => snapshot(number).guid;
const named = (text: string) => text as RelativeName;
const clone = (number: number, name: string, of: number, at: number) =>
  datasetCreated(number, name, { dataset: datasetId(of), snapshot: guid(at) });

function guidsOf(graph: Graph): SnapshotGuid[] {
  return [...graph.datasets.values()].flatMap(({ snapshots }) => snapshots.map((each) => each.guid)).sort();
}

/** A bookmark of a snapshot of dataset 1. */
function bookmarkCreated(number: number, name: string): EventBody {
  const { guid: of, createtxg } = snapshot(number);
  return {
    type: 'bookmark.created',
    dataset: datasetId(1),
    bookmark: { guid: of, name: name as BookmarkName, createtxg },
  };
}

function bookmarksOf(graph: Graph, number: number): string[] {
  return (graph.get(datasetId(number))?.bookmarks ?? []).map(({ name }) => name);
}

const imageTagged = (name: string, config = '{}'): EventBody => ({
  type: 'image.tagged',
  name,
  manifest: null,
  config,
  layers: [],
});

/** Clones whose origin is not where they say. */
function orphansOf(graph: Graph): DatasetId[] {
  const clones = [...graph.datasets.values()].filter(({ origin }) => origin?.dataset != null);
  return clones
    .filter(({ origin }) => {
      const source = graph.get(origin?.dataset as DatasetId);
      return source === undefined || snapshotOf(source, origin?.snapshot as SnapshotGuid) === undefined;
    })
    .map(({ id }) => id);
}

/** `name [snapshots] < origin`, in order of names. */
function linesOf(graph: Graph): string[] {
  return graph.sorted().map(({ name, snapshots, origin }) => {
    const from =
      origin === null ? '' : ` < ${graph.get(origin.dataset as DatasetId)?.name}@${origin.snapshot.slice(-1)}`;
    return `${name} [${snapshots.map((each) => each.name).join(' ')}]${from}`;
  });
}

describe('an event that nobody has validated', () => {
  it('is refused by its number, whatever is missing in it', () => {
    const whole = snapshotCreated(1, 3);
    for (const field of ['dataset', 'snapshot'] as const) {
      const { [field]: _missing, ...rest } = whole as Extract<EventBody, { type: 'snapshot.created' }>;
      const events = [...smallTree(2), rest as EventBody].map(asEvent);
      expect(() => fold(EMPTY_GRAPH, events)).toThrow(expect.objectContaining({ code: 'EVENT_INVALID' }));
    }
  });
});

describe('Folding events', () => {
  it('knows where the tree is kept from when it is added until it is removed', () => {
    const graph = graphOf(...smallTree(2));
    expect(graph.root).toBe('tank/images');
    const removed = grown(graph, { type: 'tree.removed' });
    expect(contentsOf(removed)).toEqual(contentsOf(EMPTY_GRAPH));
  });

  it('leaves the graph that went in as it was', () => {
    fc.assert(
      fc.property(fittingBodies, fc.nat(60), (bodies, cut) => {
        const events = bodies.map(asEvent);
        const before = fold(EMPTY_GRAPH, events.slice(0, cut));
        const contents = structuredClone(contentsOf(before));
        fold(before, events.slice(cut));
        expect(contentsOf(before)).toEqual(contents);
      }),
    );
  });

  it('gives the same graph in one go and in any parts', () => {
    fc.assert(
      fc.property(fittingBodies, fc.integer({ min: 1, max: 7 }), (bodies, size) => {
        const events = bodies.map(asEvent);
        const whole = contentsOf(fold(EMPTY_GRAPH, events));
        let inParts = EMPTY_GRAPH;
        const progressing = new Fold(EMPTY_GRAPH);
        for (let start = 0; start < events.length; start += size) {
          inParts = fold(inParts, events.slice(start, start + size));
          progressing.add(events.slice(start, start + size));
        }
        expect(contentsOf(inParts)).toEqual(whole);
        expect(contentsOf(progressing.finish())).toEqual(whole);
      }),
    );
  });

  it('keeps snapshots in the order of their transaction groups, whatever order they are told in', () => {
    const graph = graphOf(
      treeAdded(),
      datasetCreated(1),
      ...[3, 1, 4, 2, 5].map((number) => snapshotCreated(1, number)),
    );
    expect(linesOf(graph)).toEqual(['d1 [s1 s2 s3 s4 s5]']);
  });

  it('renames a dataset and all below it, and nothing that is only called alike', () => {
    const graph = grown(
      graphOf(datasetCreated(1, 'a'), datasetCreated(2, 'a/b'), datasetCreated(3, 'a/b/c'), datasetCreated(4, 'a/bc')),
      { type: 'dataset.renamed', dataset: datasetId(2), from: named('a/b'), to: named('x') },
    );
    expect(linesOf(graph)).toEqual(['a []', 'a/bc []', 'x []', 'x/c []']);
  });

  it('destroys a dataset, a snapshot, and renames a snapshot', () => {
    const graph = grown(
      graphOf(...smallTree(3), datasetCreated(2)),
      { type: 'snapshot.destroyed', dataset: datasetId(1), guid: guid(2), name: 's2' as SnapshotName },
      {
        type: 'snapshot.renamed',
        dataset: datasetId(1),
        guid: guid(3),
        from: 's3' as SnapshotName,
        to: 'new' as SnapshotName,
      },
      { type: 'dataset.destroyed', dataset: datasetId(2), name: named('d2') },
    );
    expect(linesOf(graph)).toEqual(['d1 [s1 new]']);
  });

  it('keeps bookmarks in the order of their snapshots, and without those', () => {
    const graph = grown(
      graphOf(...smallTree(3)),
      bookmarkCreated(2, 'second'),
      bookmarkCreated(1, 'z'),
      bookmarkCreated(1, 'a'),
      { type: 'snapshot.destroyed', dataset: datasetId(1), guid: guid(1), name: 's1' as SnapshotName },
      { type: 'bookmark.destroyed', dataset: datasetId(1), guid: guid(1), name: 'z' as BookmarkName },
    );
    expect(bookmarksOf(graph, 1)).toEqual(['a', 'second']);
  });

  it('destroys with a rollback the bookmarks of what goes', () => {
    const graph = grown(graphOf(...smallTree(3)), bookmarkCreated(1, 'first'), bookmarkCreated(3, 'third'), {
      type: 'dataset.rolled-back',
      dataset: datasetId(1),
      to: guid(2),
      name: 's2' as SnapshotName,
    });
    expect(bookmarksOf(graph, 1)).toEqual(['first']);
  });

  it('sets properties and lets them be inherited again', () => {
    const graph = grown(graphOf(...smallTree(0)), {
      type: 'dataset.properties-changed',
      dataset: datasetId(1),
      changed: { compression: null, quota: '1G', note: '' },
    });
    expect(graph.get(datasetId(1))?.properties).toEqual({ quota: '1G', note: '' });
  });

  it('hands a dataset to another owner', () => {
    const owner = { node: graphOf(...smallTree(0)).get(datasetId(1))?.owner.node ?? expect.fail(), epoch: 9 };
    const graph = grown(graphOf(...smallTree(0)), { type: 'ownership.claimed', dataset: datasetId(1), owner });
    expect(graph.get(datasetId(1))?.owner).toEqual(owner);
  });

  it('passes over facts about the node and types of later versions', () => {
    const graph = graphOf(...smallTree(1));
    const peerRemoved = { type: 'peer.removed', peer: graph.get(datasetId(1))?.owner.node ?? expect.fail() } as const;
    expect(contentsOf(grown(graph, peerRemoved))).toEqual(contentsOf(graph));
    const unknown = { v: 1, seq: 1, at: 1, cause: 'observed', type: 'unknown', originalType: 'x.y' } as const;
    expect(contentsOf(fold(graph, [unknown]))).toEqual(contentsOf(graph));
  });

  describe('a promote', () => {
    const family = graphOf(
      treeAdded(),
      datasetCreated(1, 'base'),
      ...[1, 2, 3].map((number) => snapshotCreated(1, number)),
      clone(2, 'early', 1, 1),
      clone(3, 'web', 1, 2),
      snapshotCreated(3, 4),
      clone(4, 'late', 1, 3),
    );

    it('moves the origin and all before it, takes other clones along, and turns the edge round', () => {
      const graph = grown(family, { type: 'dataset.promoted', dataset: datasetId(3) });
      expect(linesOf(graph)).toEqual(['base [s3] < web@2', 'early [] < web@1', 'late [] < base@3', 'web [s1 s2 s4]']);
    });

    it('takes along the bookmarks of what moves', () => {
      const marked = grown(family, bookmarkCreated(1, 'one'), bookmarkCreated(2, 'two'), bookmarkCreated(3, 'three'));
      const graph = grown(marked, { type: 'dataset.promoted', dataset: datasetId(3) });
      expect([bookmarksOf(graph, 1), bookmarksOf(graph, 3)]).toEqual([['three'], ['one', 'two']]);
    });

    it('is undone by promoting back', () => {
      const there = grown(family, { type: 'dataset.promoted', dataset: datasetId(3) });
      const back = grown(there, { type: 'dataset.promoted', dataset: datasetId(1) });
      expect(linesOf(back)).toEqual(linesOf(family));
    });

    it('gives the clone the origin that its parent had', () => {
      const deeper = grown(family, clone(5, 'app', 3, 4), { type: 'dataset.promoted', dataset: datasetId(5) });
      expect(linesOf(deeper)).toContain('app [s4] < base@2');
      expect(linesOf(deeper)).toContain('web [] < app@4');
    });

    it('loses no snapshot, makes none, and leaves every clone with its origin', () => {
      fc.assert(
        fc.property(fittingBodies, (bodies) => {
          const graph = graphOf(...bodies);
          const clones = [...graph.datasets.values()].filter(({ origin }) => origin?.dataset != null);
          for (const { id } of clones) {
            const promoted = grown(graph, { type: 'dataset.promoted', dataset: id });
            expect(guidsOf(promoted)).toEqual(guidsOf(graph));
            expect(orphansOf(promoted)).toEqual(orphansOf(graph));
          }
        }),
      );
    });
  });

  it.each<[string, EventBody]>([
    ['a snapshot of a dataset that nobody created', snapshotCreated(9, 1)],
    ['a dataset that is there already', datasetCreated(1, 'again')],
    [
      'the destruction of a snapshot that is not there',
      { type: 'snapshot.destroyed', dataset: datasetId(1), guid: guid(8), name: 's' as SnapshotName },
    ],
    [
      'the destruction of a dataset that is not there',
      { type: 'dataset.destroyed', dataset: datasetId(9), name: named('d9') },
    ],
    [
      'a new name for what is not there',
      { type: 'dataset.renamed', dataset: datasetId(9), from: named('a'), to: named('b') },
    ],
    [
      'the destruction of a bookmark that is not there',
      { type: 'bookmark.destroyed', dataset: datasetId(1), guid: guid(1), name: 'gone' as BookmarkName },
    ],
    ['a promote of what is no clone', { type: 'dataset.promoted', dataset: datasetId(1) }],
    ['a promote of a clone whose origin is elsewhere', { type: 'dataset.promoted', dataset: datasetId(3) }],
    ['a promote of a clone whose origin is not there', { type: 'dataset.promoted', dataset: datasetId(4) }],
  ])('refuses %s, and says which event it was', (_, body) => {
    const graph = graphOf(
      ...smallTree(1),
      datasetCreated(3, 'foreign', { dataset: null, snapshot: guid(7) }),
      clone(4, 'orphan', 1, 7),
    );
    expect(() => fold(graph, [asEvent(body, 41)])).toThrow(
      expect.objectContaining({ code: 'EVENT_INVALID', evidence: { seq: 42, type: body.type } }),
    );
  });
});

describe('A graph', () => {
  const graph = graphOf(
    ...smallTree(3),
    datasetCreated(2, 'd1/child'),
    clone(3, 'clone', 1, 2),
    clone(4, 'other', 1, 2),
  );

  it('finds datasets by id and by name, and clones by their origin', () => {
    expect(graph.named(named('clone'))?.id).toBe(datasetId(3));
    expect(graph.named(named('nobody'))).toBeUndefined();
    expect(graph.clonesOf(guid(2)).map(({ name }) => name)).toEqual(['clone', 'other']);
    expect(graph.clonesOf(guid(1))).toEqual([]);
    expect(graph.snapshotCount).toBe(3);
  });

  it('finds snapshots by guid, and the newest', () => {
    const dataset = requireDataset(graph, named('d1'));
    expect(snapshotOf(dataset, guid(2))?.name).toBe('s2');
    expect(snapshotOf(dataset, guid(9))).toBeUndefined();
    expect(newestSnapshot(dataset)?.name).toBe('s3');
    expect(() => requireDataset(graph, named('nobody'))).toThrow(expect.objectContaining({ code: 'DATASET_UNKNOWN' }));
  });

  it('knows what a destroy would have to take along', () => {
    expect(dependentsOf(graph, requireDataset(graph, named('d1')))).toEqual(['clone', 'd1/child', 'other']);
    expect(dependentsOf(graph, requireDataset(graph, named('clone')))).toEqual([]);
  });

  it('puts parents right before their children, whatever characters the names hold', () => {
    const names = ['', 'a', 'a/b', 'a/b/c', 'a b', 'a-b', 'a.b'].map(named);
    expect([...names].reverse().sort(compareNames)).toEqual(['', 'a', 'a/b', 'a/b/c', 'a b', 'a-b', 'a.b']);
    const name = fc
      .array(fc.constantFrom('a', 'b', 'a b', 'a-'), { maxLength: 3 })
      .map((parts) => named(parts.join('/')));
    fc.assert(
      fc.property(fc.uniqueArray(name), (some) => {
        const sorted = [...some].sort(compareNames);
        for (const [index, parent] of sorted.entries()) {
          const follows = sorted.map((other) => parent === '' || other.startsWith(`${parent}/`));
          const family = follows.filter((isBelow, place) => isBelow && place !== index).length;
          expect(follows.slice(index + 1, index + 1 + family).every(Boolean)).toBe(true);
        }
      }),
    );
  });
});

describe('The clock', () => {
  const now = Date.UTC(2026, 5, 1);

  it('never goes back, and never stands still', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -10_000, max: 10_000 }), { minLength: 1 }), (drifts) => {
        let last = 0;
        for (const drift of drifts) {
          const next = nextTimestamp(last, now + drift);
          expect(next).toBeGreaterThan(last);
          expect(Number.isSafeInteger(next)).toBe(true);
          last = next;
        }
        expect(Math.abs(unixMsOf(last) - now)).toBeLessThanOrEqual(10_000 + 1);
      }),
    );
  });

  it('tells the wall time that a timestamp stands for', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 60 * 365 * 86_400_000 }), (offset) => {
        const unixMs = Date.UTC(2025, 0, 1) + offset;
        const timestamp = nextTimestamp(0, unixMs);
        expect(unixMsOf(timestamp)).toBe(unixMs);
        expect(timestamp).toBeLessThanOrEqual(lastTimestampAt(unixMs));
        expect(nextTimestamp(0, unixMs + 1)).toBeGreaterThan(lastTimestampAt(unixMs));
      }),
    );
  });

  it('begins with 2025, and takes what lies before for that', () => {
    expect(nextTimestamp(0, 0)).toBe(1);
    expect(unixMsOf(0)).toBe(Date.UTC(2025, 0, 1));
  });
});

describe('Images of a tree', () => {
  it('have the name that was given last', () => {
    const graph = graphOf(treeAdded(), imageTagged('web:v1', '{"a":1}'), imageTagged('web:v1', '{"a":2}'));
    expect([...graph.images.values()]).toMatchObject([{ name: 'web:v1', config: '{"a":2}' }]);
  });

  it('are gone once they are untagged, and with the tree', () => {
    const graph = graphOf(treeAdded(), imageTagged('web:v1'), imageTagged('web:v2'));
    expect([...grown(graph, { type: 'image.untagged', name: 'web:v1' }).images.keys()]).toEqual(['web:v2']);
    expect(grown(graph, { type: 'tree.removed' }).images.size).toBe(0);
  });

  it('cannot be untagged by a name that none has', () => {
    expect(() => graphOf(treeAdded(), { type: 'image.untagged', name: 'web:v1' })).toThrow(
      expect.objectContaining({ code: 'EVENT_INVALID' }),
    );
  });

  it('weigh what their configurations take, where memory is bounded', () => {
    const small = graphOf(treeAdded(), imageTagged('web:v1'));
    const large = graphOf(treeAdded(), imageTagged('web:v1', JSON.stringify('x'.repeat(100_000))));
    expect(small.entryCount).toBe(2);
    expect(large.entryCount).toBeGreaterThan(300);
  });
});
