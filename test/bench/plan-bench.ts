import { Graph } from '../../src/core/graph/graph.ts';
import { type DatasetId, nodeIdOfFingerprint } from '../../src/core/ids.ts';
import { EVERYTHING, wantedGraph } from '../../src/core/plan/filter.ts';
import { plan } from '../../src/core/plan/plan.ts';
import { REPLICA } from '../core/graph-language.ts';
import { type GraphShape, generateGraph } from './generated-graph.ts';

export interface PlanTime {
  readonly datasets: number;
  readonly snapshots: number;
  readonly behind: number;
  readonly steps: number;
  readonly seconds: number;
}

/** Plans over a large graph in which a few datasets lack their newest snapshot here. */
export function measurePlan(shape: GraphShape, behind: number): PlanTime {
  const source = generateGraph(shape, nodeIdOfFingerprint(new Uint8Array(32)));
  const datasets = new Map(source.datasets);
  const every = Math.floor(shape.datasets / behind);
  Array.from(source.datasets.keys())
    .filter((_, index) => index % every === 0)
    .slice(0, behind)
    .forEach((id: DatasetId) => {
      const dataset = source.get(id);
      if (dataset !== undefined) datasets.set(id, { ...dataset, snapshots: dataset.snapshots.slice(0, -1) });
    });
  const local = new Graph(source.root, datasets);
  const start = performance.now();
  const planned = plan({ source, wanted: wantedGraph(source, EVERYTHING, { local, now: 0 }), local, ...REPLICA });
  const seconds = (performance.now() - start) / 1000;
  return { datasets: shape.datasets, snapshots: source.snapshotCount, behind, steps: planned.steps.length, seconds };
}
