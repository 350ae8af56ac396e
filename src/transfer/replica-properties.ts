import type { DatasetKind, Properties } from '../core/events.ts';
import { type DatasetId, type DatasetName, ID_PROPERTY } from '../core/ids.ts';
import { PLACEHOLDER_PROPERTY } from '../core/plan/steps.ts';
import { chainProperties, PLAIN_STREAM, type StreamFlags } from '../core/stream-flags.ts';
import type { ListedDataset, Zfs } from '../zfs/zfs.ts';

/** What a file of somebody else could become dangerous by, once people here mount it (zfsprops.7). */
const POWERS = ['setuid', 'devices', 'exec'] as const;

function powers(value: 'on' | 'off'): Properties {
  return Object.fromEntries(POWERS.map((name) => [name, value]));
}

/**
 * What every replica is set to: nothing writes to it and nothing mounts it by itself, since as little as an atime update makes the next
 * increment fail (zfs-rules, "-F, rollback, divergence"); and whoever mounts it gets no powers from whoever wrote it, unless people here say so.
 */
const REPLICA_PROPERTIES: Readonly<Record<DatasetKind, Properties>> = {
  filesystem: { readonly: 'on', canmount: 'noauto', ...powers('off') },
  // A volume is never mounted, and `zfs set` and `zfs clone` refuse what does not apply to it
  volume: { readonly: 'on' },
};

/** A replica that was received, and the id that it carries at its owner. */
export interface ReceivedReplica {
  readonly name: DatasetName;
  readonly kind: DatasetKind;
  readonly dataset: DatasetId;
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
  for (const { name, dataset } of replicas) await zfs.setProperties([name], { [ID_PROPERTY]: dataset });
}

/** The properties of an empty stand-in for a dataset without snapshots: as a replica, and never mounted at all. */
export function placeholderProperties(dataset: DatasetId): Properties {
  return { ...replicaProperties(dataset, PLAIN_STREAM), canmount: 'off', [PLACEHOLDER_PROPERTY]: 'on' };
}

/** Who wants something done: people at this node, or a peer that may. */
export type AskedBy = 'people' | 'peer';

/**
 * What makes a clone among replicas one of this node's own: below them it would inherit what they are set to. Powers it gets only from the people here, who are to run what they clone: no
 * peer may bring a program here and have it run as somebody else.
 */
export function ownProperties(kind: DatasetKind, by: AskedBy): Properties {
  return { readonly: 'off', ...(kind === 'filesystem' && by === 'people' ? powers('on') : {}) };
}
