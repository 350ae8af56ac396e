/**
 * What a mirror destroys, and why it may (design §9). The receiver decides, by its own rules:
 *
 * 1. A snapshot goes when the keep rule does not keep it; where the rule is `all`, when its owner destroyed it longer ago than the grace period.
 * 2. A dataset goes when its owner destroyed it longer ago than the grace period, and all that it has came from there.
 * 3. The newest snapshot of a dataset stays, since what the dataset holds is that; so does the newest that this node has in common with any peer: increments build on it.
 * 4. What has clones or children stays, and so does what a copy that is kept aside hangs off. What is held, or has clones outside the tree, ZFS refuses to destroy, and then it stays as well.
 * 5. A lineage holder goes with its last clone, whatever the rules say; but not one that got its snapshots from a dataset here, which kept them before: it is a dataset that its owner
 *    destroyed, or no more than old snapshots where a keep rule says how many of them stay.
 * 6. What this node owns, what the mirror's globs leave out, or those of the mirror that it belongs to, and what has a conflict is none of this.
 */
import type { Snapshot } from '../events.ts';
import type { Dataset, Graph } from '../graph/graph.ts';
import { isMovedHere } from '../graph/lineage.ts';
import { type DatasetId, isLineage, lineageName, parentOf, type SnapshotGuid } from '../ids.ts';
import { keptSnapshots } from '../keep.ts';
import { departures } from './departures.ts';
import { isPlaceholder, type Plan, type PlanInput, type Retained, type Retention } from './steps.ts';
import type { WorkingCopy } from './working-copy.ts';

/** What the rest of the plan knows of a dataset. */
export interface Incoming {
  /** Snapshots that its streams will bring, oldest first. */
  readonly brought: readonly Snapshot[];
  /** The last step that brings some. */
  readonly after: readonly number[];
}

export interface RetentionInput extends Pick<PlanInput, 'source' | 'wanted' | 'retention'> {
  readonly copy: WorkingCopy;
  readonly isBlocked: (dataset: DatasetId) => boolean;
  readonly incoming: (dataset: DatasetId) => Incoming;
}

/** Adds the steps that destroy to the working copy; gives what stays although it need not be kept. */
export function planRetention(input: RetentionInput): Retained[] {
  const { keep, graceMs } = input.retention;
  const givesUp = keep !== 'all' || graceMs !== null;
  const retained = givesUp ? new RetentionPlanner(input).run() : [];
  return [...retained, ...planLineage(input)];
}

/** A lineage holder was made for its clones, and goes with the last of them (5). */
function planLineage({ copy, wanted, retention }: RetentionInput): Retained[] {
  const holders = [...copy.values()].filter(({ id }) => isLineage(copy.nameOf(id)) && !copy.isForeign(id));
  const goesAsDataset = retention.keep === 'all' || retention.graceMs !== null;
  const unwanted = holders.filter((one) => {
    const isUseless = wanted.get(one.id) === undefined && !retention.isNeeded(one.id);
    return isUseless && !(isMovedHere(one) && goesAsDataset);
  });
  if (unwanted.length === 0) return [];
  const origins = new Set([...copy.hiddenOrigins, ...Array.from(copy.values(), ({ origin }) => origin?.snapshot)]);
  return unwanted.flatMap(({ id, snapshots }): Retained[] => {
    if (snapshots.some(({ guid }) => origins.has(guid))) return [];
    const name = copy.nameOf(id);
    const newest = snapshots.at(-1);
    // A promote leaves it without any; then ZFS tells whether it was written to, when it is destroyed
    if (newest !== undefined && name !== lineageName(newest.guid))
      return [{ dataset: id, name, snapshot: null, reason: 'taken-here' }];
    copy.destroy(id);
    return [];
  });
}

class RetentionPlanner {
  readonly #input: RetentionInput;
  readonly #retained: Retained[] = [];

  constructor(input: RetentionInput) {
    this.#input = input;
  }

  /** Datasets first: a clone that goes sets its origin free. */
  run(): Retained[] {
    const { wanted, isBlocked, retention } = this.#input;
    if (retention.graceMs !== null) this.#planDatasets();
    const departed = this.#departed();
    const origins = this.#origins();
    for (const { id } of wanted.datasets.values()) {
      if (!isBlocked(id) && !retention.isLent(id)) this.#planSnapshots(id, departed, origins);
    }
    return this.#retained;
  }

  /** Snapshots here, or wanted, that clones hang off, hidden ones included. */
  #origins(): ReadonlySet<SnapshotGuid> {
    const { copy, wanted } = this.#input;
    const clones = [...copy.values(), ...wanted.datasets.values()];
    return new Set([
      ...copy.hiddenOrigins,
      ...clones.flatMap(({ origin }) => (origin === null ? [] : [origin.snapshot])),
    ]);
  }

  /** Snapshots that owners destroyed; none need be known of where a rule decides. */
  #departed(): ReadonlySet<SnapshotGuid> {
    const { source, copy, retention } = this.#input;
    if (retention.keep !== 'all') return new Set();
    const found = departures(source, copy.graph(), (dataset) => !copy.isForeign(dataset.id));
    return new Set(found.flatMap(({ snapshot }) => (snapshot === null ? [] : [snapshot])));
  }

  #planSnapshots(id: DatasetId, departed: ReadonlySet<SnapshotGuid>, origins: ReadonlySet<SnapshotGuid>): void {
    const { source, copy, incoming, retention } = this.#input;
    const atSource = source.get(id);
    const here = copy.get(id);
    if (atSource === undefined || here === undefined || copy.isForeign(id)) return;
    const { brought, after } = incoming(id);
    const snapshots = [...here.snapshots.slice(0, newestKnown(here.snapshots, atSource) + 1), ...brought];
    const kept = keptSnapshots(retention.keep, snapshots, retention.now);
    const candidates = snapshots.slice(0, -1).filter(({ guid }) => !kept.has(guid) || departed.has(guid));
    if (candidates.length === 0) return;
    const inCommon = this.#inCommon(id, snapshots);
    for (const snapshot of candidates) {
      const because = retention.keep === 'all' ? 'departed' : 'not-kept';
      const place = { dataset: id, name: copy.nameOf(id), snapshot: snapshot.name };
      const until = because === 'departed' ? this.#graceUntil({ dataset: id, snapshot: snapshot.guid }) : 0;
      if (until > retention.now) this.#retained.push({ ...place, reason: 'grace', until });
      else if (origins.has(snapshot.guid)) this.#retained.push({ ...place, reason: 'depended-on' });
      else if (inCommon.has(snapshot.guid)) this.#retained.push({ ...place, reason: 'in-common' });
      else copy.destroySnapshot(id, snapshot, because, after);
    }
  }

  /** Unix ms. What is noticed only now begins its grace period with the next sync, which then knows since when. */
  #graceUntil(departed: { readonly dataset: DatasetId; readonly snapshot: SnapshotGuid | null }): number {
    const { graceMs, noticedAt, now } = this.#input.retention as Retention & { graceMs: number };
    return (noticedAt(departed) ?? now + 1) + graceMs;
  }

  /** For each copy of a dataset that a peer has, the newest of these snapshots that is in it: what it can be sent an increment behind, and what it can send one behind. */
  #inCommon(id: DatasetId, snapshots: readonly Snapshot[]): ReadonlySet<SnapshotGuid> {
    const { retention, source } = this.#input;
    const found = [source, ...retention.copies].flatMap((copy) => {
      const there = copy.get(id);
      if (there === undefined) return [];
      const newest = [newestIn(snapshots, there), newestKnown(snapshots, there)];
      return newest.flatMap((index) => (index < 0 ? [] : [(snapshots[index] as Snapshot).guid]));
    });
    return new Set(found);
  }

  /** Those that nothing depends on first: what they themselves depended on may follow. */
  #planDatasets(): void {
    const { copy } = this.#input;
    const candidates = this.#departedDatasets();
    const dependents = countDependents(copy);
    const free = Array.from(candidates.values()).filter(({ id }) => !dependents.has(id));
    for (let dataset = free.pop(); dataset !== undefined; dataset = free.pop()) {
      candidates.delete(dataset.id);
      const supports = supportsOf(copy, dataset);
      if (!this.#planDataset(dataset)) continue;
      for (const support of supports) dependents.set(support, (dependents.get(support) ?? 1) - 1);
      const next = supports.flatMap((support) => candidates.get(support) ?? []);
      free.push(...next.filter(({ id }) => dependents.get(id) === 0));
    }
    for (const { id } of candidates.values()) this.#retainDataset(id, 'depended-on');
  }

  #departedDatasets(): Map<DatasetId, Dataset> {
    const { source, copy } = this.#input;
    const found = new Map<DatasetId, Dataset>();
    for (const dataset of copy.values()) {
      const isDeparted = source.get(dataset.id) === undefined && !copy.isForeign(dataset.id);
      const name = copy.nameOf(dataset.id);
      if (isDeparted && name !== '' && (!isLineage(name) || isMovedHere(dataset))) found.set(dataset.id, dataset);
    }
    return found;
  }

  #planDataset(dataset: Dataset): boolean {
    const { copy, retention } = this.#input;
    const { id } = dataset;
    const until = this.#graceUntil({ dataset: id, snapshot: null });
    if (until > retention.now) {
      this.#retained.push({ dataset: id, name: copy.nameOf(id), snapshot: null, reason: 'grace', until });
    } else if (!cameFromOwner(dataset)) {
      this.#retainDataset(id, 'taken-here');
    } else if (retention.copies.some((other) => sharesSnapshot(other, dataset))) {
      this.#retainDataset(id, 'in-common');
    } else {
      copy.destroy(id);
      return true;
    }
    return false;
  }

  #retainDataset(id: DatasetId, reason: 'depended-on' | 'in-common' | 'taken-here'): void {
    this.#retained.push({ dataset: id, name: this.#input.copy.nameOf(id), snapshot: null, reason });
  }
}

/** Without a snapshot nothing shows where the data came from, unless it is that of the origin, or there is none. */
function cameFromOwner(dataset: Dataset): boolean {
  const { snapshots, received, origin } = dataset;
  if (snapshots.length === 0) return origin !== null || isPlaceholder(dataset);
  return snapshots.at(-1)?.guid === received;
}

/** Index of the newest of these snapshots that the dataset has; -1 for none. */
function newestIn(snapshots: readonly Snapshot[], dataset: Dataset): number {
  const there = new Set(dataset.snapshots.map(({ guid }) => guid));
  return snapshots.findLastIndex(({ guid }) => there.has(guid));
}

/** The same, where a bookmark of a snapshot counts as well. */
function newestKnown(snapshots: readonly Snapshot[], dataset: Dataset): number {
  const there = new Set([...dataset.snapshots, ...dataset.bookmarks].map(({ guid }) => guid));
  return snapshots.findLastIndex(({ guid }) => there.has(guid));
}

/** When the first of what is kept for a while may go, in Unix ms; null when there is nothing of the kind. */
export function firstDue(retained: readonly Retained[]): number | null {
  let first: number | null = null;
  for (const one of retained) {
    if (one.reason === 'grace' && (first === null || one.until < first)) first = one.until;
  }
  return first;
}

/** Whether something that need not be kept stays only since a peer has it as well: when those have moved on, it may go. */
export function keepsForOthers({ retained }: Pick<Plan, 'retained'>): boolean {
  return retained.some(({ reason }) => reason === 'in-common');
}

/** Whether something of the kind stays only since something here hangs off it, or lies below. */
export function keepsForDependents({ retained }: Pick<Plan, 'retained'>): boolean {
  return retained.some(({ reason }) => reason === 'depended-on');
}

function sharesSnapshot(other: Graph, { id, snapshots }: Dataset): boolean {
  const there = other.get(id);
  return there !== undefined && newestIn(snapshots, there) >= 0;
}

/** How many datasets lie right below one, or are clones of its snapshots. */
function countDependents(copy: WorkingCopy): Map<DatasetId, number> {
  const counts = new Map<DatasetId, number>();
  const count = (id: DatasetId): void => void counts.set(id, (counts.get(id) ?? 0) + 1);
  for (const dataset of copy.values()) {
    for (const support of supportsOf(copy, dataset)) count(support);
    if (dataset.snapshots.some(({ guid }) => copy.hiddenOrigins.has(guid))) count(dataset.id);
  }
  return counts;
}

/** What cannot be destroyed while a dataset is there: the one above it, and the one that holds its origin. */
function supportsOf(copy: WorkingCopy, { id, origin }: Dataset): DatasetId[] {
  const above = parentOf(copy.nameOf(id));
  const parent = above === undefined ? undefined : copy.names.holder(above);
  return [parent, origin?.dataset ?? undefined].filter((support) => support !== undefined);
}
