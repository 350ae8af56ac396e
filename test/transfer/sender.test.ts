import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import { parseTransferId, type ResumeToken, type TransferId, type TreeName, uuidFrom } from '../../src/core/ids.ts';
import { PLAIN_STREAM } from '../../src/core/stream-flags.ts';
import { FINISH, OUTCOME, PREPARE, type Prepared, TRANSFERS_PER_PEER_MAX } from '../../src/transfer/protocol.ts';
import { at, codeOf, dataset, IMAGES, introduce, MemoryWorld, type WorldNode } from '../main/memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
/** What alpha's ZFS waits for before it places holds. */
let beforeHold: () => Promise<void>;
/** Resolves when alpha's ZFS is told to release holds. */
let released: Promise<void>;

const transferId = (number: number): TransferId =>
  parseTransferId(uuidFrom(number, new Uint8Array(16).fill(number % 256)));

beforeEach(async () => {
  beforeHold = async () => undefined;
  world = new MemoryWorld();
  const release = later();
  released = release.promise;
  alpha = await world.start('alpha', undefined, {
    onCommand: async (command) => {
      if (command.includes('hold')) await beforeHold();
      if (command.includes('release')) release.resolve();
    },
  });
  beta = await world.start('beta');
  await introduce(alpha, beta);
  await alpha.zfs.create(dataset('alpha/images'));
  alpha.zfs.write('alpha/images', 'file', 'x'.repeat(10_000));
  await alpha.zfs.snapshot([at('alpha/images', '1')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await beta.node.hub.reach(alpha.node.id);
});

afterEach(() => world.stop());

/** Calls a method of the sender as a receiver does. */
async function call(method: string, params: unknown, signal?: AbortSignal): Promise<unknown> {
  const session = await beta.node.hub.reach(alpha.node.id);
  return session.call(method, params, signal === undefined ? {} : { signal });
}

function request(number = 1, tree: TreeName = IMAGES) {
  const root = alpha.node.trees.graph(IMAGES).named('' as never);
  const snapshot = { dataset: root?.id, guid: root?.snapshots[0]?.guid };
  return {
    transfer: transferId(number),
    tree,
    streams: [{ snapshot, base: null, flags: null, resume: null }],
    mode: 'sealed',
    takes: 'wcLe',
    resumable: false,
  };
}

async function heldOnAlpha(): Promise<number> {
  return (await alpha.zfs.list(dataset('alpha')))
    .flatMap(({ snapshots }) => snapshots)
    .reduce((sum, { userrefs }) => sum + userrefs, 0);
}

function later() {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/** A gate that the holds have to pass, and the moment at which the first stands before it. */
function gate() {
  const [reached, open] = [later(), later()];
  beforeHold = async () => {
    reached.resolve();
    await open.promise;
  };
  return { reached: reached.promise, open: open.resolve };
}

describe('a sender', () => {
  it('holds what it offers until the receiver has finished', async () => {
    await call(PREPARE, request());
    expect(await heldOnAlpha()).toBe(1);
    await call(FINISH, { transfer: transferId(1), outcome: 'completed', bytes: 0, received: [], resumes: false });
    expect(await heldOnAlpha()).toBe(0);
  });

  it('gives a stream for its ticket once, and none for another', async () => {
    const { tickets } = (await call(PREPARE, request())) as Prepared;
    const { signal } = new AbortController();
    const stream = await beta.node.hub.openData(alpha.node.id, tickets[0] ?? '', signal);
    stream.resume();
    await new Promise((resolve) => stream.once('end', resolve));
    const again = beta.node.hub.openData(alpha.node.id, tickets[0] ?? '', signal);
    expect(await codeOf(again)).toBe('PEER_REFUSED');
    const guessed = Buffer.alloc(32).toString('base64url');
    expect(await codeOf(beta.node.hub.openData(alpha.node.id, guessed, signal))).toBe('PEER_REFUSED');
    expect(await call(OUTCOME, { transfer: transferId(1), stream: 0 })).toMatchObject({ failure: null });
  });

  it("gives nobody a stream for another peer's ticket, and lets nobody finish another's transfer", async () => {
    const gamma = await world.start('gamma');
    await introduce(alpha, gamma);
    const { tickets } = (await call(PREPARE, request())) as Prepared;
    const session = await gamma.node.hub.reach(alpha.node.id);
    const { signal } = new AbortController();
    expect(await codeOf(gamma.node.hub.openData(alpha.node.id, tickets[0] ?? '', signal))).toBe('PEER_REFUSED');
    const finish = session.call(FINISH, {
      transfer: transferId(1),
      outcome: 'completed',
      bytes: 0,
      received: [],
      resumes: false,
    });
    expect(await codeOf(finish)).toBe('TRANSFER_REFUSED');
    expect(await heldOnAlpha()).toBe(1);
  });

  it('refuses a tree that is not shared in the words for one that does not exist', async () => {
    const said = async (tree: string): Promise<string> => {
      const error = await call(PREPARE, request(1, tree as TreeName)).catch((thrown: unknown) => thrown);
      if (!(error instanceof PandoError)) throw error;
      return `${error.code} ${error.message.replaceAll(tree, 'TREE')}`;
    };
    const missing = await said('nothing');
    await alpha.node.grants.give(beta.node.id, { trees: 'other-*', role: 'reader' });
    const ended = new Promise((resolve) => beta.node.hub.onDisconnected(resolve));
    await alpha.node.grants.revoke(beta.node.id, '*');
    await ended;
    await beta.node.hub.reach(alpha.node.id);
    expect(missing).toMatch(/^TREE_UNKNOWN/);
    expect(await said(IMAGES)).toBe(missing);
    expect(await heldOnAlpha()).toBe(0);
  });

  it('refuses a snapshot that it does not have, and more transfers than its limit', async () => {
    const unknown = {
      ...request(),
      streams: [{ ...request().streams[0], snapshot: { ...request().streams[0]?.snapshot, guid: '1' } }],
    };
    expect(await codeOf(call(PREPARE, unknown))).toBe('TRANSFER_REFUSED');
    for (let number = 0; number < TRANSFERS_PER_PEER_MAX; number += 1) await call(PREPARE, request(number));
    expect(await codeOf(call(PREPARE, request(99)))).toBe('TRANSFER_REFUSED');
    expect(await codeOf(call(PREPARE, request(0)))).toBe('TRANSFER_REFUSED');
    await call(FINISH, { transfer: transferId(3), outcome: 'failed', bytes: 0, received: [], resumes: false });
    await call(PREPARE, request(99));
  });
});

describe('what a peer wants to go on with', () => {
  /** Beta has half of alpha's snapshot, and asks for a stream with the token of that. */
  async function tokenOf(name: string): Promise<ResumeToken> {
    const whole = new PassThrough();
    const { signal } = new AbortController();
    const snapshot = { snapshot: at(name, '1'), base: null, flags: PLAIN_STREAM, resumeToken: null };
    const [chunks] = await Promise.all([
      whole.toArray(),
      alpha.zfs.send(snapshot, { kind: 'stream', stream: whole }, signal),
    ]);
    const bytes = Buffer.concat(chunks as Buffer[]);
    const stream = new PassThrough();
    stream.end(bytes.subarray(0, bytes.length - 1));
    const target = dataset('beta/part');
    const create = { origin: null, properties: {}, snapshot: null };
    const request = { target, create, overPlaceholder: false, baseHeld: false, expected: null, keepPartial: true };
    await codeOf(beta.zfs.receive(request, { kind: 'stream', stream }, signal));
    return (await beta.zfs.listOnly([target]))[0]?.resumeToken ?? expect.fail('nothing was kept');
  }

  const wanting = (number: number, resume: string) => ({
    ...request(number),
    resumable: true,
    streams: request(number).streams.map((stream) => ({ ...stream, resume })),
  });

  it('is refused when it names another snapshot, or nothing at all', async () => {
    await alpha.zfs.create(dataset('alpha/secret'));
    alpha.zfs.write('alpha/secret', 'file', 'x');
    await alpha.zfs.snapshot([at('alpha/secret', '1')]);
    const foreign = await tokenOf('alpha/secret');
    expect(await codeOf(call(PREPARE, wanting(1, foreign)))).toBe('TRANSFER_REFUSED');
    expect(await codeOf(call(PREPARE, wanting(1, 'no token')))).toBe('TRANSFER_REFUSED');
    expect(await heldOnAlpha()).toBe(0);
    await beta.zfs.abandonReceive(dataset('beta/part'));
    expect(await call(PREPARE, wanting(1, await tokenOf('alpha/images')))).toMatchObject({ mode: 'sealed' });
  });

  it('is held when the link is lost under a stream, until the peer asks again', async () => {
    alpha.zfs.write('alpha/images', 'large', 'x'.repeat(20_000_000));
    await alpha.zfs.snapshot([at('alpha/images', '2')]);
    await alpha.node.verifier.verify(IMAGES).catch(() => undefined);
    const { tickets } = (await call(PREPARE, { ...request(), resumable: true })) as Prepared;
    const { signal } = new AbortController();
    const stream = await beta.node.hub.openData(alpha.node.id, tickets[0] ?? '', signal);
    stream.on('error', () => undefined);
    stream.destroy();
    expect(await call(OUTCOME, { transfer: transferId(1), stream: 0 })).not.toMatchObject({ failure: null });
    world.network.cut(alpha.node.id, beta.node.id);
    world.network.mend(alpha.node.id, beta.node.id);
    expect(await heldOnAlpha()).toBe(1);
    await call(PREPARE, { ...request(2), resumable: true });
    await call(FINISH, { transfer: transferId(2), outcome: 'completed', bytes: 0, received: [], resumes: false });
    await expect.poll(heldOnAlpha).toBe(0);
  });
});

describe('a request that is given up while its holds are being placed', () => {
  it('leaves no hold when the caller cancels it', async () => {
    const { reached, open } = gate();
    const cancel = new AbortController();
    const preparing = codeOf(call(PREPARE, request(), cancel.signal));
    await reached;
    cancel.abort();
    expect(await preparing).toBe('CALL_CANCELLED');
    // Answered after the cancel was read
    await call(OUTCOME, { transfer: transferId(1), stream: 0 });
    open();
    await released;
    await expect.poll(heldOnAlpha).toBe(0);
  });

  it('leaves no hold when the peer is gone', async () => {
    const { reached, open } = gate();
    const preparing = codeOf(call(PREPARE, request()));
    await reached;
    world.network.cut(alpha.node.id, beta.node.id);
    expect(await preparing).toBe('CONNECTION_CLOSED');
    open();
    await released;
    await expect.poll(heldOnAlpha).toBe(0);
  });

  it('leaves no hold when the node stops', async () => {
    const { reached, open } = gate();
    const preparing = call(PREPARE, request()).catch(() => undefined);
    await reached;
    const stopping = alpha.node.stop();
    open();
    await Promise.all([stopping, preparing]);
    expect(await heldOnAlpha()).toBe(0);
  });
});
