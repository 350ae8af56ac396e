/**
 * The command line driver on OpenZFS, in a virtual machine of its own that is driven through ssh: the contract, and what only OpenZFS
 * has and people or peers bring about without Pando.
 */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { DatasetName } from '../../src/core/ids.ts';
import { quotedForShell } from '../../src/zfs/cli/command-line.ts';
import { zfsContract } from '../suites/zfs-contract.ts';
import { asNew, at, below, codeOf, full, increment, into, tag, ZfsWorld } from '../suites/zfs-world.ts';
import { type RemoteZfs, remoteZfs } from './remote-zfs.ts';
import { type Machine, startMachine } from './vm/machine.ts';

/** The first start compiles OpenZFS: five minutes on two cores. */
const BUILD_AND_BOOT_MS_MAX = 40 * 60_000;
/** The processor is emulated. The longest test takes half a minute here, and would take minutes on a machine with little to spare. */
const EMULATED_TEST_MS_MAX = 10 * 60_000;
const VOLUME_BYTES = 16 * 1024 * 1024;
/** How long the device of a volume may take to appear after it was received, in ms: a kernel thread makes it. */
const DEVICE_MS_MAX = 60_000;

vi.setConfig({ testTimeout: EMULATED_TEST_MS_MAX, hookTimeout: BUILD_AND_BOOT_MS_MAX });

let machine: Machine | undefined;
beforeAll(async () => {
  machine = await startMachine();
});
afterAll(() => machine?.stop());

zfsContract('CliZfs on OpenZFS in a virtual machine', () => remoteZfs(machine?.ssh ?? []));

describe('What only OpenZFS has', () => {
  let world: ZfsWorld;
  let remote: RemoteZfs;
  beforeAll(async () => {
    remote = await remoteZfs(machine?.ssh ?? []);
    world = new ZfsWorld(remote, await remote.zfs.capabilities());
  });
  afterAll(() => remote?.cleanup());

  /** One `zfs` or another command, by hand. */
  const byHand = (...words: readonly string[]): Promise<string> => remote.shell(words.map(quotedForShell).join(' '));
  const streamByHand = (...words: readonly string[]): Promise<Uint8Array> =>
    remote.bytes(['zfs', 'send', ...words].map(quotedForShell).join(' '));
  const propertyOf = async (dataset: DatasetName, property: string): Promise<string> =>
    (await byHand('zfs', 'get', '-H', '-o', 'value', property, dataset)).trim();

  test('a volume is listed as one, and goes through full, incremental and clone streams', async () => {
    const root = await world.root();
    const replica = await world.root('otherPool');
    const devices = async (): Promise<string[]> =>
      (await remote.shell('ls -d /dev/zd* || true')).split('\n').slice(0, -1);
    const newDevice = async (known: readonly string[]): Promise<string> => {
      const find = async (): Promise<string | undefined> => (await devices()).find((each) => !known.includes(each));
      await expect.poll(find, { timeout: DEVICE_MS_MAX }).toBeDefined();
      return (await find()) ?? '';
    };
    const [source, target] = [below(root, 'volume'), below(replica, 'volume')];
    const before = await devices();
    await byHand('zfs', 'create', '-s', '-V', String(VOLUME_BYTES), source);
    expect((await world.dataset(source)).kind).toBe('volume');
    const device = await newDevice(before);
    const write = (text: string) => remote.shell(`dd of=${device} conv=notrunc,fsync 2>&1`, text);
    const [first, second] = [at(source, '1'), at(source, '2')];
    await write('first');
    await world.zfs.snapshot([first]);
    await write('second');
    await world.zfs.snapshot([second]);

    const { received } = await world.transfer(full(first), asNew(target, null, { readonly: 'on', 'pando:id': 'v' }));
    expect(codeOf(received)).toBe('done');
    expect(codeOf((await world.transfer(increment(first, second), into(target))).received)).toBe('done');
    expect(await world.history(target)).toEqual(await world.history(source));
    expect(await world.dataset(target)).toMatchObject({ kind: 'volume', properties: { 'pando:id': 'v' } });
    const copy = await newDevice([...before, device]);
    expect(await remote.shell(`head -c 6 ${copy}`)).toBe('second');

    const clone = below(root, 'clone');
    await world.zfs.clone(first, clone);
    await world.zfs.snapshot([at(clone, '3')]);
    const ofClone = await world.transfer(
      increment(first, at(clone, '3')),
      asNew(below(replica, 'clone'), at(target, '1')),
    );
    expect(codeOf(ofClone.received)).toBe('done');
    expect((await world.dataset(below(replica, 'clone'))).origin?.reference).toEqual(at(target, '1'));
    await world.zfs.destroy(below(replica, 'clone'));
    await world.zfs.destroy(target);
    expect((await world.zfs.list(replica)).map(({ name }) => name)).toEqual([replica]);
  });

  test('what a stream says of mount points, shares and powers is not taken, whatever it is received into', async () => {
    const root = await world.root();
    const target = world.fresh('otherPool');
    const hostile = ['mountpoint=/hostile', 'exec=off', 'setuid=off', 'devices=off', 'canmount=noauto', 'readonly=on'];
    const [first, second] = [await world.change(at(root, '1')), await world.change(at(root, '2'))];
    for (const property of [...hostile, 'pando:theirs=yes']) await byHand('zfs', 'set', property, root);
    const properties = { canmount: 'off', readonly: 'off', 'pando:mine': 'yes' };
    await world.receiveBytes(asNew(target, null, properties), await streamByHand('-p', `${root}@${first.snapshot}`));
    const taken = async () => {
      const { properties: local } = await world.dataset(target);
      const powers = await Promise.all(
        ['mountpoint', 'exec', 'setuid', 'devices'].map((name) => propertyOf(target, name)),
      );
      return { local, powers };
    };
    const unharmed = { local: properties, powers: [`/${target}`, 'on', 'on', 'on'] };
    expect(await taken()).toEqual(unharmed);
    // That the stream had properties at all
    expect(await propertyOf(target, 'pando:theirs')).toBe('yes');
    const later = ['-p', '-i', `${root}@${first.snapshot}`, `${root}@${second.snapshot}`];
    await world.receiveBytes(into(target), await streamByHand(...later));
    expect(await taken()).toEqual(unharmed);
    expect(await world.history(target)).toEqual(await world.history(root));
  });

  test('raw streams are received without their key, and increments onto them', async () => {
    const root = await world.root();
    const [source, target] = [below(root, 'secret'), world.fresh('otherPool')];
    const key = '/key of the test';
    await remote.shell(`head -c 32 /dev/urandom > ${quotedForShell(key)}`);
    const encryption = ['-o', 'encryption=on', '-o', 'keyformat=raw', '-o', `keylocation=file://${key}`];
    await byHand('zfs', 'create', ...encryption, source);
    const [first, second] = [await world.change(at(source, '1')), await world.change(at(source, '2'))];
    await byHand('zfs', 'unmount', source);
    await byHand('zfs', 'unload-key', source);
    await world.receiveBytes(
      asNew(target, null, { readonly: 'on', canmount: 'noauto' }),
      await streamByHand('-w', `${source}@${first.snapshot}`),
    );
    const later = ['-w', '-i', `${source}@${first.snapshot}`, `${source}@${second.snapshot}`];
    await world.receiveBytes(into(target), await streamByHand(...later));
    expect(await world.history(target)).toEqual(await world.history(source));
    expect(await propertyOf(target, 'keystatus')).toBe('unavailable');

    await remote.shell(`zfs load-key -L ${quotedForShell(`file://${key}`)} ${quotedForShell(target)}`);
    expect(await remote.readFile(target, 'file-2')).toBe('text of 2');
  });

  test('an increment from a bookmark is received, and bookmarks stand in nobody’s way', async () => {
    const root = await world.root();
    const target = world.fresh('otherPool');
    const source = below(root, 'source');
    await world.zfs.create(source);
    const [first, second] = [await world.change(at(source, '1')), await world.change(at(source, '2'))];
    await world.transfer(full(first), asNew(target));
    for (const { snapshot } of [first, second])
      await byHand('zfs', 'bookmark', `${source}@${snapshot}`, `${source}#${snapshot}`);
    await world.zfs.destroySnapshot(first);
    const history = await world.history(source);
    expect(history).toHaveLength(1);
    await world.receiveBytes(into(target), await streamByHand('-i', `${source}#1`, `${source}@2`));
    expect((await world.history(target)).slice(1)).toEqual(history);

    await world.change(at(source, '3'));
    await world.zfs.rollback(second, { destroyNewer: true });
    expect(await world.history(source)).toEqual(history);
    await world.zfs.destroy(source);
    expect((await world.zfs.list(root)).map(({ name }) => name)).toEqual([root]);
  });

  test('what a resumable receive left is in the way of other streams until it is given up', async () => {
    const root = await world.root();
    const target = world.fresh('otherPool');
    const first = await world.change(at(root, '1'));
    await remote.shell(`head -c 4000000 /dev/urandom > ${quotedForShell(`/${root}/large`)}`);
    const second = await world.change(at(root, '2'));
    await world.transfer(full(first), asNew(target));
    await remote.shell(
      `zfs send -i @1 ${quotedForShell(`${root}@2`)} | head -c 2000000 | zfs receive -s -u ${quotedForShell(target)} || true`,
    );
    expect(await propertyOf(target, 'receive_resume_token')).not.toBe('-');
    const listed = await world.zfs.list(target);
    expect(listed.map(({ name, snapshots }) => [name, snapshots.length])).toEqual([[target, 1]]);
    const bytes = await world.bytesOf(increment(first, second));
    const refusal = await world.refuses('ZFS_BUSY', [target], () => world.receiveBytes(into(target), bytes));
    expect(refusal.message).toContain('partially-complete state');
    await byHand('zfs', 'receive', '-A', target);
    await world.receiveBytes(into(target), bytes);
    expect(await world.history(target)).toEqual(await world.history(root));
  });

  test('a hold that someone else placed is listed, and keeps its snapshot', async () => {
    const root = await world.root();
    const snapshot = await world.change(at(root, '1'));
    await byHand('zfs', 'hold', 'backup of mine', `${root}@1`);
    expect(await world.zfs.holds([snapshot])).toEqual([['backup of mine']]);
    await world.refuses('ZFS_BUSY', [root], () => world.zfs.destroySnapshot(snapshot));
    expect(await world.zfs.release(tag('pando:other'), [snapshot])).toBe(false);
    await byHand('zfs', 'release', 'backup of mine', `${root}@1`);
  });
});
