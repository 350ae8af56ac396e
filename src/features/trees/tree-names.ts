/** How people write places in trees: `TREE`, `TREE/NAME`, `TREE/NAME@SNAPSHOT`. */
import { PandoError } from '../../core/errors.ts';
import {
  parseRelativeName,
  parseSnapshotName,
  parseTreeName,
  type RelativeName,
  type SnapshotName,
  type TreeName,
} from '../../core/ids.ts';

export interface DatasetPlace {
  readonly tree: TreeName;
  /** Empty for the root. */
  readonly name: RelativeName;
}

export interface SnapshotPlace extends DatasetPlace {
  readonly snapshot: SnapshotName;
}

/** Reads `TREE` or `TREE/NAME`. Throws `NAME_INVALID`. */
export function parseDatasetPlace(text: string): DatasetPlace {
  const slash = text.indexOf('/');
  if (slash < 0) return { tree: parseTreeName(text), name: '' as RelativeName };
  const name = text.slice(slash + 1);
  if (name === '') throw new PandoError('NAME_INVALID', `"${text}" ends with a slash; write TREE or TREE/NAME.`);
  return { tree: parseTreeName(text.slice(0, slash)), name: parseRelativeName(name) };
}

/** Reads `TREE@SNAPSHOT` or `TREE/NAME@SNAPSHOT`. Throws `NAME_INVALID`. */
export function parseSnapshotPlace(text: string): SnapshotPlace {
  const at = text.indexOf('@');
  if (at < 0) throw new PandoError('NAME_INVALID', `"${text}" names no snapshot; write TREE/NAME@SNAPSHOT.`);
  return { ...parseDatasetPlace(text.slice(0, at)), snapshot: parseSnapshotName(text.slice(at + 1)) };
}
