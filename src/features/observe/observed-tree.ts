import { PandoError } from '../../core/errors.ts';
import type { ObservedDataset } from '../../core/graph/observed.ts';
import {
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  isHidden,
  parseDatasetId,
  type RelativeName,
  relativeTo,
  type SnapshotGuid,
} from '../../core/ids.ts';
import { LAYER_PROPERTY } from '../../core/layers/layer-names.ts';
import { PLACEHOLDER_PROPERTY } from '../../core/plan/steps.ts';
import type { ListedDataset } from '../../zfs/zfs.ts';
import type { ForeignHolds } from './foreign-holds.ts';

/** Stands for an origin that no longer has a guid to be asked for; no real snapshot has it. */
const UNKNOWN_GUID = '0' as SnapshotGuid;

function idOf(properties: ListedDataset['properties']): DatasetId | null {
  const text = properties[ID_PROPERTY];
  if (text === undefined) return null;
  try {
    return parseDatasetId(text);
  } catch (error) {
    if (error instanceof PandoError) return null;
    throw error;
  }
}

function originOf(root: DatasetName, { origin }: ListedDataset): ObservedDataset['origin'] {
  if (origin === null) return null;
  const dataset = relativeTo(root, origin.reference.dataset);
  const inside = dataset !== undefined && !isHidden(dataset);
  return { dataset: inside ? dataset : null, snapshot: origin.guid ?? UNKNOWN_GUID };
}

function observedDataset(
  root: DatasetName,
  name: RelativeName,
  listed: ListedDataset,
  holds: ForeignHolds,
): ObservedDataset {
  const { [ID_PROPERTY]: _id, ...properties } = listed.properties;
  return {
    name,
    kind: listed.kind,
    guid: listed.guid,
    id: idOf(listed.properties),
    referenced: listed.referenced,
    written: listed.written,
    origin: originOf(root, listed),
    properties,
    snapshots: listed.snapshots,
    bookmarks: listed.bookmarks,
    holds: holds && (holds.get(listed.name) ?? []),
  };
}

/** Whether it is only what came of a first stream that was cut short, or of a layer that is being unpacked: no dataset yet. */
function hasNotCome({ resumeToken, snapshots, properties }: ListedDataset): boolean {
  if (snapshots.length > 0) return false;
  if (properties[LAYER_PROPERTY] !== undefined) return true;
  return resumeToken !== null && properties[PLACEHOLDER_PROPERTY] === undefined;
}

/** A listing in the terms of a tree: names relative to its root, without what Pando keeps hidden below it. */
export function observedTree(
  root: DatasetName,
  listing: readonly ListedDataset[],
  holds: ForeignHolds,
): ObservedDataset[] {
  return listing.flatMap((listed) => {
    const name = relativeTo(root, listed.name);
    return name === undefined || isHidden(name) || hasNotCome(listed)
      ? []
      : [observedDataset(root, name, listed, holds)];
  });
}
