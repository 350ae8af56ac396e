/**
 * `plan(wanted, local) → steps`: what it takes to turn the local copy of a tree into the wanted one (design §7). Pure and
 * deterministic; who executes it decides nothing.
 *
 * What the planner believes:
 *
 * 1. A dataset is the same when its id is, a snapshot when its guid is. Names never decide (zfs-rules, "Identity and order").
 * 2. An increment needs its base on both sides, and the base must be the newest snapshot of the target: otherwise ZFS would have
 *    to discard something, and nothing is ever discarded here (design §9).
 * 3. A clone stream needs a target that does not exist and an origin that does.
 * 4. A dataset can be received only below an existing parent.
 * 5. Where 2 to 4 cannot be had without loss, the plan holds a conflict with its evidence, and the rest goes on.
 */
import type { Snapshot } from '../events.ts';
import { type Dataset, newestSnapshot, snapshotOf } from '../graph/graph.ts';
import { type DatasetId, parentOf, type RelativeName, type SnapshotGuid, type SnapshotName } from '../ids.ts';
import { fullBytes, incrementBytes } from './estimate.ts';
import { inReceivingOrder } from './receiving-order.ts';
import { withoutRefusedNames } from './refusals.ts';
import { planRenames } from './renames.ts';
import { type Segment, segmentsBehind } from './segments.ts';
import {
  type Conflict,
  isPlaceholder,
  isReceive,
  type Plan,
  type PlanInput,
  type PlannedSnapshot,
  type ReceiveStep,
  type Step,
  type Waiting,
} from './steps.ts';

/** A clone's origin that is here, or will be once these steps are done. */
interface AvailableOrigin {
  readonly origin: PlannedSnapshot;
  readonly after: readonly number[];
}

class Planner {
  readonly #input: PlanInput;
  readonly #steps: Step[] = [];
  readonly #conflicts: Conflict[] = [];
  readonly #waiting: Waiting[] = [];
  readonly #waitingIds = new Set<DatasetId>();
  readonly #blocked = new Set<DatasetId>();
  /** Step after which a dataset stands here under its wanted name; -1 when it does already. */
  readonly #standsAfter = new Map<DatasetId, number>();
  /** Last step that brings snapshots of a dataset. */
  readonly #lastStep = new Map<DatasetId, number>();
  /** Step that brings a snapshot, for those that clones hang off. */
  readonly #originAfter = new Map<string, number>();
  readonly #holders = new Map<RelativeName, DatasetId>();
  readonly #neededAsParent = new Set<RelativeName>();

  constructor(input: PlanInput) {
    const { wanted, conflicts } = withoutRefusedNames(input.wanted, input.local.root);
    this.#input = { ...input, wanted };
    for (const conflict of conflicts) this.#refuse(conflict);
  }

  run(): Plan {
    this.#planRenames();
    for (const { name } of this.#input.wanted.datasets.values()) {
      const parent = parentOf(name);
      if (parent !== undefined) this.#neededAsParent.add(parent);
    }
    for (const dataset of inReceivingOrder(this.#input.wanted, this.#input.local)) {
      if (!this.#blocked.has(dataset.id)) this.#planDataset(dataset);
    }
    const estimatedBytes = this.#steps.reduce((sum, step) => sum + (isReceive(step) ? step.estimatedBytes : 0), 0);
    return { steps: this.#steps, conflicts: this.#conflicts, waiting: this.#waiting, estimatedBytes };
  }

  #planRenames(): void {
    const { wanted, local } = this.#input;
    const { renames, conflicts, names } = planRenames(wanted, local);
    for (const rename of renames) this.#steps.push({ ...rename, after: justAfter(this.#steps.length - 1) });
    for (const conflict of conflicts) this.#refuse(conflict);
    for (const [id, name] of names) {
      this.#holders.set(name, id);
      // Whatever is received waits for the last rename: a rename may take along what lies below.
      if (wanted.get(id)?.name === name) this.#standsAfter.set(id, this.#steps.length - 1);
    }
  }

  #refuse(conflict: Conflict): void {
    this.#conflicts.push(conflict);
    this.#blocked.add(conflict.dataset);
  }

  #wait(wanted: Dataset, reason: Waiting['reason']): void {
    this.#waiting.push({ ...place(wanted), reason });
    this.#waitingIds.add(wanted.id);
  }

  #planDataset(wanted: Dataset): void {
    const here = this.#input.local.get(wanted.id);
    if (here === undefined || isPlaceholder(here)) this.#bring(wanted, here);
    else this.#followUp(wanted, here);
  }

  /** A dataset that is here gets what its source has behind the newest snapshot here. */
  #followUp(wanted: Dataset, here: Dataset): void {
    if (originDiffers(wanted, here)) {
      this.#refuse({ ...place(wanted), reason: 'origin-differs' });
      return;
    }
    const newest = newestSnapshot(here);
    if (newest === undefined) {
      if (wanted.snapshots.length > 0) this.#refuse({ ...place(wanted), reason: 'written-without-snapshot' });
      return;
    }
    const source = this.#source(wanted);
    const base = snapshotOf(source, newest.guid);
    if (base === undefined) {
      this.#refuse(divergence(wanted, here, source));
      return;
    }
    const segments = segmentsBehind(source, wanted, base);
    const taken = nameTaken(here, segments);
    if (taken !== undefined) {
      this.#refuse({ ...place(wanted), reason: 'snapshot-name-taken', snapshot: taken });
      return;
    }
    for (const segment of segments) this.#receiveIncrement(wanted, segment);
  }

  /** A dataset that is not here yet, or only as a placeholder. */
  #bring(wanted: Dataset, placeholder: Dataset | undefined): void {
    const holder = this.#holders.get(wanted.name);
    if (holder !== undefined && holder !== wanted.id) {
      this.#refuse({ ...place(wanted), reason: 'name-taken', by: holder });
    } else if (wanted.snapshots.length === 0) {
      if (placeholder === undefined) this.#withoutSnapshots(wanted);
    } else {
      this.#bringSnapshots(wanted, placeholder);
    }
  }

  /** An empty stand-in gives children a parent. A clone gets none: it could not be received in its place later (belief 3). */
  #withoutSnapshots(wanted: Dataset): void {
    if (!this.#neededAsParent.has(wanted.name) || wanted.origin?.dataset != null) {
      this.#wait(wanted, 'no-snapshot');
      return;
    }
    const after = this.#afterParent(wanted);
    if (after === undefined) return;
    this.#standsAfter.set(wanted.id, this.#push({ kind: 'create-placeholder', ...place(wanted), after }));
  }

  #bringSnapshots(wanted: Dataset, placeholder: Dataset | undefined): void {
    const after = this.#afterParent(wanted);
    if (after === undefined) return;
    const origin = this.#availableOrigin(wanted);
    if (origin === 'missing') return;
    if (origin === undefined) this.#receiveFull(wanted, placeholder !== undefined, after);
    else if (placeholder === undefined) this.#receiveClone(wanted, origin, after);
    else this.#refuse({ ...place(wanted), reason: 'origin-differs' });
  }

  /** The steps that a new dataset waits for because of its parent; undefined, with a conflict, when there will be no parent. */
  #afterParent(wanted: Dataset): readonly number[] | undefined {
    const name = parentOf(wanted.name);
    if (name === undefined) return [];
    const parent = this.#input.wanted.named(name);
    const step = parent === undefined ? undefined : this.#standsAfter.get(parent.id);
    if (step !== undefined) return justAfter(step);
    if (parent !== undefined && this.#waitingIds.has(parent.id)) this.#wait(wanted, 'parent-waits');
    else this.#refuse({ ...place(wanted), reason: 'parent-missing', parent: name });
    return undefined;
  }

  /** Where a clone's origin is to be had; undefined for what is no clone in this tree and is received in full. */
  #availableOrigin(wanted: Dataset): AvailableOrigin | 'missing' | undefined {
    if (wanted.origin?.dataset == null) return undefined;
    const { dataset: id, snapshot: guid } = wanted.origin;
    const dataset = this.#input.source.get(id);
    const snapshot = dataset === undefined ? undefined : snapshotOf(dataset, guid);
    if (dataset === undefined || snapshot === undefined) return undefined;
    const origin = { dataset: id, name: dataset.name, snapshot };
    const here = this.#input.local.get(id);
    if (here !== undefined && snapshotOf(here, guid) !== undefined) {
      return { origin, after: justAfter(this.#standsAfter.get(id)) };
    }
    const step = this.#originAfter.get(originKey(id, guid));
    if (step !== undefined) return { origin, after: [step] };
    if (this.#waitingIds.has(id)) {
      this.#wait(wanted, 'origin-waits');
      return 'missing';
    }
    this.#refuse({ ...place(wanted), reason: 'origin-missing', snapshot: snapshot.name });
    return 'missing';
  }

  #receiveFull(wanted: Dataset, overPlaceholder: boolean, after: readonly number[]): void {
    const [first] = wanted.snapshots;
    if (first === undefined) return;
    const size = { first: first.guid, to: first, snapshots: 1, estimatedBytes: fullBytes(first) };
    this.#receive(wanted, { kind: 'receive-full', ...place(wanted), ...size, overPlaceholder, after }, [first]);
    const rest = segmentsBehind(this.#source(wanted), wanted, first);
    for (const segment of rest) this.#receiveIncrement(wanted, segment);
  }

  #receiveClone(
    wanted: Dataset,
    { origin, after: afterOrigin }: AvailableOrigin,
    afterParent: readonly number[],
  ): void {
    const [first, ...rest] = segmentsBehind(this.#source(wanted), wanted, undefined);
    if (first === undefined) return;
    const after = [...new Set([...afterParent, ...afterOrigin])];
    const step = { kind: 'receive-clone', ...place(wanted), ...streamOf(origin, first), after } as const;
    this.#receive(wanted, step, first.snapshots);
    for (const segment of rest) this.#receiveIncrement(wanted, segment);
  }

  #receiveIncrement(wanted: Dataset, segment: Segment): void {
    if (segment.base === undefined) return;
    const stream = streamOf({ dataset: wanted.id, name: wanted.name, snapshot: segment.base }, segment);
    const after = justAfter(this.#lastStep.get(wanted.id) ?? this.#standsAfter.get(wanted.id));
    this.#receive(wanted, { kind: 'receive-incremental', ...place(wanted), ...stream, after }, segment.snapshots);
  }

  #receive(wanted: Dataset, step: ReceiveStep, brought: readonly Snapshot[]): void {
    const index = this.#push(step);
    this.#lastStep.set(wanted.id, index);
    if (step.kind !== 'receive-incremental') this.#standsAfter.set(wanted.id, index);
    for (const { guid } of brought) {
      if (this.#input.wanted.clonesOf(guid).length > 0) this.#originAfter.set(originKey(wanted.id, guid), index);
    }
  }

  #push(step: Step): number {
    return this.#steps.push(step) - 1;
  }

  /** All the snapshots that the source has of a dataset, wanted or not. */
  #source(wanted: Dataset): Dataset {
    return this.#input.source.get(wanted.id) ?? wanted;
  }
}

function place({ id, name }: Dataset): { readonly dataset: DatasetId; readonly name: RelativeName } {
  return { dataset: id, name };
}

function justAfter(step: number | undefined): readonly number[] {
  return step === undefined || step < 0 ? [] : [step];
}

function originKey(dataset: DatasetId, snapshot: SnapshotGuid): string {
  return `${dataset} ${snapshot}`;
}

function streamOf(base: PlannedSnapshot, { to, snapshots }: Segment) {
  return {
    base,
    first: (snapshots[0] ?? to).guid,
    to,
    snapshots: snapshots.length,
    intermediates: snapshots.length > 1,
    estimatedBytes: incrementBytes(base.snapshot, snapshots),
  };
}

/** A replica of a clone may have been received in full (its origin was not shared); it must not hang off another origin. */
function originDiffers(wanted: Dataset, here: Dataset): boolean {
  return wanted.origin?.dataset != null && here.origin !== null && here.origin.snapshot !== wanted.origin.snapshot;
}

/** A name that a snapshot here has and one that is to come has too. All that is to come is new here: it lies behind the newest in common. */
function nameTaken(here: Dataset, segments: readonly Segment[]): SnapshotName | undefined {
  const names = new Set(here.snapshots.map(({ name }) => name));
  return segments.flatMap(({ snapshots }) => snapshots).find(({ name }) => names.has(name))?.name;
}

function divergence(wanted: Dataset, here: Dataset, source: Dataset): Conflict {
  const known = new Set(source.snapshots.map(({ guid }) => guid));
  const lastCommon = here.snapshots.findLastIndex(({ guid }) => known.has(guid));
  const localOnly = here.snapshots.slice(lastCommon + 1).map(({ name }) => name);
  const common = here.snapshots[lastCommon];
  if (common === undefined) return { ...place(wanted), reason: 'no-common-snapshot', localOnly };
  return { ...place(wanted), reason: 'diverged', lastCommon: common.name, localOnly };
}

/**
 * Plans how to bring `local` up to `wanted`. Steps come in an order in which they can be executed one by one; their `after` says
 * which of them may run side by side. Deterministic: equal input gives an equal plan.
 */
export function plan(input: PlanInput): Plan {
  return new Planner(input).run();
}
