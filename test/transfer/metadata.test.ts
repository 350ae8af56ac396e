/** What an owner did to its datasets, done here in the same way. */
import { expect, it } from 'vitest';
import { isMovedHere } from '../../src/core/graph/lineage.ts';
import { lineageId, lineageName, parseRelativeName, parseTransferId, uuidFrom } from '../../src/core/ids.ts';
import type { CloneStep } from '../../src/core/plan/steps.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { TransferJournal } from '../../src/transfer/journal.ts';
import { MetadataReplay } from '../../src/transfer/metadata.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { datasetId } from '../core/graph-language.ts';
import { signerOf } from '../log/identity.ts';
import { at, dataset, IMAGES } from '../main/memory-world.ts';

it('a lineage holder that is a clone itself comes without a stream, and is the first of its kind here', async () => {
  const zfs = new MemoryZfs();
  zfs.addPool('tank');
  await zfs.create(dataset('tank/web'));
  await zfs.snapshot([at('tank/web', '1')]);
  const [web] = await zfs.listOnly([dataset('tank/web')]);
  const snapshot = web?.snapshots[0] ?? expect.fail('it was taken');
  const history = await History.open({ log: new MemoryLog(), signer: signerOf(1), now: () => 0 });
  const replay = new MetadataReplay({
    zfs,
    journal: await TransferJournal.open(history, expect.fail),
    tree: IMAGES,
    root: dataset('tank'),
    mintTransferId: () => parseTransferId(uuidFrom(1, new Uint8Array(16))),
  });
  const holder: CloneStep = {
    kind: 'clone',
    dataset: lineageId(snapshot.guid),
    name: lineageName(snapshot.guid),
    origin: { dataset: datasetId('web'), name: parseRelativeName('web'), snapshot },
    after: [],
  };
  await replay.execute(holder);
  const [there] = await zfs.listOnly([dataset(`tank/${holder.name}`)]);
  expect(there?.origin?.guid).toBe(snapshot.guid);
  expect(there && isMovedHere(there), 'its snapshots are to be kept as they were').toBe(true);
  expect(replay.takeChanged().changed).toEqual([there?.name]);
});
