/**
 * The root of a mirror is a place as well as a dataset: everything else lies below it, and nothing can be renamed below itself. So the dataset that belongs
 * there changes places with the one that is there, in one step (`take-root`), and what lies below stays.
 */
import { type Dataset, type Graph, newestSnapshot } from '../graph/graph.ts';
import { type DatasetId, type RelativeName, ROOT_STAND_IN } from '../ids.ts';
import { ROOT_NAME } from './stand-in.ts';
import { isPlaceholder } from './steps.ts';
import type { WorkingCopy } from './working-copy.ts';

/** Whether a dataset that is here, or is to come, can take the place of the one that is the root here. */
export function canTakeRoot(copy: WorkingCopy, dataset: Dataset): boolean {
  const holder = copy.names.holder(ROOT_NAME);
  const here = copy.get(dataset.id);
  if (holder === undefined || copy.isForeign(holder) || copy.isRootFixed() || copy.isForeign(dataset.id)) return false;
  if (here === undefined) return newestSnapshot(dataset) !== undefined;
  return !isPlaceholder(here) && !copy.names.childrenOf(dataset.id).some((child) => copy.isForeign(child));
}

/**
 * Puts the wanted root in its place. Who was there gets a name below it: that which it is to have, in the end, and otherwise one that shows that its owner gave it up. `also` are
 * steps that have to be done before.
 */
export function takeRoot(copy: WorkingCopy, wanted: Graph, id: DatasetId, also: readonly number[] = []): void {
  const former = copy.names.holder(ROOT_NAME);
  if (former === undefined) return;
  // Below the root they could meet with others of the same name
  copy.displaceChildren(id);
  const isLeft = wanted.get(former) === undefined && former !== ROOT_STAND_IN;
  const name = copy.temporaryName(former);
  copy.takeRoot(id, (isLeft ? name.replace('renaming', 'given-up') : name) as RelativeName, also);
}

/** A stand-in that stands in for nothing any more goes, unless it is wanted where it is: somebody took it over, and has others below it. */
export function dropStandIn(copy: WorkingCopy, wanted: Graph): void {
  const standIn = copy.get(ROOT_STAND_IN);
  if (standIn === undefined || copy.nameOf(ROOT_STAND_IN) === ROOT_NAME || !isPlaceholder(standIn)) return;
  const isWanted = (wanted.get(ROOT_STAND_IN)?.name ?? ROOT_NAME) !== ROOT_NAME;
  if (isWanted || copy.isStandInOfOthers()) return;
  if (copy.names.childrenOf(ROOT_STAND_IN).length === 0) copy.destroy(ROOT_STAND_IN);
}
