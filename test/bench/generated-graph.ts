/** Big graphs for measurements: the same shape always gives the same graph. */
import type { Origin, Snapshot } from '../../src/core/events.ts';
import { type Dataset, Graph } from '../../src/core/graph/graph.ts';
import {
  type DatasetId,
  type DatasetName,
  type NodeId,
  type RelativeName,
  type SnapshotGuid,
  type SnapshotName,
  uuidFrom,
} from '../../src/core/ids.ts';

export interface GraphShape {
  /** Datasets in all, the root and the groups included. */
  readonly datasets: number;
  readonly snapshotsEach: number;
  /** Clones of each image, from one of its snapshots. */
  readonly clonesEach: number;
  /** Images and clones below one group. */
  readonly groupSize: number;
}

/** A million snapshots: 2,000 datasets with an hourly snapshot over three weeks each. */
export const MILLION_SNAPSHOTS: GraphShape = { datasets: 2_000, snapshotsEach: 500, clonesEach: 3, groupSize: 40 };

/** 2026-01-01T00:00:00Z in seconds. */
const FIRST_CREATION = 1_767_225_600;
const HOUR_SECONDS = 3_600;
const MASK_64 = 2n ** 64n - 1n;

/** SplitMix64 (Steele, Lea, Flood 2014): well spread 64-bit numbers, as ZFS guids are. */
function spread(index: number): bigint {
  let value = (BigInt(index + 1) * 0x9e3779b97f4a7c15n) & MASK_64;
  value = ((value ^ (value >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK_64;
  value = ((value ^ (value >> 27n)) * 0x94d049bb133111ebn) & MASK_64;
  return value ^ (value >> 31n);
}

function datasetIdAt(index: number): DatasetId {
  const random = new Uint8Array(16);
  new DataView(random.buffer).setUint32(12, index);
  return uuidFrom(FIRST_CREATION * 1_000 + index, random) as DatasetId;
}

function snapshotAt(dataset: number, number: number, shape: GraphShape): Snapshot {
  const index = dataset * shape.snapshotsEach + number;
  const referenced = 1_000_000 + Number(spread(index) % 1_000_000_000n);
  return {
    guid: String(spread(2 * index)) as SnapshotGuid,
    name: `hourly-${String(number).padStart(5, '0')}` as SnapshotName,
    createtxg: 1_000 + number * shape.datasets + dataset,
    creation: FIRST_CREATION + number * HOUR_SECONDS,
    referenced,
    written: referenced % 4_000_000,
  };
}

/** The snapshot that a dataset of the shape gets next, after those of {@link generateGraph} and `extra` more. */
export function nextSnapshot(shape: GraphShape, dataset: number, extra: number): Snapshot {
  return {
    ...snapshotAt(dataset, shape.snapshotsEach + extra, shape),
    guid: String(spread(2 * (dataset * 1_000 + extra) + 1)) as SnapshotGuid,
  };
}

interface Place {
  readonly name: RelativeName;
  readonly origin: Origin | null;
}

function placeAt(index: number, shape: GraphShape): Place {
  if (index === 0) return { name: '' as RelativeName, origin: null };
  const group = Math.floor((index - 1) / shape.groupSize);
  const member = (index - 1) % shape.groupSize;
  const groupName = `team-${group}`;
  if (member === 0) return { name: groupName as RelativeName, origin: null };
  const family = Math.floor((member - 1) / (shape.clonesEach + 1));
  const clone = (member - 1) % (shape.clonesEach + 1);
  const imageName = `${groupName}/image-${family}`;
  if (clone === 0) return { name: imageName as RelativeName, origin: null };
  const image = index - clone;
  const { guid } = snapshotAt(image, Math.floor(shape.snapshotsEach / 2), shape);
  return {
    name: `${imageName}-clone-${clone}` as RelativeName,
    origin: { dataset: datasetIdAt(image), snapshot: guid },
  };
}

function datasetAt(index: number, shape: GraphShape, owner: NodeId): Dataset {
  return {
    id: datasetIdAt(index),
    kind: 'filesystem',
    guid: String(spread(index)),
    ...placeAt(index, shape),
    owner: { node: owner, epoch: 1 },
    properties: index % 10 === 0 ? { compression: 'lz4', 'team:project': `project-${index}` } : {},
    snapshots: Array.from({ length: shape.snapshotsEach }, (_, number) => snapshotAt(index, number, shape)),
    bookmarks: [],
    holds: [],
    received: null,
  };
}

/** A tree of teams, each with images and clones of them, all owned by `owner`. */
export function generateGraph(shape: GraphShape, owner: NodeId): Graph {
  const datasets = new Map<DatasetId, Dataset>();
  for (let index = 0; index < shape.datasets; index += 1) {
    const dataset = datasetAt(index, shape, owner);
    datasets.set(dataset.id, dataset);
  }
  return new Graph('tank/images' as DatasetName, datasets);
}
