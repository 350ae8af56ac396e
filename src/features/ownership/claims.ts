import type { Ownership as OwnerAndEpoch } from '../../core/events.ts';
import type { DatasetId, TreeName } from '../../core/ids.ts';

/** What peers that may take over datasets of a tree claim of each; undefined where none claims it. */
export type Claims = (tree: TreeName) => (id: DatasetId) => OwnerAndEpoch | undefined;
