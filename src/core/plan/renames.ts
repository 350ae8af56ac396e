import { compareNames, type Graph } from '../graph/graph.ts';
import { type DatasetId, parentOf, type RelativeName } from '../ids.ts';
import type { Conflict, RenameStep } from './steps.ts';

interface PlannedRenames {
  readonly renames: readonly Omit<RenameStep, 'after'>[];
  readonly conflicts: readonly Conflict[];
  /** Local names once the renames are done. */
  readonly names: ReadonlyMap<DatasetId, RelativeName>;
}

/** Local names while renames are being planned; a dataset takes along all below it, as `zfs rename` does. */
class WorkingNames {
  readonly names = new Map<DatasetId, RelativeName>();
  readonly #holders = new Map<RelativeName, DatasetId>();

  constructor(local: Graph) {
    for (const { id, name } of local.datasets.values()) this.#set(id, name);
  }

  holder(name: RelativeName): DatasetId | undefined {
    return this.#holders.get(name);
  }

  move(from: RelativeName, to: RelativeName): void {
    const moved = [...this.names].filter(([, name]) => name === from || name.startsWith(`${from}/`));
    for (const [, name] of moved) this.#holders.delete(name);
    for (const [id, name] of moved) this.#set(id, `${to}${name.slice(from.length)}` as RelativeName);
  }

  #set(id: DatasetId, name: RelativeName): void {
    this.names.set(id, name);
    this.#holders.set(name, id);
  }
}

/**
 * Renames that cost no data: a dataset that is here under another name than its owner has for it now. Parents first, since they
 * take their children along. A name that something else holds, or whose parent is not here, is a conflict.
 */
export function planRenames(wanted: Graph, local: Graph): PlannedRenames {
  const working = new WorkingNames(local);
  const renames: Omit<RenameStep, 'after'>[] = [];
  const conflicts: Conflict[] = [];
  const candidates = Array.from(wanted.datasets.values())
    .filter(({ id, name }) => (local.get(id)?.name ?? name) !== name)
    .sort((a, b) => compareNames(a.name, b.name));
  for (const { id, name } of candidates) {
    const current = working.names.get(id) as RelativeName;
    if (current === name) continue;
    const parent = parentOf(name);
    const parentIsHere = parent === undefined || working.holder(parent) !== undefined;
    const intoItself = name.startsWith(`${current}/`);
    if (working.holder(name) !== undefined || !parentIsHere || intoItself || current === '') {
      conflicts.push({ dataset: id, name, reason: 'rename-blocked', current });
      continue;
    }
    renames.push({ kind: 'rename', dataset: id, name, from: current });
    working.move(current, name);
  }
  return { renames, conflicts, names: working.names };
}
