/** From what a peer asks for, by dataset and guid, to what this node's ZFS is told: a peer never hands in a name. */
import { PandoError } from '../core/errors.ts';
import { bookmarkOf, type Graph, snapshotOf } from '../core/graph/graph.ts';
import { absoluteName, type DatasetId, type DatasetName, lineageId, type SnapshotGuid } from '../core/ids.ts';
import type { BookmarkReference, SendRequest, Zfs } from '../zfs/zfs.ts';
import type { HeldSnapshot } from './holds.ts';
import type { WantedStream } from './protocol.ts';

/** A stream that can be sent. */
export interface Offer {
  readonly request: Pick<SendRequest, 'snapshot' | 'base'>;
  /** What has to stay until it is over. */
  readonly ends: readonly HeldSnapshot[];
}

/** What a peer may ask for of one tree. */
export interface Shared {
  readonly graph: Graph;
  readonly root: DatasetName;
  /** Where the origins of its clones lie that the peer asked for by the ids of their lineage holders (see {@link findOrigins}). */
  readonly origins: ReadonlyMap<DatasetId, HeldSnapshot>;
}

/** Throws `TRANSFER_REFUSED` for a snapshot that this node's graph does not have (any more). */
export function offerOf(shared: Shared, { snapshot, base }: WantedStream): Offer {
  const to = resolve(shared, snapshot);
  if (base === null) return { request: { snapshot: to, base: null }, ends: [to] };
  const bookmark = bookmarkFor(shared, base);
  // A bookmark cannot be held: where somebody destroys it, the stream fails, and the next plan goes without
  if (bookmark !== undefined) return { request: { snapshot: to, base: bookmark }, ends: [to] };
  const from = resolve(shared, { dataset: baseDataset(shared.graph, snapshot.dataset, base), guid: base.guid });
  return {
    request: { snapshot: to, base: { ...from, intermediates: base.intermediates } },
    ends: [to, from],
  };
}

/**
 * Where the base of a stream is: a clone can be sent from no other copy of its origin than the one that it hangs off (zfs-send.8), though a lineage holder may have the same snapshot. One outside
 * the tree has been found by the id that was asked for.
 */
function baseDataset(graph: Graph, sent: DatasetId, base: NonNullable<WantedStream['base']>): DatasetId {
  const origin = graph.get(sent)?.origin;
  return origin?.snapshot === base.guid ? (origin.dataset ?? base.dataset) : base.dataset;
}

/** The bookmark that stands for a base whose snapshot is gone. */
function bookmarkFor(
  { graph, root }: Shared,
  { dataset: id, guid, intermediates }: NonNullable<WantedStream['base']>,
): BookmarkReference | undefined {
  const dataset = graph.get(id);
  if (dataset === undefined || intermediates || snapshotOf(dataset, guid) !== undefined) return undefined;
  const bookmark = bookmarkOf(dataset, guid);
  return bookmark && { dataset: absoluteName(root, dataset.name), bookmark: bookmark.name };
}

/**
 * Finds the origins that the peer cannot have from elsewhere, outside the tree or in it: with a clone goes what it grew from, and nothing else of where that
 * lies. Rejects as ZFS does.
 */
export async function findOrigins(
  { graph, root }: Omit<Shared, 'origins'>,
  streams: readonly WantedStream[],
  zfs: Zfs,
): Promise<Map<DatasetId, HeldSnapshot>> {
  const asked = new Set(streams.flatMap(({ snapshot, base }) => [snapshot.dataset, ...(base ? [base.dataset] : [])]));
  const hangsOutside = ({ snapshot, base }: WantedStream): boolean => {
    const origin = graph.get(snapshot.dataset)?.origin;
    return origin?.dataset === null && origin.snapshot === base?.guid;
  };
  const missing = new Set([
    ...[...asked].filter((id) => graph.get(id) === undefined),
    ...streams.filter(hangsOutside).flatMap(({ base }) => (base === null ? [] : [base.dataset])),
  ]);
  if (missing.size === 0) return new Map();
  const cloneOf = new Map<SnapshotGuid, DatasetName>();
  for (const { name, origin } of graph.datasets.values()) {
    if (origin !== null && missing.has(lineageId(origin.snapshot)))
      cloneOf.set(origin.snapshot, absoluteName(root, name));
  }
  const found = new Map<DatasetId, HeldSnapshot>();
  for (const { origin } of await zfs.listOnly([...cloneOf.values()])) {
    if (origin?.guid != null) found.set(lineageId(origin.guid), { ...origin.reference, guid: origin.guid });
  }
  return found;
}

function resolve(
  { graph, root, origins }: Shared,
  { dataset: id, guid }: { readonly dataset: DatasetId; readonly guid: SnapshotGuid },
): HeldSnapshot {
  const outside = origins.get(id);
  if (outside?.guid === guid) return outside;
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
