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
  /** Where the origins of its clones lie that the peer asked for, by the ids of their lineage holders, and where those lie that clones outside of the tree hang off, by the ids of the clones (see {@link findOrigins}). */
  readonly origins: ReadonlyMap<DatasetId, HeldSnapshot>;
}

/** Throws `TRANSFER_REFUSED` for a snapshot that this node's graph does not have (any more). */
export function offerOf(shared: Shared, { snapshot, base }: WantedStream): Offer {
  const to = resolve(shared, snapshot);
  if (base === null) return { request: { snapshot: to, base: null }, ends: [to] };
  const bookmark = bookmarkFor(shared, base);
  // A bookmark cannot be held: where somebody destroys it, the stream fails, and the next plan goes without
  if (bookmark !== undefined) return { request: { snapshot: to, base: bookmark }, ends: [to] };
  const origin = shared.graph.get(snapshot.dataset)?.origin;
  // A clone can be sent from no other copy of its origin than the one that it hangs off (zfs-send.8), though a lineage holder may have the same snapshot
  const dataset = origin?.snapshot === base.guid ? (origin.dataset ?? base.dataset) : base.dataset;
  const outside = hangsOutside(shared.graph, { snapshot, base }) ? shared.origins.get(snapshot.dataset) : undefined;
  const from = outside?.guid === base.guid ? outside : resolve(shared, { dataset, guid: base.guid });
  return {
    request: { snapshot: to, base: { ...from, intermediates: base.intermediates } },
    ends: [to, from],
  };
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
  const missing = new Set([...asked].filter((id) => graph.get(id) === undefined));
  const hanging = new Set(
    streams.filter((stream) => hangsOutside(graph, stream)).map(({ snapshot }) => snapshot.dataset),
  );
  if (missing.size === 0 && hanging.size === 0) return new Map();
  const clones = new Map<DatasetName, DatasetId>();
  for (const { id, name, origin } of graph.datasets.values()) {
    // One clone is enough to find what it hangs off: there may be thousands. Several places can have the snapshot, and whoever asks for it alone may have it from any
    const isFirst = origin !== null && missing.delete(lineageId(origin.snapshot));
    if (isFirst || hanging.has(id)) clones.set(absoluteName(root, name), id);
  }
  const found = new Map<DatasetId, HeldSnapshot>();
  for (const { name, origin } of await zfs.listOnly([...clones.keys()])) {
    if (origin?.guid == null) continue;
    const place = { ...origin.reference, guid: origin.guid };
    found.set(lineageId(origin.guid), place).set(clones.get(name) as DatasetId, place);
  }
  return found;
}

/** Whether a stream of a clone begins with an origin that lies outside the tree. */
function hangsOutside(graph: Graph, { snapshot, base }: Pick<WantedStream, 'snapshot' | 'base'>): boolean {
  const origin = graph.get(snapshot.dataset)?.origin;
  return origin?.dataset === null && origin.snapshot === base?.guid;
}

function resolve(
  { graph, root, origins }: Shared,
  { dataset: id, guid }: { readonly dataset: DatasetId; readonly guid: SnapshotGuid },
): HeldSnapshot {
  const outside = origins.get(id);
  const dataset = graph.get(id);
  if (outside?.guid === guid && dataset === undefined) return outside;
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
