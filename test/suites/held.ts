import { type HoldTag, isHoldOfPando } from '../../src/core/ids.ts';
import { heldIn } from '../../src/transfer/holds.ts';
import type { ListedDataset, Zfs } from '../../src/zfs/zfs.ts';

/** A hold of Pando's. */
export interface HeldByPando {
  /** `dataset@snapshot`. */
  readonly snapshot: string;
  readonly tag: HoldTag;
}

/** What Pando holds of the datasets that are listed, on a ZFS that lists tags; people may hold what they like. */
export async function heldByPando(zfs: Zfs, listing: readonly ListedDataset[]): Promise<HeldByPando[]> {
  const held = heldIn(listing);
  if (held.length === 0) return [];
  const tags = await zfs.holds(held);
  return held.flatMap(({ dataset, snapshot }, index) =>
    (tags[index] ?? []).filter(isHoldOfPando).map((tag) => ({ snapshot: `${dataset}@${snapshot}`, tag })),
  );
}
