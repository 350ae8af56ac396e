/** The part of the Zfs contract about how streams are made, and that a chain keeps to it. See `zfs-contract.ts`. */
import { expect, test } from 'vitest';
import type { DatasetName } from '../../src/core/ids.ts';
import { PLAIN_STREAM, RAW_STREAM } from '../../src/core/stream-flags.ts';
import { asNew, at, below, codeOf, full, increment, into, type ZfsUnderTest, type ZfsWorld } from './zfs-world.ts';

const WITHOUT_KEYS = 'this ZFS has no encryption';

export function zfsChainContract(use: () => ZfsWorld): void {
  test('streams that are compressed, with large and embedded blocks, make the same dataset', async ({ skip }) => {
    const world = use();
    const flags = { ...RAW_STREAM, raw: false };
    if (!world.capabilities.streamFlags.compressed) return skip('this ZFS sends plain streams only');
    const root = await world.root();
    const target = world.fresh('otherPool');
    await world.underTest.writeFile(root, 'text', 'the same again and again. '.repeat(20_000));
    const [first, second] = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    expect(codeOf((await world.transfer(full(first, flags), asNew(target))).received)).toBe('done');
    expect(codeOf((await world.transfer(increment(first, second, false, flags), into(target))).received)).toBe('done');
    expect(await world.history(target)).toEqual(await world.history(root));
    expect(await world.underTest.readFile(target, 'text')).toHaveLength(26 * 20_000);
    expect((await world.dataset(target)).encrypted).toBe(false);
  });

  test('a raw stream of what is not encrypted makes the same dataset, not encrypted', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.streamFlags.raw) return skip(WITHOUT_KEYS);
    const root = await world.root();
    const target = world.fresh('otherPool');
    const first = await world.change(at(root, '1'));
    expect(codeOf((await world.transfer(full(first, RAW_STREAM), asNew(target))).received)).toBe('done');
    expect(await world.history(target)).toEqual(await world.history(root));
    expect((await world.dataset(target)).encrypted).toBe(false);
  });

  test('a listing tells what is encrypted: the root of a key, what is below it, its clones', async ({ skip }) => {
    const world = use();
    const { encryption } = world.underTest;
    if (encryption === undefined) return skip(WITHOUT_KEYS);
    const root = await world.root();
    const [secret, child, clone] = [below(root, 'secret'), below(root, 'secret/child'), below(root, 'clone')];
    await encryption.create(secret);
    await world.zfs.create(child);
    await world.zfs.clone(await world.change(at(secret, '1')), clone);
    const encrypted = (await world.zfs.list(root)).filter((each) => each.encrypted).map(({ name }) => name);
    expect(encrypted.toSorted()).toEqual([clone, secret, child].toSorted());
  });

  /** An encrypted dataset with two snapshots and a clone of the first, its key not loaded. */
  async function locked(world: ZfsWorld, encryption: NonNullable<ZfsUnderTest['encryption']>) {
    const root = await world.root();
    const [source, clone] = [below(root, 'secret'), below(root, 'clone')];
    await encryption.create(source);
    const [first, second] = [await world.change(at(source, '1')), await world.change(at(source, '2'))];
    await world.zfs.clone(first, clone);
    const ofClone = await world.change(at(clone, 'c'));
    await encryption.lock(source);
    return { root, source, clone, first, second, ofClone };
  }

  test('raw streams need the key at neither end, and what they bring is read with it', async ({ skip }) => {
    const world = use();
    const { encryption } = world.underTest;
    if (encryption === undefined) return skip(WITHOUT_KEYS);
    const { source, clone, first, second, ofClone } = await locked(world, encryption);
    const replica = await world.root('otherPool');
    const [target, targetClone] = [below(replica, 'secret'), below(replica, 'clone')];
    const receive = async (...words: Parameters<ZfsWorld['transfer']>): Promise<string> =>
      codeOf((await world.transfer(...words)).received);
    expect(await receive(full(first, RAW_STREAM), asNew(target, null, { 'pando:id': 'x', readonly: 'on' }))).toBe(
      'done',
    );
    expect(await receive(increment(first, second, true, RAW_STREAM), into(target))).toBe('done');
    const origin = at(target, '1');
    expect(await receive(increment(first, ofClone, true, RAW_STREAM), asNew(targetClone, origin))).toBe('done');
    expect(await world.history(target)).toEqual(await world.history(source));
    expect(await world.history(targetClone)).toEqual(await world.history(clone));
    expect((await world.zfs.list(replica)).map(({ encrypted }) => encrypted)).toEqual([false, true, true]);
    expect(await world.dataset(target)).toMatchObject({ properties: { 'pando:id': 'x', readonly: 'on' } });
    await encryption.unlock(target);
    expect(await world.underTest.readFile(target, 'file-2')).toBe('text of 2');
    expect(await world.underTest.readFile(targetClone, 'file-c')).toBe('text of c');
  });

  test('what is encrypted is not sent otherwise than raw without its key', async ({ skip }) => {
    const world = use();
    const { encryption } = world.underTest;
    if (encryption === undefined) return skip(WITHOUT_KEYS);
    const { root, first, second } = await locked(world, encryption);
    await world.refuses('ZFS_KEY_MISSING', [root], () => world.bytesOf(full(first, PLAIN_STREAM)));
    await world.refuses('ZFS_KEY_MISSING', [root], () => world.bytesOf(increment(first, second)));
  });

  test('a chain is raw or not: neither goes on with the other', async ({ skip }) => {
    const world = use();
    const { encryption } = world.underTest;
    if (encryption === undefined) return skip(WITHOUT_KEYS);
    const { source, first, second } = await locked(world, encryption);
    const replica = await world.root('otherPool');
    const [raw, plain] = [below(replica, 'raw'), below(replica, 'plain')];
    await world.transfer(full(first, RAW_STREAM), asNew(raw));
    await encryption.unlock(source);
    await world.transfer(full(first, PLAIN_STREAM), asNew(plain));
    const bytes = await world.bytesOf(increment(first, second, false, PLAIN_STREAM));
    await world.refuses('ZFS_KEY_MISSING', [replica], () => world.receiveBytes(into(raw), bytes));
    const rawBytes = await world.bytesOf(increment(first, second, false, RAW_STREAM));
    await world.refuses('ZFS_STREAM_MISMATCH', [replica], () => world.receiveBytes(into(plain), rawBytes));
  });

  test('nothing new comes below what is encrypted while its key is not loaded', async ({ skip }) => {
    const world = use();
    const { encryption } = world.underTest;
    if (encryption === undefined) return skip(WITHOUT_KEYS);
    const { source, root } = await locked(world, encryption);
    const target = (name: string): DatasetName => below(source, name);
    const bytes = await world.bytesOf(full(await world.change(at(await world.root(), '1'))));
    await world.refuses('ZFS_KEY_MISSING', [root], () => world.zfs.create(target('created')));
    await world.refuses('ZFS_KEY_MISSING', [root], () => world.receiveBytes(asNew(target('received')), bytes));
  });
}
