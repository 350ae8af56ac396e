import { parseFilters } from '../../core/snapshots/filter.ts';
import type { Labels, SnapshotInfo } from '../../core/snapshots/snapshot.ts';
import type { SnapshotService } from '../../features/snapshots/snapshot-service.ts';
import { infoMessage } from './conversion.ts';
import type { InfoMessage, ListResponse } from './messages.ts';

/** As many as containerd itself puts into one message. */
const BATCH_SNAPSHOTS_MAX = 100;
/** Texts in one message, in bytes, before the next one begins: clients refuse messages of more than 4 MiB, and a snapshot may have many labels. */
const BATCH_TEXT_BYTES_MAX = 1024 * 1024;

function textBytes(labels: Labels): number {
  return Object.entries(labels).reduce((sum, [label, value]) => sum + Buffer.byteLength(label + value), 0);
}

function* batches(infos: Iterable<SnapshotInfo>): Generator<ListResponse> {
  let batch: InfoMessage[] = [];
  let bytes = 0;
  for (const info of infos) {
    const more = Buffer.byteLength(info.key + (info.parent ?? '')) + textBytes(info.labels);
    if (batch.length > 0 && (batch.length === BATCH_SNAPSHOTS_MAX || bytes + more > BATCH_TEXT_BYTES_MAX)) {
      yield { info: batch };
      batch = [];
      bytes = 0;
    }
    batch.push(infoMessage(info));
    bytes += more;
  }
  if (batch.length > 0) yield { info: batch };
}

/** The snapshots that match any of the filters, in messages of a size that clients take. Rejects as `parseFilters` throws. */
export async function* snapshotList(
  snapshots: SnapshotService,
  filters: readonly string[],
): AsyncGenerator<ListResponse> {
  const matches = parseFilters(filters);
  yield* batches((await snapshots.list()).filter(matches));
}
