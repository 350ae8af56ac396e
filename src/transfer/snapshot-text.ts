import { PandoError } from '../core/errors.ts';
import { parseDatasetName, parseSnapshotName } from '../core/ids.ts';
import type { SnapshotReference } from '../zfs/zfs.ts';

/** `dataset@snapshot`, as the journal keeps it and people see it. */
export function snapshotText({ dataset, snapshot }: SnapshotReference): string {
  return `${dataset}@${snapshot}`;
}

/** Reads what {@link snapshotText} wrote. Throws `NAME_INVALID`. */
export function parseSnapshotText(text: string): SnapshotReference {
  const at = text.indexOf('@');
  if (at < 0) throw new PandoError('NAME_INVALID', `"${text}" is not a snapshot (DATASET@SNAPSHOT).`);
  return { dataset: parseDatasetName(text.slice(0, at)), snapshot: parseSnapshotName(text.slice(at + 1)) };
}
