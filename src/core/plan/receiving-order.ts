import { type Dataset, type Graph, newestSnapshot } from '../graph/graph.ts';
import { type DatasetId, parentOf } from '../ids.ts';
import { isPlaceholder } from './steps.ts';

function unchanged(wanted: Dataset, local: Graph): boolean {
  const here = local.get(wanted.id);
  const newest = newestSnapshot(wanted);
  return (
    here !== undefined &&
    newest !== undefined &&
    here.name === wanted.name &&
    here.origin?.snapshot === wanted.origin?.snapshot &&
    newestSnapshot(here)?.guid === newest.guid
  );
}

/**
 * What a dataset needs before it can come, or take its place. What is here needs its origin no more, nor its parent where its name stays; an origin that
 * is here is not needed under its new name.
 */
function supports(wanted: Graph, local: Graph, dataset: Dataset): Dataset[] {
  const here = local.get(dataset.id);
  const origin = here !== undefined || dataset.origin?.dataset == null ? undefined : wanted.get(dataset.origin.dataset);
  const originHere = origin === undefined ? undefined : local.get(origin.id);
  const parentName = here?.name === dataset.name ? undefined : parentOf(dataset.name);
  const parent = parentName === undefined ? undefined : wanted.named(parentName);
  const stands = originHere !== undefined && !isPlaceholder(originHere);
  return [stands ? undefined : origin, parent].filter((support) => support !== undefined);
}

/**
 * The datasets that may need steps, each after its parent and its origin: a clone can be received only where its origin is,
 * and anything only below an existing parent. Those that are as wanted already are passed over unless others need them.
 */
export function inReceivingOrder(wanted: Graph, local: Graph): Dataset[] {
  const behind = Array.from(wanted.datasets.values()).filter((dataset) => !unchanged(dataset, local));
  const ordered: Dataset[] = [];
  const seen = new Set<DatasetId>();
  // An explicit stack: chains of clones can be deeper than the call stack.
  const stack = behind.sort((a, b) => (a.name < b.name ? 1 : -1)).map((dataset) => ({ dataset, ready: false }));
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    if (top.ready) ordered.push(top.dataset);
    if (seen.has(top.dataset.id)) continue;
    seen.add(top.dataset.id);
    stack.push({ dataset: top.dataset, ready: true });
    for (const support of supports(wanted, local, top.dataset)) {
      if (!seen.has(support.id)) stack.push({ dataset: support, ready: false });
    }
  }
  return ordered;
}
