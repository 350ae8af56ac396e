/** The vocabulary of a plan: its steps, and why something cannot be planned. */
import type { Snapshot } from '../events.ts';
import type { Dataset, Graph } from '../graph/graph.ts';
import type { DatasetId, RelativeName, SnapshotGuid, SnapshotName } from '../ids.ts';

/** A snapshot with its dataset, and the name that this has in the source's tree. */
export interface PlannedSnapshot {
  readonly dataset: DatasetId;
  readonly name: RelativeName;
  readonly snapshot: Snapshot;
}

interface StepBase {
  readonly dataset: DatasetId;
  /** Name relative to the tree's root, the same at the source and, once the step is done, here. */
  readonly name: RelativeName;
  /** Indices of the steps that must be done before. */
  readonly after: readonly number[];
}

export interface RenameStep extends StepBase {
  readonly kind: 'rename';
  readonly from: RelativeName;
}

/** An empty filesystem in the place of one that has no snapshots, so that those below it have a parent. */
export interface CreatePlaceholderStep extends StepBase {
  readonly kind: 'create-placeholder';
}

interface ReceiveStepBase extends StepBase {
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
export type Step = RenameStep | CreatePlaceholderStep | ReceiveStep;

/** Why a dataset cannot follow, with what a person needs to see it. */
export type Conflict = {
  readonly dataset: DatasetId;
  readonly name: RelativeName;
} & (
  | { readonly reason: 'name-taken'; readonly by: DatasetId }
  | { readonly reason: 'name-reserved' }
  | { readonly reason: 'name-too-long' }
  | { readonly reason: 'snapshot-name-taken'; readonly snapshot: SnapshotName }
  | { readonly reason: 'no-common-snapshot'; readonly localOnly: readonly SnapshotName[] }
  | { readonly reason: 'diverged'; readonly lastCommon: SnapshotName; readonly localOnly: readonly SnapshotName[] }
  | { readonly reason: 'origin-differs' }
  | { readonly reason: 'written-without-snapshot' }
  | { readonly reason: 'rename-blocked'; readonly current: RelativeName }
  | { readonly reason: 'parent-missing'; readonly parent: RelativeName }
  | { readonly reason: 'origin-missing'; readonly snapshot: SnapshotName }
);

/** A dataset that cannot travel yet: its owner has taken no snapshot of it, or it needs one that waits itself. */
export interface Waiting {
  readonly dataset: DatasetId;
  readonly name: RelativeName;
  readonly reason: 'no-snapshot' | 'parent-waits' | 'origin-waits';
}

export interface Plan {
  readonly steps: readonly Step[];
  readonly conflicts: readonly Conflict[];
  readonly waiting: readonly Waiting[];
  /** Sum over the steps. */
  readonly estimatedBytes: number;
}

/** What goes into a plan. */
export interface PlanInput {
  /** All that the source has. */
  readonly source: Graph;
  /** The part of it that this mirror wants (see `wantedGraph`). */
  readonly wanted: Graph;
  /** What is here. */
  readonly local: Graph;
}

/** A local dataset carries this property while it stands in for one that has no snapshots. */
export const PLACEHOLDER_PROPERTY = 'pando:placeholder';

/** Whether Pando made the dataset only to give others a parent, and nothing was ever received or taken in it. */
export function isPlaceholder(dataset: Dataset): boolean {
  return dataset.properties[PLACEHOLDER_PROPERTY] === 'on' && dataset.snapshots.length === 0;
}

/** Whether a step brings data. */
export function isReceive(step: Step): step is ReceiveStep {
  return step.kind !== 'rename' && step.kind !== 'create-placeholder';
}
