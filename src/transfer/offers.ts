/** From what a peer asks for, by dataset and guid, to what this node's ZFS is told: a peer never hands in a name. */
import { PandoError } from '../core/errors.ts';
import { type Graph, snapshotOf } from '../core/graph/graph.ts';
import { absoluteName, type DatasetId, type DatasetName, type SnapshotGuid } from '../core/ids.ts';
import type { SendRequest, SnapshotReference } from '../zfs/zfs.ts';
import type { WantedStream } from './protocol.ts';
import { snapshotText } from './snapshot-text.ts';

/** Throws `TRANSFER_REFUSED` for a snapshot that this node's graph does not have (any more). */
export function sendRequestOf(graph: Graph, root: DatasetName, { snapshot, base }: WantedStream): SendRequest {
  return {
    snapshot: resolve(graph, root, snapshot),
    base: base === null ? null : { ...resolve(graph, root, base), intermediates: base.intermediates },
  };
}

function resolve(
  graph: Graph,
  root: DatasetName,
  { dataset: id, guid }: { readonly dataset: DatasetId; readonly guid: SnapshotGuid },
): SnapshotReference {
  const dataset = graph.get(id);
  const snapshot = dataset === undefined ? undefined : snapshotOf(dataset, guid);
  if (dataset === undefined || snapshot === undefined) {
    throw new PandoError(
      'TRANSFER_REFUSED',
      `Snapshot ${guid} of dataset ${dataset?.name ?? id} is not here (any more); sync again to see what is.`,
      { dataset: id, snapshot: guid },
    );
  }
  return { dataset: absoluteName(root, dataset.name), snapshot: snapshot.name };
}

/** Both ends of all streams, each once: a hold command refuses a snapshot that it names twice. */
export function endsOf(requests: readonly SendRequest[]): SnapshotReference[] {
  const ends = new Map<string, SnapshotReference>();
  for (const { snapshot, base } of requests) {
    ends.set(snapshotText(snapshot), snapshot);
    if (base !== null) ends.set(snapshotText(base), { dataset: base.dataset, snapshot: base.snapshot });
  }
  return [...ends.values()];
}
