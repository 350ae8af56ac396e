/** Whether people could write to a dataset, as it is listed together with those above it: `readonly` is inherited (zfsprops.7). */
import { dirname } from 'node:path/posix';
import type { ListedDataset } from '../../src/zfs/zfs.ts';

export function isWritable(dataset: ListedDataset, listed: readonly ListedDataset[]): boolean {
  const { readonly } = dataset.properties;
  if (readonly !== undefined) return readonly !== 'on';
  const parent = dirname(dataset.name);
  const above = listed.find(({ name }) => name === parent);
  return above === undefined || isWritable(above, listed);
}
