/**
 * One name for each dataset of a tree that several nodes write to (design §7, belief 1 of the planner). Two that were given the same name, each by its owner, both
 * stay: what this node owns keeps its name here, otherwise the one with the smaller id has it, which is the same on every node; the other is shown with
 * a part of its id behind the name.
 */
import { type Dataset, Graph } from '../graph/graph.ts';
import { type DatasetId, parentOf, type RelativeName, shortDatasetId } from '../ids.ts';

/** What one peer says of a tree, and which of it is followed here. */
export interface View {
  readonly graph: Graph;
  readonly follows: (dataset: Dataset) => boolean;
}

/** A dataset that has another name here than its owner gave it, since another has that. */
export interface Contested {
  readonly dataset: DatasetId;
  /** The name that it would have. */
  readonly name: RelativeName;
  readonly shown: RelativeName;
}

export interface SettledNames {
  /** The views in their order, each dataset that is followed under the name that it is to have here. */
  readonly graphs: readonly Graph[];
  readonly contested: readonly Contested[];
}

/** Settles the names of all that is followed here. `isOwn` tells what this node owns. */
export function settleNames(views: readonly View[], local: Graph, isOwn: (dataset: Dataset) => boolean): SettledNames {
  const own = Array.from(local.datasets.values()).filter((dataset) => dataset.name !== '' && isOwn(dataset));
  if (views.length === 1 && own.length === 0) return { graphs: views.map(({ graph }) => graph), contested: [] };
  return new Settlement(views, local, own).run();
}

/** A dataset of a view, and the name that it would have where its parent is. */
interface Claim {
  readonly names: Map<RelativeName, RelativeName>;
  readonly dataset: Dataset;
  readonly name: RelativeName;
}

class Settlement {
  readonly #views: readonly View[];
  readonly #local: Graph;
  readonly #own: readonly Dataset[];
  #holders = new Map<RelativeName, DatasetId>();
  #contested = new Map<DatasetId, Contested>();
  /** The names that what is followed is to have here. */
  readonly #granted = new Map<DatasetId, RelativeName>();
  /** Those of what one view or another does not bring. */
  #staying = new Map<DatasetId, RelativeName>();
  /** Whether one of the latter was used before it was granted another. */
  #isStale = false;

  constructor(views: readonly View[], local: Graph, own: readonly Dataset[]) {
    this.#views = views;
    this.#local = local;
    this.#own = own;
  }

  run(): SettledNames {
    let settled = this.#settle();
    // What follows another view can have got its name behind where it was asked for
    if (this.#isStale) settled = this.#settle();
    const graphs = this.#views.map(({ graph }, view) =>
      renamed(graph, settled[view] as Map<RelativeName, RelativeName>),
    );
    return { graphs, contested: [...this.#contested.values()] };
  }

  /** The names that each view's datasets are to have here. */
  #settle(): Map<RelativeName, RelativeName>[] {
    const settled = this.#views.map(() => new Map<RelativeName, RelativeName>());
    this.#holders = new Map(this.#own.map(({ id, name }) => [name, id]));
    this.#contested = new Map();
    this.#staying = new Map();
    for (const level of this.#levels()) {
      const claims = level.flatMap(({ view, dataset }) =>
        this.#claim(this.#views[view] as View, settled[view] as Map<RelativeName, RelativeName>, dataset),
      );
      this.#grant(claims);
    }
    return settled;
  }

  /** The datasets of all views by the depth of their names, so that parents have theirs first. */
  #levels(): { readonly view: number; readonly dataset: Dataset }[][] {
    const levels: { view: number; dataset: Dataset }[][] = [];
    this.#views.forEach(({ graph }, view) => {
      for (const dataset of graph.datasets.values()) {
        const depth = dataset.name === '' ? 0 : dataset.name.split('/').length;
        const level = levels[depth] ?? [];
        levels[depth] = level;
        level.push({ view, dataset });
      }
    });
    return levels.filter((level) => level !== undefined);
  }

  /** What is not followed from there claims no name: it has the one that it gets from who it follows, or stays where it is here. */
  #claim({ follows }: View, names: Map<RelativeName, RelativeName>, dataset: Dataset): Claim[] {
    const here = this.#local.get(dataset.id);
    const above = parentOf(dataset.name);
    const name = above === undefined ? dataset.name : below(names.get(above) ?? above, dataset.name);
    if (above !== undefined && follows(here ?? dataset)) return [{ names, dataset, name }];
    const stays = above === undefined || here === undefined ? name : this.#carried(here);
    const shown = this.#granted.get(dataset.id) ?? stays;
    names.set(dataset.name, shown);
    this.#staying.set(dataset.id, shown);
    return [];
  }

  /** The name that a dataset which stays where it is has once what it lies in has its own. */
  #carried({ name }: Dataset): RelativeName {
    const above = parentOf(name);
    const parent = above === undefined ? undefined : this.#local.named(above);
    const shown = parent === undefined ? undefined : (this.#granted.get(parent.id) ?? this.#staying.get(parent.id));
    return shown === undefined ? name : below(shown, name);
  }

  #grant(claims: Claim[]): void {
    for (const { names, dataset, name } of claims.sort((a, b) => (a.dataset.id < b.dataset.id ? -1 : 1))) {
      const holder = this.#holders.get(name);
      const isFree = holder === undefined || holder === dataset.id;
      const shown = isFree ? name : (`${name}-${shortDatasetId(dataset.id)}` as RelativeName);
      if (!isFree) this.#contested.set(dataset.id, { dataset: dataset.id, name, shown });
      this.#holders.set(shown, dataset.id);
      const used = this.#staying.get(dataset.id);
      if (used !== undefined && used !== shown) this.#isStale = true;
      this.#granted.set(dataset.id, shown);
      names.set(dataset.name, shown);
    }
  }
}

/** The name of a dataset below a parent of that name. Lineage holders lie below the root, two hidden names further down. */
function below(parent: RelativeName, name: RelativeName): RelativeName {
  if (parent === '') return name;
  return `${parent}/${name.slice(name.lastIndexOf('/') + 1)}` as RelativeName;
}

function renamed(graph: Graph, names: ReadonlyMap<RelativeName, RelativeName>): Graph {
  const changed = Array.from(graph.datasets.values()).filter(({ name }) => (names.get(name) ?? name) !== name);
  if (changed.length === 0) return graph;
  const datasets = new Map(graph.datasets);
  for (const dataset of changed) {
    datasets.set(dataset.id, { ...dataset, name: names.get(dataset.name) as RelativeName });
  }
  return new Graph(graph.root, datasets);
}
