import { describe, expect, it } from 'vitest';
import type { MirrorRules } from '../../src/core/events.ts';
import { type Dataset, EMPTY_GRAPH, Graph } from '../../src/core/graph/graph.ts';
import { type DatasetId, nameInBetween, type RelativeName } from '../../src/core/ids.ts';
import { EVERYTHING, takenBy } from '../../src/core/plan/filter.ts';
import { datasetId, graph } from './graph-language.ts';

/** The names of what a mirror takes of a view. */
function taken(
  view: Graph,
  rules: Partial<MirrorRules>,
  { local = EMPTY_GRAPH, atOwner = EMPTY_GRAPH } = {},
): string[] {
  const ids = takenBy(view, { ...EVERYTHING, ...rules }, { local, ofOwner: () => atOwner });
  return Array.from(ids, (id) => view.get(id)?.name ?? '?').sort();
}

/** The graph where a dataset is on its way from one name to another, and what lies below with it. */
function onItsWay(before: Graph, former: string, tried = 0): Graph {
  const now = nameInBetween(datasetId(former), tried);
  const datasets = Array.from(before.datasets, ([id, dataset]): [DatasetId, Dataset] => {
    const isPart = dataset.name === former || dataset.name.startsWith(`${former}/`);
    const name = isPart ? (dataset.name.replace(former, now) as RelativeName) : dataset.name;
    return [id, { ...dataset, name }];
  });
  return new Graph(before.root, new Map(datasets));
}

describe('what the globs of a mirror select', () => {
  const view = graph('. @r', 'base @a', 'team @t', 'team/web < base@a @x', 'team/db @d');

  it('is whole names, with the parents and origins that they need', () => {
    expect(taken(view, { only: ['team/*'] })).toEqual(['', 'base', 'team', 'team/db', 'team/web']);
    expect(taken(view, { only: ['**/db'] })).toEqual(['', 'team', 'team/db']);
    expect(taken(view, { except: ['**/web'] })).toEqual(['', 'base', 'team', 'team/db']);
    expect(taken(view, { only: ['team/**'], except: ['team/web'] })).toEqual(['', 'team', 'team/db']);
  });

  it('takes all without any', () => {
    expect(taken(onItsWay(view, 'team'), {})).toHaveLength(view.datasets.size);
  });

  it('is called as it is here while it is on its way from one name to another', () => {
    for (const tried of [0, 2]) {
      const between = onItsWay(view, 'team', tried);
      const team = nameInBetween(datasetId('team'), tried);
      expect(taken(between, { only: ['team/db'] }, { local: view })).toEqual(['', team, `${team}/db`]);
      expect(taken(between, { except: ['team/web'] }, { local: view })).toEqual(['', 'base', team, `${team}/db`]);
    }
  });

  it('comes, where it is new, when it has its name', () => {
    const between = onItsWay(view, 'team');
    expect(taken(between, { except: ['team/web'] })).toEqual(['', 'base']);
    expect(taken(between, { only: ['team/**', 'renaming-*/**'] })).toEqual([]);
  });

  it('is by that name where its owner knows no other: somebody took it over on its way', () => {
    const between = onItsWay(view, 'team');
    const team = nameInBetween(datasetId('team'));
    expect(taken(between, { except: ['*/web'] }, { atOwner: between })).toEqual(['', 'base', team, `${team}/db`]);
    expect(taken(between, { except: ['*/web'] }, { atOwner: view })).toEqual(['', 'base']);
  });

  it('is by its name where people gave it one that only looks like that', () => {
    const own = onItsWay(graph('. @r', `renaming-${'0'.repeat(12)} @a`), 'other');
    expect(taken(own, { only: ['renaming-*'] })).toEqual(['', `renaming-${'0'.repeat(12)}`]);
  });
});
