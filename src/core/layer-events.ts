/** Facts about layers and images: which stores a node keeps (admin stream), which images a tree has (its stream), and what containerd keeps here (a private stream). */
import { z } from 'zod';
import { branded, count, relativeName, transferId, treeName } from './event-fields.ts';
import type { RelativeName, TransferId, TreeName } from './ids.ts';
import { type ChainId, type DiffId, type Digest, parseChainId, parseDiffId, parseDigest } from './layers/digest.ts';
import { IMAGE_NAME_CHARACTERS_MAX } from './layers/image.ts';
import { IMAGE_CONFIG_BYTES_MAX, LAYERS_MAX } from './layers/image-config.ts';
import { type Labels, SNAPSHOT_KINDS, type SnapshotKind } from './snapshots/snapshot.ts';

/** Longest key of a snapshot, in characters: as long a path as Linux takes (PATH_MAX), with a namespace. */
export const SNAPSHOT_KEY_CHARACTERS_MAX = 4_352;
/** Labels of one snapshot together, in characters, so that its event stays well below what a log takes. */
export const LABELS_CHARACTERS_MAX = 64 * 1024;
/** Processes that one commit can have wait; what has more of them in a root is stopped by whoever runs it. */
export const STOPPED_MAX = 4_096;
/** Longest name of a container root, in characters: one component of a dataset's name, with room for what stands before it. */
export const ROOT_ID_CHARACTERS_MAX = 128;

/** A name stands for an image now; for nothing else that it stood for before. */
export interface ImageTagged {
  readonly type: 'image.tagged';
  readonly name: string;
  readonly manifest: Digest | null;
  readonly config: string;
  readonly layers: readonly DiffId[];
}
export interface ImageUntagged {
  readonly type: 'image.untagged';
  readonly name: string;
}
/** Layers and container roots are kept below a dataset of a tree. */
export interface LayerStoreAdded {
  readonly type: 'layer-store.added';
  readonly tree: TreeName;
  readonly base: RelativeName;
}
/**
 * Intent to make a layer of what a container root has (design §4), logged before its first step, and once more when the layer is known: then it is completed,
 * before that undone.
 */
export interface RootCommitStarted {
  readonly type: 'root-commit.started';
  /** Its id among the sagas of this node; it ends with `transfer.ended`. */
  readonly transfer: TransferId;
  readonly tree: TreeName;
  readonly base: RelativeName;
  readonly root: string;
  /** The name that the image gets. */
  readonly image: string;
  /** What the layer lies over; null for nothing. */
  readonly parent: ChainId | null;
  /** Layers below it, lowest first. */
  readonly below: readonly DiffId[];
  /** Configuration of the image that the root was made from, as far as known. */
  readonly config: string | null;
  /** Null as long as it is not known. */
  readonly layer: DiffId | null;
  /** Processes that wait while the snapshot is taken. */
  readonly stopped: readonly StoppedProcess[];
}
/** A process, and when it began: a number alone is given again. */
export interface StoppedProcess {
  readonly pid: number;
  /** As `/proc/PID/stat` tells it. */
  readonly startedAt: string;
}
/** A snapshot of containerd is as this says from now on. */
export interface SnapshotKept {
  readonly type: 'snapshotter.kept';
  readonly key: string;
  /** The tree of the store that it is kept in. */
  readonly tree: TreeName;
  readonly kind: SnapshotKind;
  readonly parent: string | null;
  readonly labels: Labels;
  /** Unix time in nanoseconds, as decimal digits. */
  readonly createdAt: string;
  readonly updatedAt: string;
  /** What holds it, by its name in that tree. */
  readonly dataset: RelativeName;
  /** Objects in it, as its file system counts them; null while it can change. */
  readonly objects: number | null;
}
export interface SnapshotDropped {
  readonly type: 'snapshotter.dropped';
  readonly key: string;
}

export type ImageEventBody = ImageTagged | ImageUntagged;
export type LayerEventBody = LayerStoreAdded | RootCommitStarted | SnapshotKept | SnapshotDropped;

const digest = branded(parseDigest);
const chainId = branded(parseChainId);
const diffIds = z.array(branded(parseDiffId)).max(LAYERS_MAX);
const imageName = z.string().min(1).max(IMAGE_NAME_CHARACTERS_MAX);
const imageConfig = z.string().max(IMAGE_CONFIG_BYTES_MAX);
const snapshotKey = z.string().min(1).max(SNAPSHOT_KEY_CHARACTERS_MAX);
const nanoseconds = z.string().regex(/^[0-9]{1,20}$/);

export const layerEventSchemas = {
  'image.tagged': z.object({
    type: z.literal('image.tagged'),
    name: imageName,
    manifest: digest.nullable(),
    config: imageConfig,
    layers: diffIds,
  }),
  'image.untagged': z.object({ type: z.literal('image.untagged'), name: imageName }),
  'layer-store.added': z.object({ type: z.literal('layer-store.added'), tree: treeName, base: relativeName }),
  'root-commit.started': z.object({
    type: z.literal('root-commit.started'),
    transfer: transferId,
    tree: treeName,
    base: relativeName,
    root: z.string().min(1).max(ROOT_ID_CHARACTERS_MAX),
    image: imageName,
    parent: chainId.nullable(),
    below: diffIds,
    config: imageConfig.nullable(),
    layer: branded(parseDiffId).nullable(),
    stopped: z.array(z.object({ pid: z.int().positive(), startedAt: nanoseconds })).max(STOPPED_MAX),
  }),
  'snapshotter.kept': z.object({
    type: z.literal('snapshotter.kept'),
    key: snapshotKey,
    tree: treeName,
    kind: z.enum(SNAPSHOT_KINDS),
    parent: snapshotKey.nullable(),
    labels: z.record(z.string(), z.string()),
    createdAt: nanoseconds,
    updatedAt: nanoseconds,
    dataset: relativeName,
    objects: count.nullable(),
  }),
  'snapshotter.dropped': z.object({ type: z.literal('snapshotter.dropped'), key: snapshotKey }),
};
