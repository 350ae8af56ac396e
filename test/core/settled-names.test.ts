import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Dataset, Graph } from '../../src/core/graph/graph.ts';
import type { DatasetId, RelativeName } from '../../src/core/ids.ts';
import { settleNames } from '../../src/core/plan/settled-names.ts';
import { arbitraryHistory, grow, startForest } from './forest.ts';
import { datasetId, graph, OWNER, SELF } from './graph-language.ts';

const isOwn = ({ owner }: Dataset) => owner.node === SELF;
const all = { follows: (dataset: Dataset) => dataset.name !== '' };

function owned(before: Graph, ...names: string[]): Graph {
  const datasets = Array.from(before.datasets, ([id, dataset]): [DatasetId, Dataset] => [
    id,
    names.includes(dataset.name) ? { ...dataset, owner: { node: SELF, epoch: 1 } } : dataset,
  ]);
  return new Graph(before.root, new Map(datasets));
}

function namesIn(one: Graph | undefined): string[] {
  return [...(one?.datasets.values() ?? [])].map(({ name }) => name).sort();
}

function suffix(label: string): string {
  return datasetId(label).slice(-12);
}

describe('two datasets that their owners gave the same name', () => {
  it('both stay: the one of this node keeps the name, the other is shown with a part of its id, and all below it with it', () => {
    const view = graph('. @r', 'web#theirs @1', 'web/log#log @1');
    const { graphs, contested } = settleNames([{ graph: view, ...all }], owned(graph('. @r', 'web @1'), 'web'), isOwn);
    const shown = `web-${suffix('theirs')}`;
    expect(namesIn(graphs[0])).toEqual(['', shown, `${shown}/log`]);
    expect(contested).toEqual([{ dataset: datasetId('theirs'), name: 'web', shown }]);
  });

  it('of two from elsewhere the one with the smaller id has the name, whoever was heard first', () => {
    const one = { graph: graph('. @r', 'web#one @1'), ...all };
    const other = { graph: graph('. @r', 'web#other @1'), ...all };
    const [loser] = [datasetId('one'), datasetId('other')].sort().slice(1);
    for (const views of [
      [one, other],
      [other, one],
    ]) {
      const { contested } = settleNames(views, graph('. @r'), isOwn);
      expect(contested.map(({ dataset }) => dataset)).toEqual([loser]);
    }
  });

  it('what lies below a dataset that follows another source goes where that is here', () => {
    const view = {
      graph: graph('. @r', 'old#base @1', 'old/web @1'),
      follows: ({ name }: Dataset) => name === 'old/web',
    };
    const local = owned(graph('. @r', 'new#base @1'), 'new');
    expect(namesIn(settleNames([view], local, isOwn).graphs[0])).toEqual(['', 'new', 'new/web']);
  });

  it('what stays where it is goes along with what it lies in, and so does what lies below it', () => {
    const view = {
      graph: graph('. @r', 'web @1', 'web/mine @1', 'web/mine/log @1'),
      follows: ({ id }: Dataset) => id !== datasetId('web/mine'),
    };
    const local = owned(graph('. @r', 'elsewhere#web @1', 'elsewhere/mine#web/mine @1'), 'elsewhere/mine');
    expect(namesIn(settleNames([view], local, isOwn).graphs[0])).toEqual(['', 'web', 'web/mine', 'web/mine/log']);
  });

  it('has the name that its own source gives it in all views, wherever another one has it', () => {
    const isWeb = ({ id }: Dataset) => id === datasetId('web');
    const source = { graph: graph('. @r', 'web @1', 'web/mine @1'), follows: isWeb };
    const other = {
      graph: graph('. @r', 'deep @1', 'deep/old#web @1', 'deep/old/mine#web/mine @1'),
      follows: () => false,
    };
    const local = owned(
      graph('. @r', 'deep @1', 'deep/old#web @1', 'deep/old/mine#web/mine @1'),
      'deep',
      'deep/old/mine',
    );
    for (const views of [
      [source, other],
      [other, source],
    ]) {
      const { graphs } = settleNames(views, local, isOwn);
      expect(namesIn(graphs[views.indexOf(source)])).toEqual(['', 'web', 'web/mine']);
      expect(namesIn(graphs[views.indexOf(other)])).toEqual(['', 'deep', 'web', 'web/mine']);
    }
  });

  it('has it also where that source has it as deep as others, or deeper', () => {
    for (const name of ['site', 'deep/site']) {
      const source = {
        graph: graph('. @r', 'deep @1', `${name}#web @1`),
        follows: ({ id }: Dataset) => id === datasetId('web'),
      };
      const other = { graph: graph('. @r', 'web @1', 'web/mine @1'), follows: () => false };
      const local = owned(graph('. @r', 'deep @1', 'web @1', 'web/mine @1'), 'deep', 'web/mine');
      const { graphs } = settleNames([source, other], local, isOwn);
      expect(namesIn(graphs[1])).toEqual(['', name, `${name}/mine`]);
    }
  });

  it('a view that nothing contests is left as it is', () => {
    const view = graph('. @r', 'a @1');
    expect(settleNames([{ graph: view, ...all }], graph('. @r'), isOwn).graphs[0]).toBe(view);
  });
});

it('no name is given twice, and nothing of this node is touched, for random forests', () => {
  fc.assert(
    fc.property(fc.array(arbitraryHistory(30), { minLength: 3, maxLength: 3 }), (histories) => {
      const forests = histories.map((history, index) => relabelled(grow(startForest(), history), `${index}`));
      const [mine, ...theirs] = forests as [Graph, ...Graph[]];
      const local = owned(mine, ...namesIn(mine));
      const { graphs } = settleNames(
        theirs.map((view) => ({ graph: view, ...all })),
        local,
        isOwn,
      );
      const shown = graphs.flatMap((one) => namesIn(one).filter((name) => name !== ''));
      const taken = [...shown, ...namesIn(local)];
      expect(new Set(taken).size).toBe(taken.length);
      for (const one of graphs) {
        for (const { name } of one.datasets.values()) {
          const above = name.slice(0, Math.max(0, name.lastIndexOf('/'))) as RelativeName;
          expect(one.named(above), `what ${name} lies below`).toBeDefined();
        }
      }
    }),
    { numRuns: 300 },
  );
});

/** The same forest of other datasets. */
function relabelled(before: Graph, label: string): Graph {
  const idOf = (id: DatasetId) => datasetId(`${label} ${id}`);
  const datasets = Array.from(before.datasets.values(), (dataset): [DatasetId, Dataset] => {
    const origin =
      dataset.origin?.dataset == null ? null : { ...dataset.origin, dataset: idOf(dataset.origin.dataset) };
    return [idOf(dataset.id), { ...dataset, id: idOf(dataset.id), origin, owner: OWNER }];
  });
  return new Graph(before.root, new Map(datasets));
}
