/**
 * The Zfs port: everything Pando asks of a ZFS, in ZFS's own vocabulary.
 *
 * Two drivers stand behind it: the command line (`cli/`, zfs-fuse and OpenZFS) and one in memory (`memory/`). Both pass the
 * contract suite in `test/suites/zfs-contract.ts`, which is the longer form of this page.
 *
 * - A **name** is always complete, pool first. Nothing here knows of trees.
 * - A **snapshot reference** is a dataset and what stands behind its `@`.
 * - Every method rejects with a PandoError whose code begins with `ZFS_`; its evidence carries `command`, `exitCode` and `stderr`,
 *   and for `ZFS_HAS_DEPENDENTS` the `dependents` by name.
 * - A method that takes a signal ends its processes, as a group, when the signal is aborted, and rejects with `ZFS_ABORTED`
 *   once they are gone.
 * - Nothing is ever forced: no `-f`, no `-R`, and `-F` only where {@link ReceiveRequest.overPlaceholder} says. A destroy takes along nothing but what it names.
 */

import type { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { Bookmark, DatasetKind, Properties, Snapshot } from '../core/events.ts';
import type { BookmarkName, DatasetName, HoldTag, ResumeToken, SnapshotGuid, SnapshotName } from '../core/ids.ts';
import type { StreamFlags } from '../core/stream-flags.ts';

/** A snapshot by its place: `dataset@snapshot`. */
export interface SnapshotReference {
  readonly dataset: DatasetName;
  readonly snapshot: SnapshotName;
}

/** A snapshot that is held or released. */
export interface HoldReference extends SnapshotReference {
  /** Also each snapshot of that name in the datasets below (`-r`, zfs-hold.8): for all of them together ZFS takes one transaction, and otherwise one for each. */
  readonly below?: boolean;
}

/** A bookmark by its place: `dataset#bookmark`. */
export interface BookmarkReference {
  readonly dataset: DatasetName;
  readonly bookmark: BookmarkName;
}

/** What this ZFS can do (design §10). Found out once per driver, by asking it. */
export interface ZfsCapabilities {
  /** `openzfs`, `zfs-fuse` or `memory`. */
  readonly dialect: 'openzfs' | 'zfs-fuse' | 'memory';
  /** As the ZFS names itself, for people. */
  readonly version: string;
  /** Properties can be set, and the origin named, while receiving (`receive -o`). */
  readonly receiveProperties: boolean;
  /** The size of a stream can be had from ZFS before sending (`send -nvP`). */
  readonly sendEstimate: boolean;
  /** Datasets tell when their set of snapshots last changed (`snapshots_changed`). */
  readonly snapshotsChanged: boolean;
  /** Tags of holds can be listed (zfs-fuse as packaged cannot). */
  readonly listHolds: boolean;
  readonly bookmarks: boolean;
  readonly resumableReceive: boolean;
  readonly volumes: boolean;
  /** It can tell what differs between snapshots (`zfs diff`). */
  readonly diff: boolean;
  /** How streams can be made and taken here. A pool whose features are switched off can do less, and refuses with `ZFS_UNSUPPORTED`. */
  readonly streamFlags: StreamFlags;
}

/** A snapshot as ZFS lists it. */
export interface ListedSnapshot extends Snapshot {
  /** Number of user holds on it. */
  readonly userrefs: number;
}

/** A dataset as ZFS lists it. */
export interface ListedDataset {
  readonly name: DatasetName;
  readonly kind: DatasetKind;
  /** Its own guid, local to the pool, as a decimal string. */
  readonly guid: string;
  readonly createtxg: number;
  /** Bytes reachable from it now. */
  readonly referenced: number;
  /** Bytes written since its newest snapshot, or null where the ZFS cannot tell. */
  readonly written: number | null;
  /** The snapshot it was cloned from; `guid` is null when that snapshot could not be listed. */
  readonly origin: { readonly reference: SnapshotReference; readonly guid: SnapshotGuid | null } | null;
  /** Whether it is encrypted, with a key of its own or an inherited one. It stays what it is as long as it exists. */
  readonly encrypted: boolean;
  /**
   * Names what a receive left that was cut short: see {@link ReceiveRequest.keepPartial}. Null where nothing was left. A dataset that has a token and no snapshot is
   * one whose first stream has not come whole.
   */
  readonly resumeToken: ResumeToken | null;
  /**
   * Properties whose source is `local`, the user's own (`module:name`) included, volatile and read-only ones left out. For a dataset that is mounted,
   * zfs-fuse tells of its mount options instead (`readonly`, `atime`, `exec`, `setuid`, `devices`), so these can be missing there.
   */
  readonly properties: Properties;
  /** Oldest first, by createtxg. */
  readonly snapshots: readonly ListedSnapshot[];
  /** By createtxg, then by name. */
  readonly bookmarks: readonly Bookmark[];
}

/** What a token says: the snapshot that was under way, from which base, and how the stream was made. */
export interface ResumePoint {
  readonly toGuid: SnapshotGuid;
  readonly fromGuid: SnapshotGuid | null;
  readonly flags: StreamFlags;
  /** The snapshot here that the stream would go on with; null where it, or its base, is not here (any more). */
  readonly snapshot: SnapshotReference | null;
}

/** What a send produces: the whole of a snapshot, or its difference to another one. */
export interface SendRequest {
  readonly snapshot: SnapshotReference;
  /**
   * The base of an increment: an earlier snapshot of the same dataset, or the origin of a clone (zfs-send.8). With
   * `intermediates`, all snapshots in between travel too (`-I`), otherwise only the difference (`-i`). A bookmark of the same dataset stands for the snapshot that it was
   * made of, where `bookmarks` holds.
   */
  readonly base: (SnapshotReference & { readonly intermediates: boolean }) | BookmarkReference | null;
  /**
   * How it is made: for an increment as the stream that brought its base. Of what is encrypted only a raw stream can be had without the key (`ZFS_KEY_MISSING`);
   * of what is not, a raw one is one with the other flags.
   */
  readonly flags: StreamFlags;
  /**
   * To go on where a receive was cut short, with what this token names, whatever else is asked for: whoever sends it has seen by {@link Zfs.readToken} that the two are
   * the same. Null to begin at the beginning.
   */
  readonly resumeToken: ResumeToken | null;
}

/** What the first snapshot of a stream must be. */
export interface ExpectedStream {
  readonly toGuid: SnapshotGuid;
  /** The base of an increment or the origin of a clone, null for a full stream. */
  readonly fromGuid: SnapshotGuid | null;
  /** Whether the stream is a raw one of what is encrypted. */
  readonly raw: boolean;
  /** Whether it may be one of several snapshots (`-I`). Any other that is made like those brings properties (`-p`), which a peer does not set here. */
  readonly several: boolean;
}

/**
 * What a receive makes of a stream. The target is received unmounted (`-u`) and never with a blanket `-F`; what the stream says of mount points, shares and
 * the powers of files is not taken where the ZFS can leave it out (`receiveProperties`).
 */
export interface ReceiveRequest {
  /** Exact name of the dataset; it must exist for an increment and must not for a full or a clone stream. */
  readonly target: DatasetName;
  /**
   * For a dataset that does not exist yet: the origin to bind a clone to, and properties, both used where `receiveProperties` holds; and what its snapshot is
   * to be called, null for the name that the stream gives it. Null for an increment: then the dataset must exist.
   */
  readonly create: {
    readonly origin: SnapshotReference | null;
    readonly properties: Properties;
    readonly snapshot: SnapshotName | null;
  } | null;
  /**
   * Whether the target is an empty placeholder of ours that a full stream replaces. The one case in which `-F` is used, after the driver
   * has seen that the target carries `pando:placeholder=on` itself and has no snapshot; anything else rejects with `ZFS_DATASET_EXISTS`.
   * Datasets below it stay.
   */
  readonly overPlaceholder: boolean;
  /**
   * Whether the caller holds the base of an increment in the target. Then the target is there and stays (zfs-destroy.8 refuses what is held), and the
   * driver saves looking for it before each stream.
   */
  readonly baseHeld: boolean;
  /**
   * What the begin of the stream must say; another one is refused with `ZFS_STREAM_MISMATCH` before ZFS sees a byte of it. Of a socket that a child takes over nobody
   * can see the begin: there only ZFS itself looks, and whoever lists afterwards what came. Null to take whatever fits.
   */
  readonly expected: ExpectedStream | null;
  /**
   * Whether what came of a snapshot stays when the stream breaks off, is aborted or turns out damaged (`receive -s`), where `resumableReceive` holds. The listing has a
   * token then, no other stream is received there (`ZFS_BUSY`, `ZFS_DATASET_EXISTS` for a first one), and the base cannot be destroyed, until the snapshot was sent
   * for that token and received as an increment is (`create` null), or {@link Zfs.abandonReceive} gave it up. A dataset that its first stream was to make is there,
   * with its properties and without snapshots.
   */
  readonly keepPartial: boolean;
}

/**
 * One end of a data path. A `socket` is handed to the child as its standard output or input, and Node touches none of
 * its bytes; the caller must not have read from it, and must not use it afterwards but to destroy it. Where it is sent to, the other end must
 * never write. A `stream` is piped.
 */
export type SendTarget =
  | { readonly kind: 'stream'; readonly stream: Writable }
  | { readonly kind: 'socket'; readonly socket: Socket };
export type ReceiveSource =
  | { readonly kind: 'stream'; readonly stream: Readable }
  | {
      readonly kind: 'socket';
      readonly socket: Socket;
      /** What the stream begins with, where somebody has looked before it came to the socket; null where nobody could. */
      readonly head: StreamHead | Unreadable | null;
    };

/** What the begin of a stream says of its first snapshot. */
export interface StreamHead {
  readonly toGuid: string;
  /** The snapshot that it builds on, null for a full stream. */
  readonly fromGuid: string | null;
  readonly raw: boolean;
  /** Whether it is made as those of several snapshots are. */
  readonly several: boolean;
}

/** Why there is no begin of a stream to look at. */
export type Unreadable = 'aborted' | 'broken' | 'ended' | 'none' | 'properties';

/** What came of a stream. */
export interface StreamResult {
  /** Bytes that passed, or null where nobody could count them (a handed-over socket). */
  readonly bytes: number | null;
}

export interface Zfs {
  /** Asks ZFS once, then remembers. Rejects with `ZFS_UNAVAILABLE` when there is none to ask. */
  capabilities(): Promise<ZfsCapabilities>;

  /** Ends what still runs. Nothing may be asked any more. */
  close(): Promise<void>;

  /**
   * The datasets at and below `root` with their snapshots, in the order ZFS gives them (parents first). A dataset whose first receive
   * is running may be among them, without snapshots; one whose name Pando does not take is not.
   * Rejects with `ZFS_NOT_FOUND` or `ZFS_NO_POOL` when the root does not exist.
   */
  list(root: DatasetName, signal?: AbortSignal): Promise<ListedDataset[]>;

  /**
   * Like {@link list} for exactly these datasets, without what is below them; those that do not exist are left out. Rejects with `ZFS_NO_POOL` when
   * the pool of one is not imported: then nobody can tell.
   */
  listOnly(names: readonly DatasetName[], signal?: AbortSignal): Promise<ListedDataset[]>;

  /** Exactly these snapshots, in this order, with null for those that do not exist. A fraction of what {@link listOnly} costs. */
  listSnapshots(snapshots: readonly SnapshotReference[], signal?: AbortSignal): Promise<(ListedSnapshot | null)[]>;

  /**
   * A token that differs whenever the listing below `root` may differ from before (holds and bookmarks apart), got without listing snapshots; null
   * where ZFS offers nothing of the kind, and then only {@link list} tells. It may also differ when nothing changed, for the first two seconds
   * after a change: ZFS tells only the second in which snapshots changed.
   */
  changeToken(root: DatasetName, signal?: AbortSignal): Promise<string | null>;

  /** Names of the pools that are imported. */
  pools(): Promise<string[]>;

  /** Creates a filesystem. Its parent must exist. */
  create(name: DatasetName, properties?: Properties): Promise<void>;
  /**
   * Takes all these snapshots; atomically where they share a pool and the ZFS can do it (zfs-fuse takes them one by one). `ZFS_UNSUPPORTED`, before
   * any is taken, where they are more than one command takes.
   */
  snapshot(snapshots: readonly SnapshotReference[]): Promise<void>;
  /** Clones a snapshot to a new dataset in the same pool. */
  clone(origin: SnapshotReference, target: DatasetName, properties?: Properties): Promise<void>;
  /**
   * Turns the edge between a clone and its origin round (zfs-promote.8). Rejects with `ZFS_DATASET_EXISTS` where a snapshot that moves, or a bookmark, has a name that
   * there is on the other side. The driver looks for such bookmarks itself: OpenZFS 2.3 does not, and panics (dsl_bookmark.c).
   */
  promote(name: DatasetName): Promise<void>;
  /** Renames a dataset, and with it all below. Both names lie in one pool. */
  rename(from: DatasetName, to: DatasetName): Promise<void>;
  renameSnapshot(from: SnapshotReference, to: SnapshotName): Promise<void>;
  /**
   * Destroys one dataset with its snapshots, nothing else: with children, clones of its snapshots, or held snapshots it rejects with
   * `ZFS_HAS_DEPENDENTS` or `ZFS_BUSY` and leaves everything as it was. A pool is refused with `ZFS_UNSUPPORTED`. Cut short, it can leave the dataset with
   * its older snapshots only.
   */
  destroy(name: DatasetName): Promise<void>;
  /**
   * Takes a dataset back to one of its snapshots: what was written since is lost, and newer bookmarks go. Newer snapshots are destroyed with `destroyNewer` only, but never
   * their clones. Rejects with `ZFS_HAS_DEPENDENTS` where there are some, or newer snapshots that may not go, and with `ZFS_BUSY` when one is held; then nothing has changed.
   */
  rollback(snapshot: SnapshotReference, options: { readonly destroyNewer: boolean }): Promise<void>;
  /**
   * Remembers a snapshot, so that a stream can still begin behind it when it is gone (zfs-bookmark.8). `ZFS_DATASET_EXISTS` for a name that is taken, `ZFS_UNSUPPORTED` where
   * `bookmarks` does not hold.
   */
  bookmark(snapshot: SnapshotReference, name: BookmarkName): Promise<void>;
  /** Destroys one bookmark. Nothing depends on it, and nothing keeps it. */
  destroyBookmark(bookmark: BookmarkReference): Promise<void>;
  /** Destroys one snapshot. `ZFS_HAS_DEPENDENTS` while it has clones, `ZFS_BUSY` while it is held. */
  destroySnapshot(snapshot: SnapshotReference): Promise<void>;

  /**
   * Sets these properties on each of the datasets, with as few processes as the dialect allows. One that is missing does not keep the others from
   * being set. `ZFS_UNSUPPORTED` for a property or value that this ZFS does not take, and for control characters in a value.
   */
  setProperties(names: readonly DatasetName[], properties: Properties): Promise<void>;
  /** Makes each of these datasets inherit the property again. */
  inheritProperty(names: readonly DatasetName[], property: string): Promise<void>;

  /**
   * Mounts a filesystem where its `mountpoint` says, unless it is mounted, and resolves with that directory. `ZFS_UNSUPPORTED` for one without a mountpoint of its own
   * (`legacy`, `none`), and where the ZFS is on another machine.
   */
  mount(name: DatasetName): Promise<string>;
  /** Unmounts a filesystem; one that is not mounted stays so. `ZFS_BUSY` while somebody uses its files. */
  unmount(name: DatasetName): Promise<void>;
  /** Bytes that would be free without the dataset, its snapshots and all below it (`used`, zfsprops.7); what was just written counts with the next transaction group. */
  used(name: DatasetName): Promise<number>;
  /**
   * How many files, directories and other objects a filesystem has, as of the last transaction group. ZFS may count some of its own with them, as many in each clone as in what that was cloned from: it is
   * for comparing the two. What is not mounted is not so behind it either. Where ZFS can only tell of what is mounted, it rejects as {@link mount} does.
   */
  objects(name: DatasetName): Promise<number>;

  /**
   * Paths, relative to the root of its files, outside which nothing differs between a snapshot and an earlier one of the same dataset or of what that was cloned from; null where the ZFS cannot
   * tell, or not by paths alone. Whoever gets null compares the files.
   */
  changedPaths(from: SnapshotReference, to: SnapshotReference): Promise<readonly Buffer[] | null>;

  /**
   * Puts a hold on all these snapshots. `ZFS_HOLD_EXISTS` when one has that tag already, `ZFS_NOT_FOUND` when one is missing; the others
   * are held all the same, and {@link release} undoes it for all. Of what lies below one of them nothing need be there, and where something has that tag
   * already none of it is held.
   */
  hold(tag: HoldTag, snapshots: readonly HoldReference[]): Promise<void>;
  /**
   * Releases a hold. Snapshots that are gone or never had the tag are passed over: releasing is idempotent. Resolves to whether all of them had it; one that
   * did not may have been renamed, and have it still. True for one with all below it: nothing that has its name there now has the tag; false: something may.
   */
  release(tag: HoldTag, snapshots: readonly HoldReference[]): Promise<boolean>;
  /** Tags on each of these snapshots, none for one that does not exist. `ZFS_UNSUPPORTED` where `listHolds` does not hold. */
  holds(snapshots: readonly SnapshotReference[]): Promise<HoldTag[][]>;

  /** Bytes of a stream as ZFS estimates them, or null where it cannot (`sendEstimate`). */
  estimate(request: SendRequest): Promise<number | null>;
  /**
   * Sends; resolves once everything was taken by the target, which is ended then, and destroyed on failure. `ZFS_BASE_MISSING` for a base that is missing
   * or not in the snapshot's past; `ZFS_FAILED` when the other end went away.
   */
  send(request: SendRequest, target: SendTarget, signal: AbortSignal): Promise<StreamResult>;
  /**
   * Receives; resolves once ZFS has committed. On failure and on abort an initial receive leaves no dataset behind, an increment
   * leaves the target at one of the stream's snapshots or its base. An increment that is there already passes on OpenZFS and is refused with
   * `ZFS_BASE_MISSING` elsewhere; either way nothing changes. On failure the source is destroyed. `ZFS_STREAM_MISMATCH` for a raw stream onto what is not
   * encrypted, and `ZFS_KEY_MISSING` for one that is not raw where it would have to be encrypted without the key.
   */
  receive(request: ReceiveRequest, source: ReceiveSource, signal: AbortSignal): Promise<StreamResult>;

  /** What a token says, wherever it comes from; null for one that is none. Changes nothing. */
  readToken(token: ResumeToken): Promise<ResumePoint | null>;
  /** Gives up what a receive left that was cut short (`receive -A`); a dataset that its first stream was to make goes with it. Idempotent. */
  abandonReceive(name: DatasetName): Promise<void>;
}
