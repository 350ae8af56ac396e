/** What a peer asks for by dataset and guid is sent from where it really is. */
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { type Dataset, Graph } from '../../src/core/graph/graph.ts';
import { lineageId, lineageName, type RelativeName, type SnapshotName } from '../../src/core/ids.ts';
import { findOrigins, offerOf } from '../../src/transfer/offers.ts';
import type { WantedStream } from '../../src/transfer/protocol.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { graph } from '../core/graph-language.ts';
import { datasetId } from '../log/bodies.ts';
import { at, dataset } from '../main/memory-world.ts';
import { asNew, full } from '../suites/zfs-world.ts';

const ROOT = dataset('tank/images');

/** A graph in which a lineage holder has a copy of the snapshot that `web` hangs off. */
function withHolder(lines: readonly string[]): { readonly graph: Graph; readonly stream: WantedStream } {
  const known = graph(...lines);
  const web = known.sorted().find(({ name }) => name === 'web') ?? expect.fail('it is in the graph');
  const guid = web.origin?.snapshot ?? expect.fail('it is a clone');
  const [copied = expect.fail('it has a snapshot')] = web.snapshots;
  const holder: Dataset = {
    ...web,
    id: lineageId(guid),
    name: lineageName(guid),
    origin: null,
    snapshots: [{ ...copied, guid, name: 'origin' as SnapshotName }],
  };
  return {
    graph: new Graph(known.root, new Map(known.datasets).set(holder.id, holder)),
    stream: {
      snapshot: { dataset: web.id, guid: copied.guid },
      base: { dataset: holder.id, guid, intermediates: false },
    } as WantedStream,
  };
}

it('a clone is sent from the origin that it hangs off, though a lineage holder has the same snapshot', () => {
  const { graph: known, stream } = withHolder(['. @r', 'base @1', 'web < base@1 @w']);
  const { request, ends } = offerOf({ graph: known, root: ROOT, origins: new Map() }, stream);
  expect(request.base).toMatchObject(at('tank/images/base', '1'));
  expect(ends.map(({ snapshot }) => snapshot)).toEqual(['w', '1']);
});

/** A tree with a clone for each of those places outside of it, all of which have the same snapshot; in the tree a lineage holder has it too. */
async function hangingOutside(places: readonly string[]) {
  const zfs = new MemoryZfs();
  zfs.addPool('tank');
  await zfs.create(dataset('tank/images'));
  const [first = expect.fail('there is one'), ...copies] = places;
  await zfs.create(dataset(first));
  await zfs.snapshot([at(first, 'gold')]);
  for (const copy of copies) {
    const stream = new PassThrough();
    const { signal } = new AbortController();
    await Promise.all([
      zfs.send(full(at(first, 'gold')), { kind: 'stream', stream }, signal),
      zfs.receive(asNew(dataset(copy)), { kind: 'stream', stream }, signal),
    ]);
  }
  const { graph: known } = withHolder(['. @r', 'web < gone@1 @w']);
  const web = known.sorted().find(({ name }) => name === 'web') ?? expect.fail('it is in the graph');
  const [gold] = await zfs.listSnapshots([at(first, 'gold')]);
  const guid = gold?.guid ?? expect.fail('it was taken');
  const datasets = new Map(known.datasets);
  const streams: WantedStream[] = [];
  for (const [index, place] of places.entries()) {
    const clone = {
      ...web,
      id: datasetId(index),
      name: `clone-${index}` as RelativeName,
      origin: { dataset: null, snapshot: guid },
    };
    await zfs.clone(at(place, 'gold'), dataset(`tank/images/${clone.name}`));
    datasets.set(clone.id, clone);
    const snapshot = { dataset: clone.id, guid: web.snapshots[0]?.guid ?? expect.fail('it has one') };
    streams.push({ snapshot, base: { dataset: lineageId(guid), guid, intermediates: false } } as WantedStream);
  }
  const holder = { ...web, id: lineageId(guid), name: lineageName(guid), origin: null };
  const shared = { graph: new Graph(known.root, datasets.set(holder.id, holder)), root: ROOT };
  const origins = await findOrigins(shared, streams, zfs);
  return streams.map((stream) => offerOf({ ...shared, origins }, stream).request.base);
}

it.each([
  ['lies outside the tree', ['tank/elsewhere']],
  ['lies outside the tree, where another clone hangs off a copy of it', ['tank/elsewhere', 'tank/copy']],
])('also where that origin %s', async (_, places) => {
  expect(await hangingOutside(places)).toMatchObject(places.map((place) => at(place, 'gold')));
});
