/** What a peer asks for by dataset and guid is sent from where it really is. */
import { expect, it } from 'vitest';
import { type Dataset, Graph } from '../../src/core/graph/graph.ts';
import { lineageId, lineageName, type SnapshotName } from '../../src/core/ids.ts';
import { findOrigins, offerOf } from '../../src/transfer/offers.ts';
import type { WantedStream } from '../../src/transfer/protocol.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { graph } from '../core/graph-language.ts';
import { at, dataset } from '../main/memory-world.ts';

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

it('also where that origin lies outside the tree', async () => {
  const zfs = new MemoryZfs();
  zfs.addPool('tank');
  for (const name of ['tank/elsewhere', 'tank/images']) await zfs.create(dataset(name));
  await zfs.snapshot([at('tank/elsewhere', 'gold')]);
  await zfs.clone(at('tank/elsewhere', 'gold'), dataset('tank/images/web'));
  const [gold] = await zfs.listSnapshots([at('tank/elsewhere', 'gold')]);
  const guid = gold?.guid ?? expect.fail('it was taken');
  const { graph: known } = withHolder(['. @r', 'web < gone@1 @w']);
  const web = known.sorted().find(({ name }) => name === 'web') ?? expect.fail('it is in the graph');
  const datasets = new Map(known.datasets).set(web.id, { ...web, origin: { dataset: null, snapshot: guid } });
  const stream = {
    snapshot: { dataset: web.id, guid: web.snapshots[0]?.guid },
    base: { dataset: lineageId(guid), guid, intermediates: false },
  } as WantedStream;
  const holder = { ...web, id: lineageId(guid), name: lineageName(guid), origin: null };
  const shared = { graph: new Graph(known.root, datasets.set(holder.id, holder)), root: ROOT };
  const origins = await findOrigins(shared, [stream], zfs);
  expect(offerOf({ ...shared, origins }, stream).request.base).toMatchObject(at('tank/elsewhere', 'gold'));
});
