import { dirname } from 'node:path/posix';
import picomatch from 'picomatch';
import type { Mirror } from '../../../src/core/admin.ts';
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  ID_PROPERTY,
  isLineage,
  isNameInBetween,
  type RelativeName,
  relativeTo,
} from '../../../src/core/ids.ts';
import { takesAll } from '../../../src/core/plan/filter.ts';
import type { ListedDataset } from '../../../src/zfs/zfs.ts';

/**
 * Of what a peer has of a tree, that which the globs of a mirror select, and what none of that can be without: what lies above it, and what it is a clone of. What a peer could not give its name yet no glob
 * has to select, nor what lies below that.
 */
export function takenOf(theirs: readonly ListedDataset[], root: DatasetName, mirror: Mirror): ReadonlySet<DatasetName> {
  if (takesAll(mirror)) return new Set(theirs.map(({ name }) => name));
  const { only, except } = mirror;
  const matches = (globs: readonly string[], name: string) => picomatch.isMatch(name, [...globs], { dot: true });
  const isInBetween = (relative: RelativeName): boolean => {
    const [top] = relative.split('/', 1) as [RelativeName];
    const id = theirs.find(({ name }) => name === absoluteName(root, top))?.properties[ID_PROPERTY];
    return id !== undefined && isNameInBetween(top, id as DatasetId);
  };
  const isSelected = ({ name }: ListedDataset): boolean => {
    const relative = relativeTo(root, name);
    if (relative === undefined || isLineage(relative) || isInBetween(relative)) return false;
    return (only.length === 0 || matches(only, relative)) && !matches(except, relative);
  };
  const taken = new Set<DatasetName>();
  const take = (one: ListedDataset | undefined): void => {
    if (one === undefined || taken.has(one.name)) return;
    taken.add(one.name);
    for (const name of [dirname(one.name), one.origin?.reference.dataset]) {
      take(theirs.find((other) => other.name === name));
    }
  };
  for (const one of theirs) if (isSelected(one)) take(one);
  return taken;
}
