/**
 * How one graph differs from another, by identity: what `pando verify` reports. Datasets are compared by id, snapshots by guid
 * (zfs-rules, "Identity and order"); a name that differs is a difference, never another thing.
 */
import type { Snapshot } from '../events.ts';
import type { DatasetId, RelativeName, SnapshotGuid, SnapshotName } from '../ids.ts';
import { compareNames, type Dataset, type Graph } from './graph.ts';

export type Difference =
  | { readonly kind: 'dataset-missing'; readonly dataset: DatasetId; readonly name: RelativeName }
  | { readonly kind: 'dataset-extra'; readonly dataset: DatasetId; readonly name: RelativeName }
  | {
      readonly kind: 'dataset-name';
      readonly dataset: DatasetId;
      readonly name: RelativeName;
      readonly actual: RelativeName;
    }
  | {
      readonly kind: 'origin';
      readonly dataset: DatasetId;
      readonly name: RelativeName;
      readonly expected: SnapshotGuid | null;
      readonly actual: SnapshotGuid | null;
    }
  | SnapshotDifference;

export interface SnapshotDifference {
  readonly kind: 'snapshot-missing' | 'snapshot-extra' | 'snapshot-name' | 'snapshot-order';
  readonly dataset: DatasetId;
  readonly name: RelativeName;
  readonly guid: SnapshotGuid;
  readonly snapshot: SnapshotName;
}

function snapshotDifference(
  kind: SnapshotDifference['kind'],
  dataset: Dataset,
  { guid, name }: Snapshot,
): SnapshotDifference {
  return { kind, dataset: dataset.id, name: dataset.name, guid, snapshot: name };
}

function sameSnapshots(expected: Dataset, actual: Dataset): boolean {
  return (
    expected.snapshots.length === actual.snapshots.length &&
    expected.snapshots.every(({ guid, name }, index) => {
      const other = actual.snapshots[index];
      return other?.guid === guid && other.name === name;
    })
  );
}

function snapshotDifferences(expected: Dataset, actual: Dataset): SnapshotDifference[] {
  if (sameSnapshots(expected, actual)) return [];
  const there = new Map(actual.snapshots.map((snapshot, index) => [snapshot.guid, { snapshot, index }]));
  const wanted = new Set(expected.snapshots.map(({ guid }) => guid));
  const found: SnapshotDifference[] = [];
  let last = -1;
  for (const snapshot of expected.snapshots) {
    const other = there.get(snapshot.guid);
    if (other === undefined) {
      found.push(snapshotDifference('snapshot-missing', expected, snapshot));
      continue;
    }
    if (other.snapshot.name !== snapshot.name) found.push(snapshotDifference('snapshot-name', expected, snapshot));
    if (other.index < last) found.push(snapshotDifference('snapshot-order', expected, snapshot));
    last = Math.max(last, other.index);
  }
  for (const snapshot of actual.snapshots) {
    if (!wanted.has(snapshot.guid)) found.push(snapshotDifference('snapshot-extra', expected, snapshot));
  }
  return found;
}

/** Origins agree when they are the same snapshot. Where the expected one lies outside its tree, a replica has none of it. */
function originDifference(expected: Dataset, actual: Dataset): Difference[] {
  const wanted = expected.origin?.dataset == null ? null : expected.origin.snapshot;
  const there = actual.origin?.snapshot ?? null;
  if (wanted === there || expected.origin?.snapshot === there) return [];
  return [{ kind: 'origin', dataset: expected.id, name: expected.name, expected: wanted, actual: there }];
}

function nameDifference(expected: Dataset, actual: Dataset): Difference[] {
  if (expected.name === actual.name) return [];
  return [{ kind: 'dataset-name', dataset: expected.id, name: expected.name, actual: actual.name }];
}

/** Everything in which `actual` differs from `expected`, in the order of names. Empty when they are the same. */
export function difference(expected: Graph, actual: Graph): Difference[] {
  const found: Difference[] = [];
  for (const dataset of expected.datasets.values()) {
    const other = actual.get(dataset.id);
    if (other === undefined) {
      found.push({ kind: 'dataset-missing', dataset: dataset.id, name: dataset.name });
      continue;
    }
    found.push(
      ...nameDifference(dataset, other),
      ...originDifference(dataset, other),
      ...snapshotDifferences(dataset, other),
    );
  }
  for (const dataset of actual.datasets.values()) {
    if (expected.get(dataset.id) === undefined) {
      found.push({ kind: 'dataset-extra', dataset: dataset.id, name: dataset.name });
    }
  }
  return found.sort((a, b) => compareNames(a.name, b.name));
}
