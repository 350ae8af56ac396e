/** The vocabulary of a plan: its steps, and why something cannot be planned. */
import type { DatasetKind, Departed, MirrorRules, Properties, Snapshot } from '../events.ts';
import type { Dataset, Graph } from '../graph/graph.ts';
import type { BookmarkName, DatasetId, RelativeName, SnapshotGuid, SnapshotName } from '../ids.ts';
import type { Contested } from './settled-names.ts';

/** A snapshot with its dataset, and the name that this has here by then. */
export interface PlannedSnapshot {
  readonly dataset: DatasetId;
  readonly name: RelativeName;
  readonly snapshot: Snapshot;
}

interface StepBase {
  readonly dataset: DatasetId;
  /** Name relative to the tree's root that the dataset has here once the step is done. */
  readonly name: RelativeName;
  /** Indices of the steps that must be done before. */
  readonly after: readonly number[];
}

/** Turns the edge between a clone and its origin round, as its owner did (zfs-promote.8). */
export interface PromoteStep extends StepBase {
  readonly kind: 'promote';
  /** Name here of the dataset that hands over its snapshots. */
  readonly over: RelativeName;
}

/** Clones a snapshot that is here already into a dataset that its owner made in the same way and promoted since. */
export interface CloneStep extends StepBase {
  readonly kind: 'clone';
  readonly origin: PlannedSnapshot;
}

export interface RenameSnapshotStep extends StepBase {
  readonly kind: 'rename-snapshot';
  readonly guid: SnapshotGuid;
  readonly from: SnapshotName;
  readonly to: SnapshotName;
}

/**
 * Moves what a replica has and its owner has not out of the way, under `.pando/diverged` (design §9). Costs no data. Nothing lies below the dataset
 * then: its children were moved before. Only what lies below the root stays where it is, and is below its successor afterwards.
 */
export interface PreserveStep extends StepBase {
  readonly kind: 'preserve';
  /**
   * The newest snapshot in common: a dataset that ends with it stands in the place of the diverged one afterwards. Null where the two share nothing but the
   * origin of the clone, so that it is received anew; where that is the root, a stand-in has its place then (`stand-in.ts`).
   */
  readonly lastCommon: Snapshot | null;
  /** Datasets that hang off what goes, by the names that they have then: their origin lies outside the tree afterwards. */
  readonly cutOff: readonly RelativeName[];
  /** Snapshots that only the replica has, oldest first; none where it was only written to. */
  readonly localOnly: readonly SnapshotName[];
}

export interface RenameStep extends StepBase {
  readonly kind: 'rename';
  readonly from: RelativeName;
}

/**
 * Makes a dataset the root. The one that was gets a name below it, and so does everything that lay below that, under the names that it has. Nothing lies below the
 * dataset then.
 */
export interface TakeRootStep extends StepBase {
  readonly kind: 'take-root';
  readonly from: RelativeName;
  /** Who was the root, and the name that it gets. */
  readonly former: { readonly dataset: DatasetId; readonly name: RelativeName };
}

/**
 * Destroys a snapshot that this mirror need not keep. Nothing hangs off it, and no peer that is known of has it as the newest in common with this node.
 */
export interface DestroySnapshotStep extends StepBase {
  readonly kind: 'destroy-snapshot';
  readonly snapshot: Snapshot;
  /** `not-kept`: the mirror's rule does not keep it. `departed`: its owner destroyed it, and the grace period is over. */
  readonly because: 'not-kept' | 'departed';
}

/** Destroys a dataset that its owner destroyed longer ago than the grace period. All its snapshots came from there; nothing depends on it. */
export interface DestroyDatasetStep extends StepBase {
  readonly kind: 'destroy-dataset';
  /** All its snapshots: with another one it is not what was planned for. */
  readonly snapshots: readonly SnapshotGuid[];
}

/** An empty filesystem in the place of one that has no snapshots, so that those below it have a parent. */
export interface CreatePlaceholderStep extends StepBase {
  readonly kind: 'create-placeholder';
}

interface ReceiveStepBase extends StepBase {
  readonly datasetKind: DatasetKind;
  /** The first snapshot that the stream brings: it shows that a dataset came from this stream, however early that broke off. */
  readonly first: SnapshotGuid;
  /** The last snapshot that the stream brings. */
  readonly to: Snapshot;
  /** How many snapshots the stream brings. */
  readonly snapshots: number;
  readonly estimatedBytes: number;
}

export interface ReceiveFullStep extends ReceiveStepBase {
  readonly kind: 'receive-full';
  /** Whether an empty placeholder of ours stands there and is replaced. */
  readonly overPlaceholder: boolean;
}

export interface ReceiveIncrementalStep extends ReceiveStepBase {
  readonly kind: 'receive-incremental';
  readonly base: PlannedSnapshot;
  /** One `-I` with everything in between, instead of one `-i`. */
  readonly intermediates: boolean;
}

export interface ReceiveCloneStep extends ReceiveStepBase {
  readonly kind: 'receive-clone';
  /** The clone's origin: its dataset is another one. */
  readonly base: PlannedSnapshot;
  readonly intermediates: boolean;
}

export type ReceiveStep = ReceiveFullStep | ReceiveIncrementalStep | ReceiveCloneStep;
/** Steps that change datasets and cost no data. They run one by one, in the order of the plan. */
export type MetadataStep =
  | CloneStep
  | CreatePlaceholderStep
  | DestroyDatasetStep
  | DestroySnapshotStep
  | PreserveStep
  | PromoteStep
  | RenameSnapshotStep
  | RenameStep
  | TakeRootStep;
export type Step = MetadataStep | ReceiveStep;

/** How much of its own a peer may bring: of one peer in one tree, all that is here of it counted, whether its owner has it still or not. */
export interface Allowance {
  readonly filesystems: number;
  readonly snapshots: number;
}

/** Why a dataset cannot follow, with what a person needs to see it. */
export type Conflict = {
  readonly dataset: DatasetId;
  readonly name: RelativeName;
} & (
  | { readonly reason: 'name-taken'; readonly by: DatasetId }
  | { readonly reason: 'name-reserved' }
  | { readonly reason: 'name-too-long' }
  | { readonly reason: 'no-common-snapshot'; readonly localOnly: readonly SnapshotName[] }
  | {
      readonly reason: 'root-diverged';
      readonly lastCommon: SnapshotName | null;
      readonly localOnly: readonly SnapshotName[];
    }
  | { readonly reason: 'origin-differs' }
  | { readonly reason: 'not-owned-together'; readonly by: RelativeName }
  | { readonly reason: 'same-bookmarks'; readonly by: RelativeName; readonly bookmarks: readonly BookmarkName[] }
  | { readonly reason: 'written-without-snapshot' }
  | { readonly reason: 'rename-blocked'; readonly current: RelativeName }
  | { readonly reason: 'aside-full' }
  | { readonly reason: 'limit-reached'; readonly limit: 'filesystems' | 'snapshots'; readonly allowed: number }
  | { readonly reason: 'parent-missing'; readonly parent: RelativeName }
  | { readonly reason: 'origin-missing'; readonly snapshot: SnapshotName }
);

/**
 * A dataset that cannot travel yet: its owner has taken no snapshot of it, it needs one that waits itself, or what the mirror takes depends on a name that its peer has not
 * given it yet (`filter.ts`).
 */
export interface Waiting {
  readonly dataset: DatasetId;
  readonly name: RelativeName;
  readonly reason: 'no-snapshot' | 'parent-waits' | 'origin-waits' | 'name-waits';
}

/** What the mirror need not keep, and why it stays all the same. */
export type Retained = {
  readonly dataset: DatasetId;
  readonly name: RelativeName;
  /** Null for the dataset as a whole. */
  readonly snapshot: SnapshotName | null;
} & (
  | {
      /** Its owner destroyed it, and the grace period is not over. */
      readonly reason: 'grace';
      /** Unix ms. */
      readonly until: number;
    }
  | {
      /**
       * `depended-on`: clones or datasets below it. `in-common`: the newest that this node and a peer have in common. `taken-here`: there are snapshots in it that its
       * owner never had.
       */
      readonly reason: 'depended-on' | 'in-common' | 'taken-here';
    }
);

export interface Plan {
  readonly steps: readonly Step[];
  readonly conflicts: readonly Conflict[];
  readonly waiting: readonly Waiting[];
  readonly retained: readonly Retained[];
  readonly contested: readonly Contested[];
  /** Sum over the steps. */
  readonly estimatedBytes: number;
}

/** How long a mirror keeps what (see `keep.ts`), and what that depends on. */
export interface Retention extends Pick<MirrorRules, 'keep' | 'graceMs'> {
  /** Unix ms. */
  readonly now: number;
  /** When this node noticed a departure, in Unix ms; undefined for one that is new. */
  readonly noticedAt: (departed: Departed) => number | undefined;
  /** The copies that peers have, as far as this node knows. */
  readonly copies: readonly Graph[];
  /** Whether a dataset comes with this mirror only since the one that it belongs to leaves it out. */
  readonly isLent: (dataset: DatasetId) => boolean;
  /** Whether something that is mirrored into the tree, from whatever peer, hangs off a lineage holder. */
  readonly isNeeded: (holder: DatasetId) => boolean;
}

/** What lies in the part of a tree that no graph shows (`.pando`). */
export interface Hidden {
  /** How many copies of what diverged are kept aside: they count as datasets of the allowance. */
  readonly copies: number;
  /** The snapshots that these, and whatever people put there, hang off. */
  readonly origins: ReadonlySet<SnapshotGuid>;
}

/** What goes into a plan. */
export interface PlanInput {
  /** All that the source has. */
  readonly source: Graph;
  /** The part of it that this mirror wants (see `wantedGraph`). */
  readonly wanted: Graph;
  /** What is here. */
  readonly local: Graph;
  /** Whether a dataset follows this source. What this node owns, or follows another source, is never changed for the sake of this one. */
  readonly follows: (dataset: Dataset) => boolean;
  /** How much of the source's own may come; undefined where nobody limits it. */
  readonly allowance?: Allowance | undefined;
  /** What no graph shows; undefined as long as nobody looked. */
  readonly hidden?: Hidden | undefined;
  /** Replicas that were written to since their newest snapshot. */
  readonly modified: ReadonlySet<DatasetId>;
  readonly retention: Retention;
  /** Names that were settled before, to be told with the plan. */
  readonly contested: readonly Contested[];
}

/** A local dataset carries this property while it stands in for one that has no snapshots. */
export const PLACEHOLDER_PROPERTY = 'pando:placeholder';
/** What an empty filesystem may reference, in bytes: a few metadata blocks, of up to 64 KiB each with the largest sectors. */
export const PLACEHOLDER_BYTES_MAX = 512 * 1024;

/** Whether Pando made the dataset only to give others a parent, and nothing was ever received or taken in it. */
export function isPlaceholder(dataset: {
  readonly properties: Properties;
  readonly snapshots: readonly unknown[];
}): boolean {
  return dataset.properties[PLACEHOLDER_PROPERTY] === 'on' && dataset.snapshots.length === 0;
}

/** Whether a step brings data. */
export function isReceive(step: Step): step is ReceiveStep {
  return step.kind === 'receive-full' || step.kind === 'receive-incremental' || step.kind === 'receive-clone';
}
