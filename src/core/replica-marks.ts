/** What every replica is set to on its disk, by which it can be told from what a node owns even where the log has forgotten whose it is. */
import type { DatasetKind, Properties } from './events.ts';

/** What a file of somebody else could become dangerous by, once people here mount it (zfsprops.7). */
const POWERS = ['setuid', 'devices', 'exec'] as const;

export function powers(value: 'on' | 'off'): Properties {
  return Object.fromEntries(POWERS.map((name) => [name, value]));
}

/** What is set on the replica of a volume beside `readonly`, which people set on volumes of their own as well. */
export const REPLICA_PROPERTY = 'pando:replica';

/**
 * Nothing writes to a replica and nothing mounts it by itself, since as little as an atime update makes the next
 * increment fail (zfs-rules, "-F, rollback, divergence"); and whoever mounts it gets no powers from whoever wrote it, unless people here say so.
 */
export const REPLICA_PROPERTIES: Readonly<Record<DatasetKind, Properties>> = {
  filesystem: { readonly: 'on', canmount: 'noauto', ...powers('off') },
  // A volume is never mounted, and `zfs set` and `zfs clone` refuse what does not apply to it
  volume: { readonly: 'on', [REPLICA_PROPERTY]: 'on' },
};

/** Whether a dataset has all that replicas are set to. What stands in for a filesystem without snapshots is never mounted at all. */
export function hasReplicaMarks(kind: DatasetKind, properties: Properties): boolean {
  return Object.entries(REPLICA_PROPERTIES[kind]).every(
    ([name, value]) => properties[name] === value || (name === 'canmount' && properties.canmount === 'off'),
  );
}
