import type { Properties } from '../../core/events.ts';
import { absoluteName, ID_PROPERTY, type RelativeName } from '../../core/ids.ts';
import { EXTRACTED, LAYER_PROPERTY, layerOf, SNAPSHOT_PROPERTY } from '../../core/layers/layer-names.ts';
import type { SnapshotMark } from './marks.ts';
import type { SnapshotParts } from './parts.ts';

/** Programs run in what is active; device nodes there are the container's business (zfsprops.7). */
const ACTIVE_PROPERTIES: Properties = { readonly: 'off', exec: 'on', setuid: 'on', devices: 'off' };
const VIEW_PROPERTIES: Properties = { ...ACTIVE_PROPERTIES, readonly: 'on' };

export interface NewClone {
  readonly kind: SnapshotMark['kind'];
  /** The dataset whose `@extracted` it is over. */
  readonly below: RelativeName;
  readonly dataset: RelativeName;
  /** What it says of itself (`marks.ts`). */
  readonly mark: string;
}

/** Clones what is committed, for something to be kept in it. Rejects as ZFS does. */
export async function makeClone(
  { store, zfs, mintUuid }: Pick<SnapshotParts, 'store' | 'zfs' | 'mintUuid'>,
  { kind, below, dataset, mark }: NewClone,
): Promise<void> {
  const { base, root } = store();
  const layer = layerOf(base, dataset);
  const { dialect } = await zfs.capabilities();
  const origin = { dataset: absoluteName(root, below), snapshot: EXTRACTED };
  await zfs.clone(origin, absoluteName(root, dataset), {
    ...(kind === 'view' ? VIEW_PROPERTIES : ACTIVE_PROPERTIES),
    // The kernel mounts it where containerd wants it; FUSE has it mounted by its daemon, for all
    ...(dialect === 'openzfs' ? { canmount: 'noauto' } : {}),
    ...(layer === undefined ? {} : { [LAYER_PROPERTY]: layer }),
    [SNAPSHOT_PROPERTY]: mark,
    [ID_PROPERTY]: mintUuid(),
  });
}
