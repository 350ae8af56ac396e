/**
 * Cursors: a bookmark for each peer on the newest snapshot that it has of a dataset, so that this node's people can destroy that snapshot and still send increments behind it
 * (zfs-bookmark.8). They cost next to nothing and keep nothing from being destroyed; `zfs rollback` to before one asks for `-r`, which destroys it. Where the ZFS has no bookmarks
 * there are none, and layers say themselves who has received them (`layer-receivers.ts`).
 */
import { allEnded } from '../core/all-ended.ts';
import { isPandoError } from '../core/errors.ts';
import type { Bookmark, Snapshot } from '../core/events.ts';
import { type Dataset, type Graph, snapshotOf } from '../core/graph/graph.ts';
import {
  absoluteName,
  cursorName,
  type DatasetId,
  type DatasetName,
  type NodeId,
  parseCursorName,
  type SnapshotGuid,
  splitStreamId,
  type TreeName,
} from '../core/ids.ts';
import { type DeliveryOptions, LayerReceivers } from './layer-receivers.ts';

/** A snapshot that a peer has received. */
export interface DeliveredSnapshot {
  readonly dataset: DatasetId;
  readonly guid: SnapshotGuid;
}

/** What there is to do in one dataset. */
interface Move {
  readonly dataset: Dataset;
  /** The snapshot that gets a cursor; undefined where there is one, or the snapshot is gone. */
  readonly to: Snapshot | undefined;
  readonly outdated: readonly Bookmark[];
}

export class Cursors {
  readonly #options: DeliveryOptions;
  readonly #receivers: LayerReceivers;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#receivers = new LayerReceivers(options);
  }

  /**
   * Moves the cursors of a peer to what it has received, the last one of each dataset, and logs that. Rejects as ZFS does; whatever then is as it was, or doubled, the next
   * delivery puts right.
   */
  async advance(peer: NodeId, tree: TreeName, delivered: readonly DeliveredSnapshot[]): Promise<void> {
    const newest = new Map(delivered.map(({ dataset, guid }) => [dataset, guid]));
    if (newest.size === 0) return;
    if (!(await this.#hasBookmarks())) return this.#receivers.add(tree, peer, new Set(newest.keys()));
    const graph = this.#own(tree);
    const { root } = graph;
    if (root === null) return;
    const moves = Array.from(newest).flatMap(([id, guid]) => moveTo(graph.get(id), guid, peer) ?? []);
    await this.#carryOut(tree, root, peer, moves);
  }

  /** Destroys the cursors of a peer that is no peer any more. Rejects as ZFS does. */
  async forget(peer: NodeId): Promise<void> {
    const { history } = this.#options;
    const hasBookmarks = await this.#hasBookmarks();
    for (const { stream } of history.ownStreams()) {
      const { tree } = splitStreamId(stream);
      if (!hasBookmarks) {
        await this.#receivers.forget(tree, peer);
        continue;
      }
      const { root, datasets } = this.#own(tree);
      const moves = Array.from(datasets.values(), (dataset) => ({
        dataset,
        to: undefined,
        outdated: cursorsOf(dataset, peer),
      }));
      if (root !== null) await this.#carryOut(tree, root, peer, moves);
    }
  }

  async #hasBookmarks(): Promise<boolean> {
    return (await this.#options.zfs.capabilities()).bookmarks;
  }

  #own(tree: TreeName): Graph {
    const { history } = this.#options;
    return history.graph(history.ownStream(tree));
  }

  async #carryOut(tree: TreeName, root: DatasetName, peer: NodeId, moves: readonly Move[]): Promise<void> {
    const needed = moves.filter(({ to, outdated }) => to !== undefined || outdated.length > 0);
    if (needed.length === 0) return;
    const names = needed.map(({ dataset }) => dataset.name);
    await allEnded(
      needed.map((move) => this.#move(root, peer, move)),
      () => this.#options.look(tree, names),
    );
  }

  /** The new one first, and the others only once that is seen to stand for what it should: there is always one to go on from. */
  async #move(root: DatasetName, peer: NodeId, { dataset, to, outdated }: Move): Promise<void> {
    const { zfs } = this.#options;
    const name = absoluteName(root, dataset.name);
    if (to !== undefined) {
      const cursor = cursorName(peer, to.guid);
      // Made before a crash that kept the log from hearing of it; the snapshot gone again; no room for the name
      const inTheWay = unless('ZFS_DATASET_EXISTS', 'ZFS_NOT_FOUND', 'ZFS_NAME_REFUSED');
      await zfs.bookmark({ dataset: name, snapshot: to.name }, cursor).catch(inTheWay);
      const [listed] = await zfs.listOnly([name]);
      const made = listed?.bookmarks.find((bookmark) => bookmark.name === cursor);
      if (made !== undefined && made.guid !== to.guid) await zfs.destroyBookmark({ dataset: name, bookmark: cursor });
      if (made?.guid !== to.guid) return;
    }
    for (const { name: bookmark } of outdated) {
      await zfs.destroyBookmark({ dataset: name, bookmark }).catch(unless('ZFS_NOT_FOUND'));
    }
  }
}

function moveTo(dataset: Dataset | undefined, guid: SnapshotGuid, peer: NodeId): Move | undefined {
  const snapshot = dataset && snapshotOf(dataset, guid);
  if (dataset === undefined || snapshot === undefined) return undefined;
  const cursors = cursorsOf(dataset, peer);
  const isThere = cursors.some((cursor) => cursor.guid === guid);
  const outdated = cursors.filter(({ createtxg }) => createtxg < snapshot.createtxg);
  return { dataset, to: isThere ? undefined : snapshot, outdated };
}

function cursorsOf({ bookmarks }: Dataset, peer: NodeId): Bookmark[] {
  return bookmarks.filter(({ name }) => parseCursorName(name) === peer);
}

function unless(...codes: Parameters<typeof isPandoError>[1][]): (error: unknown) => void {
  return (error) => {
    if (!isPandoError(error, ...codes)) throw error;
  };
}
