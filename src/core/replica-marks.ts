/** What every replica is set to on its disk, by which it can be told from what a node owns even where the log has forgotten whose it is. */
import type { DatasetKind, Properties } from './events.ts';

/** What a file of somebody else could become dangerous by, once people here mount it (zfsprops.7). */
const POWERS = ['setuid', 'devices', 'exec'] as const;

export function powers(value: 'on' | 'off'): Properties {
  return Object.fromEntries(POWERS.map((name) => [name, value]));
}

/**
 * Nothing writes to a replica and nothing mounts it by itself, since as little as an atime update makes the next
 * increment fail (zfs-rules, "-F, rollback, divergence"); and whoever mounts it gets no powers from whoever wrote it, unless people here say so.
 */
export const REPLICA_PROPERTIES: Readonly<Record<DatasetKind, Properties>> = {
  filesystem: { readonly: 'on', canmount: 'noauto', ...powers('off') },
  // A volume is never mounted, and `zfs set` and `zfs clone` refuse what does not apply to it
  volume: { readonly: 'on' },
};

/**
 * Whether a filesystem has all that replicas are set to. No more than `readonly` is set on a volume, as people may do it with their own, so that none is known by that.
 */
export function hasReplicaMarks(kind: DatasetKind, properties: Properties): boolean {
  if (kind === 'volume') return false;
  const marks = { ...REPLICA_PROPERTIES[kind], canmount: properties.canmount === 'off' ? 'off' : 'noauto' };
  return Object.entries(marks).every(([name, value]) => properties[name] === value);
}
