import { beforeEach, describe, expect, it, vi } from 'vitest';
import { holdTagOf, parseTransferId, type SnapshotGuid, uuidFrom } from '../../src/core/ids.ts';
import { type HeldSnapshot, heldIn, releaseHolds } from '../../src/transfer/holds.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { signerOf } from '../log/identity.ts';
import { at, dataset } from '../main/memory-world.ts';

const TAG = holdTagOf(signerOf(1).node, parseTransferId(uuidFrom(1, new Uint8Array(16))));

describe('the holds of a transfer', () => {
  let zfs: MemoryZfs;
  let held: readonly HeldSnapshot[];

  beforeEach(async () => {
    zfs = new MemoryZfs();
    zfs.addPool('tank');
    for (const name of ['tank/a', 'tank/b']) {
      await zfs.create(dataset(name));
      await zfs.snapshot([at(name, '1')]);
    }
    await zfs.hold(TAG, [at('tank/a', '1'), at('tank/b', '1')]);
    held = heldIn(await zfs.list(dataset('tank')));
  });

  const stillHeld = async () => heldIn(await zfs.list(dataset('tank')));

  it('are released where the snapshots are by now', async () => {
    await zfs.rename(dataset('tank/a'), dataset('tank/c'));
    await releaseHolds(zfs, TAG, held);
    expect(await stillHeld()).toEqual([]);
  });

  it('are looked for again when a snapshot moves on between the look and the question who holds it', async () => {
    await zfs.rename(dataset('tank/a'), dataset('tank/moving'));
    const holds = vi.spyOn(zfs, 'holds').mockImplementationOnce(async (snapshots) => {
      await zfs.rename(dataset('tank/moving'), dataset('tank/arrived'));
      return zfs.holds(snapshots);
    });
    await releaseHolds(zfs, TAG, held);
    expect(holds).toHaveBeenCalled();
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
    await releaseHolds(zfs, TAG, held);
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
    await releaseHolds(zfs, TAG, held);
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
    await expect(releaseHolds(zfs, TAG, held)).rejects.toMatchObject({ code: 'ZFS_BUSY' });
    vi.restoreAllMocks();
    await releaseHolds(zfs, TAG, held);
    expect(await stillHeld()).toEqual([]);
  });

  it('of others stay', async () => {
    await zfs.hold('somebody' as never, [at('tank/a', '1')]);
    await zfs.rename(dataset('tank/b'), dataset('tank/c'));
    await releaseHolds(zfs, TAG, held);
    expect(await stillHeld()).toEqual([{ ...at('tank/a', '1'), guid: held[0]?.guid as SnapshotGuid }]);
  });
});
