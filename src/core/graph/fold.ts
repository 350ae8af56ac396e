/**
 * `fold(events) → graph`: the projection of a stream (design §5). Pure: the graph that goes in stays as it was.
 *
 * An event that does not fit the graph (a snapshot for a dataset nobody created, a dataset twice) is refused with
 * `EVENT_INVALID`: a stream that contradicts itself must not decide what happens to data (invariant 7).
 */
import { isPandoError, PandoError } from '../errors.ts';
import type { DatasetCreated, DatasetPromoted, DatasetPropertiesChanged, Event, Snapshot } from '../events.ts';
import type { DatasetId, DatasetName, RelativeName, SnapshotGuid } from '../ids.ts';
import { type Dataset, Graph } from './graph.ts';

type MutableDataset = { -readonly [Key in keyof Dataset]: Dataset[Key] } & { snapshots: Snapshot[] };

/**
 * A graph under construction. Copies the table of datasets once and each dataset on its first change, so that folding
 * a batch costs the batch and one table, not one table per event.
 */
class GraphDraft {
  root: DatasetName | null;
  readonly #datasets: Map<DatasetId, Dataset>;
  /** Datasets that were added or copied, and may be changed in place. */
  readonly #owned = new Map<DatasetId, MutableDataset>();

  constructor(base: Graph) {
    this.root = base.root;
    this.#datasets = new Map(base.datasets);
  }

  has(id: DatasetId): boolean {
    return this.#datasets.has(id);
  }

  values(): Iterable<Dataset> {
    return this.#datasets.values();
  }

  add(dataset: MutableDataset): void {
    this.#datasets.set(dataset.id, dataset);
    this.#owned.set(dataset.id, dataset);
  }

  remove(id: DatasetId): void {
    this.#datasets.delete(id);
    this.#owned.delete(id);
  }

  clear(): void {
    this.#datasets.clear();
    this.#owned.clear();
  }

  /** The dataset, ready to be changed. Throws `EVENT_INVALID` when there is none. */
  change(id: DatasetId): MutableDataset {
    const owned = this.#owned.get(id);
    if (owned !== undefined) return owned;
    const dataset = this.#datasets.get(id);
    if (dataset === undefined) throw new PandoError('EVENT_INVALID', `no dataset ${id} was created before`);
    const copy: MutableDataset = { ...dataset, snapshots: dataset.snapshots.slice() };
    this.add(copy);
    return copy;
  }

  finish(): Graph {
    return new Graph(this.root, this.#datasets);
  }
}

function create(draft: GraphDraft, event: DatasetCreated): void {
  if (draft.has(event.dataset)) throw new PandoError('EVENT_INVALID', `dataset ${event.dataset} exists already`);
  draft.add({
    id: event.dataset,
    kind: event.kind,
    guid: event.guid,
    name: event.name,
    origin: event.origin,
    owner: event.owner,
    properties: event.properties,
    snapshots: [],
  });
}

function rename(draft: GraphDraft, id: DatasetId, to: RelativeName): void {
  const renamed = draft.change(id);
  const prefix = `${renamed.name}/`;
  for (const dataset of draft.values()) {
    if (!dataset.name.startsWith(prefix)) continue;
    draft.change(dataset.id).name = `${to}/${dataset.name.slice(prefix.length)}` as RelativeName;
  }
  renamed.name = to;
}

/**
 * What zfs-promote.8 says: the origin snapshot and all before it move to the clone, clones of what moved follow, and the
 * origin edge turns round. The clone inherits the origin of its former parent.
 */
function promote(draft: GraphDraft, event: DatasetPromoted): void {
  const clone = draft.change(event.dataset);
  const origin = clone.origin;
  if (origin === null || origin.dataset === null) {
    throw new PandoError('EVENT_INVALID', `dataset ${event.dataset} has no origin in this tree to be promoted over`);
  }
  const parent = draft.change(origin.dataset);
  const cut = parent.snapshots.findIndex(({ guid }) => guid === origin.snapshot) + 1;
  if (cut === 0) throw new PandoError('EVENT_INVALID', `origin snapshot ${origin.snapshot} is not in ${parent.id}`);
  const moved = parent.snapshots.splice(0, cut);
  clone.snapshots.unshift(...moved);
  clone.origin = parent.origin;
  parent.origin = { dataset: clone.id, snapshot: origin.snapshot };
  const movedGuids = new Set(moved.map(({ guid }) => guid));
  for (const dataset of draft.values()) {
    if (dataset.origin?.dataset !== parent.id || !movedGuids.has(dataset.origin.snapshot)) continue;
    draft.change(dataset.id).origin = { dataset: clone.id, snapshot: dataset.origin.snapshot };
  }
}

function changeProperties(draft: GraphDraft, event: DatasetPropertiesChanged): void {
  const dataset = draft.change(event.dataset);
  const properties = { ...dataset.properties };
  for (const [name, value] of Object.entries(event.changed)) {
    if (value === null) delete properties[name];
    else properties[name] = value;
  }
  dataset.properties = properties;
}

/** Keeps the order by createtxg; nearly always the new snapshot is the newest. */
function insertSnapshot(snapshots: Snapshot[], snapshot: Snapshot): void {
  let index = snapshots.length;
  while (index > 0 && (snapshots[index - 1] as Snapshot).createtxg > snapshot.createtxg) index -= 1;
  if (index === snapshots.length) snapshots.push(snapshot);
  else snapshots.splice(index, 0, snapshot);
}

/** A snapshot as a graph keeps a million of them: a literal takes half the memory of an object that was filled key by key. */
function compactSnapshot({ guid, name, createtxg, creation, referenced, written }: Snapshot): Snapshot {
  return { guid, name, createtxg, creation, referenced, written };
}

function snapshotIndex(dataset: Dataset, guid: SnapshotGuid): number {
  const index = dataset.snapshots.findLastIndex((snapshot) => snapshot.guid === guid);
  if (index < 0) throw new PandoError('EVENT_INVALID', `dataset ${dataset.id} has no snapshot ${guid}`);
  return index;
}

function apply(draft: GraphDraft, event: Event): void {
  switch (event.type) {
    case 'tree.added':
      draft.root = event.root;
      return;
    case 'tree.removed':
      draft.root = null;
      draft.clear();
      return;
    case 'dataset.created':
      create(draft, event);
      return;
    case 'dataset.renamed':
      rename(draft, event.dataset, event.to);
      return;
    case 'dataset.promoted':
      promote(draft, event);
      return;
    case 'dataset.destroyed':
      draft.change(event.dataset);
      draft.remove(event.dataset);
      return;
    case 'dataset.properties-changed':
      changeProperties(draft, event);
      return;
    case 'snapshot.created':
      insertSnapshot(draft.change(event.dataset).snapshots, compactSnapshot(event.snapshot));
      return;
    case 'snapshot.renamed': {
      const dataset = draft.change(event.dataset);
      const index = snapshotIndex(dataset, event.guid);
      dataset.snapshots[index] = { ...(dataset.snapshots[index] as Snapshot), name: event.to };
      return;
    }
    case 'snapshot.destroyed': {
      const dataset = draft.change(event.dataset);
      dataset.snapshots.splice(snapshotIndex(dataset, event.guid), 1);
      return;
    }
    case 'ownership.claimed':
      draft.change(event.dataset).owner = event.owner;
      return;
    default:
      // Facts about the node (admin stream) and types of later versions say nothing about the graph.
      return;
  }
}

/** A fold in progress: takes batches as they are read, so that replaying a long log copies the table of datasets once. */
export class Fold {
  readonly #draft: GraphDraft;

  constructor(base: Graph) {
    this.#draft = new GraphDraft(base);
  }

  /** Applies events that follow on those before. Throws `EVENT_INVALID` with the number of the one that does not fit. */
  add(events: Iterable<Event>): this {
    for (const event of events) {
      try {
        apply(this.#draft, event);
      } catch (error) {
        // An event of a type that this version knows and the one that took it in did not was never validated
        const malformed = () => new PandoError('EVENT_INVALID', 'it is not well formed', {}, { cause: error });
        throw contradiction(event, isPandoError(error) ? error : malformed());
      }
    }
    return this;
  }

  /** The graph; the fold must not be used any more. */
  finish(): Graph {
    return this.#draft.finish();
  }
}

function contradiction(event: Event, cause: PandoError): PandoError {
  return new PandoError(
    'EVENT_INVALID',
    `Event ${event.seq} (${event.type}) contradicts those before it: ${cause.message}.`,
    { seq: event.seq, type: event.type },
    { cause },
  );
}

/**
 * The graph after `events`, which follow on what `base` stands for.
 * Throws `EVENT_INVALID` with the sequence number of the event that does not fit.
 */
export function fold(base: Graph, events: Iterable<Event>): Graph {
  return new Fold(base).add(events).finish();
}
