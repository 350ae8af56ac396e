/** Names at a source that no replica can have here, whoever chose them (invariant 7). */

import { isPandoError } from '../errors.ts';
import { Graph } from '../graph/graph.ts';
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  isHidden,
  isLineage,
  lineageId,
  type RelativeName,
  type SnapshotGuid,
} from '../ids.ts';
import type { Conflict } from './steps.ts';

/** What is left of a wanted graph, and a conflict for each dataset that is not. */
export interface Named {
  readonly wanted: Graph;
  readonly conflicts: readonly Conflict[];
}

/**
 * Leaves out datasets whose name is Pando's own (`.pando` below the root), becomes too long below the root that they have here, or belongs to another
 * dataset of the same source already. `root` is null while there is no replica.
 */
export function withoutRefusedNames(wanted: Graph, root: DatasetName | null): Named {
  const conflicts: Conflict[] = [];
  const holders = new Map<RelativeName, DatasetId>();
  for (const { id, name } of wanted.datasets.values()) {
    const holder = holders.get(name);
    if (isHidden(name) || isForgedLineage(id, name)) conflicts.push({ dataset: id, name, reason: 'name-reserved' });
    else if (root !== null && isTooLong(root, name)) conflicts.push({ dataset: id, name, reason: 'name-too-long' });
    else if (holder !== undefined) conflicts.push({ dataset: id, name, reason: 'name-taken', by: holder });
    else holders.set(name, id);
  }
  if (conflicts.length === 0) return { wanted, conflicts };
  const kept = new Set(holders.values());
  return {
    wanted: new Graph(wanted.root, new Map([...wanted.datasets].filter(([id]) => kept.has(id)))),
    conflicts,
  };
}

/** A lineage holder is what its name says, or somebody else's dataset would be taken for it. */
function isForgedLineage(id: DatasetId, name: RelativeName): boolean {
  return isLineage(name) && id !== lineageId(name.slice(name.lastIndexOf('/') + 1) as SnapshotGuid);
}

function isTooLong(root: DatasetName, name: RelativeName): boolean {
  try {
    absoluteName(root, name);
    return false;
  } catch (error) {
    if (isPandoError(error, 'NAME_INVALID')) return true;
    throw error;
  }
}
