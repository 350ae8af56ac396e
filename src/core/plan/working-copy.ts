import type { Snapshot } from '../events.ts';
import { GraphDraft, type MutableDataset } from '../graph/draft.ts';
import { type Dataset, Graph } from '../graph/graph.ts';
import { NameTree } from '../graph/name-tree.ts';
import {
  type DatasetId,
  nameInBetween,
  parentOf,
  poolOf,
  type RelativeName,
  ROOT_STAND_IN,
  type SnapshotGuid,
  type SnapshotName,
} from '../ids.ts';
import { FIRST_EPOCH } from '../ownership.ts';
import { ROOT_NAME, standInFor } from './stand-in.ts';
import type { DestroySnapshotStep, PlanInput, PreserveStep, Step, TakeRootStep } from './steps.ts';

type WithoutAfter<S extends Step> = S extends Step ? Omit<S, 'after'> : never;

/**
 * The local copy while it is being planned: each step is written down and applied to it at once, so that the next one is planned against what
 * will be there then.
 */
export class WorkingCopy {
  readonly steps: Step[] = [];
  readonly names: NameTree;
  readonly #follows: PlanInput['follows'];
  readonly #base: Graph;
  readonly #draft: GraphDraft;
  readonly #names = new Set<DatasetId>();
  /** The last step that changed a dataset, its name or its snapshots. */
  readonly #last = new Map<DatasetId, number>();
  /** The last step that took something away from a name. */
  readonly #vacated = new Map<RelativeName, number>();
  /** What lay below a dataset that was preserved: below which, and under which last part of its name. */
  readonly displaced = new Map<DatasetId, { readonly parent: DatasetId; readonly leaf: string }>();
  /** The steps that destroy what lies right below a dataset, or is a clone of a snapshot. */
  readonly #freed = new Map<DatasetId | SnapshotGuid, readonly number[]>();

  /** How many datasets may still be kept aside. */
  #asideLeft: number;
  readonly #hiddenOrigins: Set<SnapshotGuid>;

  constructor({ local, follows, allowance, hidden }: Pick<PlanInput, 'local' | 'follows' | 'allowance' | 'hidden'>) {
    const { copies = 0, origins = [] } = hidden ?? {};
    this.#asideLeft = allowance === undefined ? Number.POSITIVE_INFINITY : allowance.filesystems - copies;
    this.#hiddenOrigins = new Set(origins);
    this.#base = local;
    this.#draft = new GraphDraft(local);
    this.names = new NameTree(local.datasets.values());
    this.#follows = follows;
  }

  /** The dataset as it will be. Its name is that of the beginning: see {@link names}. */
  get(id: DatasetId): Dataset | undefined {
    return this.#draft.get(id);
  }

  values(): Iterable<Dataset> {
    return this.#draft.values();
  }

  /** The snapshots that what no graph shows hangs off, or will: nobody can destroy them as long as that is there. */
  get hiddenOrigins(): ReadonlySet<SnapshotGuid> {
    return this.#hiddenOrigins;
  }

  nameOf(id: DatasetId): RelativeName {
    return this.names.nameOf(id) ?? ('' as RelativeName);
  }

  /** Whether the dataset is here and does not follow the source, so that nothing of it is changed. What stands in for a root is nobody's. */
  isForeign(id: DatasetId): boolean {
    const here = this.#draft.get(id);
    return here !== undefined && id !== ROOT_STAND_IN && !this.#follows(here);
  }

  /** Whether what stood in for a root is a dataset like others by now, which somebody took over, and follows another source. */
  isStandInOfOthers(): boolean {
    const here = this.#base.get(ROOT_STAND_IN);
    return here !== undefined && here.owner.epoch > FIRST_EPOCH && !this.#follows(here);
  }

  /** Whether another dataset may be kept aside: whoever contributes could have this node keep one after the other. */
  mayKeepAside(): boolean {
    return this.#asideLeft > 0;
  }

  /** Whether the root can have no other name: a pool's own dataset. */
  isRootFixed(): boolean {
    return this.#base.root !== null && poolOf(this.#base.root) === this.#base.root;
  }

  /** The steps that changed these datasets, or what they lie below. */
  changesOf(...ids: readonly DatasetId[]): number[] {
    const steps = new Set<number>();
    for (const id of ids) {
      for (const one of this.names.lineOf(id)) {
        const step = this.#last.get(one);
        if (step !== undefined) steps.add(step);
      }
    }
    return [...steps].sort((a, b) => a - b);
  }

  promote(id: DatasetId): void {
    const over = this.#draft.get(id)?.origin?.dataset;
    if (over == null) return;
    this.#push({ kind: 'promote', dataset: id, name: this.nameOf(id), over: this.nameOf(over) }, [over]);
    this.#draft.promote(id);
  }

  clone(model: Dataset, origin: Dataset, guid: SnapshotGuid, name: RelativeName): void {
    const snapshot = origin.snapshots.find((one) => one.guid === guid);
    if (snapshot === undefined) return;
    const source = { dataset: origin.id, name: this.nameOf(origin.id), snapshot };
    const parent = this.#holderAbove(name);
    const edge = { dataset: origin.id, snapshot: guid };
    this.#draft.add({ ...model, origin: edge, snapshots: [], received: null });
    this.names.add(model.id, name);
    this.#names.add(model.id);
    this.#push({ kind: 'clone', dataset: model.id, name, origin: source }, [origin.id, ...only(parent)]);
  }

  renameSnapshot(id: DatasetId, guid: SnapshotGuid, to: SnapshotName): void {
    const from = this.#draft.get(id)?.snapshots.find((one) => one.guid === guid)?.name;
    if (from === undefined) return;
    this.#push({ kind: 'rename-snapshot', dataset: id, name: this.nameOf(id), guid, from, to });
    this.#draft.renameSnapshot(id, guid, to);
  }

  /** Moves a dataset with all below it. `also` are steps that it waits for beside those that changed it and its parent. */
  rename(id: DatasetId, to: RelativeName, also: readonly number[] = []): void {
    const from = this.nameOf(id);
    const parent = this.#holderAbove(to);
    const before = [...this.changesOf(id, ...only(parent)), ...also, ...only(this.#vacated.get(to))];
    this.names.move(id, to);
    this.#names.add(id);
    this.#vacated.set(from, this.#add({ kind: 'rename', dataset: id, name: to, from }, before));
  }

  /** Makes a dataset below which nothing lies the root; the root gets a name below it. `also` are steps that it waits for. */
  takeRoot(id: DatasetId, formerName: RelativeName, also: readonly number[]): void {
    const former = this.names.holder(ROOT_NAME);
    if (former === undefined) return;
    const from = this.nameOf(id);
    const before = [...this.changesOf(id, former), ...also, ...only(this.#vacated.get(formerName))];
    this.names.move(former, formerName);
    this.names.move(id, ROOT_NAME);
    const step = {
      kind: 'take-root',
      dataset: id,
      name: ROOT_NAME,
      from,
      former: { dataset: former, name: formerName },
    };
    const index = this.#add(step as WithoutAfter<TakeRootStep>, before);
    this.#last.set(former, index);
    this.#vacated.set(from, index);
  }

  /** Moves what lies below a dataset to the top of the tree for a while: see {@link displaced}. */
  displaceChildren(id: DatasetId): void {
    for (const child of this.names.childrenOf(id)) {
      const name = this.nameOf(child);
      this.displaced.set(child, { parent: id, leaf: name.slice(name.lastIndexOf('/') + 1) });
      this.rename(child, this.temporaryName(child));
    }
  }

  /** Puts an empty dataset where the root is to come, without a step. */
  addStandIn(standIn: MutableDataset): void {
    this.#draft.add(standIn);
    this.names.add(standIn.id, ROOT_NAME);
  }

  /**
   * Moves a diverged dataset out of the way, and before that what lies below it, unless it is the root. False, with nothing done, when some of that does not follow the source.
   */
  preserve(id: DatasetId, step: Pick<PreserveStep, 'lastCommon' | 'localOnly'>): boolean {
    const isRoot = this.names.holder(ROOT_NAME) === id;
    if (!isRoot && this.names.childrenOf(id).some((child) => this.isForeign(child))) return false;
    if (!isRoot) this.displaceChildren(id);
    const { snapshots: before = [], origin: clonedFrom = null } = this.#draft.get(id) ?? {};
    const hangsOff = step.lastCommon?.guid ?? clonedFrom?.snapshot;
    if (hangsOff !== undefined) this.#hiddenOrigins.add(hangsOff);
    const kept = step.lastCommon === null ? 0 : before.findIndex(({ guid }) => guid === step.lastCommon?.guid) + 1;
    const cutOff = this.#clonesOf(id, new Set(before.slice(kept).map(({ guid }) => guid)));
    const names = cutOff.map((clone) => this.nameOf(clone));
    this.#asideLeft -= 1;
    this.#push({ kind: 'preserve', dataset: id, name: this.nameOf(id), ...step, cutOff: names });
    if (step.lastCommon === null) this.#remove(id, isRoot);
    else this.#draft.rollBack(id, step.lastCommon.guid);
    for (const clone of cutOff) {
      const { origin } = this.#draft.change(clone);
      if (origin !== null) this.#draft.change(clone).origin = { dataset: null, snapshot: origin.snapshot };
    }
    return true;
  }

  /** Takes away what is received anew. */
  #remove(id: DatasetId, isRoot: boolean): void {
    const dataset = this.#draft.get(id);
    this.#draft.remove(id);
    this.names.remove(id);
    if (!isRoot || dataset === undefined) return;
    this.addStandIn(standInFor(dataset));
    this.#last.set(ROOT_STAND_IN, this.steps.length - 1);
  }

  /** `after` are steps that it waits for beside those that changed the dataset. */
  destroySnapshot(
    id: DatasetId,
    snapshot: Snapshot,
    because: DestroySnapshotStep['because'],
    after: readonly number[],
  ): void {
    const before = [...this.changesOf(id), ...after, ...this.#freeing(snapshot.guid)];
    const step = { kind: 'destroy-snapshot', dataset: id, name: this.nameOf(id), snapshot, because } as const;
    this.#write(step, before);
    const isHere = this.#draft.get(id)?.snapshots.some(({ guid }) => guid === snapshot.guid) === true;
    if (isHere) this.#draft.destroySnapshot(id, snapshot.guid);
  }

  /** Destroys a dataset on which nothing here depends any more. */
  destroy(id: DatasetId): void {
    const dataset = this.#draft.get(id);
    if (dataset === undefined) return;
    const name = this.nameOf(id);
    const snapshots = dataset.snapshots.map(({ guid }) => guid);
    const before = [...this.changesOf(id), ...this.#freeing(id, ...snapshots)];
    const index = this.#write({ kind: 'destroy-dataset', dataset: id, name, snapshots }, before);
    const supports = [...only(this.#holderAbove(name)), ...only(dataset.origin?.snapshot)];
    for (const support of supports) this.#freed.set(support, [...(this.#freed.get(support) ?? []), index]);
    this.#draft.remove(id);
    this.names.remove(id);
  }

  /** The steps that destroy what depended on these. */
  #freeing(...supports: readonly (DatasetId | SnapshotGuid)[]): number[] {
    return supports.flatMap((support) => this.#freed.get(support) ?? []);
  }

  #clonesOf(id: DatasetId, snapshots: ReadonlySet<SnapshotGuid>): DatasetId[] {
    const clones = Array.from(this.#draft.values()).filter(
      ({ origin }) => origin?.dataset === id && snapshots.has(origin.snapshot),
    );
    return clones.map((clone) => clone.id);
  }

  /**
   * A name at the top of the tree that a dataset has for a moment, while another takes its own. One that nobody has: a source that is a replica itself can be
   * in the middle of its own renames, and then wants such names.
   */
  temporaryName(id: DatasetId): RelativeName {
    for (let tried = 0; ; tried += 1) {
      const name = nameInBetween(id, tried);
      if (this.names.holder(name) === undefined) return name;
    }
  }

  /** The graph as it will be after the steps so far. */
  graph(): Graph {
    if (this.steps.length === 0) return this.#base;
    const datasets = Array.from(this.#draft.values(), (dataset): [DatasetId, Dataset] => {
      const name = this.nameOf(dataset.id);
      return [dataset.id, name === dataset.name ? dataset : { ...dataset, name }];
    });
    return new Graph(this.#base.root, new Map(datasets));
  }

  #holderAbove(name: RelativeName): DatasetId | undefined {
    const above = parentOf(name);
    return above === undefined ? undefined : this.names.holder(above);
  }

  #push(step: WithoutAfter<Step>, others: readonly DatasetId[] = []): void {
    this.#add(step, this.changesOf(step.dataset, ...others));
    for (const id of others) this.#last.set(id, this.steps.length - 1);
  }

  #add(step: WithoutAfter<Step>, before: readonly number[]): number {
    const index = this.#write(step, before);
    this.#last.set(step.dataset, index);
    return index;
  }

  #write(step: WithoutAfter<Step>, before: readonly number[]): number {
    const after = [...new Set(before)].sort((a, b) => a - b);
    return this.steps.push({ ...step, after } as Step) - 1;
  }
}

function only<T>(value: T | undefined): T[] {
  return value === undefined ? [] : [value];
}
