import { beforeEach, describe, expect, it, vi } from 'vitest';
import { holdTagOf, parseTransferId, type SnapshotGuid, uuidFrom } from '../../src/core/ids.ts';
import { type Holds, heldIn, missingAmong, placeHolds, releaseHolds } from '../../src/transfer/holds.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { signerOf } from '../log/identity.ts';
import { at, dataset } from '../main/memory-world.ts';

const TAG = holdTagOf(signerOf(1).node, parseTransferId(uuidFrom(1, new Uint8Array(16))));

describe('the holds of a transfer', () => {
  let zfs: MemoryZfs;
  let holds: Holds;

  beforeEach(async () => {
    zfs = new MemoryZfs();
    zfs.addPool('tank');
    for (const name of ['tank/a', 'tank/b']) {
      await zfs.create(dataset(name));
      await zfs.snapshot([at(name, '1')]);
    }
    await zfs.hold(TAG, [at('tank/a', '1'), at('tank/b', '1')]);
    holds = { held: heldIn(await zfs.list(dataset('tank'))), tops: [] };
  });

  const stillHeld = async () => heldIn(await zfs.list(dataset('tank')));

  it('are released where the snapshots are by now', async () => {
    await zfs.rename(dataset('tank/a'), dataset('tank/c'));
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([]);
  });

  it('are looked for again when a snapshot moves on between the look and the question who holds it', async () => {
    await zfs.rename(dataset('tank/a'), dataset('tank/moving'));
    const asked = vi.spyOn(zfs, 'holds').mockImplementationOnce(async (snapshots) => {
      await zfs.rename(dataset('tank/moving'), dataset('tank/arrived'));
      return zfs.holds(snapshots);
    });
    await releaseHolds(zfs, TAG, holds);
    expect(asked).toHaveBeenCalled();
    expect(await stillHeld()).toEqual([]);
  });

  it('are looked for again when a snapshot was elsewhere just while the question was asked', async () => {
    await zfs.rename(dataset('tank/a'), dataset('tank/c'));
    vi.spyOn(zfs, 'holds').mockImplementationOnce(async (snapshots) => {
      await zfs.rename(dataset('tank/c'), dataset('tank/d'));
      const tags = await zfs.holds(snapshots);
      await zfs.rename(dataset('tank/d'), dataset('tank/c'));
      return tags;
    });
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([]);
  });

  it('are looked for again also when something else has got the name, which others hold', async () => {
    await zfs.hold('somebody' as never, [at('tank/b', '1')]);
    await zfs.release(TAG, [at('tank/b', '1')]);
    await zfs.rename(dataset('tank/a'), dataset('tank/c'));
    vi.spyOn(zfs, 'holds').mockImplementationOnce(async (snapshots) => {
      await zfs.rename(dataset('tank/c'), dataset('tank/d'));
      await zfs.rename(dataset('tank/b'), dataset('tank/c'));
      return zfs.holds(snapshots);
    });
    await releaseHolds(zfs, TAG, holds);
    expect((await zfs.holds([at('tank/c', '1'), at('tank/d', '1')])).flat()).toEqual(['somebody']);
  });

  it('are told of when the snapshots move all the time, so that somebody comes back to them', async () => {
    let moves = 0;
    await zfs.rename(dataset('tank/a'), dataset('tank/moved-0'));
    const list = zfs.list.bind(zfs);
    vi.spyOn(zfs, 'list').mockImplementation(async (...given) => {
      const listed = await list(...given);
      await zfs.rename(dataset(`tank/moved-${moves}`), dataset(`tank/moved-${moves + 1}`));
      moves += 1;
      return listed;
    });
    await expect(releaseHolds(zfs, TAG, holds)).rejects.toMatchObject({ code: 'ZFS_BUSY' });
    vi.restoreAllMocks();
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([]);
  });

  it('of others stay', async () => {
    await zfs.hold('somebody' as never, [at('tank/a', '1')]);
    await zfs.rename(dataset('tank/b'), dataset('tank/c'));
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([{ ...at('tank/a', '1'), guid: holds.held[0]?.guid as SnapshotGuid }]);
  });
});

describe('what a transfer holds together', () => {
  let zfs: MemoryZfs;
  let holds: Holds;
  const somebody = 'somebody' as never;

  beforeEach(async () => {
    zfs = new MemoryZfs();
    zfs.addPool('tank');
    for (const name of ['tank/a', 'tank/a/b', 'tank/a/b/c', 'tank/apart']) {
      await zfs.create(dataset(name));
      await zfs.snapshot([at(name, '1')]);
    }
    const listed = await zfs.list(dataset('tank'));
    const held = listed.flatMap(({ name, snapshots }) => snapshots.map(({ guid }) => ({ ...at(name, '1'), guid })));
    holds = { held, tops: [at('tank/a', '1')] };
    await placeHolds(zfs, TAG, holds);
  });

  const stillHeld = async () => {
    const held = heldIn(await zfs.list(dataset('tank')));
    return (await zfs.holds(held)).flat();
  };

  it('is released at once, and looked at whether all of it was where it had been', async () => {
    expect(await stillHeld()).toHaveLength(4);
    const before = zfs.commandCount;
    await releaseHolds(zfs, TAG, holds);
    expect(zfs.commandCount - before).toBe(2);
    expect(await stillHeld()).toEqual([]);
  });

  it('is released where it is by now, when something was moved out from below', async () => {
    await zfs.rename(dataset('tank/a/b'), dataset('tank/b'));
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([]);
  });

  it('is released where the top is gone', async () => {
    await zfs.renameSnapshot(at('tank/a', '1'), 'other' as never);
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([]);
  });

  it('is released with something new below that has the name and is held by nobody', async () => {
    await zfs.create(dataset('tank/a/new'));
    await zfs.snapshot([at('tank/a/new', '1')]);
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([]);
  });

  it('is released with what nobody knew of when it was held', async () => {
    const known = { ...holds, held: holds.held.filter((one) => one.dataset !== 'tank/a/b/c') };
    await zfs.rename(dataset('tank/a/b'), dataset('tank/a/moved'));
    await releaseHolds(zfs, TAG, known);
    expect(await stillHeld()).toEqual([]);
  });

  it.each([true, false])('leaves the holds of others (tags can be listed: %s)', async (listHolds) => {
    vi.spyOn(zfs, 'capabilities').mockResolvedValue({ ...(await zfs.capabilities()), listHolds });
    await zfs.hold(somebody, [at('tank/a/b', '1'), at('tank/apart', '1')]);
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([somebody, somebody]);
  });

  it('does not take what was away when it was held, and is back, for held', async () => {
    await releaseHolds(zfs, TAG, holds);
    await zfs.rename(dataset('tank/a/b/c'), dataset('tank/c'));
    await placeHolds(zfs, TAG, holds);
    await zfs.rename(dataset('tank/c'), dataset('tank/a/b/c'));
    const missing = await missingAmong(zfs, holds, holds.held);
    expect(Array.from(missing, (one) => one.dataset)).toEqual(['tank/a/b/c']);
  });

  it('says what of it is missing, since a hold that reaches down passes over that', async () => {
    await releaseHolds(zfs, TAG, holds);
    await zfs.rename(dataset('tank/a/b/c'), dataset('tank/c'));
    await placeHolds(zfs, TAG, holds);
    const missing = await missingAmong(zfs, holds, holds.held);
    expect(Array.from(missing, (one) => one.dataset)).toEqual(['tank/a/b/c']);
    await releaseHolds(zfs, TAG, holds);
    expect(await stillHeld()).toEqual([]);
  });
});
