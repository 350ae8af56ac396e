import { describe, expect, test, vi } from 'vitest';
import { chainHash, type SignedHead, sealCheckpoint, signHead } from '../../src/core/codec/chain.ts';
import { pack } from '../../src/core/codec/msgpack.ts';
import { type ErrorCode, PandoError } from '../../src/core/errors.ts';
import { type StreamId, splitStreamId, streamIdOf, type TreeName } from '../../src/core/ids.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import type { SignedBatch } from '../../src/log/signed.ts';
import { ROUNDS_BEFORE_ANSWER } from '../../src/sync/catch-up.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { RELAYED_STREAMS_MAX, STREAMS_PER_PEER_MAX } from '../../src/sync/messages.ts';
import {
  addTree,
  caughtUp,
  connect,
  createNode,
  destroySnapshots,
  IMAGES,
  known,
  Puppet,
  SECRETS,
  type SyncNode,
  takeSnapshots,
  until,
} from './world.ts';

/** An author, a node that knows it, and one that only knows that other; the last wants what the author says. */
async function threeNodes() {
  const author = await createNode();
  const relay = await createNode();
  const far = await createNode();
  relay.handsOn = (peer, _author, tree) => peer === far.node && tree === IMAGES;
  far.follows = (node, tree) => node === author.node && tree === IMAGES;
  await addTree(author);
  await takeSnapshots(author, 1, 3);
  return { author, relay, far, stream: author.history.ownStream(IMAGES) };
}

async function batchesOf(author: SyncNode, from = 1): Promise<SignedBatch[]> {
  const batches: SignedBatch[] = [];
  const { seq = 0 } = author.history.head(author.history.ownStream(IMAGES)) ?? {};
  for (let at = from; at <= seq; at += 1) {
    for await (const batch of author.history.records(author.history.ownStream(IMAGES), at, at)) batches.push(batch);
  }
  return batches;
}

describe('A node between two that do not meet', () => {
  test('hands on what the author has said, and what it says from then on', async () => {
    const { author, relay, far } = await threeNodes();
    const { sessionA, sessionB } = await connect(author, relay);
    await sessionB.sync();
    const { sessionB: atFar } = await connect(relay, far);
    await caughtUp(far, author);
    expect([...atFar.followed]).toEqual([author.history.ownStream(IMAGES)]);
    await takeSnapshots(author, 4, 2);
    await caughtUp(far, author);
    expect(far.history.graph(author.history.ownStream(IMAGES)).snapshotCount).toBe(5);
    await sessionA.sync();
  });

  test('offers a stream as soon as it has it, and one more as soon as it may be had', async () => {
    const { author, relay, far } = await threeNodes();
    far.follows = () => true;
    await addTree(author, SECRETS);
    author.shared.add(SECRETS);
    const { sessionA } = await connect(relay, far);
    const { sessionB } = await connect(author, relay);
    await sessionB.sync();
    await caughtUp(far, author);
    expect(known(far, author, SECRETS)).toBeNull();
    relay.handsOn = () => true;
    sessionA.reconsider();
    await caughtUp(far, author, SECRETS);
  });

  test('does not let what it says itself wait for all that it hands on', async () => {
    const { author, relay, far, stream } = await threeNodes();
    await addTree(relay);
    await connect(author, relay);
    const { sessionA } = await connect(relay, far);
    await caughtUp(far, author);
    const { handsOn } = relay;
    relay.handsOn = () => false;
    sessionA.reconsider();
    for (let batch = 1; batch <= 12; batch += 1) await takeSnapshots(author, batch * 1_000, 900);
    await caughtUp(relay, author);
    const said: string[] = [];
    far.history.onChange(({ head }) => {
      if (said.length === 0) void takeSnapshots(relay, 1, 1);
      said.push(head.stream === stream ? 'handed on' : 'own');
    });
    relay.handsOn = handsOn;
    sessionA.reconsider();
    await caughtUp(far, author);
    await caughtUp(far, relay);
    expect(said[0]).toBe('handed on');
    expect(said.indexOf('own')).toBeLessThan(said.lastIndexOf('handed on'));
  });

  test('hands on a bit of each stream while there is always something that it says itself', async () => {
    const { author, relay, far, stream } = await threeNodes();
    const other = await createNode();
    await addTree(other);
    await addTree(relay);
    far.follows = () => true;
    const authors = [author, other];
    for (const one of authors) await connect(one, relay);
    const { sessionA } = await connect(relay, far);
    for (const one of authors) await caughtUp(far, one);
    const { handsOn } = relay;
    relay.handsOn = () => false;
    sessionA.reconsider();
    for (const one of authors) {
      for (let batch = 1; batch <= 12; batch += 1) await takeSnapshots(one, batch * 1_000, 900);
      await caughtUp(relay, one);
    }
    const said: string[] = [];
    far.history.onChange(({ head }) => {
      if (splitStreamId(head.stream).node === relay.node) return;
      void takeSnapshots(relay, said.length, 1);
      said.push(head.stream === stream ? 'author' : 'other');
    });
    relay.handsOn = handsOn;
    sessionA.reconsider();
    for (const one of authors) await caughtUp(far, one);
    expect(said.indexOf('other')).toBeLessThan(said.lastIndexOf('author'));
    expect(said.indexOf('author')).toBeLessThan(said.lastIndexOf('other'));
  });

  test('answers a question in the midst of what it hands on, though something else always comes up', async () => {
    const { author, relay, far } = await threeNodes();
    await connect(author, relay);
    const { sessionA, sessionB } = await connect(relay, far);
    await caughtUp(far, author);
    const { handsOn } = relay;
    relay.handsOn = () => false;
    sessionA.reconsider();
    for (let batch = 1; batch <= 3 * ROUNDS_BEFORE_ANSWER; batch += 1) await takeSnapshots(author, batch * 1_000, 900);
    await caughtUp(relay, author);
    let handedOn = 0;
    let answered: Promise<number> | undefined;
    const relayed = relay.history.relayed.bind(relay.history);
    vi.spyOn(relay.history, 'relayed').mockImplementation(async function* (...given) {
      for await (const batch of relayed(...given)) {
        handedOn += 1;
        answered ??= sessionB.sync().then(() => handedOn);
        sessionA.reconsider();
        yield batch;
      }
    });
    relay.handsOn = handsOn;
    sessionA.reconsider();
    await caughtUp(far, author);
    expect(await answered).toBeLessThan(handedOn);
  });

  test('says once that it knows of more than it can hand on', async () => {
    const { author, relay, far } = await threeNodes();
    const head = author.history.head(author.history.ownStream(IMAGES)) as SignedHead;
    const heads = Array.from({ length: RELAYED_STREAMS_MAX + 1 }, (_, number) => {
      return { ...head, stream: streamIdOf(author.node, `tree-${number}` as TreeName) };
    });
    vi.spyOn(relay.history, 'streams').mockReturnValue(heads);
    relay.handsOn = () => true;
    const { sessionA, sessionB } = await connect(relay, far);
    await sessionB.sync();
    sessionA.reconsider();
    await sessionB.sync();
    expect(relay.reported).toMatchObject([{ code: 'PROTOCOL_LIMIT', evidence: { limit: RELAYED_STREAMS_MAX } }]);
  });

  test('has sent what it has by the time it answers', async () => {
    const { author, relay, far } = await threeNodes();
    const { sessionB } = await connect(author, relay);
    const { sessionB: atFar } = await connect(relay, far);
    await caughtUp(far, author);
    await takeSnapshots(author, 4, 900);
    await sessionB.sync();
    expect((await atFar.sync()).changed).toBe(true);
    expect(known(far, author)).toEqual(known(author, author));
    expect((await atFar.sync()).changed).toBe(false);
  });

  test('names the streams of others in no answer', async () => {
    const { author, relay, far } = await threeNodes();
    await addTree(relay);
    const { sessionB } = await connect(author, relay);
    await sessionB.sync();
    const { sessionB: atFar } = await connect(relay, far);
    await caughtUp(far, author);
    expect([...(await atFar.sync()).shared]).toEqual([relay.history.ownStream(IMAGES)]);
    expect(atFar.acknowledged(author.history.ownStream(IMAGES))).toBeNull();
  });

  test('sends nothing twice to who comes back, or has heard it from the author in the meantime', async () => {
    const { author, relay, far } = await threeNodes();
    const { sessionB } = await connect(author, relay);
    await sessionB.sync();
    const first = await connect(relay, far);
    await caughtUp(far, author);
    first.network.cut(relay.node, far.node);
    await first.sessionB.closed;
    await takeSnapshots(author, 4, 500);
    await sessionB.sync();
    const direct = await connect(author, far);
    await direct.sessionB.sync();
    const again = await connect(relay, far);
    await again.sessionB.sync();
    await again.sessionB.sync();
    expect(again.sessionA.bytesSent).toBeLessThan(1_500);
  });

  test('begins anew where the peer says that it is, though it was in the middle of something', async () => {
    const { author, relay, far } = await threeNodes();
    await takeSnapshots(author, 4, 9_000);
    await (await connect(author, relay)).sessionB.sync();
    const { sessionA, sessionB } = await connect(relay, far);
    const follows = far.follows;
    await until(far, () => (known(far, author)?.[1] ?? 0) > 1_000);
    // Passes over some of what is under way
    far.follows = () => false;
    sessionB.reconsiderFollowed();
    for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
    far.follows = follows;
    sessionB.reconsiderFollowed();
    await caughtUp(far, author);
    await sessionA.sync();
  });

  test('takes a new incarnation to others, with the checkpoint that the author sealed', async () => {
    const { author, relay, far } = await threeNodes();
    const { sessionB } = await connect(author, relay);
    await connect(relay, far);
    await caughtUp(far, author);
    await author.history.startIncarnation(IMAGES);
    await takeSnapshots(author, 4, 1);
    await sessionB.sync();
    await caughtUp(far, author);
    expect(known(far, author)).toEqual([2, 1]);
  });

  test('begins with that checkpoint where it has no events from before', async () => {
    const { author, relay, far } = await threeNodes();
    await takeSnapshots(author, 4, 3_000);
    await destroySnapshots(author, 4, 3_000);
    const { sessionB } = await connect(author, relay);
    await sessionB.sync();
    expect(await relay.history.oldest(author.history.ownStream(IMAGES))).toBeGreaterThan(6_000);
    await connect(relay, far);
    await caughtUp(far, author);
    expect(far.history.graph(author.history.ownStream(IMAGES)).snapshotCount).toBe(3);
  });

  test('leaves out what it cannot hand on, and tells only its own people', async () => {
    const { author, relay, far, stream } = await threeNodes();
    const other = await createNode();
    far.follows = () => true;
    await addTree(other);
    await (await connect(author, relay)).sessionB.sync();
    await (await connect(other, relay)).sessionB.sync();
    relay.history.relayed = (of, from) =>
      of === stream ? failing() : Object.getPrototypeOf(relay.history).relayed.call(relay.history, of, from);
    const { sessionB } = await connect(relay, far);
    await caughtUp(far, other);
    await sessionB.sync();
    expect(known(far, author)).toBeNull();
    expect([...sessionB.followed]).toEqual([other.history.ownStream(IMAGES)]);
    expect(relay.reported).toMatchObject([{ code: 'LOG_COMPACTED' }]);
  });

  test('offers nothing to a node that does not know what that is', async () => {
    const { author, relay, far } = await threeNodes();
    await (await connect(author, relay)).sessionB.sync();
    const { puppet } = await Puppet.meet(relay, far.identity);
    puppet.say({ type: 'hello', protocol: { min: 1, max: 1 }, node: far.node, software: '0.0.9', capabilities: [] });
    puppet.say({ type: 'have', id: 1, reply: false, refresh: false, heads: [], failure: null });
    await puppet.hear('have');
    expect((await puppet.hear('have')).reply).toBe(true);
    expect(puppet.messages.filter(({ type }) => type === 'offer')).toEqual([]);
  });

  test('gives nothing that it did not offer, whoever asks for it', async () => {
    const { author, relay, far, stream } = await threeNodes();
    relay.handsOn = () => false;
    await (await connect(author, relay)).sessionB.sync();
    const { puppet } = await Puppet.greet(relay, far.identity);
    const head = { stream, incarnation: 1, seq: 0, hash: new Uint8Array(32) };
    puppet.say({ type: 'follow', heads: [head] });
    puppet.say({ type: 'have', id: 1, reply: false, refresh: false, heads: [], failure: null });
    await puppet.hear('have');
    expect(puppet.messages.map(({ type }) => type)).not.toContain('events');
    expect(puppet.messages.map(({ type }) => type)).not.toContain('offer');
  });
});

describe('A node that hears of another through others', () => {
  test('takes over a damaged copy anew', async () => {
    const { author, relay, far, stream } = await threeNodes();
    await (await connect(author, relay)).sessionB.sync();
    const log = new MemoryLog();
    const before = await createNode({ identity: far.identity, log });
    for (const batch of await batchesOf(author)) await before.history.ingest(batch);
    const { read } = log;
    log.read = async function* (...about) {
      yield* about[0] === stream ? failing() : read.apply(log, about);
    };
    const again = await createNode({ identity: far.identity, log });
    again.follows = far.follows;
    expect(again.history.faults()).toHaveLength(1);
    log.read = read;
    const repaired = new Promise((resolve) => again.history.onChange(resolve));
    await connect(relay, again);
    await repaired;
    await caughtUp(again, author);
    expect(again.history.faults()).toEqual([]);
    expect(again.reported).toHaveLength(1);
  });

  test('follows no longer what is of no use any more, and passes over what is still under way', async () => {
    const { author, relay, far } = await threeNodes();
    const { sessionB } = await connect(author, relay);
    await sessionB.sync();
    const atFar = await connect(relay, far);
    await caughtUp(far, author);
    far.follows = () => false;
    await takeSnapshots(author, 4, 1);
    await sessionB.sync();
    await atFar.sessionB.sync();
    expect(known(far, author)).toEqual([1, 5]);
    atFar.sessionB.reconsiderFollowed();
    expect(atFar.sessionB.followed.size).toBe(0);
    far.follows = () => true;
    atFar.sessionB.reconsiderFollowed();
    await caughtUp(far, author);
  });

  test('keeps its session with who brings a history that is not the one it knows', async () => {
    const { author, relay, far } = await threeNodes();
    await (await connect(author, relay)).sessionB.sync();
    // The same author after it lost its log, and before anybody told it
    const forgetful = await createNode({ identity: author.identity });
    await addTree(forgetful);
    await takeSnapshots(forgetful, 70, 1);
    for (const batch of await batchesOf(forgetful)) await far.history.ingest(batch);
    const { sessionB } = await connect(relay, far);
    await sessionB.sync();
    await sessionB.sync();
    expect(known(far, author)).toEqual([1, 3]);
    expect(known(relay, author)).toEqual([1, 5]);
  });
});

/** A node that wants what an author says, and a puppet that may hand it on. */
async function hostileScene() {
  const author = await createNode();
  await addTree(author);
  await takeSnapshots(author, 1, 4);
  const far = await createNode();
  far.follows = (node) => node === author.node;
  const { puppet, session } = await Puppet.greet(far);
  const stream = author.history.ownStream(IMAGES);
  puppet.say({ type: 'offer', streams: [stream] });
  expect((await puppet.hear('follow')).heads).toMatchObject([{ stream, incarnation: 1, seq: 0 }]);
  const batches = await batchesOf(author);
  puppet.say({ type: 'events', ...(batches[0] as SignedBatch) });
  puppet.say({ type: 'events', ...(batches[1] as SignedBatch) });
  await until(far, () => far.history.head(stream)?.seq === 2);
  return { author, far, puppet, session, stream, batches };
}

type HostileScene = Awaited<ReturnType<typeof hostileScene>>;

function batch({ batches }: HostileScene, seq: number): SignedBatch {
  const found = batches[seq - 1];
  if (found === undefined) throw new Error(`no event ${seq}`);
  return found;
}

describe('A relay that is not honest is cut off, and nothing that it made up is kept, when it', () => {
  test.each<[string, ErrorCode, (scene: HostileScene) => void | Promise<void>]>([
    [
      'alters an event',
      'LOG_CORRUPT',
      (scene) => {
        const { head, events } = batch(scene, 3);
        scene.puppet.say({ type: 'events', head, events: events.map((each) => Buffer.from(each).fill(0x61, 40)) });
      },
    ],
    [
      'signs in the place of the author',
      'LOG_CORRUPT',
      (scene) => {
        const { head, events } = batch(scene, 3);
        scene.puppet.say({ type: 'events', head: signHead(head, scene.puppet.identity), events });
      },
    ],
    [
      "signs with its own key under the author's",
      'LOG_CORRUPT',
      (scene) => {
        const { head, events } = batch(scene, 3);
        const { signature } = signHead(head, scene.puppet.identity);
        scene.puppet.say({ type: 'events', head: { ...head, signature }, events });
      },
    ],
    [
      'exchanges two events',
      'LOG_CORRUPT',
      (scene) => {
        const events = [...batch(scene, 4).events, ...batch(scene, 3).events];
        scene.puppet.say({ type: 'events', head: batch(scene, 4).head, events });
      },
    ],
    [
      'puts its own garbage in the place of a sealed checkpoint',
      'CODEC_INVALID',
      async ({ author, puppet, stream }) => {
        await takeSnapshots(author, 60, 1);
        const { head, seal } = await author.history.checkpointOf(stream);
        puppet.say({ type: 'checkpoint-begin', head, seal });
        puppet.say({ type: 'checkpoint-chunk', bytes: Buffer.from('garbage'), last: true });
        puppet.say({ type: 'checkpoint-end' });
      },
    ],
    [
      'moves what the author signed to another tree',
      'PROTOCOL_UNEXPECTED',
      (scene) => {
        const { head, events } = batch(scene, 3);
        const stream = scene.author.history.ownStream(SECRETS);
        scene.puppet.say({ type: 'events', head: { ...head, stream }, events });
      },
    ],
    [
      'sends what was not asked for',
      'PROTOCOL_UNEXPECTED',
      (scene) => {
        const third = createIdentity();
        const { head, events } = batch(scene, 3);
        const stream = head.stream.replace(scene.author.node, third.node) as StreamId;
        scene.puppet.say({ type: 'events', head: signHead({ ...head, stream }, third), events });
      },
    ],
    [
      'offers more than a node could follow',
      'PROTOCOL_FRAME_INVALID',
      ({ puppet, stream }) => {
        const streams = Array.from({ length: RELAYED_STREAMS_MAX + 1 }, () => stream);
        puppet.connection.send(pack({ type: 'offer', streams }));
      },
    ],
    [
      'follows what is no stream',
      'PROTOCOL_FRAME_INVALID',
      ({ puppet }) => puppet.connection.send(pack({ type: 'follow', heads: [['../etc', 1, 0, new Uint8Array(32)]] })),
    ],
    [
      'follows from a place that cannot be',
      'PROTOCOL_FRAME_INVALID',
      ({ puppet, stream }) =>
        puppet.connection.send(pack({ type: 'follow', heads: [[stream, 0, -1, new Uint8Array(32)]] })),
    ],
  ])('%s', async (_what, code, attack) => {
    const scene = await hostileScene();
    await attack(scene);
    const reason = await scene.session.closed;
    expect(reason.code).toBe(code);
    expect((await scene.puppet.hear('goodbye')).code).toBe(code);
    expect(known(scene.far, scene.author)).toEqual([1, 2]);
    expect(scene.far.reported).toEqual([]);
  });

  test('seals a checkpoint in the place of the author', async () => {
    const scene = await hostileScene();
    const { author, puppet, stream } = scene;
    await takeSnapshots(author, 50, 1);
    const { head, seal, chunks } = await author.history.checkpointOf(stream);
    puppet.say({ type: 'checkpoint-begin', head, seal: sealCheckpoint(seal.head, seal.digest, puppet.identity) });
    for await (const bytes of chunks) puppet.say({ type: 'checkpoint-chunk', bytes, last: true });
    puppet.say({ type: 'checkpoint-end' });
    expect((await scene.session.closed).code).toBe('LOG_CORRUPT');
    expect(known(scene.far, author)).toEqual([1, 2]);
  });
});

describe('A relay that brings', () => {
  test('what was heard before, again and in any order, changes nothing and may go on', async () => {
    const scene = await hostileScene();
    const { puppet, far, author } = scene;
    for (const seq of [1, 2, 1, 2, 2]) puppet.say({ type: 'events', ...batch(scene, seq) });
    for (const seq of [3, 1, 4, 3, 5, 6]) puppet.say({ type: 'events', ...batch(scene, seq) });
    await caughtUp(far, author);
    expect(far.reported).toEqual([]);
  });

  test.each<[string, (scene: HostileScene) => SignedBatch]>([
    ['not all', (scene) => batch(scene, 4)],
    ['a batch that is cut short', (scene) => ({ head: batch(scene, 4).head, events: batch(scene, 3).events })],
  ])('%s is asked for it again from where the node is, once, and nothing of it is kept', async (_what, lacking) => {
    const scene = await hostileScene();
    const { puppet, far, author, stream } = scene;
    for (let time = 0; time < 3; time += 1) puppet.say({ type: 'events', ...lacking(scene) });
    expect((await puppet.hear('follow')).heads).toEqual([]);
    expect((await puppet.hear('follow')).heads).toMatchObject([{ stream, seq: 2 }]);
    puppet.say({ type: 'ping' });
    await puppet.hear('pong');
    expect(known(far, author)).toEqual([1, 2]);
    expect(puppet.messages.map(({ type }) => type)).not.toContain('follow');
    for (const seq of [3, 4, 5, 6]) puppet.say({ type: 'events', ...batch(scene, seq) });
    await caughtUp(far, author);
    expect(far.reported).toEqual([]);
  });

  test('a stream of an author who has too many is left, and is not to blame', async () => {
    const { puppet, far, author, session } = await hostileScene();
    far.follows = () => true;
    const [head = expect.fail('one is known')] = far.history.streams();
    vi.spyOn(far.history, 'streams').mockReturnValue(Array.from({ length: STREAMS_PER_PEER_MAX }, () => head));
    const other = author.history.ownStream(SECRETS);
    await addTree(author, SECRETS);
    puppet.say({ type: 'offer', streams: [other] });
    expect((await puppet.hear('follow')).heads).toMatchObject([{ stream: other }]);
    for await (const one of author.history.records(other, 1)) puppet.say({ type: 'events', ...one });
    expect((await puppet.hear('follow')).heads).toEqual([]);
    expect(known(far, author, SECRETS)).toBeNull();
    expect(session.followed.size).toBe(0);
    expect(far.reported).toHaveLength(1);
  });

  test('what was given up is followed again once something else is known of it', async () => {
    const scene = await hostileScene();
    const { puppet, far, author, stream } = scene;
    far.replaced.add(author.identity.keyProof.length);
    puppet.say({ type: 'events', ...batch(scene, 3) });
    expect((await puppet.hear('follow')).heads).toEqual([]);
    far.replaced.clear();
    await far.history.ingest(batch(scene, 3));
    expect((await puppet.hear('follow')).heads).toMatchObject([{ stream, seq: 3 }]);
  });

  test('an offer that names a stream many times is answered once', async () => {
    const { puppet, stream } = await hostileScene();
    const streams = Array.from({ length: 50 }, () => stream);
    for (let time = 0; time < 3; time += 1) puppet.say({ type: 'offer', streams });
    puppet.say({ type: 'ping' });
    await puppet.hear('pong');
    expect(puppet.messages.map(({ type }) => type)).not.toContain('follow');
  });

  test('an incarnation, or a checkpoint, from before what is known takes nobody back', async () => {
    const scene = await hostileScene();
    const { puppet, far, author, stream, session } = scene;
    const old = await author.history.checkpointOf(stream);
    const chunks: Uint8Array[] = [];
    for await (const chunk of old.chunks) chunks.push(chunk);
    await author.history.startIncarnation(IMAGES);
    await takeSnapshots(author, 50, 1);
    await far.history.ingestCheckpoint(await author.history.checkpointOf(stream));
    puppet.say({ type: 'events', ...batch(scene, 3) });
    puppet.say({ type: 'checkpoint-begin', head: old.head, seal: old.seal });
    for (const bytes of chunks) puppet.say({ type: 'checkpoint-chunk', bytes, last: true });
    puppet.say({ type: 'checkpoint-end' });
    puppet.say({ type: 'ping' });
    await puppet.hear('pong');
    await takeSnapshots(author, 51, 1);
    for await (const one of author.history.records(stream, 2)) puppet.say({ type: 'events', ...one });
    await caughtUp(far, author);
    expect(known(far, author)).toEqual([2, 2]);
    expect(session.followed.has(stream)).toBe(true);
  });

  test('what its author signed and is no event is left, and is not to blame', async () => {
    const scene = await hostileScene();
    const { puppet, far, author, stream, session } = scene;
    const { head } = batch(scene, 2);
    const nonsense = pack({ v: 2, nothing: true });
    const hash = chainHash(head.hash, nonsense);
    puppet.say({ type: 'events', head: signHead({ ...head, seq: 3, hash }, author.identity), events: [nonsense] });
    expect((await puppet.hear('follow')).heads).toEqual([]);
    expect(session.followed.has(stream)).toBe(false);
    expect(far.reported).toMatchObject([{ code: 'CODEC_VERSION' }]);
    // What was under way is passed over, and the session goes on
    puppet.say({ type: 'events', ...batch(scene, 3) });
    puppet.say({ type: 'ping' });
    await puppet.hear('pong');
    expect(known(far, author)).toEqual([1, 2]);
  });

  test('what was signed with a key that its author has replaced is left to the author', async () => {
    const scene = await hostileScene();
    const { puppet, far, author, session, stream } = scene;
    far.replaced.add(author.identity.keyProof.length);
    puppet.say({ type: 'events', ...batch(scene, 3) });
    expect((await puppet.hear('follow')).heads).toEqual([]);
    expect(session.followed.has(stream)).toBe(false);
    expect(known(far, author)).toEqual([1, 2]);
    expect(far.reported).toMatchObject([{ code: 'PEER_REFUSED' }]);
  });

  test('a tree that this node does not want to hear of is not asked for it', async () => {
    const { far, puppet, author, stream } = await hostileScene();
    const other = author.history.ownStream('other' as TreeName);
    far.follows = (_node, tree) => tree === IMAGES;
    puppet.say({ type: 'offer', streams: [other, stream] });
    puppet.say({ type: 'ping' });
    await puppet.hear('pong');
    expect(puppet.messages.filter(({ type }) => type === 'follow')).toEqual([]);
  });

  test('its own stream, or that of the node itself, as that of another is not asked for it', async () => {
    const far = await createNode();
    far.follows = () => true;
    const { puppet } = await Puppet.greet(far);
    const own = far.history.ownStream(IMAGES);
    const its = own.replace(far.node, puppet.identity.node) as StreamId;
    puppet.say({ type: 'offer', streams: [own, its] });
    puppet.say({ type: 'ping' });
    await puppet.hear('pong');
    expect(puppet.messages.filter(({ type }) => type === 'follow')).toEqual([]);
  });
});

// biome-ignore lint/correctness/useYield: a disk that gives nothing
async function* failing(): AsyncGenerator<never> {
  throw new PandoError('LOG_COMPACTED', 'Some of it is gone.');
}
