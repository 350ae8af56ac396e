import { expect, test } from 'vitest';
import { chainHash, genesisHash, type SignedHead, sealCheckpoint, signHead } from '../../src/core/codec/chain.ts';
import { EVENT_BYTES_MAX } from '../../src/core/codec/event-codec.ts';
import { pack } from '../../src/core/codec/msgpack.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { streamIdOf } from '../../src/core/ids.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import type { SignedBatch } from '../../src/log/signed.ts';
import { CREDIT_WINDOW_BYTES } from '../../src/sync/flow-control.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import type { Have } from '../../src/sync/messages.ts';
import { addTree, createNode, IMAGES, known, Puppet, type SyncNode, takeSnapshots } from './world.ts';

/** What a node would send of its tree, batch by batch of one event each. */
async function batchesOf(author: SyncNode): Promise<SignedBatch[]> {
  await addTree(author);
  await takeSnapshots(author, 1, 3);
  const stream = author.history.ownStream(IMAGES);
  const batches: SignedBatch[] = [];
  for (let seq = 1; seq <= 5; seq += 1) {
    for await (const batch of author.history.records(stream, seq, seq)) batches.push(batch);
  }
  return batches;
}

/** A node, a puppet with the identity of an author, and what that author would send. */
async function scene() {
  const author = await createNode();
  const batches = await batchesOf(author);
  const node = await createNode();
  const { puppet, session } = await Puppet.greet(node, author.identity);
  const [first, second] = batches;
  if (first === undefined || second === undefined) throw new Error('the author has too few events');
  return { author, node, puppet, session, first, second, batches };
}

type Scene = Awaited<ReturnType<typeof scene>>;

/** The session ends with that code, the peer is told so in a goodbye, and nothing of the author is kept. */
async function expectEnd({ node, author, puppet, session }: Scene, code: ErrorCode): Promise<void> {
  const reason = await session.closed;
  expect(reason.code).toBe(code);
  expect(reason.message).toMatch(/^[A-Z].*\.$/s);
  expect((await puppet.hear('goodbye')).code).toBe(code);
  expect(known(node, author)).toBeNull();
  expect(node.reported).toEqual([]);
}

test('what is right is stored and acknowledged', async () => {
  const { node, author, puppet, first } = await scene();
  puppet.say({ type: 'events', ...first });
  expect(await puppet.hear('ack')).toMatchObject({ seq: 1, incarnation: 1 });
  expect(known(node, author)).toEqual([1, 1]);
});

test.each<[string, ErrorCode, (scene: Scene) => void]>([
  ['bytes that are not msgpack', 'PROTOCOL_FRAME_INVALID', ({ puppet }) => puppet.connection.send(Buffer.from([0xc1]))],
  ['an empty frame', 'PROTOCOL_FRAME_INVALID', ({ puppet }) => puppet.connection.send(new Uint8Array(0))],
  [
    'an array that claims four billion values',
    'PROTOCOL_FRAME_INVALID',
    ({ puppet }) => puppet.connection.send(Buffer.from('ddffffffff', 'hex')),
  ],
  ['a message of no known type', 'PROTOCOL_FRAME_INVALID', ({ puppet }) => puppet.connection.send(pack({ type: 'x' }))],
  [
    'a message type that is a name of Object',
    'PROTOCOL_FRAME_INVALID',
    ({ puppet }) => puppet.connection.send(pack({ type: 'constructor' })),
  ],
  ['a value that is no message', 'PROTOCOL_FRAME_INVALID', ({ puppet }) => puppet.connection.send(pack(null))],
  [
    'a million heads that are none',
    'PROTOCOL_FRAME_INVALID',
    ({ puppet }) => puppet.connection.send(pack({ type: 'have', id: 1, heads: new Array(1_000_000).fill(1) })),
  ],
  [
    'a field of the wrong type',
    'PROTOCOL_FRAME_INVALID',
    ({ puppet }) => puppet.connection.send(pack({ type: 'credit', bytes: '5' })),
  ],
  [
    'an event over the limit',
    'PROTOCOL_FRAME_INVALID',
    ({ puppet, first }) =>
      puppet.say({ type: 'events', head: first.head, events: [new Uint8Array(EVENT_BYTES_MAX + 1)] }),
  ],
  ['a second hello', 'PROTOCOL_UNEXPECTED', ({ puppet }) => puppet.sayHello()],
  ['a gap in the sequence', 'LOG_GAP', ({ puppet, second }) => puppet.say({ type: 'events', ...second })],
  [
    'events whose hash is not that of the head',
    'LOG_CORRUPT',
    ({ puppet, first, second }) => puppet.say({ type: 'events', head: first.head, events: second.events }),
  ],
  [
    'a head that someone else signed',
    'LOG_CORRUPT',
    ({ puppet, first }) => {
      const { signature } = signHead(first.head, createIdentity());
      puppet.say({ type: 'events', head: { ...first.head, signature }, events: first.events });
    },
  ],
  [
    'a forged head with the key of the forger',
    'LOG_CORRUPT',
    ({ puppet, first }) =>
      puppet.say({ type: 'events', head: signHead(first.head, createIdentity()), events: first.events }),
  ],
  [
    'an event that is none',
    'EVENT_INVALID',
    ({ puppet, author, first }) => {
      const events = [pack({ nothing: true })];
      const head = headOver(author, first.head, events);
      puppet.say({ type: 'events', head, events });
    },
  ],
  [
    'events of a third node',
    'PROTOCOL_UNEXPECTED',
    ({ puppet, first }) => {
      const third = createIdentity();
      const head = signHead({ ...first.head, stream: streamIdOf(third.node, IMAGES) }, third);
      puppet.say({ type: 'events', head, events: first.events });
    },
  ],
  [
    'events of our own',
    'PROTOCOL_UNEXPECTED',
    ({ puppet, node, first }) => {
      const head = signHead({ ...first.head, stream: node.history.ownStream(IMAGES) }, node.identity);
      puppet.say({ type: 'events', head, events: first.events });
    },
  ],
  ['an answer that nobody asked for', 'PROTOCOL_UNEXPECTED', ({ puppet }) => puppet.say(have({ id: 7, reply: true }))],
  [
    'questions without waiting for answers',
    'PROTOCOL_UNEXPECTED',
    ({ puppet, node }) => {
      node.refresh = () => new Promise(() => undefined);
      for (let id = 1; id < 10; id += 1) puppet.say(have({ id, refresh: true }));
    },
  ],
  [
    'a question about the stream of another',
    'PROTOCOL_UNEXPECTED',
    ({ puppet, first }) => puppet.say(have({ heads: [first.head] })),
  ],
  [
    'an acknowledgement of what was never sent',
    'PROTOCOL_UNEXPECTED',
    ({ puppet, node }) => puppet.say({ type: 'ack', stream: node.history.ownStream(IMAGES), incarnation: 1, seq: 1 }),
  ],
  ['credit for nothing', 'PROTOCOL_CREDIT_EXCEEDED', ({ puppet }) => puppet.say({ type: 'credit', bytes: 1 })],
  [
    'a part of a checkpoint that was not begun',
    'PROTOCOL_UNEXPECTED',
    ({ puppet }) => puppet.say({ type: 'checkpoint-chunk', bytes: new Uint8Array(5), last: true }),
  ],
  [
    'a checkpoint that is broken off',
    'PROTOCOL_UNEXPECTED',
    ({ puppet, author, first }) => {
      puppet.say({
        type: 'checkpoint-begin',
        head: first.head,
        seal: sealCheckpoint(first.head, new Uint8Array(32), author.identity),
      });
      puppet.say({ type: 'events', ...first });
    },
  ],
  [
    'a checkpoint that is not what was sealed',
    'LOG_CORRUPT',
    ({ puppet, author, first }) => {
      puppet.say({
        type: 'checkpoint-begin',
        head: first.head,
        seal: sealCheckpoint(first.head, new Uint8Array(32), author.identity),
      });
      puppet.say({ type: 'checkpoint-end' });
    },
  ],
  [
    'an answer to a call that was not made',
    'PROTOCOL_UNEXPECTED',
    ({ puppet }) => puppet.say({ type: 'response', id: 1, result: 1 }),
  ],
])('%s ends the session', async (_what, code, say) => {
  const met = await scene();
  say(met);
  await expectEnd(met, code);
});

function have(part: Partial<Have>): Have {
  return { type: 'have', id: 1, reply: false, refresh: false, heads: [], failure: null, ...part };
}

function headOver(author: SyncNode, { stream, incarnation }: SignedHead, events: readonly Uint8Array[]): SignedHead {
  const hash = events.reduce(chainHash, genesisHash(stream, incarnation));
  return signHead({ stream, incarnation, seq: events.length, hash }, author.identity);
}

/** A disk that takes forever. */
class StuckLog extends MemoryLog {
  override append(): Promise<void> {
    return new Promise(() => undefined);
  }
}

test('more events than there is credit for end the session', async () => {
  const author = await createNode();
  const [first] = await batchesOf(author);
  if (first === undefined) throw new Error('the author has no events');
  const node = await createNode({ log: new StuckLog() });
  const { puppet, session } = await Puppet.greet(node, author.identity);
  puppet.say({ type: 'events', ...first });
  const events = [new Uint8Array(200_000)];
  const frames = Math.floor(CREDIT_WINDOW_BYTES / 200_500);
  for (let count = 0; count < frames; count += 1) puppet.say({ type: 'events', head: first.head, events });
  puppet.say({ type: 'ping' });
  await puppet.hear('pong');
  puppet.say({ type: 'events', head: first.head, events });
  expect((await session.closed).code).toBe('PROTOCOL_CREDIT_EXCEEDED');
  expect((await puppet.hear('goodbye')).code).toBe('PROTOCOL_CREDIT_EXCEEDED');
});

test('an answer that names more than was sent ends the session', async () => {
  const author = await createNode();
  await batchesOf(author);
  const node = await createNode();
  const { puppet, session } = await Puppet.meet(node, author.identity);
  puppet.sayHello();
  const question = await puppet.hear('have');
  puppet.say({ ...question, reply: true, heads: author.history.streams() });
  expect((await session.closed).code).toBe('PROTOCOL_UNEXPECTED');
});

test('a peer that shows a head which this node never signed cannot make it begin anew', async () => {
  const node = await createNode();
  await addTree(node);
  const { puppet, session } = await Puppet.greet(node);
  const stream = node.history.ownStream(IMAGES);
  const forged = { stream, incarnation: 5, seq: 9, hash: new Uint8Array(32) };
  puppet.say(have({ heads: [{ ...signHead(forged, puppet.identity), keyProof: node.identity.keyProof }] }));
  expect((await session.closed).code).toBe('LOG_CORRUPT');
  expect(known(node, node)).toEqual([1, 2]);
});

test('versions without a common protocol part with a sentence that names both', async () => {
  const node = await createNode();
  const { puppet, session } = await Puppet.meet(node);
  puppet.say({
    type: 'hello',
    protocol: { min: 7, max: 9 },
    node: puppet.identity.node,
    software: '9.9.9',
    capabilities: [],
  });
  const reason = await session.closed;
  expect(reason.code).toBe('PROTOCOL_VERSION');
  expect(reason.message).toContain('versions 7 to 9');
  expect(reason.message).toContain('version 1');
  expect((await puppet.hear('goodbye')).message).toBe(reason.message);
});

test('a peer that speaks a later protocol besides ours is welcome', async () => {
  const node = await createNode();
  const { puppet, session } = await Puppet.meet(node);
  puppet.say({
    type: 'hello',
    protocol: { min: 1, max: 9 },
    node: puppet.identity.node,
    software: '9.9.9',
    capabilities: ['anything'],
  });
  await session.opened;
  expect(session.hello?.capabilities).toEqual(['anything']);
});

test('a hello in the name of another node, and anything before a hello, end the session', async () => {
  const node = await createNode();
  const liar = await Puppet.meet(node);
  liar.puppet.say({
    type: 'hello',
    protocol: { min: 1, max: 1 },
    node: createIdentity().node,
    software: '1',
    capabilities: [],
  });
  expect((await liar.session.closed).code).toBe('PROTOCOL_UNEXPECTED');
  const rude = await Puppet.meet(node);
  rude.puppet.say({ type: 'ping' });
  expect((await rude.session.closed).code).toBe('PROTOCOL_UNEXPECTED');
});

test('what a peer says in its goodbye cannot steer a terminal', async () => {
  const node = await createNode();
  const { puppet, session } = await Puppet.greet(node);
  puppet.say({ type: 'goodbye', code: 'PEER_REFUSED', message: 'red: \u001b[31m, bell: \u0007.' });
  const reason = await session.closed;
  expect(reason.code).toBe('PEER_REFUSED');
  expect(reason.message).toContain('red:  [31m, bell:  .');
});

test('a bad peer harms no session with another', async () => {
  const node = await createNode();
  const good = await Puppet.greet(node);
  const bad = await Puppet.greet(node);
  bad.puppet.connection.send(Buffer.from([0xc1]));
  await bad.session.closed;
  good.puppet.say({ type: 'ping' });
  await good.puppet.hear('pong');
});
