import fc from 'fast-check';
import type { DatasetCreated, Event, EventBody, Snapshot } from '../../src/core/events.ts';
import { fold } from '../../src/core/graph/fold.ts';
import { type Dataset, EMPTY_GRAPH, type Graph } from '../../src/core/graph/graph.ts';
import type {
  BookmarkName,
  DatasetId,
  DatasetName,
  NodeId,
  RelativeName,
  SnapshotGuid,
  SnapshotName,
} from '../../src/core/ids.ts';
import { type DiffId, digestOf } from '../../src/core/layers/digest.ts';
import { signerOf } from './identity.ts';

const owner: { node: NodeId; epoch: number } = { node: signerOf(1).node, epoch: 1 };

/** A dataset id with a number in it. */
export function datasetId(number: number): DatasetId {
  return `01900000-0000-7000-8000-${String(number).padStart(12, '0')}` as DatasetId;
}

export function treeAdded(root = 'tank/images'): EventBody {
  return { type: 'tree.added', root: root as DatasetName };
}

export function datasetCreated(number: number, name = `d${number}`, origin: Dataset['origin'] = null): DatasetCreated {
  return {
    type: 'dataset.created',
    dataset: datasetId(number),
    kind: 'filesystem',
    guid: String(9_000_000 + number),
    name: name as RelativeName,
    origin,
    owner,
    properties: { compression: 'lz4' },
  };
}

export function snapshot(number: number): Snapshot {
  return {
    guid: String(1_000_000 + number) as SnapshotGuid,
    name: `s${number}` as SnapshotName,
    createtxg: number,
    creation: 1_750_000_000 + number,
    referenced: 4096 * number,
    written: number % 3 === 0 ? null : 512 * number,
  };
}

export function snapshotCreated(dataset: number, number: number): EventBody {
  return { type: 'snapshot.created', dataset: datasetId(dataset), snapshot: snapshot(number) };
}

/** A tree of one dataset and `count` snapshots: `count + 2` bodies. */
export function smallTree(count: number): EventBody[] {
  return [
    treeAdded(),
    datasetCreated(1),
    ...Array.from({ length: count }, (_, index) => snapshotCreated(1, index + 1)),
  ];
}

/** What a graph holds, as plain values that compare; without the moments of events, which differ wherever they are written. */
export function contentsOf(graph: Graph): unknown {
  return {
    root: graph.root,
    datasets: [...graph.datasets.values()],
    images: Array.from(graph.images.values(), ({ taggedAt: _, ...image }) => image),
  };
}

/** Bodies in a row that fit together: each makes sense in the graph that those before it make. */
export const fittingBodies: fc.Arbitrary<EventBody[]> = fc
  .array(fc.tuple(fc.nat(13), fc.nat(), fc.nat()), { maxLength: 60 })
  .map((choices) => {
    const bodies: EventBody[] = [treeAdded(), datasetCreated(0, '')];
    let graph = fold(EMPTY_GRAPH, bodies.map(asEvent));
    choices.forEach(([kind, which, detail], index) => {
      const body = fittingBody(graph, kind, which, detail, index + 1);
      bodies.push(body);
      graph = fold(graph, [asEvent(body, bodies.length)]);
    });
    return bodies;
  });

/** A body as the event that `fold` sees. */
export function asEvent(body: EventBody, index: number): Event {
  return { v: 1, seq: index + 1, at: index + 1, cause: 'command', ...body };
}

function fittingBody(graph: Graph, kind: number, which: number, detail: number, number: number): EventBody {
  const datasets = [...graph.datasets.values()];
  const dataset = datasets[which % datasets.length] as Dataset;
  const chosen = dataset.snapshots[detail % Math.max(1, dataset.snapshots.length)];
  switch (kind) {
    case 0:
      return datasetCreated(number, `${dataset.name === '' ? '' : `${dataset.name}/`}d${number}`);
    case 1:
      return {
        type: 'dataset.properties-changed',
        dataset: dataset.id,
        changed: { compression: null, note: `n${detail}` },
      };
    case 2:
      return {
        type: 'ownership.claimed',
        dataset: dataset.id,
        owner: detail % 3 === 0 ? { ...owner, isGuess: true } : { node: owner.node, epoch: number },
      };
    case 3:
      if (dataset.name !== '') {
        return { type: 'dataset.renamed', dataset: dataset.id, from: dataset.name, to: `r${number}` as RelativeName };
      }
      break;
    case 4:
      if (dataset.origin?.dataset != null) return { type: 'dataset.promoted', dataset: dataset.id };
      break;
    case 5:
    case 6:
      if (chosen !== undefined)
        return datasetCreated(number, `c${number}`, { dataset: dataset.id, snapshot: chosen.guid });
      break;
    case 7:
      if (chosen !== undefined && graph.clonesOf(chosen.guid).length === 0) {
        return { type: 'snapshot.destroyed', dataset: dataset.id, guid: chosen.guid, name: chosen.name };
      }
      break;
    case 8:
    case 9:
      return bookmarkBody(dataset, chosen, kind === 8, detail, number);
    case 10:
    case 11:
      return imageBody(graph, kind === 10, detail);
  }
  return { type: 'snapshot.created', dataset: dataset.id, snapshot: snapshot(number) };
}

/** One of a few names given to an image, or taken from one that has it. */
function imageBody(graph: Graph, isTagged: boolean, detail: number): EventBody {
  const name = `team/web:v${detail % 5}`;
  if (!isTagged && graph.images.has(name)) return { type: 'image.untagged', name };
  const layers = Array.from({ length: detail % 4 }, (_, index) => digestOf(`${detail} ${index}`) as DiffId);
  return { type: 'image.tagged', name, manifest: digestOf(name), config: `{"note":${detail}}`, layers };
}

/** A bookmark made, of a snapshot where there is one, or destroyed; else a snapshot. */
function bookmarkBody(
  { id, bookmarks }: Dataset,
  of: Snapshot | undefined,
  isMade: boolean,
  detail: number,
  number: number,
): EventBody {
  const there = bookmarks[detail % Math.max(1, bookmarks.length)];
  if (isMade && of !== undefined) {
    const bookmark = { guid: of.guid, name: `b${number}` as BookmarkName, createtxg: of.createtxg };
    return { type: 'bookmark.created', dataset: id, bookmark };
  }
  if (there !== undefined) return { type: 'bookmark.destroyed', dataset: id, guid: there.guid, name: there.name };
  return { type: 'snapshot.created', dataset: id, snapshot: snapshot(number) };
}
