/** Random histories of clone forests: what people do to a hierarchy, as events that are folded into graphs. */
import fc from 'fast-check';
import { EVENT_VERSION, type TreeEventBody } from '../../src/core/events.ts';
import { fold } from '../../src/core/graph/fold.ts';
import { type Dataset, EMPTY_GRAPH, type Graph } from '../../src/core/graph/graph.ts';
import { isHidden, type RelativeName } from '../../src/core/ids.ts';
import { datasetGuid, datasetId, OWNER, ROOT, snapshot } from './graph-language.ts';

/** One thing somebody does; the numbers pick what it is done to, modulo what there is. */
export interface Action {
  readonly kind: 'create' | 'snapshot' | 'clone' | 'destroy-snapshot' | 'rename';
  readonly pick: number;
  readonly second: number;
}

export function arbitraryHistory(length: number): fc.Arbitrary<Action[]> {
  const action = fc.record({
    kind: fc.constantFrom<Action['kind']>(
      'create',
      'snapshot',
      'snapshot',
      'snapshot',
      'clone',
      'clone',
      'destroy-snapshot',
      'rename',
    ),
    pick: fc.nat(1000),
    second: fc.nat(1000),
  });
  return fc.array(action, { maxLength: length });
}

export interface Forest {
  graph: Graph;
  seq: number;
  readonly destroys: boolean;
}

function tell(forest: Forest, body: TreeEventBody): void {
  forest.seq += 1;
  forest.graph = fold(forest.graph, [
    { v: EVENT_VERSION, seq: forest.seq, at: forest.seq, cause: 'observed', ...body },
  ]);
}

function create(forest: Forest, name: RelativeName, origin: Dataset['origin']): void {
  const label = `${name}-${forest.seq}`;
  tell(forest, {
    type: 'dataset.created',
    dataset: datasetId(label),
    kind: 'filesystem',
    guid: datasetGuid(label),
    name,
    origin,
    owner: OWNER,
    properties: {},
  });
}

export function startForest({ destroys = true } = {}): Forest {
  const forest: Forest = { graph: EMPTY_GRAPH, seq: 0, destroys };
  tell(forest, { type: 'tree.added', root: ROOT });
  create(forest, '' as RelativeName, null);
  return forest;
}

function chosen<T>(items: readonly T[], pick: number): T | undefined {
  return items[pick % Math.max(1, items.length)];
}

function child(parent: Dataset, seq: number): RelativeName {
  return (parent.name === '' ? `d${seq}` : `${parent.name}/d${seq}`) as RelativeName;
}

function clone(forest: Forest, datasets: readonly Dataset[], { pick, second }: Action): void {
  const origin = chosen(
    datasets.filter(({ snapshots }) => snapshots.length > 0),
    pick,
  );
  const at = origin === undefined ? undefined : chosen(origin.snapshots, second);
  const parent = chosen(datasets, pick + second);
  if (origin === undefined || at === undefined || parent === undefined) return;
  create(forest, child(parent, forest.seq), { dataset: origin.id, snapshot: at.guid });
}

function destroySnapshot(forest: Forest, dataset: Dataset, second: number): void {
  const at = chosen(dataset.snapshots, second);
  if (at === undefined || forest.graph.clonesOf(at.guid).length > 0) return;
  tell(forest, { type: 'snapshot.destroyed', dataset: dataset.id, guid: at.guid, name: at.name });
}

function act(forest: Forest, action: Action): void {
  const datasets = forest.graph.sorted().filter(({ name }) => !isHidden(name));
  const dataset = chosen(datasets, action.pick);
  if (dataset === undefined) return;
  switch (action.kind) {
    case 'create':
      create(forest, child(dataset, forest.seq), null);
      return;
    case 'snapshot':
      tell(forest, {
        type: 'snapshot.created',
        dataset: dataset.id,
        snapshot: snapshot(dataset.id, `@s${forest.seq}`, action.second),
      });
      return;
    case 'clone':
      clone(forest, datasets, action);
      return;
    case 'destroy-snapshot':
      if (forest.destroys) destroySnapshot(forest, dataset, action.second);
      return;
    case 'rename': {
      const to = `r${forest.seq}` as RelativeName;
      if (dataset.name !== '') tell(forest, { type: 'dataset.renamed', dataset: dataset.id, from: dataset.name, to });
      return;
    }
  }
}

/** Lets the history happen to the forest; gives the graph it leads to. */
export function grow(forest: Forest, history: readonly Action[]): Graph {
  for (const action of history) act(forest, action);
  return forest.graph;
}
