/** The last look before a destroy, with each kind of ZFS: one that tells what was written, and one that does not. */
import { beforeEach, describe, expect, it } from 'vitest';
import { type DatasetId, ID_PROPERTY, type RelativeName } from '../../src/core/ids.ts';
import { type DestroyDatasetStep, PLACEHOLDER_PROPERTY } from '../../src/core/plan/steps.ts';
import { destroyGivenUpDataset } from '../../src/transfer/giving-up.ts';
import { placeholderProperties } from '../../src/transfer/replica-properties.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { datasetId } from '../core/graph-language.ts';
import { at, codeOf, dataset } from '../main/memory-world.ts';

const OLD: DatasetId = datasetId('old');
const NAME = dataset('tank/old');

/** As zfs-fuse, which does not tell what was written. */
class Untelling extends MemoryZfs {
  override async listOnly(...given: Parameters<MemoryZfs['listOnly']>) {
    return (await super.listOnly(...given)).map((listed) => ({ ...listed, written: null }));
  }
}

describe.each([
  ['tells', MemoryZfs],
  ['does not tell', Untelling],
])('with a ZFS that %s what was written, a dataset that was given up', (_, Kind) => {
  let zfs: MemoryZfs;

  beforeEach(async () => {
    zfs = new Kind();
    zfs.addPool('tank');
    await zfs.create(dataset('tank/base'));
    zfs.write('tank/base', 'file', 'base');
    await zfs.snapshot([at('tank/base', '1')]);
  });

  async function giveUp(): Promise<string> {
    const [found] = await zfs.listOnly([NAME]);
    const snapshots = (found?.snapshots ?? []).map(({ guid }) => guid);
    const step: DestroyDatasetStep = {
      kind: 'destroy-dataset',
      dataset: OLD,
      name: 'old' as RelativeName,
      after: [],
      snapshots,
    };
    const refused = destroyGivenUpDataset(zfs, NAME, step);
    const isGone = async () => (await zfs.listOnly([NAME])).length === 0;
    return (await refused.then(isGone, () => false)) ? 'gone' : codeOf(refused);
  }

  it('goes when it is as its newest snapshot left it, and stays when it was written to', async () => {
    await zfs.create(NAME, { [ID_PROPERTY]: OLD });
    zfs.write(NAME, 'file', 'received');
    await zfs.snapshot([at(NAME, '1')]);
    zfs.write(NAME, 'mine', 'more');
    expect(await giveUp()).toBe('PLAN_CONFLICT');
    zfs.remove(NAME, 'mine');
    expect(await giveUp()).toBe('gone');
  });

  it('stays when there is data and no snapshot', async () => {
    await zfs.create(NAME, { [ID_PROPERTY]: OLD });
    zfs.write(NAME, 'mine', 'the only copy');
    expect(await giveUp()).toBe('PLAN_CONFLICT');
  });

  it('goes when it is a clone without a snapshot, as long as nothing was written to it', async () => {
    await zfs.clone(at('tank/base', '1'), NAME, { [ID_PROPERTY]: OLD });
    zfs.write(NAME, 'mine', 'more');
    expect(await giveUp()).toBe('PLAN_CONFLICT');
    zfs.remove(NAME, 'mine');
    expect(await giveUp()).toBe('gone');
  });

  it('goes when it only gave others a parent, unless somebody made something of it', async () => {
    await zfs.create(NAME, { ...placeholderProperties(OLD), canmount: 'on' });
    expect(await giveUp()).toBe('PLAN_CONFLICT');
    await zfs.setProperties([NAME], { canmount: 'off' });
    await zfs.inheritProperty([NAME], PLACEHOLDER_PROPERTY);
    expect(await giveUp()).toBe('PLAN_CONFLICT');
    await zfs.setProperties([NAME], { [PLACEHOLDER_PROPERTY]: 'on' });
    expect(await giveUp()).toBe('gone');
  });
});
