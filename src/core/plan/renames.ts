/**
 * Datasets that are here under another name than at their source: renamed at no cost. Names that were swapped, or handed round, go through
 * a temporary one; what nobody wants any more steps aside.
 */
import { compareNames, type Dataset, type Graph } from '../graph/graph.ts';
import { DATASET_NAME_BYTES_MAX, type DatasetId, nameInBetween, parentOf, type RelativeName } from '../ids.ts';
import { canTakeRoot, takeRoot } from './root.ts';
import { CHAIN_MAX } from './snapshot-names.ts';
import { ROOT_NAME } from './stand-in.ts';
import type { Conflict } from './steps.ts';
import type { WorkingCopy } from './working-copy.ts';

export class Renames {
  readonly #copy: WorkingCopy;
  readonly #wanted: Graph;
  readonly #conflicts: Conflict[] = [];
  readonly #refused = new Set<DatasetId>();
  /** Datasets whose new parent is still to be received. */
  readonly #later = new Set<DatasetId>();
  readonly #moving = new Set<DatasetId>();

  constructor(copy: WorkingCopy, wanted: Graph) {
    this.#copy = copy;
    this.#wanted = wanted;
  }

  /** Plans the renames that can be done before anything is received. Gives the conflicts. */
  plan(): readonly Conflict[] {
    this.#bringRoot();
    // A dataset that has its name already can be taken along by one above it, and come back with the next round
    for (let done = -1; done !== this.#copy.steps.length; ) {
      done = this.#copy.steps.length;
      for (const dataset of this.#elsewhere()) this.#bring(dataset);
      this.#freeNames();
    }
    return this.#conflicts;
  }

  /** Whether the dataset gets its name only once its new parent is here. */
  isLater(id: DatasetId): boolean {
    return this.#later.has(id);
  }

  /** Frees a name for a dataset. False when whoever has it cannot be moved. */
  free(name: RelativeName, id: DatasetId): boolean {
    const holder = this.#copy.names.holder(name);
    if (holder === undefined || holder === id) return true;
    // What made way may have taken along into the name what lay below it
    return this.#makeWay(holder) && this.free(name, id);
  }

  /** What is here already and is to be the root. A stand-in elsewhere gives its place to what it stands in for there, and keeps it here until that has come. */
  #bringRoot(): void {
    const root = this.#wanted.named(ROOT_NAME);
    if (root === undefined || this.#copy.get(root.id) === undefined || this.#copy.nameOf(root.id) === ROOT_NAME) return;
    if (canTakeRoot(this.#copy, root)) takeRoot(this.#copy, this.#wanted, root.id);
    else this.#refuse(root.id, ROOT_NAME);
  }

  /** Whatever has the name of a wanted dataset makes way, also for those that are still to come. */
  #freeNames(): void {
    for (const { id, name } of this.#wanted.datasets.values()) this.free(name, id);
  }

  /** Wanted datasets that are here under another name, parents first. */
  #elsewhere(): Dataset[] {
    return Array.from(this.#wanted.datasets.values())
      .filter(({ id, name }) => this.#copy.get(id) !== undefined && this.#copy.nameOf(id) !== name)
      .sort((a, b) => compareNames(a.name, b.name));
  }

  #bring({ id, name }: Dataset): void {
    if (this.#copy.nameOf(id) === name || this.#moving.has(id)) return;
    if (this.#copy.isForeign(id) || this.#copy.nameOf(id) === '' || name === '') {
      this.#refuse(id, name);
      return;
    }
    this.#moving.add(id);
    if (!this.free(name, id)) this.#refuse(id, name);
    else if (isPlaceFor(this.#copy, id, name)) this.#copy.rename(id, name);
    else this.#later.add(id);
    this.#moving.delete(id);
  }

  /** Frees the name that a dataset holds. False when it cannot be moved: this node owns it, or it is the root. */
  #makeWay(holder: DatasetId): boolean {
    if (this.#copy.isForeign(holder) || this.#copy.nameOf(holder) === '') return false;
    const wanted = this.#wanted.get(holder);
    const held = this.#copy.nameOf(holder);
    if (wanted !== undefined && wanted.name !== held && this.#moving.size < CHAIN_MAX) this.#bring(wanted);
    if (this.#copy.nameOf(holder) !== held) return true;
    this.#copy.rename(holder, wanted === undefined ? asideName(this.#copy, holder) : this.#copy.temporaryName(holder));
    return true;
  }

  #refuse(id: DatasetId, name: RelativeName): void {
    if (this.#refused.has(id)) return;
    this.#refused.add(id);
    this.#conflicts.push({ dataset: id, name, reason: 'rename-blocked', current: this.#copy.nameOf(id) });
  }
}

/** Whether the name's parent is here, and is neither the dataset itself nor below it. */
export function isPlaceFor(copy: WorkingCopy, id: DatasetId, name: RelativeName): boolean {
  const parent = parentOf(name);
  const above = parent === undefined ? undefined : copy.names.holder(parent);
  return above !== undefined && !copy.names.lineOf(above).includes(id);
}

/** A name that nothing else has, beside the one that a dataset had, or at the top of the tree where that would get too long. */
export function asideName(copy: WorkingCopy, id: DatasetId, had = copy.nameOf(id)): RelativeName {
  for (let tried = 0; ; tried += 1) {
    const label = nameInBetween(id, tried).replace('renaming', 'given-up');
    const beside = `${had}-${label}`;
    const name = (beside.length > DATASET_NAME_BYTES_MAX / 2 ? label : beside) as RelativeName;
    const holder = copy.names.holder(name);
    if (holder === undefined || holder === id) return name;
  }
}
