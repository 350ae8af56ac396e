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

/** The dataset that one grew from, as long as it has to come before it. What is here needs it no more; nor is it needed under its new name where it is here. */
function originOf(wanted: Graph, local: Graph, dataset: Dataset): Dataset | undefined {
  if (local.get(dataset.id) !== undefined || dataset.origin?.dataset == null) return undefined;
  const origin = wanted.get(dataset.origin.dataset);
  const here = origin === undefined ? undefined : local.get(origin.id);
  return here !== undefined && !isPlaceholder(here) ? undefined : origin;
}

/** The dataset that one is to lie below, where it is to come or has another name. */
function parentOfNew(wanted: Graph, local: Graph, { id, name }: Dataset): Dataset | undefined {
  const above = local.get(id)?.name === name ? undefined : parentOf(name);
  return above === undefined ? undefined : wanted.named(above);
}

interface Visit {
  readonly dataset: Dataset;
  readonly as: 'parent' | 'origin' | 'ready';
}

/**
 * The datasets that may need steps, each after its origin, and after its parent: a clone can be received only where its origin is, and anything only below an
 * existing parent. Where one belongs below its own clone, or what grew from that, it comes before its parent. Those that are as wanted already are passed over unless
 * others need them.
 */
export function inReceivingOrder(wanted: Graph, local: Graph): Dataset[] {
  const behind = Array.from(wanted.datasets.values()).filter((dataset) => !unchanged(dataset, local));
  const ordered: Dataset[] = [];
  const seen = new Set<DatasetId>();
  /** Those that wait for what they need. */
  const open = new Set<DatasetId>();
  const growsFromOpen = (dataset: Dataset): boolean => {
    for (let at: Dataset | undefined = dataset; at !== undefined; at = originOf(wanted, local, at)) {
      if (seen.has(at.id)) return open.has(at.id);
    }
    return false;
  };
  // An explicit stack: chains of clones can be deeper than the call stack.
  const stack = behind.sort((a, b) => (a.name < b.name ? 1 : -1)).map((dataset): Visit => ({ dataset, as: 'origin' }));
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const { dataset, as } = top;
    if (as === 'ready') {
      ordered.push(dataset);
      open.delete(dataset.id);
    }
    if (seen.has(dataset.id) || (as === 'parent' && growsFromOpen(dataset))) continue;
    seen.add(dataset.id);
    open.add(dataset.id);
    const origin = originOf(wanted, local, dataset);
    const parent = parentOfNew(wanted, local, dataset);
    stack.push({ dataset, as: 'ready' });
    if (origin !== undefined) stack.push({ dataset: origin, as: 'origin' });
    if (parent !== undefined) stack.push({ dataset: parent, as: 'parent' });
  }
  return ordered;
}
