/** What a snapshot takes beyond what it is over: bytes as ZFS counts them, and the objects in it that the one below has not. */
import { statfs } from 'node:fs/promises';
import { absoluteName } from '../../core/ids.ts';
import type { SnapshotUsage } from '../../core/snapshots/snapshot.ts';
import type { SnapshotParts } from './parts.ts';
import type { KeptSnapshot } from './snapshot-journal.ts';

/** A file that took the place of another counts as none more, and what was removed as none less than nothing. */
export async function usageOf(
  parts: SnapshotParts,
  kept: KeptSnapshot,
): Promise<SnapshotUsage & { readonly objects: number }> {
  const { zfs, store, journal } = parts;
  const below = kept.parent === null ? undefined : journal.get(kept.parent);
  const objects = await objectsIn(parts, kept);
  const objectsBelow = below === undefined ? 0 : await objectsIn(parts, below);
  const bytes = await zfs.used(absoluteName(store().root, kept.dataset));
  return { bytes, inodes: Math.max(0, objects - objectsBelow), objects };
}

async function objectsIn({ zfs, store, journal }: SnapshotParts, kept: KeptSnapshot): Promise<number> {
  if (kept.objects !== null) return kept.objects;
  const name = absoluteName(store().root, kept.dataset);
  const { files, ffree } = await statfs(await zfs.mount(name));
  const objects = files - ffree;
  if (kept.kind !== 'committed') return objects;
  // Of what never changes it is found out once
  await zfs.unmount(name).catch(() => undefined);
  await journal.record([{ type: 'snapshotter.kept', ...kept, objects }]);
  return objects;
}
