/**
 * What a node can say about its copy of a tree: facts in the past tense (design §4).
 *
 * Everything that comes from outside goes through {@link parseEvent} once, at the boundary; behind it the types hold.
 * An event of a type this version does not know is kept and relayed byte for byte, and skipped by `fold`.
 */
import { z } from 'zod';
import { PandoError } from './errors.ts';
import {
  bookmarkName,
  count,
  datasetId,
  datasetName,
  glob,
  nodeId,
  peerName,
  relativeName,
  snapshotGuid,
  snapshotName,
  transferId,
  treeName,
} from './event-fields.ts';
import type {
  BookmarkName,
  DatasetId,
  DatasetName,
  HoldTag,
  NodeId,
  RelativeName,
  SnapshotGuid,
  SnapshotName,
  TransferId,
  TreeName,
} from './ids.ts';
import { type ImageEventBody, type LayerEventBody, layerEventSchemas } from './layer-events.ts';
import { type TrustEventBody, trustEventSchemas } from './trust-events.ts';

/** Version of the event envelope. A higher one is refused: its hash could be checked, its meaning not. */
export const EVENT_VERSION = 1;

/** Longest value of a property that an event carries, in characters: ZFS's own limit for user properties (zfsprops.7). */
const PROPERTY_VALUE_CHARACTERS_MAX = 8192;
/** Longest tag of a hold, in characters: ZFS takes one less than for a name (`MAX_TAG_LEN`). */
const HOLD_TAG_CHARACTERS_MAX = 256;
/** Properties an event may carry; far above what anyone sets on a dataset, far below what would fill a frame. */
const PROPERTIES_MAX = 256;
/** Globs of one list; people write them. */
export const GLOBS_MAX = 256;
/** Departures of which one event tells, so that it fits a batch. */
export const DEPARTURES_PER_EVENT_MAX = 1_000;

const DATASET_KINDS = ['filesystem', 'volume'] as const;
export type DatasetKind = (typeof DATASET_KINDS)[number];

const CAUSES = ['command', 'observed', 'received'] as const;
/** `command`: Pando did it. `observed`: someone ran `zfs`. `received`: a stream brought it. */
export type Cause = (typeof CAUSES)[number];

/** A snapshot as a node reports it; all but `name` never changes. */
export interface Snapshot {
  readonly guid: SnapshotGuid;
  readonly name: SnapshotName;
  /** Transaction group of its creation in this node's pool: the order within a dataset (zfsprops.7). */
  readonly createtxg: number;
  /** Unix time in seconds. */
  readonly creation: number;
  /** Bytes reachable from the snapshot. */
  readonly referenced: number;
  /** Bytes written since the snapshot before, or null where the ZFS cannot tell. */
  readonly written: number | null;
}

/** What is left of a snapshot where its data may be gone: enough for a stream to begin behind it (zfs-bookmark.8). Never changes, and cannot be renamed. */
export interface Bookmark {
  /** That of the snapshot. */
  readonly guid: SnapshotGuid;
  readonly name: BookmarkName;
  /** That of the snapshot: where it stood among the others of the dataset. */
  readonly createtxg: number;
}

/** A hold that somebody placed on a snapshot, so that it cannot be destroyed (zfs-hold.8). */
export interface Hold {
  /** That of the snapshot. */
  readonly guid: SnapshotGuid;
  readonly tag: HoldTag;
}

/** The snapshot that a clone grew from. `dataset` is null when it lies outside the tree. */
export interface Origin {
  readonly dataset: DatasetId | null;
  readonly snapshot: SnapshotGuid;
}

/** Who may write a dataset, since which change of owner (design §1: owner, epoch). */
export interface Ownership {
  readonly node: NodeId;
  readonly epoch: number;
  /**
   * Nobody said so: whoever tells it took that node for the owner when it found the dataset, since it knew no better (a node that lost its log). Who says that it is its own is believed.
   */
  readonly isGuess?: true | undefined;
}

/** Properties set on a dataset itself (source `local`), by name. */
export type Properties = Readonly<Record<string, string>>;

export interface TreeAdded {
  readonly type: 'tree.added';
  readonly root: DatasetName;
}
export interface TreeRemoved {
  readonly type: 'tree.removed';
}
export interface DatasetCreated {
  readonly type: 'dataset.created';
  readonly dataset: DatasetId;
  readonly kind: DatasetKind;
  /** The dataset's own ZFS guid: local to this pool, never compared across nodes (design §3). */
  readonly guid: string;
  readonly name: RelativeName;
  readonly origin: Origin | null;
  readonly owner: Ownership;
  readonly properties: Properties;
}
export interface DatasetRenamed {
  readonly type: 'dataset.renamed';
  readonly dataset: DatasetId;
  /** Descendants move along; no event of their own follows. */
  readonly from: RelativeName;
  readonly to: RelativeName;
}
export interface DatasetPromoted {
  readonly type: 'dataset.promoted';
  /** The clone that became the parent: the origin snapshot and all before it moved to it (zfs-promote.8). */
  readonly dataset: DatasetId;
}
export interface DatasetRolledBack {
  readonly type: 'dataset.rolled-back';
  readonly dataset: DatasetId;
  /** The snapshot that it was taken back to: all behind it are gone, and so is what was written since (zfs-rollback.8). */
  readonly to: SnapshotGuid;
  readonly name: SnapshotName;
}
export interface DatasetDestroyed {
  readonly type: 'dataset.destroyed';
  readonly dataset: DatasetId;
  readonly name: RelativeName;
}
export interface DatasetPropertiesChanged {
  readonly type: 'dataset.properties-changed';
  readonly dataset: DatasetId;
  /** New local values; null where the property is inherited again. */
  readonly changed: Readonly<Record<string, string | null>>;
}
export interface SnapshotCreated {
  readonly type: 'snapshot.created';
  readonly dataset: DatasetId;
  readonly snapshot: Snapshot;
}
export interface SnapshotRenamed {
  readonly type: 'snapshot.renamed';
  readonly dataset: DatasetId;
  readonly guid: SnapshotGuid;
  readonly from: SnapshotName;
  readonly to: SnapshotName;
}
export interface SnapshotDestroyed {
  readonly type: 'snapshot.destroyed';
  readonly dataset: DatasetId;
  readonly guid: SnapshotGuid;
  readonly name: SnapshotName;
}
export interface BookmarkCreated {
  readonly type: 'bookmark.created';
  readonly dataset: DatasetId;
  readonly bookmark: Bookmark;
}
export interface BookmarkDestroyed {
  readonly type: 'bookmark.destroyed';
  readonly dataset: DatasetId;
  readonly guid: SnapshotGuid;
  readonly name: BookmarkName;
}
export interface HoldPlaced extends Hold {
  readonly type: 'hold.placed';
  readonly dataset: DatasetId;
}
export interface HoldReleased extends Hold {
  readonly type: 'hold.released';
  readonly dataset: DatasetId;
}
export interface OwnershipClaimed {
  readonly type: 'ownership.claimed';
  readonly dataset: DatasetId;
  readonly owner: Ownership;
}

/** Facts about a tree, in the stream of that tree. */
export type TreeEventBody =
  | TreeAdded
  | TreeRemoved
  | DatasetCreated
  | DatasetRenamed
  | DatasetPromoted
  | DatasetRolledBack
  | DatasetDestroyed
  | DatasetPropertiesChanged
  | SnapshotCreated
  | SnapshotRenamed
  | SnapshotDestroyed
  | BookmarkCreated
  | BookmarkDestroyed
  | HoldPlaced
  | HoldReleased
  | OwnershipClaimed
  | ImageEventBody;

export const KEEP_COUNTS = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type KeepCounts = Readonly<Partial<Record<(typeof KEEP_COUNTS)[number], number>>>;
/** Which snapshots of a dataset a mirror keeps: all that the owner has, or so many (see `keep.ts`), and always those that clones hang off. */
export type KeepRule = 'all' | KeepCounts;

/** What a mirror takes of a tree, and what it keeps. */
export interface MirrorRules {
  /** Globs on names relative to the tree's root; none means everything. */
  readonly only: readonly string[];
  /** Globs of what is left out all the same. */
  readonly except: readonly string[];
  readonly keep: KeepRule;
  /** How long what the owner has destroyed is kept all the same, in ms; null for ever. */
  readonly graceMs: number | null;
}

export interface PeerAdded {
  readonly type: 'peer.added';
  readonly peer: NodeId;
  /** What people call the peer on this node. */
  readonly name: string;
  /** `host:port` to dial, or null for a peer that dials us. */
  readonly address: string | null;
  /** Whether streams may travel outside TLS on this link (loopback, WireGuard). */
  readonly trustedLink: boolean;
}
export interface PeerRemoved {
  readonly type: 'peer.removed';
  readonly peer: NodeId;
}
/** Streams go no faster than that from now on. */
export interface BandwidthLimited {
  readonly type: 'bandwidth.limited';
  /** Those with this peer; null for all together. */
  readonly peer: NodeId | null;
  /** Null for no limit. */
  readonly bytesPerSecond: number | null;
}
/** How much a peer may bring into each tree that it contributes to, from now on. */
export interface ContributionsLimited {
  readonly type: 'contributions.limited';
  readonly peer: NodeId;
  /** Datasets; null for as many as the configuration says. */
  readonly filesystems: number | null;
  readonly snapshots: number | null;
}
export interface LocalTreeAdded {
  readonly type: 'local-tree.added';
  readonly tree: TreeName;
  readonly root: DatasetName;
}
export interface LocalTreeRemoved {
  readonly type: 'local-tree.removed';
  readonly tree: TreeName;
}
export interface MirrorAdded extends MirrorRules {
  readonly type: 'mirror.added';
  readonly tree: TreeName;
  readonly from: NodeId;
  /** Where this node keeps its copy. */
  readonly root: DatasetName;
}
export interface MirrorChanged extends MirrorRules {
  readonly type: 'mirror.changed';
  readonly tree: TreeName;
  readonly from: NodeId;
}
export interface MirrorRemoved {
  readonly type: 'mirror.removed';
  readonly tree: TreeName;
  readonly from: NodeId;
}
/** A replica, or one of its snapshots. */
export interface Departed {
  readonly dataset: DatasetId;
  /** Null for the dataset as a whole. */
  readonly snapshot: SnapshotGuid | null;
}
/** What this node noticed of a mirror: what its owner has destroyed of that which is kept here. */
export interface DeparturesNoticed {
  readonly type: 'departures.noticed';
  readonly tree: TreeName;
  /** The peer that it is mirrored from. */
  readonly from: NodeId;
  /** When this node noticed it first, in Unix ms. */
  readonly since: number;
  readonly departed: readonly Departed[];
  /** What had departed, and is there again, or gone here as well. */
  readonly settled: readonly Departed[];
}
/** Intent of a transfer, logged before its first step so that a crash cannot leave anything behind (invariant 6). */
export interface TransferStarted {
  readonly type: 'transfer.started';
  readonly transfer: TransferId;
  readonly role: 'sender' | 'receiver';
  readonly peer: NodeId;
  readonly tree: TreeName;
  /** Snapshots on this node that get a hold. */
  readonly held: readonly { readonly snapshot: string; readonly guid: SnapshotGuid }[];
  /** Those of them that get it with whatever has their name in the datasets below. */
  readonly heldBelow: readonly string[];
  /** Datasets that the transfer may create here: the ids they will carry, and the snapshot by which each is known again. */
  readonly targets: readonly {
    readonly name: DatasetName;
    readonly dataset: DatasetId;
    readonly snapshot: SnapshotGuid;
  }[];
  /** Datasets where a stream that is cut short leaves what came of it. */
  readonly resumable: readonly DatasetName[];
}
/** What became of a transfer that was cut short: it is over, but in these datasets there may be something to go on with. */
export interface ReceiveInterrupted {
  readonly type: 'receive.interrupted';
  /** That of the transfer, whose intent this one replaces; it ends with `transfer.ended`. */
  readonly transfer: TransferId;
  readonly peer: NodeId;
  readonly tree: TreeName;
  readonly targets: readonly DatasetName[];
  /** When it is given up, in Unix ms. */
  readonly until: number;
}
/**
 * Intent to move a diverged replica out of the way (design §9), logged before its first step: the names are all it takes to see how far it came, and to
 * go on from there.
 */
export interface PreservationStarted {
  readonly type: 'preservation.started';
  /** Its id among the sagas of this node; it ends with `transfer.ended`. */
  readonly transfer: TransferId;
  readonly tree: TreeName;
  readonly dataset: DatasetId;
  readonly name: DatasetName;
  /** Where the diverged dataset goes. */
  readonly aside: DatasetName;
  /** Where its successor stands until it takes the name. */
  readonly successor: DatasetName;
  /** The newest snapshot in common, by name; null where the dataset only goes, and is received anew. */
  readonly lastCommon: SnapshotName | null;
  /** Where the root of a mirror stands for a moment, with all that lies below it, while it is that which diverged; null for everything else. */
  readonly outside: DatasetName | null;
}
/** Intent to make another dataset the root of a mirror, logged before its first step like the one above. */
export interface RootExchangeStarted {
  readonly type: 'root-exchange.started';
  /** Its id among the sagas of this node; it ends with `transfer.ended`. */
  readonly transfer: TransferId;
  readonly tree: TreeName;
  /** Who becomes the root. */
  readonly dataset: DatasetId;
  readonly name: DatasetName;
  /** Where it stands before. */
  readonly successor: DatasetName;
  /** Where the former root stands for a moment, with all that lies below it. */
  readonly outside: DatasetName;
  /** Where the former root goes. */
  readonly former: DatasetName;
}
export interface TransferEnded {
  readonly type: 'transfer.ended';
  readonly transfer: TransferId;
  readonly outcome: 'completed' | 'failed' | 'cancelled' | 'recovered';
  readonly bytes: number;
}

/** Facts about the node itself, in its admin stream, which no peer ever sees. */
export type AdminEventBody =
  | PeerAdded
  | PeerRemoved
  | TrustEventBody
  | LayerEventBody
  | BandwidthLimited
  | ContributionsLimited
  | LocalTreeAdded
  | LocalTreeRemoved
  | MirrorAdded
  | MirrorChanged
  | MirrorRemoved
  | DeparturesNoticed
  | TransferStarted
  | ReceiveInterrupted
  | PreservationStarted
  | RootExchangeStarted
  | TransferEnded;

/** An event of a type that this version does not know: kept and relayed byte for byte, skipped by `fold`. */
export interface UnknownEventBody {
  readonly type: 'unknown';
  readonly originalType: string;
}

export type EventBody = TreeEventBody | AdminEventBody;

/** Place and circumstance of an event. The stream is known from where the event is kept. */
export interface Envelope {
  readonly v: typeof EVENT_VERSION;
  /** Starts at 1 in each incarnation, without gaps. */
  readonly seq: number;
  /** Hybrid logical clock: see `clock.ts`. */
  readonly at: number;
  readonly cause: Cause;
}

export type KnownEvent = Envelope & EventBody;
export type Event = Envelope & (EventBody | UnknownEventBody);

const propertyName = z.string().min(1).max(256);
const propertyValue = z.string().max(PROPERTY_VALUE_CHARACTERS_MAX);

function boundedRecord<T extends z.ZodType>(value: T) {
  return z
    .record(propertyName, value)
    .refine((record) => Object.keys(record).length <= PROPERTIES_MAX, `more than ${PROPERTIES_MAX} properties`);
}

export const snapshotSchema = z.object({
  guid: snapshotGuid,
  name: snapshotName,
  createtxg: count,
  creation: count,
  referenced: count,
  written: count.nullable(),
});
export const bookmarkSchema = z.object({ guid: snapshotGuid, name: bookmarkName, createtxg: count });
export const holdSchema = z.object({
  guid: snapshotGuid,
  tag: z
    .string()
    .min(1)
    .max(HOLD_TAG_CHARACTERS_MAX)
    .transform((text) => text as HoldTag),
});
export const originSchema = z.object({ dataset: datasetId.nullable(), snapshot: snapshotGuid });
export const ownershipSchema = z.object({
  node: nodeId,
  epoch: z.int().positive(),
  isGuess: z.literal(true).optional(),
});
const keepRuleSchema: z.ZodType<KeepRule, KeepRule> = z.union([
  z.literal('all'),
  z.partialRecord(z.enum(KEEP_COUNTS), z.int().positive()).refine((counts) => Object.keys(counts).length > 0),
]);
export const propertiesSchema = boundedRecord(propertyValue);
export const datasetKindSchema = z.enum(DATASET_KINDS);

const mirrorRules = {
  only: z.array(glob).max(GLOBS_MAX),
  except: z.array(glob).max(GLOBS_MAX),
  keep: keepRuleSchema,
  graceMs: count.nullable(),
};
const departures = z
  .array(z.object({ dataset: datasetId, snapshot: snapshotGuid.nullable() }))
  .max(DEPARTURES_PER_EVENT_MAX);

const bodySchemas = {
  'tree.added': z.object({ type: z.literal('tree.added'), root: datasetName }),
  'tree.removed': z.object({ type: z.literal('tree.removed') }),
  'dataset.created': z.object({
    type: z.literal('dataset.created'),
    dataset: datasetId,
    kind: datasetKindSchema,
    guid: snapshotGuid,
    name: relativeName,
    origin: originSchema.nullable(),
    owner: ownershipSchema,
    properties: propertiesSchema,
  }),
  'dataset.renamed': z.object({
    type: z.literal('dataset.renamed'),
    dataset: datasetId,
    from: relativeName,
    to: relativeName,
  }),
  'dataset.promoted': z.object({ type: z.literal('dataset.promoted'), dataset: datasetId }),
  'dataset.rolled-back': z.object({
    type: z.literal('dataset.rolled-back'),
    dataset: datasetId,
    to: snapshotGuid,
    name: snapshotName,
  }),
  'dataset.destroyed': z.object({ type: z.literal('dataset.destroyed'), dataset: datasetId, name: relativeName }),
  'dataset.properties-changed': z.object({
    type: z.literal('dataset.properties-changed'),
    dataset: datasetId,
    changed: boundedRecord(propertyValue.nullable()),
  }),
  'snapshot.created': z.object({
    type: z.literal('snapshot.created'),
    dataset: datasetId,
    snapshot: snapshotSchema,
  }),
  'snapshot.renamed': z.object({
    type: z.literal('snapshot.renamed'),
    dataset: datasetId,
    guid: snapshotGuid,
    from: snapshotName,
    to: snapshotName,
  }),
  'snapshot.destroyed': z.object({
    type: z.literal('snapshot.destroyed'),
    dataset: datasetId,
    guid: snapshotGuid,
    name: snapshotName,
  }),
  'bookmark.created': z.object({
    type: z.literal('bookmark.created'),
    dataset: datasetId,
    bookmark: bookmarkSchema,
  }),
  'bookmark.destroyed': z.object({
    type: z.literal('bookmark.destroyed'),
    dataset: datasetId,
    guid: snapshotGuid,
    name: bookmarkName,
  }),
  'hold.placed': holdSchema.extend({ type: z.literal('hold.placed'), dataset: datasetId }),
  'hold.released': holdSchema.extend({ type: z.literal('hold.released'), dataset: datasetId }),
  'ownership.claimed': z.object({ type: z.literal('ownership.claimed'), dataset: datasetId, owner: ownershipSchema }),
  'peer.added': z.object({
    type: z.literal('peer.added'),
    peer: nodeId,
    name: peerName,
    address: z.string().max(300).nullable(),
    trustedLink: z.boolean(),
  }),
  'peer.removed': z.object({ type: z.literal('peer.removed'), peer: nodeId }),
  ...trustEventSchemas,
  ...layerEventSchemas,
  'bandwidth.limited': z.object({
    type: z.literal('bandwidth.limited'),
    peer: nodeId.nullable(),
    bytesPerSecond: z.int().positive().nullable(),
  }),
  'contributions.limited': z.object({
    type: z.literal('contributions.limited'),
    peer: nodeId,
    filesystems: count.nullable(),
    snapshots: count.nullable(),
  }),
  'local-tree.added': z.object({ type: z.literal('local-tree.added'), tree: treeName, root: datasetName }),
  'local-tree.removed': z.object({ type: z.literal('local-tree.removed'), tree: treeName }),
  'mirror.added': z.object({
    type: z.literal('mirror.added'),
    tree: treeName,
    from: nodeId,
    root: datasetName,
    ...mirrorRules,
  }),
  'mirror.changed': z.object({ type: z.literal('mirror.changed'), tree: treeName, from: nodeId, ...mirrorRules }),
  'mirror.removed': z.object({ type: z.literal('mirror.removed'), tree: treeName, from: nodeId }),
  'departures.noticed': z.object({
    type: z.literal('departures.noticed'),
    tree: treeName,
    from: nodeId,
    since: count,
    departed: departures,
    settled: departures,
  }),
  'transfer.started': z.object({
    type: z.literal('transfer.started'),
    transfer: transferId,
    role: z.enum(['sender', 'receiver']),
    peer: nodeId,
    tree: treeName,
    held: z.array(z.object({ snapshot: z.string().max(512), guid: snapshotGuid })).max(10_000),
    // Journals from before there was such a thing say nothing of it, and of what follows
    heldBelow: z.array(z.string().max(512)).max(10_000).default([]),
    targets: z.array(z.object({ name: datasetName, dataset: datasetId, snapshot: snapshotGuid })).max(10_000),
    resumable: z.array(datasetName).max(10_000).default([]),
  }),
  'receive.interrupted': z.object({
    type: z.literal('receive.interrupted'),
    transfer: transferId,
    peer: nodeId,
    tree: treeName,
    targets: z.array(datasetName).max(10_000),
    until: count,
  }),
  'preservation.started': z.object({
    type: z.literal('preservation.started'),
    transfer: transferId,
    tree: treeName,
    dataset: datasetId,
    name: datasetName,
    aside: datasetName,
    successor: datasetName,
    lastCommon: snapshotName.nullable(),
    // Journals from before a root could be kept aside say nothing of it
    outside: datasetName.nullable().default(null),
  }),
  'root-exchange.started': z.object({
    type: z.literal('root-exchange.started'),
    transfer: transferId,
    tree: treeName,
    dataset: datasetId,
    name: datasetName,
    successor: datasetName,
    outside: datasetName,
    former: datasetName,
  }),
  'transfer.ended': z.object({
    type: z.literal('transfer.ended'),
    transfer: transferId,
    outcome: z.enum(['completed', 'failed', 'cancelled', 'recovered']),
    bytes: count,
  }),
} satisfies { [Type in EventBody['type']]: z.ZodType<Extract<EventBody, { type: Type }>> };

const envelopeSchema = z.object({
  v: z.literal(EVENT_VERSION, `this version reads events of format ${EVENT_VERSION} only; update Pando on this node`),
  seq: z.int().positive(),
  at: count,
  cause: z.enum(CAUSES),
  type: z.string().min(1).max(64),
});

/** Whether this version knows events of that type. */
export function isKnownType(type: string): type is EventBody['type'] {
  return Object.hasOwn(bodySchemas, type);
}

function refuse(error: z.ZodError): never {
  const details = error.issues.map((issue) => `${issue.path.join('.') || 'event'}: ${issue.message}`).join('; ');
  throw new PandoError('EVENT_INVALID', `An event is not well formed: ${details}.`, { issues: error.issues });
}

/**
 * Turns a decoded value of unknown provenance into an Event. Unknown fields are dropped from the result, unknown types
 * become `unknown`; both stay in the bytes that are kept. Throws `EVENT_INVALID` with the path of what is wrong.
 */
export function parseEvent(value: unknown): Event {
  const envelope = envelopeSchema.safeParse(value);
  if (!envelope.success) return refuse(envelope.error);
  const { type, ...place } = envelope.data;
  if (!isKnownType(type)) return { ...place, type: 'unknown', originalType: type };
  const body = bodySchemas[type].safeParse(value);
  if (!body.success) return refuse(body.error);
  return { ...place, ...body.data };
}
