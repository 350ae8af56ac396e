/**
 * `plan(wanted, local) → steps`: what it takes to turn the local copy of a tree into the wanted one (design §7). Pure and
 * deterministic; who executes it decides nothing.
 *
 * What the planner believes:
 *
 * 1. A dataset is the same when its id is, a snapshot when its guid is. Names never decide (zfs-rules, "Identity and order").
 * 2. What can be replayed as metadata comes first, and costs no data: promotes, names of snapshots, what diverged, names of datasets. Each is planned
 *    on a working copy against what those before will have left.
 * 3. An increment needs its base on both sides (at the source a bookmark of it will do), and the base must be the newest snapshot of the target: otherwise ZFS would have
 *    to discard something, and nothing is ever discarded here (design §9).
 * 4. A clone stream needs a target that does not exist and an origin that does.
 * 5. A dataset can be received only below an existing parent.
 * 6. Where 3 to 5 cannot be had without loss, the plan holds a conflict with its evidence, and the rest goes on.
 * 7. What does not follow the source is never changed for its sake: what this node owns, and what it has from elsewhere.
 * 8. What the mirror need not keep goes last, by its own rules (`retention.ts`).
 */
import type { Snapshot } from '../events.ts';
import { bookmarkOf, type Dataset, Graph, newestSnapshot, snapshotOf } from '../graph/graph.ts';
import { type DatasetId, isLineage, parentOf, type RelativeName, ROOT_STAND_IN, type SnapshotGuid } from '../ids.ts';
import { withinAllowance } from './allowance.ts';
import { planDivergence } from './divergence.ts';
import { fullBytes, incrementBytes } from './estimate.ts';
import { withPassedOrigins } from './passed-origins.ts';
import { postponed } from './postponed.ts';
import { planPromotes } from './promotes.ts';
import { inReceivingOrder } from './receiving-order.ts';
import { withoutRefusedNames } from './refusals.ts';
import { asideName, isPlaceFor, Renames } from './renames.ts';
import { planRetention } from './retention.ts';
import { canTakeRoot, dropStandIn, takeRoot } from './root.ts';
import { type Segment, segmentsBehind } from './segments.ts';
import { planSnapshotNames } from './snapshot-names.ts';
import { ROOT_NAME, standInFor } from './stand-in.ts';
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
import { WorkingCopy } from './working-copy.ts';

/** A clone's origin that is here, or will be once these steps are done. */
interface AvailableOrigin {
  readonly origin: PlannedSnapshot;
  readonly after: readonly number[];
}

/** A name here, and the steps that must be done before it can be given. */
interface Place {
  readonly name: RelativeName;
  readonly after: readonly number[];
}

type PlannedReceive = ReceiveStep extends infer Step
  ? Step extends ReceiveStep
    ? Omit<Step, 'datasetKind'>
    : never
  : never;

class Planner {
  #input: PlanInput;
  readonly #copy: WorkingCopy;
  readonly #renames: Renames;
  /** What will be here once the metadata is replayed. */
  #local: Graph;
  /** Where each snapshot is by then, for those of which the dataset does not have it. */
  #holders: ReadonlyMap<SnapshotGuid, DatasetId> | undefined;
  readonly #conflicts: Conflict[] = [];
  readonly #waiting: Waiting[] = [];
  readonly #waitingIds = new Set<DatasetId>();
  /** Datasets that will wait, whether that was said already or not (`postponed.ts`). */
  #postponed: ReadonlySet<DatasetId> = new Set();
  readonly #blocked = new Set<DatasetId>();
  /** Datasets of which neither what is here nor what is at the source can be had whole (`promotes.ts`, 1). */
  #torn: ReadonlySet<DatasetId> = new Set();
  /** Datasets that are received under a temporary name, since what stands above them in the end is a clone of theirs. */
  readonly #unplaced = new Set<DatasetId>();
  /** Datasets whose snapshots are planned. */
  readonly #followed = new Set<DatasetId>();
  /** Step that makes a dataset which was not here. */
  readonly #receivedAfter = new Map<DatasetId, number>();
  /** Last step that brings snapshots of a dataset. */
  readonly #lastStep = new Map<DatasetId, number>();
  /** Snapshots that streams bring, oldest first. */
  readonly #brought = new Map<DatasetId, Snapshot[]>();
  /** Step that brings a snapshot, for those that clones hang off. */
  readonly #originAfter = new Map<string, number>();
  readonly #neededAsParent = new Set<RelativeName>();

  constructor(input: PlanInput) {
    const named = withoutRefusedNames(input.wanted, input.local.root);
    const own = withoutForeign(named.wanted, input);
    this.#input = { ...input, wanted: own };
    this.#copy = new WorkingCopy(input);
    for (const conflict of named.conflicts) this.#refuse(conflict);
    this.#limit();
    this.#renames = new Renames(this.#copy, this.#input.wanted);
    this.#local = input.local;
  }

  run(): Plan {
    this.#replayMetadata();
    this.#setOriginsApart();
    for (const { name } of this.#input.wanted.datasets.values()) {
      const parent = parentOf(name);
      if (parent !== undefined) this.#neededAsParent.add(parent);
    }
    this.#standInForRoot();
    const { source, wanted } = this.#input;
    const comesFromElsewhere = (id: DatasetId): boolean => this.#comesFromElsewhere(id);
    const isHere = (guid: SnapshotGuid): boolean => this.#holding(guid) !== undefined;
    this.#postponed = postponed({ wanted, source, copy: this.#copy, comesFromElsewhere, isHere });
    for (const dataset of inReceivingOrder(this.#input.wanted, this.#local)) {
      if (this.#blocked.has(dataset.id)) this.#takesPlace(dataset);
      else this.#planDataset(dataset);
      this.#placeThoseBelow(dataset.id);
    }
    for (const id of this.#unplaced) this.#refuseUnplaced(id);
    this.#bringBackDisplaced();
    dropStandIn(this.#copy, wanted);
    const retained = planRetention({
      ...this.#input,
      copy: this.#copy,
      isBlocked: (id) => this.#blocked.has(id),
      incoming: (id) => ({ brought: this.#brought.get(id) ?? [], after: justAfter(this.#lastStep.get(id)) }),
    });
    const { steps } = this.#copy;
    const estimatedBytes = steps.reduce((sum, step) => sum + (isReceive(step) ? step.estimatedBytes : 0), 0);
    return {
      steps,
      conflicts: this.#conflicts,
      waiting: this.#waiting,
      retained,
      contested: this.#input.contested,
      estimatedBytes,
    };
  }

  /** What lay below a dataset that was preserved, and is not wanted, goes back to where it was. What is wanted has its place by now. */
  #bringBackDisplaced(): void {
    for (const [id, { parent, leaf }] of this.#copy.displaced) {
      if (this.#input.wanted.get(id) !== undefined || !this.#copy.names.has(parent)) continue;
      const above = this.#copy.nameOf(parent);
      const had = (above === ROOT_NAME ? leaf : `${above}/${leaf}`) as RelativeName;
      const name = this.#input.wanted.named(had) === undefined ? had : asideName(this.#copy, id, had);
      if (this.#copy.names.holder(name) === undefined) this.#copy.rename(id, name, this.#standing(parent));
    }
  }

  /** A root that is a clone of something that lies below it cannot come first. */
  #standInForRoot(): void {
    const root = this.#input.wanted.named(ROOT_NAME);
    if (root === undefined || this.#copy.names.holder(ROOT_NAME) !== undefined || this.#blocked.has(root.id)) return;
    const origin = root.origin?.dataset == null ? undefined : this.#input.source.get(root.origin.dataset);
    if (origin === undefined) return;
    const step = { kind: 'create-placeholder', dataset: ROOT_STAND_IN, name: ROOT_NAME, after: [] } as const;
    this.#receivedAfter.set(ROOT_STAND_IN, this.#push(step));
    this.#copy.addStandIn(standInFor(root));
  }

  #refuseUnplaced(id: DatasetId): void {
    const name = this.#input.wanted.get(id)?.name ?? this.#copy.nameOf(id);
    this.#refuse({ dataset: id, name, reason: 'rename-blocked', current: this.#copy.nameOf(id) });
  }

  /** Leaves out what is beyond the allowance. */
  #limit(): void {
    const { allowance, wanted } = this.#input;
    if (allowance === undefined) return;
    const allowed = withinAllowance(wanted, this.#input, allowance);
    this.#input = { ...this.#input, wanted: allowed.wanted };
    for (const conflict of allowed.conflicts) {
      // The others go on as far as they may
      if (allowed.wanted.get(conflict.dataset) === undefined) this.#refuse(conflict);
      else this.#conflicts.push(conflict);
    }
  }

  /** Where datasets are past what clones hang off (`passed-origins.ts`), which shows once all metadata is replayed. */
  #setOriginsApart(): void {
    const { source, wanted } = this.#input;
    const apart = withPassedOrigins({ source, wanted }, this.#copy, (id) => this.#blocked.has(id));
    if (apart.wanted === wanted) return;
    this.#input = { ...this.#input, ...apart };
    this.#limit();
  }

  #replayMetadata(): void {
    const { source, wanted } = this.#input;
    const { conflicts, torn } = planPromotes(this.#copy, source, wanted);
    for (const conflict of conflicts) this.#refuse(conflict);
    this.#torn = torn;
    planSnapshotNames(this.#copy, source);
    this.#preserveDiverged();
    for (const conflict of this.#renames.plan()) this.#refuse(conflict);
    this.#local = this.#copy.graph();
  }

  #preserveDiverged(): void {
    const { wanted, modified } = this.#input;
    for (const dataset of wanted.datasets.values()) {
      if (this.#blocked.has(dataset.id)) continue;
      const conflict = planDivergence(this.#copy, this.#source(dataset), dataset, modified.has(dataset.id));
      if (conflict !== undefined) this.#refuse(conflict);
    }
  }

  /** The first conflict of a dataset is the one to solve. */
  #refuse(conflict: Conflict): void {
    if (this.#blocked.has(conflict.dataset)) return;
    this.#conflicts.push(conflict);
    this.#blocked.add(conflict.dataset);
  }

  #wait(wanted: Dataset, reason: Waiting['reason']): void {
    this.#waiting.push({ ...place(wanted), reason });
    this.#waitingIds.add(wanted.id);
  }

  /** Whether a dataset waits, or will. One that was refused has a conflict that people can solve, and that is what is told of those that depend on it. */
  #waits(id: DatasetId): boolean {
    return this.#waitingIds.has(id) || (this.#postponed.has(id) && !this.#blocked.has(id));
  }

  #planDataset(wanted: Dataset): void {
    const here = this.#copy.get(wanted.id);
    if (here === undefined && isLineage(wanted.name) && !this.#isOfUse(wanted)) return;
    if (here === undefined) this.#bring(wanted, here);
    else if (!this.#takesPlace(wanted)) return;
    else if (isPlaceholder(here)) this.#bring(wanted, here);
    else this.#followUp(wanted);
  }

  /** Whether anything comes now that hangs off a lineage holder, directly or over another holder: until then it would be there for nothing. */
  #isOfUse({ snapshots }: Dataset): boolean {
    const { wanted } = this.#input;
    const clones = snapshots.flatMap(({ guid }) => wanted.clonesOf(guid));
    return clones.some((clone) => {
      const isComing = this.#copy.get(clone.id) === undefined && !this.#waits(clone.id) && !this.#blocked.has(clone.id);
      return isComing && (!isLineage(clone.name) || this.#isOfUse(clone));
    });
  }

  /** Gives a dataset its name where that had to wait for its parent. False, with a conflict, when there will be none. */
  #takesPlace(wanted: Dataset): boolean {
    const { id, name } = wanted;
    const isLate = this.#renames.isLater(id) || this.#unplaced.has(id);
    if (!isLate || this.#copy.nameOf(id) === name) return true;
    const parent = this.#input.wanted.named(parentOf(name) as RelativeName);
    if (isPlaceFor(this.#copy, id, name) && this.#renames.free(name, id)) {
      // Whoever made way may have handed the name on already
      const isThere = this.#copy.nameOf(id) === name;
      const parentReceived = parent === undefined ? undefined : this.#receivedAfter.get(parent.id);
      if (!isThere) this.#copy.rename(id, name, [...this.#receivedUnder(id), ...justAfter(parentReceived)]);
      this.#unplaced.delete(id);
      return true;
    }
    return this.#comesWith(parent, wanted);
  }

  /** Has a dataset that is here wait for the place of its parent. False, with a conflict, when that will have none. */
  #comesWith(parent: Dataset | undefined, wanted: Dataset): boolean {
    const { id, name } = wanted;
    if (parent !== undefined && this.#waits(parent.id)) {
      // It goes on under the name that it has
      if (!this.#waitingIds.has(id)) this.#wait(wanted, 'parent-waits');
    } else if (parent !== undefined && (!this.#blocked.has(parent.id) || this.#unplaced.has(parent.id))) {
      this.#unplaced.add(id);
    } else {
      this.#refuse({ dataset: id, name, reason: 'rename-blocked', current: this.#copy.nameOf(id) });
      return false;
    }
    return true;
  }

  /** Steps that know a dataset, or what lies below it, by the name that it has now. */
  #receivedUnder(id: DatasetId): number[] {
    const isUnder = (one: DatasetId): boolean => this.#copy.names.lineOf(one).includes(id);
    return this.#copy.steps.flatMap((step, index) =>
      isReceive(step) && (isUnder(step.dataset) || (step.kind === 'receive-clone' && isUnder(step.base.dataset)))
        ? [index]
        : [],
    );
  }

  /** Places what had to wait for the dataset, and what waited for that in turn. */
  #placeThoseBelow(parent: DatasetId): void {
    for (const id of [...this.#unplaced]) {
      const wanted = this.#input.wanted.get(id);
      const above = wanted === undefined ? undefined : parentOf(wanted.name);
      if (wanted === undefined || above === undefined || this.#input.wanted.named(above)?.id !== parent) continue;
      if (!isPlaceFor(this.#copy, id, wanted.name)) continue;
      this.#takesPlace(wanted);
      this.#placeThoseBelow(id);
    }
  }

  /** A dataset that is here gets what its source has behind the newest snapshot here. */
  #followUp(wanted: Dataset): void {
    const here = this.#copy.get(wanted.id);
    if (here === undefined || this.#followed.has(wanted.id)) return;
    this.#followed.add(wanted.id);
    const isOther = wanted.origin?.dataset != null && here.origin?.snapshot !== wanted.origin.snapshot;
    if (isOther && wanted.snapshots.length === 0) {
      this.#wait(wanted, 'no-snapshot');
      return;
    }
    const newest = newestSnapshot(here);
    if (newest === undefined) {
      if (wanted.snapshots.length > 0) this.#refuse({ ...place(wanted), reason: 'written-without-snapshot' });
      return;
    }
    // What both have in common has one past: only what was destroyed or promoted of that differs, and keeps nothing from following on it
    if (this.#torn.has(wanted.id) || originDiffers(wanted, here)) {
      this.#conflicts.push({ ...place(wanted), reason: 'origin-differs' });
    }
    const source = this.#source(wanted);
    const base = snapshotOf(source, newest.guid) ?? bookmarkOf(source, newest.guid);
    if (base === undefined) return;
    for (const segment of segmentsBehind(source, wanted, { ...newest, createtxg: base.createtxg }))
      this.#receiveIncrement(wanted, segment);
  }

  /** A dataset that is not here yet, or only as a placeholder. */
  #bring(wanted: Dataset, placeholder: Dataset | undefined): void {
    const holder = this.#copy.names.holder(wanted.name);
    if (wanted.name === ROOT_NAME && holder !== undefined && holder !== wanted.id) {
      this.#bringRoot(wanted, holder);
    } else if (holder !== undefined && !this.#renames.free(wanted.name, wanted.id)) {
      this.#refuse({ ...place(wanted), reason: 'name-taken', by: holder });
    } else if (wanted.snapshots.length === 0) {
      if (placeholder === undefined) this.#withoutSnapshots(wanted);
      else if (wanted.origin?.dataset != null) this.#wait(wanted, 'no-snapshot');
    } else {
      this.#bringSnapshots(wanted, placeholder);
    }
  }

  /** Where something else has the root's place, it is received beside, and then takes that. */
  #bringRoot(wanted: Dataset, holder: DatasetId): void {
    if (wanted.snapshots.length === 0) {
      this.#wait(wanted, 'no-snapshot');
      return;
    }
    if (!canTakeRoot(this.#copy, wanted)) {
      this.#refuse({ ...place(wanted), reason: 'name-taken', by: holder });
      return;
    }
    this.#bringSnapshots(wanted, undefined);
    this.#unplaced.delete(wanted.id);
    if (!this.#copy.names.has(wanted.id)) return;
    takeRoot(this.#copy, this.#input.wanted, wanted.id, this.#receivedUnder(wanted.id));
  }

  /** An empty stand-in gives children a parent. A clone gets none: it could not be received in its place later (belief 3). */
  #withoutSnapshots(wanted: Dataset): void {
    if (!this.#neededAsParent.has(wanted.name) || wanted.origin?.dataset != null) {
      this.#wait(wanted, 'no-snapshot');
      return;
    }
    const at = this.#placeFor(wanted);
    if (at === undefined) return;
    this.#receivedAfter.set(wanted.id, this.#push({ kind: 'create-placeholder', dataset: wanted.id, ...at }));
    this.#copy.names.add(wanted.id, at.name);
  }

  #bringSnapshots(wanted: Dataset, placeholder: Dataset | undefined): void {
    const at = this.#placeFor(wanted);
    if (at === undefined) return;
    const origin = this.#availableOrigin(wanted);
    // It does not come, so that there is nothing to be placed
    if (origin === 'missing') this.#unplaced.delete(wanted.id);
    else if (origin === undefined) this.#receiveFull(wanted, placeholder !== undefined, at);
    else if (placeholder === undefined) this.#receiveClone(wanted, origin, at);
    else this.#refuse({ ...place(wanted), reason: 'origin-differs' });
  }

  /** Where a new dataset goes, and the steps that it waits for because of that; undefined, with a conflict, when there will be no parent. */
  #placeFor({ id, name }: Dataset): Place | undefined {
    // A placeholder: what replaces it goes where it is by now
    if (this.#copy.names.has(id)) return { name: this.#copy.nameOf(id), after: this.#standing(id) };
    const above = parentOf(name);
    const root = this.#copy.names.holder(ROOT_NAME);
    if (above === undefined) return root === undefined ? { name, after: [] } : this.#beside(id, root);
    const parent = this.#input.wanted.named(above);
    const foreign = parent === undefined ? this.#input.source.named(above) : undefined;
    const standing = this.#parentAt(above, parent ?? foreign);
    if (standing !== undefined) return { name, after: this.#standing(standing) };
    if ((parent !== undefined && this.#waits(parent.id)) || this.#comesFromElsewhere(foreign?.id)) {
      this.#waiting.push({ dataset: id, name, reason: 'parent-waits' });
      this.#waitingIds.add(id);
    } else if (parent === undefined || this.#blocked.has(parent.id) || root === undefined) {
      this.#refuse({ dataset: id, name, reason: 'parent-missing', parent: above });
    } else {
      return this.#beside(id, root);
    }
    return undefined;
  }

  /** The dataset at the name of a parent, if it is that. Whoever has the root's place now, what lies below it stays there. */
  #parentAt(name: RelativeName, parent: Dataset | undefined): DatasetId | undefined {
    const holder = this.#copy.names.holder(name);
    if (parent === undefined || holder === undefined) return undefined;
    const isPlace = name === ROOT_NAME && !this.#copy.isForeign(holder);
    return holder === parent.id || isPlace ? holder : undefined;
  }

  /** A name for the time being, at the top of the tree. */
  #beside(id: DatasetId, root: DatasetId): Place {
    this.#unplaced.add(id);
    return { name: this.#copy.temporaryName(id), after: this.#standing(root) };
  }

  /** The steps after which a dataset stands where it is in the working copy. */
  #standing(id: DatasetId): readonly number[] {
    return [...new Set([...this.#copy.changesOf(id), ...justAfter(this.#receivedAfter.get(id))])];
  }

  /** Where a clone's origin is to be had; undefined for what is no clone in this tree and is received in full. */
  #availableOrigin(wanted: Dataset): AvailableOrigin | 'missing' | undefined {
    if (wanted.origin?.dataset == null) return undefined;
    const { dataset: id, snapshot: guid } = wanted.origin;
    const dataset = this.#input.source.get(id);
    const snapshot = dataset === undefined ? undefined : snapshotOf(dataset, guid);
    if (dataset === undefined || snapshot === undefined) {
      // A look at some datasets only does not tell where this is by now. Received in full, it could never have the past that it has at its source
      this.#wait(wanted, 'origin-waits');
      return 'missing';
    }
    const here = this.#copy.get(id);
    if (here !== undefined && snapshotOf(here, guid) !== undefined)
      return this.#originAt(id, snapshot, this.#copy.changesOf(id));
    // Where the origin's dataset is to go below its own clone, its snapshots have to come first
    if (here !== undefined && !isPlaceholder(here) && !this.#blocked.has(id) && !this.#copy.isForeign(id))
      this.#followUp(this.#input.wanted.get(id) ?? dataset);
    const step = this.#originAfter.get(originKey(id, guid));
    if (step !== undefined) return this.#originAt(id, snapshot, [step]);
    const elsewhere = this.#holding(guid);
    if (elsewhere !== undefined) return this.#originAt(elsewhere, snapshot, this.#copy.changesOf(elsewhere));
    if (this.#waits(id) || this.#comesFromElsewhere(id)) {
      this.#wait(wanted, 'origin-waits');
      return 'missing';
    }
    this.#refuse({ ...place(wanted), reason: 'origin-missing', snapshot: snapshot.name });
    return 'missing';
  }

  /** A dataset that has a snapshot here, wherever that belongs: another mirror moves it there yet, or a conflict keeps it from that. Lineage holders are for what belongs nowhere. */
  #holding(guid: SnapshotGuid): DatasetId | undefined {
    this.#holders ??= new Map(
      Array.from(this.#local.datasets.values()).flatMap(({ id, name, snapshots }) =>
        isLineage(name) ? [] : snapshots.map((snapshot): [SnapshotGuid, DatasetId] => [snapshot.guid, id]),
      ),
    );
    return this.#holders.get(guid);
  }

  /** Whether the source has a dataset that follows another, and has not come from there yet. */
  #comesFromElsewhere(id: DatasetId | undefined): boolean {
    const { source, wanted } = this.#input;
    if (id === undefined || this.#blocked.has(id)) return false;
    const isHere = this.#copy.get(id) !== undefined;
    return source.get(id) !== undefined && wanted.get(id) === undefined && (!isHere || this.#copy.isForeign(id));
  }

  #originAt(dataset: DatasetId, snapshot: Snapshot, after: readonly number[]): AvailableOrigin {
    return { origin: { dataset, name: this.#copy.nameOf(dataset), snapshot }, after };
  }

  #receiveFull(wanted: Dataset, overPlaceholder: boolean, at: Place): void {
    const [first] = wanted.snapshots;
    if (first === undefined) return;
    const size = { first: first.guid, to: first, snapshots: 1, estimatedBytes: fullBytes(first) };
    this.#receive(wanted, { kind: 'receive-full', dataset: wanted.id, ...at, ...size, overPlaceholder }, [first]);
    const rest = segmentsBehind(this.#source(wanted), wanted, first);
    for (const segment of rest) this.#receiveIncrement(wanted, segment);
  }

  #receiveClone(wanted: Dataset, { origin, after: afterOrigin }: AvailableOrigin, at: Place): void {
    const [first, ...rest] = segmentsBehind(this.#source(wanted), wanted, undefined);
    if (first === undefined) return;
    const after = [...new Set([...at.after, ...afterOrigin])];
    const step = {
      kind: 'receive-clone',
      dataset: wanted.id,
      name: at.name,
      ...streamOf(origin, first),
      after,
    } as const;
    this.#receive(wanted, step, first.snapshots);
    for (const segment of rest) this.#receiveIncrement(wanted, segment);
  }

  #receiveIncrement(wanted: Dataset, segment: Segment): void {
    if (segment.base === undefined) return;
    const { id } = wanted;
    const name = this.#copy.names.has(id) ? this.#copy.nameOf(id) : wanted.name;
    const stream = streamOf({ dataset: id, name, snapshot: segment.base }, segment);
    const after = [...new Set([...this.#copy.changesOf(id), ...justAfter(this.#lastStep.get(id))])];
    this.#receive(wanted, { kind: 'receive-incremental', dataset: id, name, ...stream, after }, segment.snapshots);
  }

  #receive(wanted: Dataset, step: PlannedReceive, brought: readonly Snapshot[]): void {
    const index = this.#push({ ...step, datasetKind: wanted.kind });
    this.#lastStep.set(wanted.id, index);
    this.#brought.set(wanted.id, [...(this.#brought.get(wanted.id) ?? []), ...brought]);
    if (step.kind !== 'receive-incremental') {
      this.#receivedAfter.set(wanted.id, index);
      this.#copy.names.add(wanted.id, step.name);
    }
    for (const { guid } of brought) {
      if (this.#input.wanted.clonesOf(guid).length > 0) this.#originAfter.set(originKey(wanted.id, guid), index);
    }
  }

  #push(step: Step): number {
    return this.#copy.steps.push(step) - 1;
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
  return step === undefined ? [] : [step];
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

/** Whether a replica hangs off another snapshot than at its owner. One of a clone may have been received in full (its origin was not shared). */
function originDiffers(wanted: Dataset, here: Dataset): boolean {
  return wanted.origin?.dataset != null && here.origin !== null && here.origin.snapshot !== wanted.origin.snapshot;
}

/** What does not follow this source is none of it here. */
function withoutForeign(wanted: Graph, { local, follows }: PlanInput): Graph {
  const foreign = Array.from(wanted.datasets.keys()).filter((id) => {
    const here = local.get(id);
    return here !== undefined && !follows(here);
  });
  if (foreign.length === 0) return wanted;
  const kept = new Map(wanted.datasets);
  for (const id of foreign) kept.delete(id);
  return new Graph(wanted.root, kept);
}

/**
 * Plans how to bring `local` up to `wanted`. Steps come in an order in which they can be executed one by one; their `after` says
 * which of them may run side by side. Deterministic: equal input gives an equal plan.
 */
export function plan(input: PlanInput): Plan {
  return new Planner(input).run();
}
