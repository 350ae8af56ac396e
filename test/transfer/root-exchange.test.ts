/** The root of a mirror changes places with another dataset, cut short anywhere: all that lay below it is below it again, in the old state or the new one. */
import { beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { PreservationStarted, RootExchangeStarted } from '../../src/core/events.ts';
import {
  ID_PROPERTY,
  nameInBetween,
  parseTransferId,
  ROOT_STAND_IN,
  type SnapshotName,
  shortDatasetId,
  uuidFrom,
} from '../../src/core/ids.ts';
import { PLACEHOLDER_PROPERTY } from '../../src/core/plan/steps.ts';
import {
  asideOf,
  DIVERGED_PROPERTY,
  finishPreservation,
  successorOf,
  undoPreservation,
} from '../../src/transfer/preservation.ts';
import { finishRootExchange, outsideOf, undoRootExchange } from '../../src/transfer/root-exchange.ts';
import { settleStrayedAside } from '../../src/transfer/strayed-aside.ts';
import { bringRootHome } from '../../src/transfer/strayed-root.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { datasetId } from '../core/graph-language.ts';
import { at, codeOf, dataset, IMAGES } from '../main/memory-world.ts';

const ROOT_ID = datasetId('.');
const transfer = parseTransferId(uuidFrom(1, new Uint8Array(16)));
const outside = outsideOf(dataset('tank/copy'));
const kept: PreservationStarted = {
  type: 'preservation.started',
  transfer,
  tree: IMAGES,
  dataset: ROOT_ID,
  name: dataset('tank/copy'),
  aside: dataset('tank/copy/.pando/diverged/copy-1'),
  successor: successorOf(dataset('tank/copy'), transfer),
  lastCommon: '1' as SnapshotName,
  outside,
};
const exchanged: RootExchangeStarted = {
  type: 'root-exchange.started',
  transfer,
  tree: IMAGES,
  dataset: datasetId('next'),
  name: dataset('tank/copy'),
  successor: dataset('tank/copy/next'),
  outside,
  former: dataset('tank/copy/former'),
};

/** Commands that change something. */
const CHANGING = ['create', 'clone', 'promote', 'rename', 'destroy', 'setProperties', 'inheritProperty'];
/** The commands behind which the root is outside: of what keeps it aside, and of what exchanges it. */
const RENAMED_OUT = 6;
const EXCHANGE_OUT = 3;
/** More than any of these take. */
const COMMANDS_MAX = 30;

let zfs: MemoryZfs;

async function plant(): Promise<void> {
  zfs = new MemoryZfs();
  zfs.addPool('tank');
  await zfs.create(kept.name, { [ID_PROPERTY]: ROOT_ID, compression: 'zstd', canmount: 'noauto' });
  zfs.write('tank/copy', 'file', 'common');
  await zfs.snapshot([at('tank/copy', '1')]);
  for (const name of ['tank/copy/web', 'tank/copy/web/logs', 'tank/copy/.pando', 'tank/copy/.pando/lineage']) {
    await zfs.create(dataset(name));
  }
  await zfs.clone(at('tank/copy', '1'), dataset('tank/copy/clone'));
  zfs.write('tank/copy', 'file', 'mine');
  await zfs.create(exchanged.successor, { [ID_PROPERTY]: exchanged.dataset });
  zfs.write('tank/copy/next', 'file', 'next');
}

beforeEach(plant);

/** Every dataset with its first file, its origin and whether it is marked. */
async function there(): Promise<Record<string, string>> {
  const listed = await zfs.list(dataset('tank'));
  return Object.fromEntries(
    listed.map(({ name, origin, properties }) => {
      const from = origin === null ? '' : ` < ${origin.reference.dataset}@${origin.reference.snapshot}`;
      return [name, `${zfs.read(name, 'file') ?? ''}${from} ${properties[DIVERGED_PROPERTY] ?? ''}`.trim()];
    }),
  );
}

async function guidOf(name: string): Promise<string> {
  return (await zfs.listOnly([dataset(name)]))[0]?.guid ?? expect.fail();
}

/** A ZFS that refuses everything from its changing command of that number on. */
function dyingAt(number: number): MemoryZfs {
  let count = 0;
  return new Proxy(zfs, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return (...given: unknown[]) => {
        if (CHANGING.includes(String(name))) count += 1;
        if (count >= number) return Promise.reject(new PandoError('ZFS_BUSY', 'dataset is busy'));
        return Reflect.apply(value, target, given);
      };
    },
  });
}

/** Cuts an exchange short at each of its commands; gives how many there are. */
async function cutShort(
  act: (on: MemoryZfs) => Promise<void>,
  then: (number: number) => Promise<void>,
): Promise<number> {
  for (let number = 1; number <= COMMANDS_MAX; number += 1) {
    await plant();
    const isOver = await act(dyingAt(number)).then(
      () => true,
      () => false,
    );
    await then(number);
    if (isOver) return number - 1;
  }
  throw new Error('It has no end.');
}

const AFTER_KEEPING = {
  'tank/copy': 'common',
  'tank/copy/.pando/diverged/copy-1': 'mine < tank/copy@1 tank/copy',
  'tank/copy/clone': 'common < tank/copy@1',
  'tank/copy/web/logs': '',
  'tank/copy/.pando/lineage': '',
  'tank/copy/next': 'next',
};

describe('the root of a mirror', () => {
  it('is kept below its successor, with all that lay below it where it was, wherever that was cut short', async () => {
    const commands = await cutShort(
      (on) => finishPreservation(kept, on),
      async () => {
        await finishPreservation(kept, zfs);
        await finishPreservation(kept, zfs);
        const found = await there();
        expect(found).toMatchObject(AFTER_KEEPING);
        expect(Object.keys(found).filter((name) => name === outside || name.includes('successor'))).toEqual([]);
        const [root, aside] = await zfs.listOnly([kept.name, kept.aside]);
        expect(root?.properties).toMatchObject({ [ID_PROPERTY]: ROOT_ID, compression: 'zstd', readonly: 'on' });
        expect(aside?.properties[ID_PROPERTY]).toBeUndefined();
      },
    );
    expect(commands).toBeGreaterThan(10);
  });

  it('is as it was where keeping it is taken back, until it lies where it is kept', async () => {
    const before = await there();
    const undone: boolean[] = [];
    await cutShort(
      (on) => finishPreservation(kept, on),
      async () => {
        const isUndone = await undoPreservation(kept, zfs);
        undone.push(isUndone);
        const found = await there();
        if (isUndone) expect(withoutContainer(found)).toEqual(before);
        else expect(found).toMatchObject({ 'tank/copy': 'common', 'tank/copy/web/logs': '' });
      },
    );
    expect(undone.lastIndexOf(true)).toBeLessThan(undone.indexOf(false));
    expect(undone.filter((one) => !one).length).toBe(3);
  });

  it('has an empty stand-in in its place where it is to be received anew', async () => {
    const anew = { ...kept, lastCommon: null };
    await cutShort(
      (on) => finishPreservation(anew, on),
      async () => {
        await finishPreservation(anew, zfs);
        const [root] = await zfs.listOnly([kept.name]);
        expect(root?.properties).toMatchObject({ [ID_PROPERTY]: ROOT_STAND_IN, [PLACEHOLDER_PROPERTY]: 'on' });
        expect(root?.properties).toMatchObject({ canmount: 'off', compression: 'zstd' });
        expect(await there()).toMatchObject({
          'tank/copy/.pando/diverged/copy-1': 'mine tank/copy',
          'tank/copy/web/logs': '',
        });
      },
    );
  });

  it('changes places with a dataset below it, or does not, wherever that was cut short', async () => {
    const before = await there();
    await cutShort(
      (on) => finishRootExchange(exchanged, on),
      async () => {
        const isUndone = await undoRootExchange(exchanged, zfs);
        const found = await there();
        if (isUndone) expect(found).toEqual(before);
        await finishRootExchange(exchanged, zfs);
        expect(await there()).toMatchObject({
          'tank/copy': 'next',
          'tank/copy/former': 'mine',
          'tank/copy/web/logs': '',
          'tank/copy/clone': 'common < tank/copy/former@1',
        });
      },
    );
  });

  it('waits outside while something else has its name, and nothing of that is touched', async () => {
    await finishPreservation(kept, dyingAt(RENAMED_OUT)).catch(() => undefined);
    expect(Object.keys(await there())).toContain(`${outside}/web/logs`);
    await zfs.create(kept.name);
    expect(await codeOf(finishPreservation(kept, zfs))).toBe('ZFS_DATASET_EXISTS');
    expect(await codeOf(undoPreservation(kept, zfs))).toBe('ZFS_DATASET_EXISTS');
    await zfs.destroy(kept.name);
    await finishPreservation(kept, zfs);
    expect(await there()).toMatchObject(AFTER_KEEPING);
  });

  it('changes places also where somebody made datasets below it meanwhile that are called as others, and loses none', async () => {
    const webId = datasetId('web');
    await zfs.setProperties([dataset('tank/copy/web')], { [ID_PROPERTY]: webId });
    const meddle = async (): Promise<void> => {
      for (const name of ['tank/copy/web', 'tank/copy/clone']) {
        await zfs.create(dataset(name));
        zfs.write(name, 'file', 'by hand');
      }
    };
    const clone = await guidOf('tank/copy/clone');
    await expect(finishRootExchange(exchanged, dyingAt(EXCHANGE_OUT + 1))).rejects.toThrow();
    await meddle();
    await finishRootExchange(exchanged, zfs);
    expect(await there()).toMatchObject({
      'tank/copy/former': 'mine',
      'tank/copy/web': 'by hand',
      'tank/copy/clone': 'by hand',
      [`tank/copy/${nameInBetween(webId)}/logs`]: '',
      [`tank/copy/clone-${clone}`]: 'common < tank/copy/former@1',
    });
    expect(await zfs.listOnly([outside])).toEqual([]);
  });

  it('goes back also where somebody made a dataset meanwhile that is called as one of those outside', async () => {
    await expect(finishRootExchange(exchanged, dyingAt(EXCHANGE_OUT + 1))).rejects.toThrow();
    await zfs.create(dataset('tank/copy/web'));
    const made = await guidOf('tank/copy/web');
    expect(await undoRootExchange(exchanged, zfs)).toBe(true);
    expect(Object.keys(await there())).toEqual(
      expect.arrayContaining(['tank/copy/next', 'tank/copy/web/logs', `tank/copy/web-${made}`]),
    );
  });

  it('that somebody renamed in the middle is asked for by its name', async () => {
    await finishPreservation(kept, dyingAt(RENAMED_OUT - 1)).catch(() => undefined);
    await zfs.rename(kept.name, dataset('tank/elsewhere'));
    await expect(finishPreservation(kept, zfs)).rejects.toThrow('tank/elsewhere');
    expect(await undoPreservation(kept, zfs)).toBe(false);
    await zfs.rename(dataset('tank/elsewhere'), kept.name);
    await finishPreservation(kept, zfs);
    expect(await there()).toMatchObject(AFTER_KEEPING);
  });

  it('that somebody destroyed in the middle is waited for no more', async () => {
    await finishPreservation(kept, dyingAt(2)).catch(() => undefined);
    for (const { name } of (await zfs.list(kept.name)).toReversed()) await zfs.destroy(name);
    expect(await codeOf(finishPreservation(kept, zfs))).toBe('ZFS_NOT_FOUND');
    expect(await undoPreservation(kept, zfs)).toBe(true);
  });

  it('says where it is when what was to take its place is gone', async () => {
    await finishRootExchange(exchanged, dyingAt(EXCHANGE_OUT)).catch(() => undefined);
    await zfs.destroy(dataset(`${outside}/next`));
    await expect(finishRootExchange(exchanged, zfs)).rejects.toThrow(`zfs rename ${outside} tank/copy`);
    await undoRootExchange(exchanged, zfs);
    expect(await there()).toMatchObject({ 'tank/copy': 'mine', 'tank/copy/web/logs': '' });
  });
});

describe('the root of a mirror that no journal knows of any more', () => {
  const bringHome = async (on: MemoryZfs) => (await bringRootHome(kept.name, on))?.(transfer);
  const BELOW = { 'tank/copy/web': '', 'tank/copy/web/logs': '', 'tank/copy/.pando/lineage': '' };
  const RENAMING = `tank/copy/renaming-${shortDatasetId(ROOT_ID)}`;

  /** Brings it home, again and again until that is not cut short any more. */
  async function bringHomeAtLast(): Promise<void> {
    for (let number = 1; number <= COMMANDS_MAX; number += 1) await bringHome(dyingAt(number)).catch(() => undefined);
    const found = await there();
    expect(Object.keys(found).filter((name) => name.startsWith(outside))).toEqual([]);
    expect(found).toMatchObject(BELOW);
  }

  it('is where it was, or below what has its place, when it was cut short while it changed places', async () => {
    const roots = new Set<string | undefined>();
    await cutShort(
      (on) => finishRootExchange(exchanged, on),
      async (number) => {
        await bringHomeAtLast();
        const {
          'tank/copy': root,
          'tank/copy/next': next,
          'tank/copy/former': former,
          [RENAMING]: between,
        } = await there();
        roots.add(root);
        expect([root, next ?? former ?? between].toSorted(), `command ${number}`).toEqual(['mine', 'next']);
      },
    );
    expect(roots).toEqual(new Set(['mine', 'next']));
  });

  it('is where it was, or kept, when it was cut short while it was to be kept', async () => {
    const aside = asideOf(kept.name, kept.name, transfer);
    const shown = new Set<string>();
    for (const intent of [kept, { ...kept, lastCommon: null }]) {
      await cutShort(
        (on) => finishPreservation({ ...intent, aside }, on),
        async (number) => {
          await bringHomeAtLast();
          await settleStrayedAside(kept.name, zfs, () => false);
          const found = await there();
          expect(Object.keys(found), `command ${number}`).not.toContain(kept.successor);
          if (found['tank/copy']?.startsWith('mine')) {
            expect(found['tank/copy'], `command ${number}`).not.toContain('<');
            shown.add('where it was');
            return;
          }
          shown.add('kept');
          expect(found[aside], `command ${number}`).toMatch(/^mine .*tank\/copy$/);
          expect((await zfs.listOnly([aside]))[0]?.properties[ID_PROPERTY]).toBeUndefined();
        },
      );
    }
    expect(shown).toEqual(new Set(['where it was', 'kept']));
  });

  it('leaves what has come anew in its place, and goes below that with what is there twice', async () => {
    await finishRootExchange(exchanged, dyingAt(EXCHANGE_OUT + 1)).catch(() => undefined);
    await zfs.create(dataset('tank/copy/web'));
    zfs.write('tank/copy/web', 'file', 'new');
    await bringHome(zfs);
    expect(await there()).toMatchObject({
      'tank/copy': 'next',
      'tank/copy/web': 'new',
      [RENAMING]: 'mine',
      [`${RENAMING}/web/logs`]: '',
      'tank/copy/.pando/lineage': '',
    });
  });

  it("stays outside where somebody else's dataset has its name, and so does what only is called like it", async () => {
    await zfs.rename(kept.name, outside);
    await zfs.create(kept.name);
    const before = await there();
    await bringHome(zfs);
    expect(await there()).toEqual(before);
    await zfs.destroy(kept.name);
    await zfs.inheritProperty([outside], ID_PROPERTY);
    await bringHome(zfs);
    expect(Object.keys(await there())).not.toContain('tank/copy');
  });

  it('is not looked for where a whole pool is mirrored', async () => {
    expect(await bringRootHome(dataset('tank'), zfs)).toBeNull();
    expect(await there()).toMatchObject({ 'tank/copy': 'mine' });
  });
});

function withoutContainer(found: Record<string, string>): Record<string, string> {
  const { 'tank/copy/.pando/diverged': _container, ...rest } = found;
  return rest;
}
