/** From what a peer asks for, by dataset and guid, to what this node's ZFS is told: a peer never hands in a name. */
import { PandoError } from '../core/errors.ts';
import { type Graph, snapshotOf } from '../core/graph/graph.ts';
import { absoluteName, type DatasetId, type DatasetName, type SnapshotGuid } from '../core/ids.ts';
import type { SendRequest } from '../zfs/zfs.ts';
import type { HeldSnapshot } from './holds.ts';
import type { WantedStream } from './protocol.ts';

/** A stream that can be sent. */
export interface Offer {
  readonly request: SendRequest;
  /** What has to stay until it is over. */
  readonly ends: readonly HeldSnapshot[];
}

/** Throws `TRANSFER_REFUSED` for a snapshot that this node's graph does not have (any more). */
export function offerOf(graph: Graph, root: DatasetName, { snapshot, base }: WantedStream): Offer {
  const to = resolve(graph, root, snapshot);
  if (base === null) return { request: { snapshot: to, base: null }, ends: [to] };
  const from = resolve(graph, root, base);
  return {
    request: { snapshot: to, base: { ...from, intermediates: base.intermediates } },
    ends: [to, from],
  };
}

function resolve(
  graph: Graph,
  root: DatasetName,
  { dataset: id, guid }: { readonly dataset: DatasetId; readonly guid: SnapshotGuid },
): HeldSnapshot {
  const dataset = graph.get(id);
  const snapshot = dataset === undefined ? undefined : snapshotOf(dataset, guid);
  if (dataset === undefined || snapshot === undefined) {
    throw new PandoError(
      'TRANSFER_REFUSED',
      `Snapshot ${guid} of dataset ${dataset?.name ?? id} is not here (any more); sync again to see what is.`,
      { dataset: id, snapshot: guid },
    );
  }
  return { dataset: absoluteName(root, dataset.name), snapshot: snapshot.name, guid };
}
