/** Keeping what diverged, cut short anywhere, while somebody else renames, destroys and creates in between. */
import { beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { PreservationStarted } from '../../src/core/events.ts';
import {
  type DatasetId,
  ID_PROPERTY,
  parseTransferId,
  type SnapshotName,
  shortDatasetId,
  uuidFrom,
} from '../../src/core/ids.ts';
import { REPLICA_PROPERTIES } from '../../src/core/replica-marks.ts';
import {
  asideOf,
  DIVERGED_PROPERTY,
  finishPreservation,
  successorOf,
  undoPreservation,
} from '../../src/transfer/preservation.ts';
import { markReplicas } from '../../src/transfer/replica-properties.ts';
import { settleStrayedAside } from '../../src/transfer/strayed-aside.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { datasetId } from '../core/graph-language.ts';
import { at, codeOf, dataset, IMAGES } from '../main/memory-world.ts';
import { ZfsWithVolumes } from './volumes.ts';

const WEB: DatasetId = datasetId('web');
const intent: PreservationStarted = {
  type: 'preservation.started',
  transfer: parseTransferId(uuidFrom(1, new Uint8Array(16))),
  tree: IMAGES,
  dataset: WEB,
  name: dataset('tank/web'),
  aside: dataset('tank/.pando/diverged/web-1'),
  successor: dataset('tank/.pando/diverged/1-successor'),
  lastCommon: '1' as SnapshotName,
  outside: null,
};

let zfs: MemoryZfs;

beforeEach(async () => {
  zfs = new MemoryZfs();
  zfs.addPool('tank');
  await zfs.create(intent.name, { [ID_PROPERTY]: WEB });
  zfs.write('tank/web', 'file', 'common');
  await zfs.snapshot([at('tank/web', '1')]);
  zfs.write('tank/web', 'file', 'mine');
});

/** The names and first files of all datasets below `tank`. */
async function there(): Promise<Record<string, string | undefined>> {
  const listed = await zfs.list(dataset('tank'));
  const data = listed.filter(({ name }) => !['tank', 'tank/.pando', 'tank/.pando/diverged'].includes(name));
  return Object.fromEntries(data.map(({ name }) => [name, zfs.read(name, 'file')]));
}

/** Fails at the command of that number and name, as often as it is tried; what comes before it happens. */
function failingAt(command: keyof MemoryZfs, number: number): MemoryZfs {
  let count = 0;
  return new Proxy(zfs, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return (...given: unknown[]) => {
        if (name === command) count += 1;
        if (count >= number) return Promise.reject(new PandoError('ZFS_BUSY', 'dataset is busy'));
        return Reflect.apply(value, target, given);
      };
    },
  });
}

/** Goes as far as that command, which fails. */
async function begun(command: keyof MemoryZfs, number = 1): Promise<void> {
  expect(await codeOf(finishPreservation(intent, failingAt(command, number)))).toBe('ZFS_BUSY');
}

const KEPT = { [intent.aside]: 'mine', [intent.name]: 'common' };

describe('keeping what diverged', () => {
  it('is taken back as long as the dataset has its name, and only then', async () => {
    for (const command of ['clone', 'promote', 'rename'] as const) {
      await begun(command);
      expect(await undoPreservation(intent, zfs), command).toBe(true);
      expect(await there()).toEqual({ [intent.name]: 'mine' });
    }
    await begun('rename', 2);
    expect(await undoPreservation(intent, zfs), 'it was moved, and its successor not yet').toBe(false);
    await finishPreservation(intent, zfs);
    expect(await there()).toEqual(KEPT);
    const [aside] = await zfs.listOnly([intent.aside]);
    expect(aside?.properties).toMatchObject({ [DIVERGED_PROPERTY]: intent.name });
  });

  it('leaves alone what somebody put in the place of the dataset before it began', async () => {
    await zfs.rename(intent.name, dataset('tank/mine'));
    await zfs.create(intent.name);
    zfs.write('tank/web', 'file', 'other');
    await zfs.snapshot([at('tank/web', '1')]);
    expect(await codeOf(finishPreservation(intent, zfs))).toBe('ZFS_NOT_FOUND');
    expect(await undoPreservation(intent, zfs)).toBe(true);
    expect(await there()).toEqual({ 'tank/mine': 'mine', [intent.name]: 'other' });
  });

  it('waits when somebody renamed the dataset in the middle, says where it is, and goes on once it is back', async () => {
    await begun('rename');
    await zfs.rename(intent.name, dataset('tank/elsewhere'));
    await expect(finishPreservation(intent, zfs)).rejects.toThrow('tank/elsewhere');
    expect(await undoPreservation(intent, zfs)).toBe(false);
    await zfs.rename(dataset('tank/elsewhere'), intent.name);
    await finishPreservation(intent, zfs);
    expect(await there()).toEqual(KEPT);
  });

  it('has the successor take the name when somebody destroyed the dataset in the middle', async () => {
    await begun('rename');
    await zfs.destroy(intent.name);
    await finishPreservation(intent, zfs);
    expect(await there()).toEqual({ [intent.name]: 'common' });
  });

  it('waits while another dataset has the name that the successor is to take', async () => {
    await begun('rename', 2);
    await zfs.create(intent.name);
    expect(await codeOf(finishPreservation(intent, zfs))).toBe('ZFS_DATASET_EXISTS');
    expect(await undoPreservation(intent, zfs)).toBe(false);
    await zfs.destroy(intent.name);
    await finishPreservation(intent, zfs);
    expect(await there()).toEqual(KEPT);
  });

  it('does so for volumes, which ZFS sets nothing for that only filesystems have', async () => {
    const volumes = new ZfsWithVolumes();
    volumes.addPool('tank');
    const ofVolume = { ...intent, name: dataset('tank/vol') };
    await volumes.create(ofVolume.name, { [ID_PROPERTY]: WEB });
    await volumes.snapshot([at('tank/vol', '1'), at('tank/vol', 'mine')]);
    await finishPreservation(ofVolume, volumes);
    const [successor, aside] = await volumes.listOnly([ofVolume.name, ofVolume.aside]);
    expect(successor?.properties).toEqual({ ...REPLICA_PROPERTIES.volume, [ID_PROPERTY]: WEB });
    expect(aside?.snapshots.map(({ name }) => name)).toEqual(['mine']);
    await volumes.create(dataset('tank/new-vol'));
    await markReplicas(volumes, [
      { name: dataset('tank/new-vol'), kind: 'volume', dataset: datasetId('new-vol') },
      { name: dataset('tank/.pando'), kind: 'filesystem', dataset: datasetId('pando') },
    ]);
    expect((await volumes.listOnly([dataset('tank/new-vol')]))[0]?.properties.readonly).toBe('on');
  });
});

describe('keeping what diverged, where no journal knows of it any more', () => {
  const root = dataset('tank');
  const forgotten = {
    ...intent,
    aside: asideOf(root, intent.name, intent.transfer),
    successor: successorOf(root, intent.transfer),
  };
  const settle = (on = zfs) => settleStrayedAside(root, on, () => false);
  const kept = (name: string) => ({ [forgotten.aside]: 'mine', [name]: 'common' });

  async function begin(command: keyof MemoryZfs, number = 1): Promise<void> {
    expect(await codeOf(finishPreservation(forgotten, failingAt(command, number)))).toBe('ZFS_BUSY');
  }

  it('is taken back as long as the dataset has its name, wherever that is cut short in turn', async () => {
    for (const command of ['promote', 'rename'] as const) {
      for (const refused of ['promote', 'destroy'] as const) {
        await begin(command);
        await settle(failingAt(refused, 1)).catch(() => undefined);
        await settle();
        expect(await there(), `${command}, ${refused}`).toEqual({ [intent.name]: 'mine' });
        const [web] = await zfs.listOnly([intent.name]);
        expect(web?.origin).toBeNull();
        expect(web?.snapshots.map(({ name }) => name)).toEqual(['1']);
      }
    }
  });

  it('is finished once the dataset was moved: what is kept is told of, and its successor is there to be given its name', async () => {
    await begin('rename', 2);
    await settle();
    expect(await there()).toEqual(kept(`tank/renaming-${shortDatasetId(WEB)}`));
    const [aside] = await zfs.listOnly([forgotten.aside]);
    expect(aside?.properties).toMatchObject({ [DIVERGED_PROPERTY]: intent.name });
    expect(aside?.properties[ID_PROPERTY]).toBeUndefined();
  });

  it('is told of by the name that its successor has', async () => {
    await begin('setProperties');
    await zfs.create(dataset('tank/apps'));
    await zfs.rename(intent.name, dataset('tank/apps/web'));
    await settle();
    expect(await there()).toEqual({ ...kept('tank/apps/web'), 'tank/apps': undefined });
    expect((await zfs.listOnly([forgotten.aside]))[0]?.properties[DIVERGED_PROPERTY]).toBe('tank/apps/web');
  });

  it('keeps the name that it had before where that was said already, or the settling was cut short', async () => {
    await zfs.create(dataset('tank/apps'));
    const [deep, renamed] = [dataset('tank/apps/web'), dataset('tank/elsewhere')];
    await zfs.rename(intent.name, deep);
    const deeper = { ...forgotten, name: deep };
    const dying = failingAt('inheritProperty', 1);
    expect(await codeOf(finishPreservation(deeper, dying))).toBe('ZFS_BUSY');
    await zfs.rename(deep, renamed);
    await settle();
    expect((await zfs.listOnly([forgotten.aside]))[0]?.properties[DIVERGED_PROPERTY]).toBe(deep);
  });

  it('destroys nothing that people did to what takes its place, and nothing that is only called like that', async () => {
    await begin('rename');
    await zfs.setProperties([forgotten.successor], { readonly: 'off' });
    zfs.write(forgotten.successor, 'mine', 'by hand');
    const before = await there();
    await settle();
    expect(await undoPreservation(forgotten, zfs)).toBe(false);
    expect(await there()).toEqual(before);
    await zfs.snapshot([at(forgotten.successor, 'by-hand')]);
    await settle();
    expect(await undoPreservation(forgotten, zfs)).toBe(false);
    expect(await there()).toEqual(before);
  });

  it.each(['successor', 'successor-plan'])('keeps what is called "%s" like anything else', async (leaf) => {
    const name = dataset(`tank/${leaf}`);
    await zfs.rename(intent.name, name);
    await zfs.snapshot([at(name, 'mine')]);
    const aside = asideOf(root, name, intent.transfer);
    expect(aside).not.toBe(forgotten.successor);
    const cut = { ...forgotten, name, aside };
    expect(await codeOf(finishPreservation(cut, failingAt('setProperties', 1)))).toBe('ZFS_BUSY');
    await settle();
    expect(await there()).toEqual({ [aside]: 'mine', [name]: 'common' });
    expect((await zfs.listOnly([aside]))[0]?.snapshots.map((one) => one.name)).toEqual(['mine']);
  });

  it('settles the rest where one of it is refused, and says so', async () => {
    await begin('rename');
    const [other, copy] = [datasetId('other'), asideOf(root, dataset('tank/other'), intent.transfer)];
    await zfs.create(copy, { [ID_PROPERTY]: other });
    expect(await codeOf(settle(failingAt('promote', 1)))).toBe('ZFS_BUSY');
    expect((await zfs.listOnly([copy]))[0]?.properties).toMatchObject({ [DIVERGED_PROPERTY]: 'tank/other' });
    await settle();
    expect(await there()).toMatchObject({ [intent.name]: 'mine' });
  });

  it('stays as it is where an intent tells of it, where it was finished, and where people put something else in its place', async () => {
    await begin('rename');
    const before = await there();
    await settleStrayedAside(root, zfs, (name) => name === forgotten.successor);
    expect(await there()).toEqual(before);
    await zfs.promote(intent.name);
    await zfs.promote(forgotten.successor);
    await zfs.rename(intent.name, dataset('tank/mine'));
    await zfs.inheritProperty([dataset('tank/mine')], ID_PROPERTY);
    await zfs.create(intent.name, { [ID_PROPERTY]: WEB });
    await settle();
    expect(Object.keys(await there())).toContain(forgotten.successor);
    await zfs.destroy(intent.name);
    await zfs.setProperties([dataset('tank/mine')], { [ID_PROPERTY]: WEB });
    await zfs.rename(dataset('tank/mine'), intent.name);
    await finishPreservation(forgotten, zfs);
    await zfs.create(dataset(`${forgotten.aside}/below`), { [ID_PROPERTY]: datasetId('below') });
    const after = await there();
    await settle();
    expect(await there()).toEqual(after);
  });
});
