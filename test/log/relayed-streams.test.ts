import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chainHash, genesisHash, signHead } from '../../src/core/codec/chain.ts';
import { encodeEvent } from '../../src/core/codec/event-codec.ts';
import type { KnownEvent } from '../../src/core/events.ts';
import { type StreamId, streamIdOf, type TreeName } from '../../src/core/ids.ts';
import type { CheckpointPolicy } from '../../src/log/checkpointing.ts';
import { History } from '../../src/log/history.ts';
import { LevelLog } from '../../src/log/level-log.ts';
import type { Log, LogRecord, StoredCheckpoint } from '../../src/log/log.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { createIdentity, withNewKey } from '../../src/sync/identity.ts';
import { surviving } from '../main/memory-world.ts';
import { asEvent, contentsOf, fittingBodies, smallTree, snapshotCreated } from './bodies.ts';
import { signerOf } from './identity.ts';
import { tempDirectory } from './temp-directory.ts';

const tree = 'images' as TreeName;
const author = signerOf(1);
const stream: StreamId = streamIdOf(author.node, tree);
const never: CheckpointPolicy = () => false;

async function open(node: number, log: Log = new MemoryLog(), checkpointPolicy = never): Promise<History> {
  return History.open({ log, signer: signerOf(node), now: () => 1_800_000_000_000, checkpointPolicy });
}

/** Brings `to` as far as `from` is, as a session does that knows how far `to` was. */
async function handOn(from: History, to: History): Promise<void> {
  const behind = to.head(stream);
  const isOther = behind?.incarnation !== from.head(stream)?.incarnation;
  if (isOther && (behind !== null || from.head(stream)?.incarnation !== 1)) {
    await to.ingestCheckpoint(await from.relayedCheckpoint(stream));
  }
  for await (const batch of from.relayed(stream, (to.head(stream)?.seq ?? 0) + 1)) await to.ingest(batch);
}

async function tell(from: History, to: History, first = 1): Promise<void> {
  for await (const batch of from.records(stream, first)) await to.ingest(batch);
}

async function batchesOf(history: History, from: number): Promise<{ seq: number; events: number }[]> {
  const batches: { seq: number; events: number }[] = [];
  for await (const { head, events } of history.relayed(stream, from)) {
    batches.push({ seq: head.seq, events: events.length });
  }
  return batches;
}

/** What a follower keeps that was told each event in a batch of its own. */
async function told(
  count: number,
  log = new MemoryLog(),
  policy = never,
): Promise<{ source: History; relay: History }> {
  const source = await open(1);
  const relay = await open(2, log, policy);
  await source.record(tree, 'command', smallTree(count));
  for (let seq = 1; seq <= count + 2; seq += 1) {
    for await (const batch of source.records(stream, seq, seq)) await relay.ingest(batch);
  }
  return { source, relay };
}

describe('A stream that nodes hand on to each other', () => {
  it('is the same at the end of any chain of them, in whatever batches it came, and after any restart', async () => {
    await fc.assert(
      fc.asyncProperty(
        fittingBodies,
        fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 9 }),
        async (bodies, sizes, tail) => {
          const source = await open(1);
          const chain = await Chain.of((behind) => behind >= tail);
          for (let from = 0, turn = 0; from < bodies.length; turn += 1) {
            const size = sizes[turn % sizes.length] as number;
            await source.record(tree, 'command', bodies.slice(from, from + size));
            await tell(source, chain.first, from + 1);
            from += size;
            if (turn % 2 === 0) await chain.handOn();
            if (turn % 3 === 2) await chain.restart();
          }
          await chain.handOn();
          for (const last of [chain.last, (await chain.restart()).last]) {
            expect(last.faults()).toEqual([]);
            expect(last.head(stream)).toEqual(source.head(stream));
            expect(contentsOf(last.graph(stream))).toEqual(contentsOf(source.graph(stream)));
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('goes in as few batches as the limits allow, each of which ends where the author signed', async () => {
    const { relay } = await told(2_600);
    expect(await batchesOf(relay, 1)).toEqual([
      { seq: 1_000, events: 1_000 },
      { seq: 2_000, events: 1_000 },
      { seq: 2_602, events: 602 },
    ]);
    expect(await batchesOf(relay, 2_602)).toEqual([{ seq: 2_602, events: 1 }]);
    expect(await batchesOf(relay, 2_603)).toEqual([]);
  });

  it('is cut where the author signed, not where the limits are', async () => {
    const source = await open(1);
    const relay = await open(2);
    await source.record(tree, 'command', smallTree(698));
    await tell(source, relay);
    await source.record(
      tree,
      'command',
      Array.from({ length: 700 }, (_, index) => snapshotCreated(1, 1_000 + index)),
    );
    await tell(source, relay, 701);
    expect(await batchesOf(relay, 1)).toEqual([
      { seq: 700, events: 700 },
      { seq: 1_400, events: 700 },
    ]);
  });

  it('goes on from the checkpoint that its author sent, into whatever incarnation', async () => {
    const source = await open(1);
    const log = new MemoryLog();
    let relay = await open(2, log);
    const last = await open(3);
    await source.record(tree, 'command', smallTree(5));
    await tell(source, relay);
    await handOn(relay, last);
    await source.startIncarnation(tree);
    await relay.ingestCheckpoint(await source.checkpointOf(stream));
    await source.record(tree, 'command', [snapshotCreated(1, 6), snapshotCreated(1, 7)]);
    await tell(source, relay);
    relay = await open(2, log);
    expect(relay.faults()).toEqual([]);
    await handOn(relay, last);
    expect(last.head(stream)).toEqual(source.head(stream));
    expect(contentsOf(last.graph(stream))).toEqual(contentsOf(source.graph(stream)));
  });

  it('has the checkpoint of its author also behind checkpoints that the relay made for itself', async () => {
    const source = await open(1);
    const relay = await open(2, new MemoryLog(), () => true);
    await source.record(tree, 'command', smallTree(5));
    await relay.ingestCheckpoint(await source.checkpointOf(stream));
    await source.record(tree, 'command', [snapshotCreated(1, 6)]);
    await tell(source, relay, 8);
    const { head, seal } = await relay.relayedCheckpoint(stream);
    expect(head.seq).toBe(7);
    expect(seal.keyProof).toEqual(author.keyProof);
  });
});

describe('A checkpoint on disk that is being handed on', () => {
  it('is what it was, though another takes its place in the middle, and leaves nothing open', async () => {
    const source = await open(1);
    const level = await LevelLog.open(await tempDirectory());
    const relay = await open(2, level);
    await source.record(tree, 'command', smallTree(5));
    await relay.ingestCheckpoint(await source.checkpointOf(stream));
    const unread = await relay.relayedCheckpoint(stream);
    const { seal, chunks } = await relay.relayedCheckpoint(stream);
    await source.record(tree, 'command', [snapshotCreated(1, 6)]);
    await relay.ingestCheckpoint(await source.checkpointOf(stream));
    const digest = createHash('sha256');
    for await (const chunk of chunks) digest.update(chunk);
    expect([...digest.digest()]).toEqual([...seal.digest]);
    await unread.chunks[Symbol.asyncIterator]().return?.();
    expect((await relay.relayedCheckpoint(stream)).head.seq).toBe(8);
    await relay.close();
  });

  it('is under one key, also where its author has changed its key since it last said something', async () => {
    const before = createIdentity();
    const log = surviving(new MemoryLog());
    const about = streamIdOf(before.node, tree);
    const now = () => 1_800_000_000_000;
    const old = await History.open({ log, signer: before, now });
    await old.record(tree, 'command', smallTree(2));
    await old.close();
    const source = await History.open({ log, signer: withNewKey(before), now });
    const { head, seal, chunks } = await source.checkpointOf(about);
    expect(head.keyProof).toEqual(seal.keyProof);
    const follower = await open(2);
    await follower.ingestCheckpoint({ head, seal, chunks });
    expect(follower.head(about)?.seq).toBe(4);
  });
});

describe('What cannot be handed on', () => {
  it('is a checkpoint that the author did not seal, or sealed over other bytes', async () => {
    const { relay } = await told(3, new MemoryLog(), () => true);
    await expect(relay.relayedCheckpoint(stream)).rejects.toMatchObject({ code: 'LOG_COMPACTED' });

    const source = await open(1);
    await source.record(tree, 'command', smallTree(5));
    const log = new Altered();
    const other = await open(2, log);
    await other.ingestCheckpoint(await source.checkpointOf(stream));
    log.alterChunks = true;
    await expect(other.relayedCheckpoint(stream)).rejects.toMatchObject({ code: 'LOG_COMPACTED' });
  });

  it('are events without signatures, as earlier builds stored them, if there are too many for one batch', async () => {
    const log = new Altered();
    const { relay } = await told(1_100, log);
    log.dropSignatures = true;
    await expect(batchesOf(relay, 1)).rejects.toMatchObject({ code: 'LOG_COMPACTED' });
    expect(await batchesOf(relay, 500)).toEqual([{ seq: 1_102, events: 603 }]);
  });

  it('is a signature that a disk has damaged', async () => {
    const log = new Altered();
    const { relay } = await told(1_100, log);
    log.spoilSignatures = true;
    await expect(batchesOf(relay, 1)).rejects.toMatchObject({ code: 'LOG_CORRUPT' });
  });

  it('is an unknown stream', async () => {
    const relay = await open(2);
    await expect(batchesOf(relay, 1)).rejects.toMatchObject({ code: 'STREAM_UNKNOWN' });
  });

  it('is never a signature of the relay itself', async () => {
    const { relay } = await told(3);
    const last = await open(3);
    const signer = signerOf(2);
    const events = smallTree(3).map((body, index) => encodeEvent(asEvent(body, index) as KnownEvent));
    const hash = events.reduce(chainHash, genesisHash(stream, 1));
    const forged = signHead({ stream, incarnation: 1, seq: events.length, hash }, signer);
    await expect(last.ingest({ head: forged, events })).rejects.toMatchObject({ code: 'LOG_CORRUPT' });
    await handOn(relay, last);
    expect(last.head(stream)).toEqual(relay.head(stream));
  });
});

/** Three nodes, each of which knows the stream from the one before. */
class Chain {
  readonly #logs: readonly MemoryLog[];
  readonly #policy: CheckpointPolicy;
  #nodes: readonly History[] = [];

  private constructor(policy: CheckpointPolicy) {
    this.#policy = policy;
    this.#logs = [new MemoryLog(), new MemoryLog(), new MemoryLog()];
  }

  static async of(policy: CheckpointPolicy): Promise<Chain> {
    return new Chain(policy).restart();
  }

  get first(): History {
    return this.#nodes[0] as History;
  }

  get last(): History {
    return this.#nodes[2] as History;
  }

  async restart(): Promise<Chain> {
    this.#nodes = await Promise.all(this.#logs.map((log, index) => open(index + 2, log, this.#policy)));
    return this;
  }

  async handOn(): Promise<void> {
    const [first, second, third] = this.#nodes as [History, History, History];
    await handOn(first, second);
    await handOn(second, third);
  }
}

/** A log whose disk, or whose earlier build, is not what it should be. */
class Altered extends MemoryLog {
  dropSignatures = false;
  spoilSignatures = false;
  alterChunks = false;

  override async *read(of: StreamId, from: number, to?: number): AsyncGenerator<readonly LogRecord[]> {
    for await (const records of super.read(of, from, to)) yield records.map((record) => this.#altered(record));
  }

  override async checkpoint(of: StreamId, seq?: number): Promise<StoredCheckpoint | null> {
    const stored = await super.checkpoint(of, seq);
    if (stored === null || !this.alterChunks) return stored;
    return { ...stored, chunks: (async function* () {})() };
  }

  #altered(record: LogRecord): LogRecord {
    if (this.dropSignatures) return { ...record, signature: null };
    if (!this.spoilSignatures || record.signature === null) return record;
    return { ...record, signature: { ...record.signature, signature: new Uint8Array(64) } };
  }
}
