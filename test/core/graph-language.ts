/**
 * Graphs in a line per dataset, for table tests:
 *
 *     graph('base @a @b', 'web < base@b @c', 'moved#web @d')
 *
 * A name (`.` is the root), `#label` where the identity is not that of the name, `< dataset@snapshot` for a clone's origin, then
 * the snapshots, oldest first. Two snapshots are the same when label and name are; `@new=old` is snapshot `old` renamed to `new`.
 */
import { createHash } from 'node:crypto';
import type { Ownership, Snapshot } from '../../src/core/events.ts';
import { type Dataset, Graph } from '../../src/core/graph/graph.ts';
import {
  type DatasetId,
  type DatasetName,
  nodeIdOfFingerprint,
  parseDatasetId,
  type RelativeName,
  type SnapshotGuid,
  type SnapshotName,
  uuidFrom,
} from '../../src/core/ids.ts';
import type { Retention } from '../../src/core/plan/steps.ts';

export const OWNER: Ownership = { node: nodeIdOfFingerprint(new Uint8Array(32).fill(7)), epoch: 1 };
/** The node that keeps the replica. */
export const SELF = nodeIdOfFingerprint(new Uint8Array(32).fill(9));
/** Keeps everything. */
export const FOREVER: Retention = {
  ...({ keep: 'all', graceMs: null, now: 0, copies: [] } as const),
  ...{ noticedAt: () => undefined, isLent: () => false, isNeeded: () => false },
};
/** What a plan is told of the node that keeps the replica. */
export const REPLICA = {
  follows: ({ owner }: Dataset) => owner.node !== SELF,
  modified: new Set<DatasetId>(),
  retention: FOREVER,
  contested: [],
};
export const ROOT = 'tank/images' as DatasetName;

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

export function datasetId(label: string): DatasetId {
  return parseDatasetId(uuidFrom(0, digest(label).subarray(0, 16)));
}

export function datasetGuid(label: string): string {
  return digest(`dataset ${label}`).readBigUInt64BE().toString();
}

function snapshotGuid(label: string, name: string): SnapshotGuid {
  return digest(`${label}@${name}`).readBigUInt64BE().toString() as SnapshotGuid;
}

let txg = 0;

export function snapshot(label: string, text: string, written: number | null = 10): Snapshot {
  const [name = '', former = name] = text.replace('@', '').split('=');
  txg += 1;
  return {
    guid: snapshotGuid(label, former),
    name: name as SnapshotName,
    createtxg: txg,
    creation: txg,
    referenced: 1000,
    written,
  };
}

function parseLine(line: string): {
  name: RelativeName;
  label: string;
  origin: string | undefined;
  snapshots: string[];
} {
  const words = line.trim().split(/\s+/);
  const [place = '.', label = place] = (words.shift() ?? '.').split('#');
  const origin = words[0] === '<' ? words.splice(0, 2)[1] : undefined;
  return { name: (place === '.' ? '' : place) as RelativeName, label, origin, snapshots: words };
}

export function graph(...lines: readonly string[]): Graph {
  const parsed = lines.map(parseLine);
  const labels = new Map(parsed.map(({ name, label }) => [name === '' ? '.' : name, label]));
  const datasets = parsed.map(({ name, label, origin, snapshots }): Dataset => {
    const [from = '', at = ''] = origin?.split('@') ?? [];
    const originLabel = labels.get(from as RelativeName);
    const dataset = originLabel === undefined ? null : datasetId(originLabel);
    return {
      id: datasetId(label),
      kind: 'filesystem',
      guid: datasetGuid(label),
      name,
      origin: origin === undefined ? null : { dataset, snapshot: snapshotGuid(originLabel ?? from, at) },
      owner: OWNER,
      properties: {},
      snapshots: snapshots.map((text) => snapshot(label, text)),
      bookmarks: [],
      holds: [],
      received: null,
    };
  });
  return new Graph(ROOT, new Map(datasets.map((dataset) => [dataset.id, dataset])));
}
