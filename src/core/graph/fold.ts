/**
 * `fold(events) → graph`: the projection of a stream (design §5). Pure: the graph that goes in stays as it was.
 *
 * An event that does not fit the graph (a snapshot for a dataset nobody created, a dataset twice) is refused with
 * `EVENT_INVALID`: a stream that contradicts itself must not decide what happens to data (invariant 7).
 */
import { unixMsOf } from '../clock.ts';
import { isPandoError, PandoError } from '../errors.ts';
import type { Cause, DatasetCreated, DatasetPropertiesChanged, Event, Snapshot } from '../events.ts';
import { GraphDraft, type MutableDataset, NO_BOOKMARKS, NO_HOLDS } from './draft.ts';
import type { Graph } from './graph.ts';

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
    bookmarks: NO_BOOKMARKS,
    holds: NO_HOLDS,
    received: null,
  });
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

function createSnapshot(dataset: MutableDataset, snapshot: Snapshot, cause: Cause): void {
  insertSnapshot(dataset.snapshots, compactSnapshot(snapshot));
  if (cause === 'received') dataset.received = snapshot.guid;
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
      draft.rename(event.dataset, event.to);
      return;
    case 'dataset.promoted':
      draft.promote(event.dataset);
      return;
    case 'dataset.rolled-back':
      draft.rollBack(event.dataset, event.to);
      return;
    case 'dataset.destroyed':
      draft.change(event.dataset);
      draft.remove(event.dataset);
      return;
    case 'dataset.properties-changed':
      changeProperties(draft, event);
      return;
    case 'snapshot.created':
      createSnapshot(draft.change(event.dataset), event.snapshot, event.cause);
      return;
    case 'snapshot.renamed':
      draft.renameSnapshot(event.dataset, event.guid, event.to);
      return;
    case 'snapshot.destroyed':
      draft.destroySnapshot(event.dataset, event.guid);
      return;
    case 'bookmark.created':
      draft.addBookmark(event.dataset, event.bookmark);
      return;
    case 'bookmark.destroyed':
      draft.destroyBookmark(event.dataset, event.name);
      return;
    case 'hold.placed':
      draft.placeHold(event.dataset, event);
      return;
    case 'hold.released':
      draft.releaseHold(event.dataset, event);
      return;
    case 'ownership.claimed':
      draft.change(event.dataset).owner = event.owner;
      return;
    case 'image.tagged': {
      const { name, manifest, config, layers } = event;
      draft.tag({ name, manifest, config, layers, taggedAt: unixMsOf(event.at) });
      return;
    }
    case 'image.untagged':
      draft.untag(event.name);
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
