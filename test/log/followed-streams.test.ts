import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { chainHash, genesisHash, sealCheckpoint, signHead } from '../../src/core/codec/chain.ts';
import { checkpointDigest, encodeCheckpoint } from '../../src/core/codec/checkpoint-codec.ts';
import { encodeEvent } from '../../src/core/codec/event-codec.ts';
import { pack } from '../../src/core/codec/msgpack.ts';
import type { EventBody, KnownEvent } from '../../src/core/events.ts';
import { EMPTY_GRAPH } from '../../src/core/graph/graph.ts';
import { ADMIN_TREE, type StreamId, streamIdOf, type TreeName } from '../../src/core/ids.ts';
import { History } from '../../src/log/history.ts';
import type { Log } from '../../src/log/log.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import type { SealedCheckpoint, SignedBatch } from '../../src/log/signed.ts';
import { asEvent, contentsOf, datasetId, fittingBodies, smallTree, snapshot, snapshotCreated } from './bodies.ts';
import { signerOf } from './identity.ts';

const tree = 'images' as TreeName;
const author = signerOf(1);
const follower = signerOf(2);
const now = () => 1_800_000_000_000;

/** What the author says, event for event, without a History in between: so that a test can say what no author would. */
function batchOf(bodies: readonly object[], { from = 0, signer = author, incarnation = 1 } = {}): SignedBatch {
  const stream = streamIdOf(signer.node, tree);
  const all = bodies.map((body, index) => encodeEvent(asEvent(body as EventBody, index) as KnownEvent));
  const hash = all.reduce(chainHash, genesisHash(stream, incarnation));
  return { head: signHead({ stream, incarnation, seq: all.length, hash }, signer), events: all.slice(from) };
}

async function* once(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

async function arrayOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const array: T[] = [];
  for await (const item of items) array.push(item);
  return array;
}

describe('A history that follows another node', () => {
  const stream: StreamId = streamIdOf(author.node, tree);
  let log: Log;
  let followed: History;
  let authored: History;

  beforeEach(async () => {
    log = new MemoryLog();
    followed = await History.open({ log, signer: follower, now });
    authored = await History.open({ log: new MemoryLog(), signer: author, now });
  });
  afterEach(async () => {
    await followed.close();
    await authored.close();
  });

  /** Checks that handing something in is refused with a code and changes nothing at all. */
  async function refused(attempt: Promise<unknown>, code: string): Promise<void> {
    const before = followed.head(stream);
    await expect(attempt).rejects.toMatchObject({ code });
    expect(followed.head(stream)).toBe(before);
    expect(await log.head(stream)).toEqual(before);
  }

  describe('by events', () => {
    it('comes to the same graph in any number of batches', async () => {
      await fc.assert(
        fc.asyncProperty(fittingBodies, fc.integer({ min: 1, max: 30 }), async (bodies, size) => {
          const source = await History.open({ log: new MemoryLog(), signer: author, now });
          const ownLog = new MemoryLog();
          const target = await History.open({
            log: ownLog,
            signer: follower,
            now,
            checkpointPolicy: (tail) => tail > size,
          });
          await source.record(tree, 'command', bodies);
          for (let from = 1; from <= bodies.length; from += size) {
            const to = Math.min(bodies.length, from + size - 1);
            for await (const batch of source.records(stream, from, to)) await target.ingest(batch);
          }
          expect(target.head(stream)).toEqual(source.head(stream));
          expect(contentsOf(target.graph(stream))).toEqual(contentsOf(source.graph(stream)));
          const reopened = await History.open({ log: ownLog, signer: follower, now });
          expect(reopened.faults()).toEqual([]);
          expect(contentsOf(reopened.graph(stream))).toEqual(contentsOf(source.graph(stream)));
        }),
        { numRuns: 40 },
      );
    });

    it('tells listeners what came', async () => {
      const listener = vi.fn();
      followed.onChange(listener);
      const batch = batchOf(smallTree(1));
      const events = await followed.ingest(batch);
      expect(events.map(({ type }) => type)).toEqual(['tree.added', 'dataset.created', 'snapshot.created']);
      expect(listener).toHaveBeenCalledExactlyOnceWith({ head: batch.head, events });
    });

    it('takes a signed head without events for nothing', async () => {
      const batch = batchOf(smallTree(1));
      await followed.ingest(batch);
      expect(await followed.ingest({ ...batch, events: [] })).toEqual([]);
      expect(followed.head(stream)).toBe(batch.head);
    });

    it('keeps an event of a type it does not know, byte for byte', async () => {
      const later = { type: 'snapshot.praised', dataset: 'anything', praise: ['much', { of: 'it' }] };
      const batch = batchOf([...smallTree(1), later]);
      const events = await followed.ingest(batch);
      expect(events.at(-1)).toMatchObject({ seq: 4, type: 'unknown', originalType: 'snapshot.praised' });
      const [records] = await arrayOf(log.read(stream, 4));
      expect(records?.[0]?.bytes).toEqual(batch.events[3]);
      expect((await arrayOf(followed.events(stream, 4))).flat()).toEqual([events.at(-1)]);
    });
  });

  describe('and a relay that is not honest', () => {
    const bodies = smallTree(6);
    const first = batchOf(bodies.slice(0, 4));
    const second = batchOf(bodies, { from: 4 });

    beforeEach(() => followed.ingest(first));

    it('refuses an altered event', async () => {
      const events = second.events.map((each, index) => (index === 1 ? Buffer.from(each).fill(0x61, 40) : each));
      await refused(followed.ingest({ ...second, events }), 'LOG_CORRUPT');
    });

    it('refuses events with one dropped, added or in another order', async () => {
      const [a, b, ...rest] = second.events as [Uint8Array, Uint8Array, ...Uint8Array[]];
      await refused(followed.ingest({ ...second, events: [a, ...rest] }), 'LOG_GAP');
      await refused(followed.ingest({ ...second, events: [a, b, b, ...rest] }), 'LOG_CORRUPT');
      await refused(followed.ingest({ ...second, events: [b, a, ...rest] }), 'LOG_CORRUPT');
    });

    it('refuses a head that says something else than what was signed', async () => {
      const { head, events } = second;
      await refused(followed.ingest({ events, head: { ...head, seq: 7 } }), 'LOG_CORRUPT');
      await refused(followed.ingest({ events, head: { ...head, hash: first.head.hash } }), 'LOG_CORRUPT');
      await refused(followed.ingest({ events, head: { ...head, signature: first.head.signature } }), 'LOG_CORRUPT');
      await refused(followed.ingest({ events, head: { ...head, signature: new Uint8Array(3) } }), 'LOG_CORRUPT');
    });

    it('refuses events that another key signed', async () => {
      const mallory = signerOf(3);
      const forged = signHead(second.head, mallory);
      await refused(followed.ingest({ ...second, head: forged }), 'LOG_CORRUPT');
      await refused(followed.ingest({ ...second, head: { ...forged, keyProof: author.keyProof } }), 'LOG_CORRUPT');
    });

    it('passes over what it has already, and takes what lies behind', async () => {
      const listener = vi.fn();
      followed.onChange(listener);
      expect(await followed.ingest(first)).toEqual([]);
      expect(await followed.ingest(batchOf(bodies.slice(0, 2)))).toEqual([]);
      expect(listener).not.toHaveBeenCalled();
      const events = await followed.ingest(batchOf(bodies));
      expect(events.map(({ seq }) => seq)).toEqual([5, 6, 7, 8]);
      expect(await followed.ingest(second)).toEqual([]);
      expect(followed.head(stream)?.seq).toBe(8);
    });

    it('refuses what it has already with something altered in it', async () => {
      const altered = first.events.map((each, index) => (index === 1 ? Buffer.from(each).fill(0x61, 40) : each));
      await refused(followed.ingest({ ...first, events: altered }), 'LOG_CORRUPT');
      const whole = batchOf(bodies);
      const front = whole.events.map((each, index) => (index === 1 ? Buffer.from(each).fill(0x61, 40) : each));
      await refused(followed.ingest({ ...whole, events: front }), 'LOG_CORRUPT');
    });

    it('keeps what it has where the author signed something else afterwards', async () => {
      const other = [...bodies.slice(0, 3), snapshotCreated(1, 77), snapshotCreated(1, 78)];
      await refused(followed.ingest(batchOf(other.slice(0, 4))), 'LOG_FORKED');
      await refused(followed.ingest(batchOf(other)), 'LOG_FORKED');
      await refused(followed.ingest(batchOf(other, { from: 3 })), 'LOG_FORKED');
      await refused(followed.ingest(batchOf(other, { from: 4 })), 'LOG_CORRUPT');
    });

    it('refuses a batch that leaves a gap, or claims events from before the first', async () => {
      await refused(followed.ingest({ ...first, events: [...first.events, ...first.events] }), 'LOG_GAP');
      const tail = batchOf(bodies, { from: 6 });
      await expect(followed.ingest(tail)).rejects.toMatchObject({
        code: 'LOG_GAP',
        evidence: { expected: 5, found: 7 },
      });
    });

    it('refuses events of another incarnation without a checkpoint, in a known and in an unknown stream', async () => {
      await refused(followed.ingest(batchOf(bodies, { incarnation: 2 })), 'LOG_FORKED');
      const unknown = batchOf(bodies, { incarnation: 2, signer: signerOf(3) });
      await expect(followed.ingest(unknown)).rejects.toMatchObject({ code: 'LOG_FORKED' });
      expect(followed.head(unknown.head.stream)).toBeNull();
    });

    it('refuses a stream that says it is its own, and private ones', async () => {
      const own = batchOf(bodies, { signer: follower });
      await expect(followed.ingest(own)).rejects.toMatchObject({ code: 'LOG_FORKED' });
      const admin = streamIdOf(author.node, ADMIN_TREE);
      const head = signHead({ ...first.head, stream: admin }, author);
      await expect(followed.ingest({ ...first, head })).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    });

    it('refuses what the author signed but is no event, has another number, or contradicts the graph', async () => {
      const behind = (bytes: Uint8Array): SignedBatch => {
        const hash = chainHash(first.head.hash, bytes);
        return { head: signHead({ ...first.head, seq: 5, hash }, author), events: [bytes] };
      };
      await refused(followed.ingest(behind(Buffer.from('no event'))), 'CODEC_INVALID');
      await refused(followed.ingest(behind(pack({ v: 2, seq: 5 }))), 'CODEC_VERSION');
      await refused(
        followed.ingest(behind(pack({ v: 1, seq: 5, type: 'tree.added', root: '../etc' }))),
        'EVENT_INVALID',
      );
      const wrong = encodeEvent({ v: 1, seq: 9, at: 1, cause: 'command', type: 'tree.removed' });
      await refused(followed.ingest(behind(wrong)), 'LOG_GAP');
      const misfit = encodeEvent(asEvent(snapshotCreated(99, 1), 4) as KnownEvent);
      await refused(followed.ingest(behind(misfit)), 'EVENT_INVALID');
    });

    it('takes the true events after all that', async () => {
      await followed.ingest(second);
      expect(followed.graph(stream).snapshotCount).toBe(6);
    });
  });

  describe('by checkpoint', () => {
    beforeEach(async () => {
      await authored.record(tree, 'command', smallTree(5));
    });

    const checkpoint = (): Promise<SealedCheckpoint> => authored.checkpointOf(stream);

    it('comes to the same graph, and goes on with the events behind it', async () => {
      const listener = vi.fn();
      followed.onChange(listener);
      await followed.ingestCheckpoint(await checkpoint());
      expect(listener).toHaveBeenCalledExactlyOnceWith({ head: authored.head(stream), events: null });
      expect(contentsOf(followed.graph(stream))).toEqual(contentsOf(authored.graph(stream)));
      await authored.record(tree, 'command', [snapshotCreated(1, 6)]);
      for await (const batch of authored.records(stream, 8)) await followed.ingest(batch);
      expect(followed.graph(stream).snapshotCount).toBe(6);
      const reopened = await History.open({ log, signer: follower, now });
      expect(reopened.faults()).toEqual([]);
      expect(contentsOf(reopened.graph(stream))).toEqual(contentsOf(authored.graph(stream)));
      expect(await reopened.verify(stream)).toMatchObject([{ records: 1, seq: 8, fault: null }]);
    });

    it('follows the author into a new incarnation, and never back', async () => {
      const old = await checkpoint();
      await followed.ingestCheckpoint(old);
      await authored.startIncarnation(tree);
      await followed.ingestCheckpoint(await checkpoint());
      expect(followed.head(stream)).toMatchObject({ incarnation: 2, seq: 0 });
      await authored.record(tree, 'command', [snapshotCreated(1, 6)]);
      for await (const batch of authored.records(stream, 1)) await followed.ingest(batch);
      expect(followed.graph(stream).snapshotCount).toBe(6);
      await refused(followed.ingestCheckpoint(old), 'LOG_FORKED');
    });

    it('refuses one from before what it knows', async () => {
      const old = await checkpoint();
      await authored.record(tree, 'command', [snapshotCreated(1, 6)]);
      await followed.ingestCheckpoint(await checkpoint());
      await refused(followed.ingestCheckpoint(old), 'LOG_FORKED');
    });

    it('refuses one that a relay altered, cut short or put together', async () => {
      const { head, seal, chunks } = await checkpoint();
      const all = await arrayOf(chunks);
      const graph = authored.graph(stream);
      const other = [...encodeCheckpoint(graph, 1)];
      const attempts: SealedCheckpoint[] = [
        { head, seal, chunks: once(other) },
        { head, seal, chunks: once([]) },
        { head, seal, chunks: once(all.map((chunk) => chunk.subarray(1))) },
        { head, seal: { ...seal, digest: checkpointDigest(other) }, chunks: once(other) },
        { head, seal: sealCheckpoint(seal.head, checkpointDigest(other), signerOf(3)), chunks: once(other) },
        { head: { ...head, seq: 9 }, seal, chunks: once(all) },
        { head: signHead({ ...head, seq: 9 }, author), seal, chunks: once(all) },
      ];
      for (const attempt of attempts) {
        await expect(followed.ingestCheckpoint(attempt)).rejects.toMatchObject({
          code: expect.stringMatching(/^(LOG_CORRUPT|CODEC_INVALID)$/),
        });
        expect(followed.head(stream)).toBeNull();
        expect(await log.streams()).toEqual([]);
      }
    });

    it('keeps what it has when the peer breaks off', async () => {
      await followed.ingestCheckpoint(await checkpoint());
      const before = followed.graph(stream);
      await authored.record(tree, 'command', [snapshotCreated(1, 6)]);
      const { head, seal, chunks } = await checkpoint();
      const broken = (async function* () {
        yield* chunks;
        throw new Error('the peer is gone');
      })();
      await expect(followed.ingestCheckpoint({ head, seal, chunks: broken })).rejects.toThrow('the peer is gone');
      expect(followed.graph(stream)).toBe(before);
    });

    it('does not keep others waiting for a slow peer', async () => {
      let proceed = (): void => undefined;
      const held = new Promise<void>((resolve) => {
        proceed = resolve;
      });
      const { head, seal, chunks } = await checkpoint();
      const slow = (async function* () {
        await held;
        yield* chunks;
      })();
      const ingesting = followed.ingestCheckpoint({ head, seal, chunks: slow });
      for await (const batch of authored.records(stream, 1, 4)) await followed.ingest(batch);
      proceed();
      await ingesting;
      expect(followed.head(stream)?.seq).toBe(7);
    });

    it('passes over events from before it', async () => {
      await followed.ingestCheckpoint(await checkpoint());
      for await (const batch of authored.records(stream, 2, 5)) expect(await followed.ingest(batch)).toEqual([]);
      await authored.record(tree, 'command', [snapshotCreated(1, 6)]);
      for await (const batch of authored.records(stream, 2)) await followed.ingest(batch);
      expect(followed.head(stream)).toEqual(authored.head(stream));
    });

    it('cannot sign for the author', async () => {
      await followed.ingestCheckpoint(await checkpoint());
      await expect(followed.checkpointOf(stream)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
      await expect(followed.signedHeadAt(stream, 1)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
      await expect(arrayOf(followed.records(stream, 1))).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    });
  });

  describe('of limited size', () => {
    const LIMIT = 20;
    const images = (count: number) => batchOf(smallTree(count));
    const checkpointOf = async (name: string, count: number): Promise<SealedCheckpoint> => {
      const source = await History.open({ log: new MemoryLog(), signer: author, now });
      await source.record(name as TreeName, 'command', smallTree(count));
      return source.checkpointOf(source.ownStream(name as TreeName));
    };
    const tooMany = { code: 'CODEC_INVALID', evidence: { limit: LIMIT } };

    beforeEach(async () => {
      followed = await History.open({ log, signer: follower, now, peerEntriesMax: LIMIT });
    });

    it('takes as many datasets and snapshots as the limit, by events and by checkpoint', async () => {
      await followed.ingest(images(9));
      await followed.ingestCheckpoint(await checkpointOf('homes', 9));
      expect(followed.streams()).toHaveLength(2);
    });

    it('refuses more in one stream, and changes nothing', async () => {
      await expect(followed.ingest(images(20))).rejects.toMatchObject(tooMany);
      await expect(followed.ingestCheckpoint(await checkpointOf('homes', 20))).rejects.toMatchObject(tooMany);
      expect(await log.streams()).toEqual([]);
    });

    it('refuses more over all streams of a peer, and looks at each peer for itself', async () => {
      await followed.ingest(images(10));
      await expect(followed.ingestCheckpoint(await checkpointOf('homes', 9))).rejects.toMatchObject(tooMany);
      await followed.ingest(batchOf(smallTree(19), { signer: signerOf(3) }));
      await followed.ingestCheckpoint(await checkpointOf('images', 19));
      expect(followed.graph(stream).snapshotCount).toBe(19);
    });

    it('stops taking a checkpoint as soon as it is too large', async () => {
      const { head, seal, chunks } = await checkpointOf('homes', 9_000);
      let taken = 0;
      const counted = (async function* () {
        for await (const chunk of chunks) {
          taken += 1;
          yield chunk;
        }
      })();
      await expect(followed.ingestCheckpoint({ head, seal, chunks: counted })).rejects.toMatchObject(tooMany);
      expect(taken).toBe(1);
    });

    it('lets a peer that has more than that already give some of it up', async () => {
      followed = await History.open({ log, signer: follower, now });
      await followed.ingest(images(30));
      followed = await History.open({ log, signer: follower, now, peerEntriesMax: LIMIT });
      const { guid, name } = snapshot(1);
      const destroyed: EventBody = { type: 'snapshot.destroyed', dataset: datasetId(1), guid, name };
      await followed.ingest(batchOf([...smallTree(30), destroyed], { from: 32 }));
      expect(followed.graph(stream).snapshotCount).toBe(29);
    });
  });

  it('goes by the events, not by a stored checkpoint that neither it nor anyone it trusts sealed', async () => {
    const batch = batchOf(smallTree(2));
    const chunks = [...encodeCheckpoint(EMPTY_GRAPH, 0)];
    const { head, events } = batch;
    const checkpoint = { seal: sealCheckpoint(head, checkpointDigest(chunks), signerOf(3)), chunks };
    await log.append({ stream, events, head, checkpoint });
    const reopened = await History.open({ log, signer: follower, now });
    expect(reopened.faults()).toEqual([]);
    expect(reopened.graph(stream).snapshotCount).toBe(2);
  });

  it('forgets a stream, and can follow it from the beginning again', async () => {
    await followed.ingest(batchOf(smallTree(2)));
    await followed.forget(stream);
    expect(followed.streams()).toEqual([]);
    expect(await log.streams()).toEqual([]);
    await followed.ingest(batchOf(smallTree(3)));
    expect(followed.graph(stream).snapshotCount).toBe(3);
    await expect(followed.forget(followed.ownStream(tree))).rejects.toMatchObject({ code: 'LOG_FORKED' });
  });

  it('has a damaged stream anew after forgetting it', async () => {
    const batch = batchOf(smallTree(2));
    await log.append({ stream, ...batch, head: { ...batch.head, signature: new Uint8Array(64) } });
    const reopened = await History.open({ log, signer: follower, now });
    expect(reopened.faults()).toHaveLength(1);
    await expect(reopened.ingest(batchOf(smallTree(3), { from: 4 }))).rejects.toMatchObject({ code: 'LOG_CORRUPT' });
    await reopened.forget(stream);
    await reopened.ingest(batch);
    expect(reopened.faults()).toEqual([]);
    expect(reopened.graph(stream).snapshotCount).toBe(2);
  });
});
