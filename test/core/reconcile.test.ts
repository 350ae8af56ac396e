import { describe, expect, it } from 'vitest';
import type { Ownership, TreeEventBody } from '../../src/core/events.ts';
import type { Graph } from '../../src/core/graph/graph.ts';
import type { ObservationScope, ObservedDataset } from '../../src/core/graph/observed.ts';
import { reconcile } from '../../src/core/graph/reconcile.ts';
import { datasetId, graph, OWNER, SELF } from './graph-language.ts';

/** What ZFS shows when it is as the graph says, of all datasets or of some. */
function shown(seen: Graph, scope: ObservationScope): ObservedDataset[] {
  return seen
    .sorted()
    .filter(({ name }) => scope === 'tree' || scope.has(name))
    .map(({ id, name, kind, guid, origin, properties, snapshots }) => ({
      ...{ id, name, kind, guid, properties, snapshots, referenced: 0, written: 1 },
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
  { scope = 'tree', said }: { readonly scope?: ObservationScope; readonly said?: Ownership } = {},
): readonly TreeEventBody[] {
  const { events } = reconcile(before, shown(now, scope), {
    scope,
    mint: () => datasetId('fresh'),
    ownerOf: () => OWNER,
    saidOwnerOf: () => said,
    self: SELF,
  });
  return events;
}

describe('what a peer says of who owns a dataset', () => {
  const tree = graph('base @a');
  const other: Ownership = { node: SELF, epoch: 1 };

  it('is taken over where this node had it otherwise', () => {
    expect(told(tree, tree, { said: other })).toEqual([
      { type: 'ownership.claimed', dataset: datasetId('base'), owner: other },
    ]);
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
});
