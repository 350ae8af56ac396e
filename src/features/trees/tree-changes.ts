/** What people do to a tree, as data: so that it can be asked of another node as well. */
import { z } from 'zod';
import { unreachable } from '../../core/errors.ts';
import { relativeName, snapshotName, treeName } from '../../core/event-fields.ts';
import type { AskedBy } from '../../transfer/replica-properties.ts';
import type { Trees } from './trees.ts';

const dataset = { tree: treeName, name: relativeName };
const snapshot = { ...dataset, snapshot: snapshotName };

export const treeChangeSchema = z.discriminatedUnion('change', [
  z.strictObject({ change: z.literal('snapshot'), ...snapshot, recursive: z.boolean() }),
  z.strictObject({ change: z.literal('clone'), ...snapshot, to: relativeName }),
  z.strictObject({ change: z.literal('rename'), ...dataset, to: relativeName }),
  z.strictObject({ change: z.literal('rename-snapshot'), ...snapshot, to: snapshotName }),
  z.strictObject({ change: z.literal('promote'), ...dataset }),
  z.strictObject({ change: z.literal('rollback'), ...snapshot, destroyNewer: z.boolean() }),
  z.strictObject({ change: z.literal('destroy'), ...dataset }),
  z.strictObject({ change: z.literal('destroy-snapshot'), ...snapshot }),
]);
export type TreeChange = z.output<typeof treeChangeSchema>;

/** Does it here. Rejects as the methods of {@link Trees} do. */
export function applyChange(trees: Trees, change: TreeChange, by: AskedBy): Promise<void> {
  switch (change.change) {
    case 'snapshot':
      return trees.snapshot(change, { recursive: change.recursive });
    case 'clone':
      return trees.clone(change, change.to, by);
    case 'rename':
      return trees.rename(change, change.to);
    case 'rename-snapshot':
      return trees.renameSnapshot(change, change.to);
    case 'promote':
      return trees.promote(change);
    case 'rollback':
      return trees.rollback(change, { destroyNewer: change.destroyNewer });
    case 'destroy':
      return trees.destroy(change);
    case 'destroy-snapshot':
      return trees.destroySnapshot(change);
    default:
      return unreachable(change);
  }
}
