import type { DatasetKind, Properties } from '../core/events.ts';
import { type DatasetId, type DatasetName, ID_PROPERTY } from '../core/ids.ts';
import { PLACEHOLDER_PROPERTY } from '../core/plan/steps.ts';
import { powers, REPLICA_PROPERTIES } from '../core/replica-marks.ts';
import { chainProperties, PLAIN_STREAM, type StreamFlags } from '../core/stream-flags.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';

/** A replica that was received, and the id that it carries at its owner. */
export interface ReceivedReplica {
  readonly name: DatasetName;
  readonly kind: DatasetKind;
  readonly dataset: DatasetId;
  /** Whether nothing was received into it yet: it goes on to be never mounted, as what comes over it expects. */
  readonly isPlaceholder?: boolean;
}

/** Whether a dataset that was received has what a replica is marked with. What took the place of a placeholder has its `canmount=off` still. */
export function isMarked({ properties }: ListedDataset): boolean {
  return properties[ID_PROPERTY] !== undefined && properties.canmount !== 'off';
}

/**
 * The properties of a new replica that belongs to this chain, for a ZFS that can set them while it receives; `zfs receive -o` refuses what does not apply to its kind.
 */
export function replicaProperties(
  dataset: DatasetId,
  chain: StreamFlags,
  kind: DatasetKind = 'filesystem',
): Properties {
  return { ...REPLICA_PROPERTIES[kind], [ID_PROPERTY]: dataset, ...chainProperties(chain) };
}

/** Sets the properties of new replicas afterwards, for a ZFS that cannot do so while it receives. */
export async function markReplicas(zfs: Zfs, replicas: readonly ReceivedReplica[]): Promise<void> {
  for (const kind of ['filesystem', 'volume'] as const) {
    const names = replicas.filter((replica) => replica.kind === kind).map(({ name }) => name);
    if (names.length > 0) await zfs.setProperties(names, REPLICA_PROPERTIES[kind]);
  }
  for (const { name, dataset, isPlaceholder = false } of replicas) {
    await zfs.setProperties([name], { [ID_PROPERTY]: dataset, ...(isPlaceholder && { canmount: 'off' }) });
  }
}

/** The properties of an empty stand-in for a dataset without snapshots: as a replica, and never mounted at all. */
export function placeholderProperties(dataset: DatasetId): Properties {
  return { ...replicaProperties(dataset, PLAIN_STREAM), canmount: 'off', [PLACEHOLDER_PROPERTY]: 'on' };
}

/** Who wants something done: people at this node, or a peer that may. */
export type AskedBy = 'people' | 'peer';

/**
 * What makes a clone of a replica, or one below a replica, from which it would inherit, this node's own. Powers it gets only from the people here, who are to run what they clone: no
 * peer may bring a program here and have it run as somebody else.
 */
export function ownProperties(kind: DatasetKind, by: AskedBy): Properties {
  return { readonly: 'off', ...(kind === 'filesystem' ? powers(by === 'people' ? 'on' : 'off') : {}) };
}
