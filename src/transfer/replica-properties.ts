import type { Properties } from '../core/events.ts';
import { type DatasetId, type DatasetName, ID_PROPERTY } from '../core/ids.ts';
import { PLACEHOLDER_PROPERTY } from '../core/plan/steps.ts';
import { chainProperties, PLAIN_STREAM, type StreamFlags } from '../core/stream-flags.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';

/**
 * What every replica is set to: nothing writes to it and nothing mounts it by itself, since as little as an atime update makes the next
 * increment fail (zfs-rules, "-F, rollback, divergence").
 */
const REPLICA_PROPERTIES: Properties = { readonly: 'on', canmount: 'noauto' };

/** A replica that was received, and the id that it carries at its owner. */
export interface ReceivedReplica {
  readonly name: DatasetName;
  readonly dataset: DatasetId;
}

/** Whether a dataset that was received has what a replica is marked with. What took the place of a placeholder has its `canmount=off` still. */
export function isMarked({ properties }: ListedDataset): boolean {
  return properties[ID_PROPERTY] !== undefined && properties.canmount !== 'off';
}

/** The properties of a new replica that belongs to this chain, for a ZFS that can set them while it receives. */
export function replicaProperties(dataset: DatasetId, chain: StreamFlags): Properties {
  return { ...REPLICA_PROPERTIES, [ID_PROPERTY]: dataset, ...chainProperties(chain) };
}

/** Sets the properties of new replicas afterwards, for a ZFS that cannot do so while it receives. */
export async function markReplicas(zfs: Zfs, replicas: readonly ReceivedReplica[]): Promise<void> {
  if (replicas.length === 0) return;
  await zfs.setProperties(
    replicas.map(({ name }) => name),
    REPLICA_PROPERTIES,
  );
  for (const { name, dataset } of replicas) await zfs.setProperties([name], { [ID_PROPERTY]: dataset });
}

/** The properties of an empty stand-in for a dataset without snapshots: as a replica, and never mounted at all. */
export function placeholderProperties(dataset: DatasetId): Properties {
  return { ...replicaProperties(dataset, PLAIN_STREAM), canmount: 'off', [PLACEHOLDER_PROPERTY]: 'on' };
}
