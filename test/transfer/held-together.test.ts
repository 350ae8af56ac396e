import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Graph } from '../../src/core/graph/graph.ts';
import { absoluteName, type DatasetName, type RelativeName, relativeTo } from '../../src/core/ids.ts';
import { heldTogether } from '../../src/transfer/held-together.ts';
import type { HeldSnapshot } from '../../src/transfer/holds.ts';
import { snapshotText } from '../../src/transfer/snapshot-text.ts';
import { graph, ROOT } from '../core/graph-language.ts';

/** All snapshots of the graph, or those of some datasets. */
function snapshotsOf(
  from: Graph,
  isMeant: (name: string, snapshot: string) => boolean = () => true,
): readonly HeldSnapshot[] {
  return from
    .sorted()
    .flatMap(({ name, snapshots }) =>
      snapshots
        .filter((snapshot) => isMeant(name, snapshot.name))
        .map(({ guid, name: snapshot }) => ({ dataset: absoluteName(ROOT, name), snapshot, guid })),
    );
}

function numbered(count: number, line: (number: number) => string): string[] {
  return Array.from({ length: count }, (_, number) => line(number));
}

function tops(from: Graph, needed: readonly HeldSnapshot[]): string[] {
  return heldTogether(needed, { graph: from, root: ROOT }).tops.map(snapshotText);
}

describe('what a transfer holds', () => {
  it('is held from the top where all of a name below it is needed, each name for itself', () => {
    const tree = graph('. @1 @2', ...numbered(20, (number) => `d${number} @1 @2`));
    expect(tops(tree, snapshotsOf(tree))).toEqual([`${ROOT}@1`, `${ROOT}@2`]);
  });

  it('is held one by one where it is little', () => {
    const tree = graph('. @1', ...numbered(6, (number) => `d${number} @1`));
    expect(tops(tree, snapshotsOf(tree))).toEqual([]);
  });

  it('is held one by one where nothing above has the name', () => {
    const tree = graph('. @other', ...numbered(20, (number) => `d${number} @1`));
    expect(
      tops(
        tree,
        snapshotsOf(tree, (_, name) => name === '1'),
      ),
    ).toEqual([]);
  });

  it('takes along what it does not need, up to three times as much', () => {
    const tree = graph('. @1', ...numbered(31, (number) => `d${number} @1`));
    const needed = (count: number) => snapshotsOf(tree).slice(0, count);
    expect(tops(tree, needed(8))).toEqual([`${ROOT}@1`]);
    expect(heldTogether(needed(8), { graph: tree, root: ROOT }).held).toHaveLength(32);
    expect(tops(graph('. @1', ...numbered(32, (number) => `d${number} @1`)), needed(8))).toEqual([]);
  });

  it('is held from where it begins when little of the rest is needed', () => {
    const tree = graph(
      '. @1',
      ...numbered(60, (number) => `d${number} @1`),
      'web @1',
      'web-2 @1',
      ...numbered(9, (number) => `web/d${number} @1`),
    );
    expect(
      tops(
        tree,
        snapshotsOf(tree, (name) => name.startsWith('web')),
      ),
    ).toEqual([`${ROOT}/web@1`]);
  });

  it('is held one by one where all that goes along would be too much for one event', () => {
    const tree = (count: number) => graph('. @1', ...numbered(count, (number) => `${'d'.repeat(80)}${number} @1`));
    const held = (count: number) =>
      heldTogether(snapshotsOf(tree(count)).slice(0, 256), { graph: tree(count), root: ROOT });
    expect(held(600).held).toHaveLength(601);
    expect(held(1000)).toMatchObject({ tops: [] });
    expect(held(1000).held).toHaveLength(256);
  });

  it('is held one by one where it lies outside the tree', () => {
    const elsewhere = 'tank/other' as DatasetName;
    const outside = snapshotsOf(graph(...numbered(20, (number) => `d${number} @1`))).map((one, number) => ({
      ...one,
      dataset: absoluteName(elsewhere, `d${number}` as RelativeName),
    }));
    expect(tops(graph('. @1'), outside)).toEqual([]);
  });

  it('is all that is needed and all that goes along, once each', () => {
    const path = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 4 }).map((parts) => parts.join('/') || '.');
    const carried = fc.record({ path, names: fc.subarray(['1', '2'], { minLength: 1 }), chance: fc.nat(9) });
    fc.assert(
      fc.property(fc.uniqueArray(carried, { selector: (one) => one.path, maxLength: 80 }), fc.nat(10), (all, share) => {
        const tree = graph(...all.map((one) => `${one.path} ${one.names.map((name) => `@${name}`).join(' ')}`));
        const chances = new Map(all.map((one) => [one.path === '.' ? '' : one.path, one.chance]));
        const needed = snapshotsOf(tree, (name) => (chances.get(name) ?? 0) < share);
        const holds = heldTogether(needed, { graph: tree, root: ROOT });
        const reaches = (top: (typeof holds.tops)[number], one: HeldSnapshot): boolean =>
          one.snapshot === top.snapshot && relativeTo(top.dataset, one.dataset) !== undefined;
        const isReached = (one: HeldSnapshot): boolean => holds.tops.some((top) => reaches(top, one));
        const expected = snapshotsOf(tree).filter(
          (one) => needed.some((each) => snapshotText(each) === snapshotText(one)) || isReached(one),
        );
        expect(holds.held.map(snapshotText).sort()).toEqual(expected.map(snapshotText).sort());
        for (const top of holds.tops) {
          expect(holds.tops.filter((other) => reaches(other, top as HeldSnapshot))).toEqual([top]);
          const along = holds.held.filter((one) => reaches(top, one));
          expect(needed.filter((one) => reaches(top, one)).length * 4).toBeGreaterThanOrEqual(along.length);
        }
      }),
    );
  });
});
