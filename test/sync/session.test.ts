import { describe, expect, test } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { EventBody } from '../../src/core/events.ts';
import { ADMIN_TREE } from '../../src/core/ids.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { CALLS_OPEN_MAX } from '../../src/sync/calls.ts';
import { CREDIT_WINDOW_BYTES } from '../../src/sync/flow-control.ts';
import { HEARTBEAT_INTERVAL_MS, HEARTBEAT_TIMEOUT_MS } from '../../src/sync/heartbeat.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { MemoryNetwork } from '../../src/sync/memory-transport.ts';
import { encodeMessage } from '../../src/sync/message-codec.ts';
import { PROTOCOL_RANGE } from '../../src/sync/messages.ts';
import { HELLO_TIMEOUT_MS, Session } from '../../src/sync/session.ts';
import {
  addTree,
  caughtUp,
  connect,
  connectionPair,
  createNode,
  destroySnapshots,
  IMAGES,
  known,
  SECRETS,
  type SyncNode,
  takeSnapshots,
} from './world.ts';

const OVER = new PandoError('CONNECTION_CLOSED', 'The test is over.');

async function ownerWithSnapshots(count: number): Promise<SyncNode> {
  const owner = await createNode();
  await addTree(owner);
  await takeSnapshots(owner, 1, count);
  return owner;
}

describe('catching up', () => {
  test('a peer that knows nothing gets everything that it may read, both ways', async () => {
    const a = await ownerWithSnapshots(5);
    const b = await ownerWithSnapshots(7);
    await connect(a, b);
    await Promise.all([caughtUp(b, a), caughtUp(a, b)]);
    expect(known(b, a)).toEqual([1, 7]);
    expect(known(a, b)).toEqual([1, 9]);
    expect(b.history.graph(a.history.ownStream(IMAGES)).snapshotCount).toBe(5);
  });

  test('a peer that knows a part gets the rest', async () => {
    const a = await ownerWithSnapshots(5);
    const b = await createNode();
    const first = await connect(a, b);
    await caughtUp(b, a);
    first.sessionA.close(OVER);
    await first.sessionB.closed;
    await takeSnapshots(a, 6, 3);
    const { sessionB } = await connect(a, b);
    await caughtUp(b, a);
    expect(known(b, a)).toEqual([1, 10]);
    expect(sessionB.bytesReceived).toBeLessThan(2_000);
  });

  test('live events arrive as they happen and are acknowledged once stored', async () => {
    const a = await ownerWithSnapshots(1);
    const b = await createNode();
    const { sessionA } = await connect(a, b);
    await caughtUp(b, a);
    await takeSnapshots(a, 2, 1);
    await caughtUp(b, a);
    await sessionA.sync();
    expect(sessionA.acknowledged(a.history.ownStream(IMAGES))).toEqual({ incarnation: 1, seq: 4 });
  });

  test('a gap that was compacted is bridged by a checkpoint, and events follow on it', async () => {
    const a = await ownerWithSnapshots(5);
    const stream = a.history.ownStream(IMAGES);
    const b = await createNode();
    const first = await connect(a, b);
    await caughtUp(b, a);
    first.sessionA.close(OVER);
    await takeSnapshots(a, 6, 2_000);
    await a.history.compact(stream, 2_007);
    expect(await a.history.oldest(stream)).toBeGreaterThan(8);
    await connect(a, b);
    await caughtUp(b, a);
    expect(b.history.graph(stream).snapshotCount).toBe(2_005);
    await takeSnapshots(a, 2_006, 1);
    await caughtUp(b, a);
    expect(b.history.graph(stream).snapshotCount).toBe(2_006);
  });

  test('more events than the graph has entries are not worth sending: the graph is sent', async () => {
    const a = await ownerWithSnapshots(1);
    for (let round = 0; round < 10; round += 1) {
      await takeSnapshots(a, 100, 100);
      await destroySnapshots(a, 100, 100);
    }
    const b = await createNode();
    const { sessionB } = await connect(a, b);
    await caughtUp(b, a);
    expect(known(b, a)).toEqual([1, 2_003]);
    expect(sessionB.bytesReceived).toBeLessThan(2_000);
  });

  test('a checkpoint larger than the credit window arrives whole', async () => {
    const a = await createNode();
    await addTree(a);
    const text = 'x'.repeat(8_000);
    const root = [...a.history.graph(a.history.ownStream(IMAGES)).datasets.keys()][0];
    if (root === undefined) throw new Error('the tree has no root');
    const bodies = Array.from({ length: 800 }, (_, index): EventBody => {
      const id = `01980000-0000-7000-8000-${String(index).padStart(12, '0')}` as typeof root;
      return {
        type: 'dataset.created',
        dataset: id,
        kind: 'filesystem',
        guid: String(index + 2),
        name: `d${index}` as never,
        origin: null,
        owner: { node: a.node, epoch: 1 },
        properties: { 'test:text': text },
      };
    });
    await a.history.record(IMAGES, 'command', bodies);
    // Enough changes behind it that the graph is the smaller of the two.
    for (let value = 0; value < 2; value += 1) {
      const changes = Array.from({ length: 500 }, (): EventBody => {
        return { type: 'dataset.properties-changed', dataset: root, changed: { 'test:value': String(value) } };
      });
      await a.history.record(IMAGES, 'command', changes);
    }
    const b = await createNode();
    const { sessionB } = await connect(a, b);
    await caughtUp(b, a);
    expect(sessionB.bytesReceived).toBeGreaterThan(CREDIT_WINDOW_BYTES);
    expect(sessionB.bytesReceived).toBeLessThan(7_000_000);
    expect(b.history.graph(a.history.ownStream(IMAGES)).datasets.size).toBe(801);
  });
});

describe('what a peer may see', () => {
  test('trees that are not shared leave no trace, nor does the admin stream', async () => {
    const a = await ownerWithSnapshots(1);
    await addTree(a, SECRETS);
    await a.history.record(ADMIN_TREE, 'command', [
      { type: 'local-tree.added', tree: SECRETS, root: 'tank/secrets' as never },
    ]);
    const b = await createNode();
    const network = new MemoryNetwork();
    const [near, far] = await connectionPair(network, a.node, b.node);
    const heard: string[] = [];
    const watched = {
      ...pick(far),
      onFrame: (listener: (frame: Uint8Array) => void) =>
        far.onFrame((frame) => {
          heard.push(Buffer.from(frame).toString('latin1'));
          listener(frame);
        }),
    };
    new Session(near, a.context);
    const sessionB = new Session(watched, b.context);
    await sessionB.sync();
    await takeSnapshots(a, 2, 1, SECRETS);
    await takeSnapshots(a, 2, 1);
    await sessionB.sync();
    expect(b.history.streams().map(({ stream }) => stream)).toEqual([a.history.ownStream(IMAGES)]);
    expect(heard.join()).not.toContain('secrets');
    expect(heard.join()).not.toContain('.admin');
  });

  test('a tree that is shared later arrives then, and stops when it is shared no more', async () => {
    const a = await ownerWithSnapshots(1);
    await addTree(a, SECRETS);
    const b = await createNode();
    const { sessionA, sessionB } = await connect(a, b);
    await sessionB.sync();
    expect(known(b, a, SECRETS)).toBeNull();
    a.shared.add(SECRETS);
    sessionA.reconsider();
    await caughtUp(b, a, SECRETS);
    a.shared.delete(SECRETS);
    await takeSnapshots(a, 1, 1, SECRETS);
    await sessionB.sync();
    expect(known(b, a, SECRETS)).toEqual([1, 2]);
  });
});

function pick(connection: Awaited<ReturnType<typeof connectionPair>>[number]) {
  return {
    peer: connection.peer,
    get bufferedBytes() {
      return connection.bufferedBytes;
    },
    get bytesSent() {
      return connection.bytesSent;
    },
    get bytesReceived() {
      return connection.bytesReceived;
    },
    send: connection.send.bind(connection),
    drained: connection.drained.bind(connection),
    onClose: connection.onClose.bind(connection),
    close: connection.close.bind(connection),
  };
}

describe('sync', () => {
  test('a sync with nothing to do costs exactly one small frame each way', async () => {
    const a = await ownerWithSnapshots(3);
    const b = await createNode();
    const network = new MemoryNetwork();
    const [near, far] = await connectionPair(network, a.node, b.node);
    const frames = { near: [] as number[], far: [] as number[] };
    const counted = (connection: typeof near, counts: number[]) => ({
      ...pick(connection),
      onFrame: (listener: (frame: Uint8Array) => void) =>
        connection.onFrame((frame) => {
          counts.push(frame.length);
          listener(frame);
        }),
    });
    const sessionA = new Session(counted(near, frames.near), a.context);
    const sessionB = new Session(counted(far, frames.far), b.context);
    await sessionB.sync();
    expect(known(b, a)).toEqual([1, 5]);
    // Both have asked their first question, and what they brought is acknowledged.
    await sessionA.sync();
    await sessionB.sync();
    frames.near.length = 0;
    frames.far.length = 0;
    expect(await sessionB.sync()).toMatchObject({ changed: false });
    expect(frames.near.length).toBe(1);
    expect(frames.far.length).toBe(1);
    expect(Math.max(...frames.near, ...frames.far)).toBeLessThan(300);
  });

  test('with refresh, the peer looks at its ZFS first, and what it finds arrives before the answer', async () => {
    const a = await ownerWithSnapshots(1);
    const b = await createNode();
    a.refresh = () => takeSnapshots(a, 2, 10);
    const { sessionB } = await connect(a, b);
    await sessionB.sync();
    const before = sessionB.bytesReceived + sessionB.bytesSent;
    expect(await sessionB.sync({ refresh: true })).toMatchObject({ changed: true });
    expect(known(b, a)).toEqual([1, 13]);
    expect(sessionB.bytesReceived + sessionB.bytesSent - before).toBeLessThan(4_096);
    expect(await sessionB.sync()).toMatchObject({ changed: false });
  });

  test('syncs that are asked for at the same time share their frames', async () => {
    const a = await ownerWithSnapshots(1);
    const b = await createNode();
    let refreshes = 0;
    a.refresh = async () => {
      refreshes += 1;
    };
    const { sessionB } = await connect(a, b);
    await sessionB.sync();
    await Promise.all(Array.from({ length: 20 }, () => sessionB.sync({ refresh: true })));
    expect(refreshes).toBeLessThanOrEqual(2);
  });

  test('a refresh that fails is told to who asked, and the session goes on', async () => {
    const a = await ownerWithSnapshots(1);
    const b = await createNode();
    a.refresh = () => Promise.reject(new PandoError('ZFS_UNAVAILABLE', 'There is no zfs here.', { command: 'zfs' }));
    const { sessionB } = await connect(a, b);
    await expect(sessionB.sync({ refresh: true })).rejects.toMatchObject({
      code: 'ZFS_UNAVAILABLE',
      message: 'There is no zfs here.',
      evidence: { command: 'zfs' },
    });
    expect(await sessionB.sync()).toMatchObject({ changed: false });
  });

  test('a sync that is under way when the session ends is rejected', async () => {
    const a = await ownerWithSnapshots(1);
    const b = await createNode();
    a.refresh = () => new Promise(() => undefined);
    const { sessionA, sessionB } = await connect(a, b);
    const sync = sessionB.sync({ refresh: true });
    sessionA.close(OVER);
    await expect(sync).rejects.toMatchObject({
      code: 'CONNECTION_CLOSED',
      message: expect.stringContaining('The test is over.'),
    });
    await expect(sessionB.sync()).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' });
  });
});

describe('a log that forgot', () => {
  test('a node that lost its log begins a new incarnation, which the peer follows', async () => {
    const identity = createIdentity();
    const before = await createNode({ identity });
    await addTree(before);
    await takeSnapshots(before, 1, 10);
    const b = await createNode();
    const first = await connect(before, b);
    await caughtUp(b, before);
    first.sessionA.close(OVER);
    const after = await createNode({ identity, log: new MemoryLog() });
    await addTree(after);
    await takeSnapshots(after, 5, 3);
    await connect(after, b);
    await caughtUp(b, after);
    expect(known(b, after)).toEqual([2, 0]);
    expect(b.history.graph(after.history.ownStream(IMAGES)).snapshotCount).toBe(3);
    await takeSnapshots(after, 20, 1);
    await caughtUp(b, after);
    expect(known(b, after)).toEqual([2, 1]);
  });

  test('a different history of the same length counts as lost, too', async () => {
    const identity = createIdentity();
    const before = await createNode({ identity });
    await addTree(before);
    await takeSnapshots(before, 1, 3);
    const b = await createNode();
    const first = await connect(before, b);
    await caughtUp(b, before);
    first.sessionA.close(OVER);
    const after = await createNode({ identity });
    await addTree(after);
    await takeSnapshots(after, 50, 9);
    await connect(after, b);
    await caughtUp(b, after);
    expect(known(b, after)).toEqual([2, 0]);
    expect(b.history.graph(after.history.ownStream(IMAGES)).snapshotCount).toBe(9);
  });

  test('a tree that comes back only while the session is up begins a new incarnation then', async () => {
    const identity = createIdentity();
    const before = await createNode({ identity });
    await addTree(before);
    await takeSnapshots(before, 1, 3);
    const b = await createNode();
    const first = await connect(before, b);
    await caughtUp(b, before);
    first.sessionA.close(OVER);
    const after = await createNode({ identity });
    const { sessionB } = await connect(after, b);
    await sessionB.sync();
    await addTree(after);
    await sessionB.sync();
    expect(known(b, after)?.[0]).toBe(2);
    await caughtUp(b, after);
    expect(b.history.graph(after.history.ownStream(IMAGES)).snapshotCount).toBe(0);
  });
});

describe('a link that fails', () => {
  test('an idle session stays up through heartbeats', async () => {
    const [a, b] = [await createNode(), await createNode()];
    const { sessionA } = await connect(a, b);
    let ended = false;
    void sessionA.closed.then(() => {
      ended = true;
    });
    for (let beat = 0; beat < 10; beat += 1) {
      await Promise.all([a.timers.advance(HEARTBEAT_INTERVAL_MS), b.timers.advance(HEARTBEAT_INTERVAL_MS)]);
      await new Promise(setImmediate);
      await new Promise(setImmediate);
    }
    expect(ended).toBe(false);
    await sessionA.sync();
  });

  test('a half-open connection is given up after the heartbeat limit', async () => {
    const [a, b] = [await createNode(), await createNode()];
    const { network, sessionA, sessionB } = await connect(a, b);
    await sessionA.sync();
    network.stall(a.node, b.node);
    const sync = sessionA.sync();
    const rejected = expect(sync).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' });
    await a.timers.advance(HEARTBEAT_TIMEOUT_MS + HEARTBEAT_INTERVAL_MS);
    expect((await sessionA.closed).code).toBe('PROTOCOL_TIMEOUT');
    await rejected;
    sessionB.close(OVER);
  });

  test('a peer that makes calls and reads no answer is given up, however small the answers are', async () => {
    const a = await createNode();
    a.handlers.set('nothing', async () => null);
    const { node } = createIdentity();
    const [near, far] = await connectionPair(new MemoryNetwork(), node, a.node);
    let frames = 0;
    let bytes = 0;
    const unread = {
      ...pick(far),
      onFrame: far.onFrame.bind(far),
      send: (frame: Uint8Array) => {
        frames += 1;
        bytes += frame.length;
      },
    };
    Object.defineProperty(unread, 'bufferedBytes', { get: () => bytes });
    const session = new Session(unread, a.context);
    let isOver = false;
    void session.closed.then(() => {
      isOver = true;
    });
    near.send(encodeMessage({ type: 'hello', protocol: PROTOCOL_RANGE, node, software: '1', capabilities: [] }));
    for (let id = 1; !isOver; id += 1) {
      near.send(encodeMessage({ type: 'request', id, method: 'nothing', params: null }));
      if (id % CALLS_OPEN_MAX === 0) await new Promise(setImmediate);
    }
    expect((await session.closed).code).toBe('PROTOCOL_TIMEOUT');
    expect(frames).toBeLessThan(30_000);
  });

  test('a peer that never says hello is given up', async () => {
    const a = await createNode();
    const [, far] = await connectionPair(new MemoryNetwork(), createIdentity().node, a.node);
    const session = new Session(far, a.context);
    await a.timers.advance(HELLO_TIMEOUT_MS);
    expect((await session.closed).code).toBe('PROTOCOL_TIMEOUT');
  });

  test('a session that ended leaves no timer behind', async () => {
    const [a, b] = [await createNode(), await createNode()];
    const { sessionA, sessionB } = await connect(a, b);
    sessionA.close(OVER);
    await Promise.all([sessionA.closed, sessionB.closed]);
    expect([a.timers.pending, b.timers.pending]).toEqual([0, 0]);
  });

  test('a slow reader costs a bounded amount of memory, and gets everything in the end', async () => {
    const a = await ownerWithSnapshots(1);
    for (let first = 2; first < 120_000; first += 8_000) await takeSnapshots(a, first, 8_000);
    const b = await createNode();
    const network = new MemoryNetwork();
    const [near, far] = await connectionPair(network, a.node, b.node);
    let most = 0;
    const watched = {
      ...pick(near),
      onFrame: near.onFrame.bind(near),
      send: (frame: Uint8Array) => {
        near.send(frame);
        most = Math.max(most, near.bufferedBytes);
      },
    };
    const sessionA = new Session(watched, a.context);
    new Session(far, b.context);
    await sessionA.opened;
    await a.history.streams();
    network.stall(a.node, b.node);
    for (let turn = 0; turn < 200; turn += 1) await new Promise(setImmediate);
    expect(near.bufferedBytes).toBeLessThan(1_000_000);
    network.mend(a.node, b.node);
    await caughtUp(b, a);
    expect(most).toBeLessThan(1_000_000);
    expect(far.bytesReceived).toBeGreaterThan(CREDIT_WINDOW_BYTES);
  });
});
