/** What an owner did to its datasets, done here in the same way. */
import { expect, it } from 'vitest';
import { isMovedHere } from '../../src/core/graph/lineage.ts';
import { lineageId, lineageName, parseRelativeName, parseTransferId, uuidFrom } from '../../src/core/ids.ts';
import type { CloneStep, PreserveStep, TakeRootStep } from '../../src/core/plan/steps.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { TransferJournal } from '../../src/transfer/journal.ts';
import { MetadataReplay } from '../../src/transfer/metadata.ts';
import { outsideOf } from '../../src/transfer/root-exchange.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { datasetId } from '../core/graph-language.ts';
import { signerOf } from '../log/identity.ts';
import { at, codeOf, dataset, IMAGES, ROOT } from '../main/memory-world.ts';

async function replayAt(root: string, zfs: MemoryZfs) {
  const history = await History.open({ log: new MemoryLog(), signer: signerOf(1), now: () => 0 });
  const journal = await TransferJournal.open(history, expect.fail);
  const mintTransferId = () => parseTransferId(uuidFrom(1, new Uint8Array(16)));
  return { journal, replay: new MetadataReplay({ zfs, journal, tree: IMAGES, root: dataset(root), mintTransferId }) };
}

it("a root changes places with nothing while somebody else's dataset stands where it has to go for that", async () => {
  const zfs = new MemoryZfs();
  zfs.addPool('tank');
  const outside = outsideOf(dataset('tank/copy'));
  for (const name of ['tank/copy', 'tank/copy/web', outside]) await zfs.create(dataset(name));
  const { journal, replay } = await replayAt('tank/copy', zfs);
  const taking: TakeRootStep = {
    kind: 'take-root',
    dataset: datasetId('web'),
    name: ROOT,
    from: parseRelativeName('web'),
    former: { dataset: datasetId('.'), name: parseRelativeName('former') },
    after: [],
  };
  const diverged = { lastCommon: null, cutOff: [], localOnly: [] };
  const keeping: PreserveStep = { kind: 'preserve', dataset: datasetId('.'), name: ROOT, ...diverged, after: [] };
  for (const step of [taking, keeping]) expect(await codeOf(replay.execute(step))).toBe('PLAN_CONFLICT');
  expect(journal.open()).toEqual([]);
  const there = (await zfs.list(dataset('tank'))).map(({ name }) => name);
  expect(there).toEqual(['tank', 'tank/copy', 'tank/copy/web', outside]);
});

it('a lineage holder that is a clone itself comes without a stream, and is the first of its kind here', async () => {
  const zfs = new MemoryZfs();
  zfs.addPool('tank');
  await zfs.create(dataset('tank/web'));
  await zfs.snapshot([at('tank/web', '1')]);
  const [web] = await zfs.listOnly([dataset('tank/web')]);
  const snapshot = web?.snapshots[0] ?? expect.fail('it was taken');
  const { replay } = await replayAt('tank', zfs);
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
