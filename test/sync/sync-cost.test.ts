import { expect, test } from 'vitest';
import { fold } from '../../src/core/graph/fold.ts';
import type { DatasetId } from '../../src/core/ids.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { generateGraph, nextSnapshot } from '../bench/generated-graph.ts';
import { measureSync } from '../bench/sync-bench.ts';

/** As the one with a million snapshots, only smaller: what a sync costs does not depend on it. */
const SHAPE = { datasets: 200, snapshotsEach: 50, clonesEach: 3, groupSize: 40 };
const CHANGES_BYTES_MAX = 4_096;
const IDLE_BYTES_MAX = 512;

test('ten changes cost less than 4 KiB on the wire, TLS included, and a sync without any one small frame each way', async () => {
  const { changes, idle } = await measureSync(SHAPE);
  expect(changes.count).toBe(10);
  expect(changes.wireBytesThere + changes.wireBytesBack).toBeLessThan(CHANGES_BYTES_MAX);
  expect(Math.max(idle.wireBytesThere, idle.wireBytesBack)).toBeLessThan(IDLE_BYTES_MAX);
});

test('a generated graph is the same each time, holds together, and has unique guids and names', () => {
  const owner = createIdentity().node;
  const graph = generateGraph(SHAPE, owner);
  expect(generateGraph(SHAPE, owner)).toEqual(graph);
  expect([graph.datasets.size, graph.snapshotCount]).toEqual([200, 10_000]);
  const all = [...graph.datasets.values()];
  expect(new Set(all.map(({ name }) => name)).size).toBe(200);
  expect(new Set(all.flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid))).size).toBe(10_000);
  const clones = all.filter(({ origin }) => origin !== null);
  expect(clones.length).toBeGreaterThan(100);
  for (const { origin } of clones) {
    const parent = graph.get(origin?.dataset as DatasetId);
    expect(parent?.snapshots.some(({ guid }) => guid === origin?.snapshot)).toBe(true);
  }
  const dataset = all[7]?.id as DatasetId;
  const snapshot = nextSnapshot(SHAPE, 7, 0);
  const event = { v: 1, seq: 1, at: 1, cause: 'observed', type: 'snapshot.created', dataset, snapshot } as const;
  expect(fold(graph, [event]).get(dataset)?.snapshots.at(-1)).toEqual(snapshot);
});
