import { expect, test } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import { CALLS_OPEN_MAX } from '../../src/sync/calls.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { encodeMessage } from '../../src/sync/message-codec.ts';
import { type Message, PROTOCOL_RANGE } from '../../src/sync/messages.ts';
import { Session } from '../../src/sync/session.ts';
import { type Connection, FRAME_BYTES_MAX } from '../../src/sync/transport.ts';
import { connect, createNode, Puppet } from './world.ts';

const OVER = new PandoError('CONNECTION_CLOSED', 'The test is over.');

async function pair() {
  const [a, b] = [await createNode(), await createNode()];
  return { a, b, ...(await connect(a, b)) };
}

/** A promise and the way to resolve it. */
function latch<T = void>() {
  let open: (value: T) => void = () => undefined;
  const passed = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { passed, open };
}

test('a call reaches its handler with the caller and the parameters, and brings back the result', async () => {
  const { a, b, sessionA, sessionB } = await pair();
  b.handlers.set('echo', async (peer, params) => ({ peer, params }));
  a.handlers.set('add', async (_peer, params) => (params as number[]).reduce((sum, each) => sum + each, 0));
  const params = { list: [1, 'two', null, { three: 3.5 }], bytes: Buffer.from('bytes') };
  expect(await sessionA.call('echo', params)).toEqual({ peer: a.node, params });
  expect(await sessionB.call('add', [1, 2, 3])).toBe(6);
});

test('a handler without a result answers null', async () => {
  const { b, sessionA } = await pair();
  b.handlers.set('nothing', async () => undefined);
  expect(await sessionA.call('nothing', null)).toBeNull();
});

test('a PandoError comes back with code, message and evidence', async () => {
  const { b, sessionA } = await pair();
  b.handlers.set('fail', async () => {
    throw new PandoError('TRANSFER_REFUSED', 'No grant.', { tree: 'images', bytes: 12n });
  });
  const call = sessionA.call('fail', null);
  await expect(call).rejects.toBeInstanceOf(PandoError);
  await expect(call).rejects.toMatchObject({
    code: 'TRANSFER_REFUSED',
    message: 'No grant.',
    evidence: { tree: 'images', bytes: '12' },
  });
});

test('any other error is reported where it happened and only hinted at elsewhere', async () => {
  const { b, sessionA } = await pair();
  const bug = new TypeError('x is not a function at /secret/path');
  b.handlers.set('bug', async () => {
    throw bug;
  });
  await expect(sessionA.call('bug', null)).rejects.toMatchObject({
    code: 'INTERNAL',
    message: expect.not.stringContaining('secret'),
  });
  expect(b.reported).toEqual([bug]);
});

test('a method that the peer does not know is refused', async () => {
  const { sessionA } = await pair();
  await expect(sessionA.call('constructor', null)).rejects.toMatchObject({ code: 'PROTOCOL_UNEXPECTED' });
});

test('giving up a call rejects it at once and aborts the handler', async () => {
  const { b, sessionA } = await pair();
  const started = latch();
  const aborted = latch<unknown>();
  b.handlers.set('slow', (_peer, _params, signal) => {
    started.open();
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        aborted.open(signal.reason);
        reject(signal.reason);
      });
    });
  });
  const controller = new AbortController();
  const call = sessionA.call('slow', null, { signal: controller.signal });
  await started.passed;
  controller.abort();
  await expect(call).rejects.toMatchObject({ code: 'CALL_CANCELLED' });
  expect(await aborted.passed).toMatchObject({ code: 'CALL_CANCELLED' });
  await expect(sessionA.call('slow', null, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: 'CALL_CANCELLED',
  });
});

test('when the session ends, open calls are rejected and running handlers aborted', async () => {
  const { b, sessionA, sessionB } = await pair();
  const started = latch();
  const aborted = latch<unknown>();
  b.handlers.set('slow', (_peer, _params, signal) => {
    started.open();
    signal.addEventListener('abort', () => aborted.open(signal.reason));
    return new Promise(() => undefined);
  });
  const call = sessionA.call('slow', null);
  await started.passed;
  sessionB.close(OVER);
  await expect(call).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' });
  expect(await aborted.passed).toMatchObject({ code: 'CONNECTION_CLOSED' });
  await expect(sessionA.call('slow', null)).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' });
});

test('more calls than the limit wait for their turn', async () => {
  const { b, sessionA } = await pair();
  let running = 0;
  let most = 0;
  b.handlers.set('count', async (_peer, params) => {
    running += 1;
    most = Math.max(most, running);
    await new Promise(setImmediate);
    running -= 1;
    return params;
  });
  const numbers = Array.from({ length: 5 * CALLS_OPEN_MAX }, (_, index) => index);
  expect(await Promise.all(numbers.map((number) => sessionA.call('count', number)))).toEqual(numbers);
  expect(most).toBeLessThanOrEqual(CALLS_OPEN_MAX);
});

test('calls that wait for their turn are rejected when the session ends', async () => {
  const { b, sessionA, sessionB } = await pair();
  b.handlers.set('never', () => new Promise(() => undefined));
  const calls = Array.from({ length: CALLS_OPEN_MAX + 3 }, () => sessionA.call('never', null));
  const outcomes = Promise.allSettled(calls);
  await new Promise(setImmediate);
  sessionB.close(OVER);
  for (const outcome of await outcomes) {
    expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'CONNECTION_CLOSED' } });
  }
});

test('parameters and results that fit into no frame fail by themselves, and the session goes on', async () => {
  const { b, sessionA } = await pair();
  b.handlers.set('big', async () => Buffer.alloc(FRAME_BYTES_MAX));
  b.handlers.set('small', async () => 1);
  await expect(sessionA.call('small', Buffer.alloc(FRAME_BYTES_MAX))).rejects.toMatchObject({
    code: 'PROTOCOL_FRAME_TOO_LARGE',
  });
  await expect(sessionA.call('big', null)).rejects.toMatchObject({ code: 'PROTOCOL_FRAME_TOO_LARGE' });
  for (let count = 0; count < 2 * CALLS_OPEN_MAX; count += 1) expect(await sessionA.call('small', null)).toBe(1);
});

test('a peer that makes too many calls at a time, or uses a number twice, is cut off', async () => {
  const node = await createNode();
  node.handlers.set('never', () => new Promise(() => undefined));
  const greedy = await Puppet.greet(node);
  for (let id = 1; id <= CALLS_OPEN_MAX + 1; id += 1) {
    greedy.puppet.say({ type: 'request', id, method: 'never', params: null });
  }
  expect((await greedy.session.closed).code).toBe('PROTOCOL_UNEXPECTED');
  const confused = await Puppet.greet(node);
  for (const id of [3, 3]) confused.puppet.say({ type: 'request', id, method: 'never', params: null });
  expect((await confused.session.closed).code).toBe('PROTOCOL_UNEXPECTED');
});

/** A connection whose other end asks but never reads. */
class DeafConnection implements Connection {
  readonly peer = createIdentity().node;
  readonly bytesSent = 0;
  readonly bytesReceived = 0;
  bufferedBytes = 0;
  say: (message: Message) => void = () => undefined;

  send(frame: Uint8Array): void {
    this.bufferedBytes += frame.length;
  }

  drained(): Promise<void> {
    return new Promise(() => undefined);
  }

  onFrame(listener: (frame: Uint8Array) => void): void {
    this.say = (message) => listener(encodeMessage(message));
  }

  onClose(): void {}

  close(): void {}
}

test('a peer that asks and asks but never reads is cut off before its answers fill the memory', async () => {
  const node = await createNode();
  node.handlers.set('big', async () => Buffer.alloc(FRAME_BYTES_MAX - 1_000));
  const connection = new DeafConnection();
  const session = new Session(connection, node.context);
  const { peer, say } = connection;
  say({ type: 'hello', protocol: PROTOCOL_RANGE, node: peer, software: '1', capabilities: [] });
  let reason: PandoError | undefined;
  void session.closed.then((error) => {
    reason = error;
  });
  for (let id = 1; reason === undefined; id += 1) {
    say({ type: 'request', id, method: 'big', params: null });
    await new Promise(setImmediate);
  }
  expect(reason.code).toBe('PROTOCOL_TIMEOUT');
  expect(connection.bufferedBytes).toBeLessThan(30 * FRAME_BYTES_MAX);
});
