/** The part of the Zfs contract about receives that were cut short and go on later. See `zfs-contract.ts`. */
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import type { DatasetName, ResumeToken } from '../../src/core/ids.ts';
import { PLAIN_STREAM, RAW_STREAM } from '../../src/core/stream-flags.ts';
import type { ReceiveRequest, SendRequest } from '../../src/zfs/zfs.ts';
import { asNew, at, below, codeOf, full, increment, into, outcomeOf, type ZfsWorld } from './zfs-world.ts';

const FILES = 12;
/** Together more than a receive holds back before it writes, in characters each. */
const FILE_CHARACTERS = 200_000;
const CANNOT = 'this ZFS cannot resume';

export function zfsResumeContract(use: () => ZfsWorld): void {
  /** A source with two snapshots, both large. */
  async function large(world: ZfsWorld) {
    const root = await world.root();
    const write = async (round: string): Promise<void> => {
      for (let file = 0; file < FILES; file += 1) {
        await world.underTest.writeFile(root, `${round}-${file}`, noise(FILE_CHARACTERS, file));
      }
    };
    await write('a');
    const first = await world.change(at(root, '1'));
    await write('b');
    const second = await world.change(at(root, '2'));
    return { root, first, second };
  }

  /** The same with a replica of the first in the other pool. */
  async function behind(world: ZfsWorld) {
    const source = await large(world);
    const target = world.fresh('otherPool');
    await world.transfer(full(source.first), asNew(target));
    return { ...source, target };
  }

  /** Receives two thirds of the bytes, which is a failure, and gives the token of what stays. */
  async function cutShort(world: ZfsWorld, request: ReceiveRequest, bytes: Buffer): Promise<ResumeToken> {
    const part = bytes.subarray(0, Math.floor((bytes.length * 2) / 3));
    const outcome = await outcomeOf(world.receiveBytes({ ...request, keepPartial: true }, part));
    expect(codeOf(outcome)).toBe('ZFS_STREAM_INVALID');
    const { resumeToken } = await world.dataset(request.target);
    if (resumeToken === null) throw new Error('nothing was kept');
    return resumeToken;
  }

  async function resume(world: ZfsWorld, target: DatasetName, request: SendRequest, token: ResumeToken) {
    return world.transfer({ ...request, resumeToken: token }, { ...into(target), keepPartial: true });
  }

  async function goOn(...about: Parameters<typeof resume>): Promise<void> {
    const { sent, received } = await resume(...about);
    expect([codeOf(sent), codeOf(received)]).toEqual(['done', 'done']);
  }

  test('a first stream that was cut short goes on where it was, with the properties that it began with', async ({
    skip,
  }) => {
    const world = use();
    if (!world.capabilities.resumableReceive) return skip(CANNOT);
    const { root, first } = await large(world);
    const target = world.fresh('otherPool');
    const bytes = await world.bytesOf(full(first));
    const token = await cutShort(world, asNew(target, null, { 'pando:id': 'x', readonly: 'on' }), bytes);
    expect(await world.dataset(target)).toMatchObject({ snapshots: [], properties: { 'pando:id': 'x' } });
    const one = await world.snapshot(first);
    expect(await world.zfs.readToken(token)).toMatchObject({ toGuid: one.guid, fromGuid: null, snapshot: first });
    const { sent, received } = await resume(world, target, full(first), token);
    expect([codeOf(sent), codeOf(received)]).toEqual(['done', 'done']);
    expect('value' in received && (received.value.bytes ?? 0)).toBeLessThan(bytes.length / 2);
    expect(await world.history(target)).toEqual((await world.history(root)).slice(0, 1));
    expect(await world.dataset(target)).toMatchObject({
      resumeToken: null,
      properties: { 'pando:id': 'x', readonly: 'on' },
    });
    expect(await world.underTest.readFile(target, `a-${FILES - 1}`)).toBe(noise(FILE_CHARACTERS, FILES - 1));
  });

  test('an increment that was cut short goes on where it was', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.resumableReceive) return skip(CANNOT);
    const { root, first, second, target } = await behind(world);
    const token = await cutShort(world, into(target), await world.bytesOf(increment(first, second)));
    const [one, two] = [await world.snapshot(first), await world.snapshot(second)];
    const point = { toGuid: two.guid, fromGuid: one.guid, flags: PLAIN_STREAM, snapshot: second };
    expect(await world.zfs.readToken(token)).toEqual(point);
    expect(await world.history(target)).toHaveLength(1);
    expect(codeOf((await resume(world, target, increment(first, second), token)).received)).toBe('done');
    expect(await world.history(target)).toEqual(await world.history(root));
    expect(await world.underTest.readFile(target, 'b-0')).toBe(noise(FILE_CHARACTERS, 0));
  });

  test('what was cut short is in the way of other streams and keeps its base, until it is given up', async ({
    skip,
  }) => {
    const world = use();
    if (!world.capabilities.resumableReceive) return skip(CANNOT);
    const { root, first, second } = await large(world);
    const parent = await world.root('otherPool');
    const [target, fresh] = [below(parent, 'target'), below(parent, 'fresh')];
    await world.transfer(full(first), asNew(target));
    const bytes = await world.bytesOf(increment(first, second));
    const whole = await world.bytesOf(full(first));
    await cutShort(world, into(target), bytes);
    await cutShort(world, asNew(fresh), whole);
    await world.refuses('ZFS_BUSY', [parent], () => world.receiveBytes(into(target), bytes));
    await world.refuses('ZFS_DATASET_EXISTS', [parent], () => world.receiveBytes(asNew(fresh), whole));
    await world.refuses('ZFS_HAS_DEPENDENTS', [parent], () => world.zfs.destroySnapshot(at(target, '1')));
    await world.refuses('ZFS_HAS_DEPENDENTS', [parent], () => world.zfs.destroy(target));
    for (const name of [target, fresh, target, below(parent, 'missing')]) await world.zfs.abandonReceive(name);
    expect((await world.zfs.list(parent)).map(({ name, resumeToken }) => [name, resumeToken])).toEqual([
      [parent, null],
      [target, null],
    ]);
    await world.receiveBytes(into(target), bytes);
    await world.receiveBytes(asNew(fresh), whole);
    expect(await world.history(target)).toEqual(await world.history(root));
  });

  test('a receive that is aborted keeps what came, where that is asked for', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.resumableReceive) return skip(CANNOT);
    const { root, first, second, target } = await behind(world);
    const bytes = await world.bytesOf(increment(first, second));
    const stream = new PassThrough({ highWaterMark: bytes.length });
    const abort = new AbortController();
    const request = { ...into(target), keepPartial: true };
    const receiving = outcomeOf(world.zfs.receive(request, { kind: 'stream', stream }, abort.signal));
    stream.write(bytes.subarray(0, Math.floor((bytes.length * 2) / 3)));
    // Once all of it was taken
    await expect.poll(() => stream.readableLength, { timeout: 60_000 }).toBe(0);
    abort.abort();
    expect(codeOf(await receiving)).toBe('ZFS_ABORTED');
    // What came in the last moments may not have been taken in: then there is nothing to go on with, and it begins anew
    const { resumeToken } = await world.dataset(target);
    if (resumeToken === null) await world.receiveBytes(into(target), bytes);
    else await goOn(world, target, increment(first, second), resumeToken);
    expect(await world.history(target)).toEqual(await world.history(root));
  });

  test('what was altered on the way never becomes part of what is kept when it is cut short', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.resumableReceive) return skip(CANNOT);
    const { root, first, second, target } = await behind(world);
    const bytes = await world.bytesOf(increment(first, second));
    const altered = Buffer.from(bytes.subarray(0, Math.floor((bytes.length * 2) / 3)));
    const inFile = Math.floor((bytes.length * 5.5) / FILES);
    altered[inFile] = (altered[inFile] ?? 0) ^ 1;
    const outcome = await outcomeOf(world.receiveBytes({ ...into(target), keepPartial: true }, altered));
    expect(codeOf(outcome)).toBe('ZFS_STREAM_INVALID');
    const { resumeToken } = await world.dataset(target);
    if (resumeToken === null) await world.receiveBytes(into(target), bytes);
    else await goOn(world, target, increment(first, second), resumeToken);
    expect(await world.history(target)).toEqual(await world.history(root));
    for (let file = 0; file < FILES; file += 1) {
      const text = await world.underTest.readFile(target, `b-${file}`);
      expect(text === noise(FILE_CHARACTERS, file), `b-${file} is as it was sent`).toBe(true);
    }
  });

  test('a token whose snapshot is gone is still read, and nothing is sent for it', async ({ skip }) => {
    const world = use();
    if (!world.capabilities.resumableReceive) return skip(CANNOT);
    const { root, first, second, target } = await behind(world);
    const { guid } = await world.snapshot(second);
    const token = await cutShort(world, into(target), await world.bytesOf(increment(first, second)));
    await world.zfs.destroySnapshot(second);
    expect(await world.zfs.readToken(token)).toMatchObject({ toGuid: guid, snapshot: null });
    const request = { ...increment(first, second), resumeToken: token };
    await world.refuses('ZFS_NOT_FOUND', [root], () => world.bytesOf(request));
    await world.zfs.abandonReceive(target);
  });

  test('what is no token says nothing', async () => {
    const { zfs } = use();
    for (const text of ['', '-', 'no token', '-t', '1-2-3-4', `1-${'0'.repeat(10_000)}`]) {
      expect(await zfs.readToken(text as ResumeToken)).toBeNull();
    }
  });

  test('a raw clone stream that was cut short goes on, raw, as a clone', async ({ skip }) => {
    const world = use();
    const { encryption } = world.underTest;
    if (!world.capabilities.resumableReceive || encryption === undefined) return skip(CANNOT);
    const root = await world.root();
    const replica = await world.root('otherPool');
    const [source, clone] = [below(root, 'secret'), below(root, 'clone')];
    await encryption.create(source);
    const base = await world.change(at(source, 'base'));
    await world.zfs.clone(base, clone);
    for (let file = 0; file < FILES; file += 1) {
      await world.underTest.writeFile(clone, `c-${file}`, noise(FILE_CHARACTERS, file));
    }
    const last = await world.change(at(clone, '1'));
    await world.transfer(full(base, RAW_STREAM), asNew(below(replica, 'secret')));
    const request = increment(base, last, false, RAW_STREAM);
    const origin = at(below(replica, 'secret'), 'base');
    const target = below(replica, 'clone');
    const token = await cutShort(world, asNew(target, origin), await world.bytesOf(request));
    expect((await world.zfs.readToken(token))?.flags.raw).toBe(true);
    expect(codeOf((await resume(world, target, request, token)).received)).toBe('done');
    expect(await world.dataset(target)).toMatchObject({ origin: { reference: origin }, encrypted: true });
    expect(await world.history(target)).toEqual(await world.history(clone));
  });
}

/** Text that does not compress well, another one for each seed (a linear congruential generator, Numerical Recipes §7.1). */
function noise(characters: number, seed: number): string {
  const bytes = Buffer.alloc(characters);
  let state = seed + 1;
  for (let index = 0; index < characters; index += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[index] = 33 + ((state >>> 24) % 90);
  }
  return bytes.toString('latin1');
}
