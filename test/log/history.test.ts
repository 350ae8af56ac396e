import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { unixMsOf } from '../../src/core/clock.ts';
import type { EventBody, KnownEvent } from '../../src/core/events.ts';
import { fold } from '../../src/core/graph/fold.ts';
import { EMPTY_GRAPH } from '../../src/core/graph/graph.ts';
import { ADMIN_TREE, type TreeName } from '../../src/core/ids.ts';
import { History } from '../../src/log/history.ts';
import { LevelLog } from '../../src/log/level-log.ts';
import type { Append, Log } from '../../src/log/log.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import {
  asEvent,
  contentsOf,
  datasetCreated,
  datasetId,
  fittingBodies,
  smallTree,
  snapshotCreated,
  treeAdded,
} from './bodies.ts';
import { signerOf } from './identity.ts';
import { tempDirectory } from './temp-directory.ts';

const tree = 'images' as TreeName;
const signer = signerOf(1);
const START_MS = 1_800_000_000_000;

/** A clock that a test moves. */
function clock(): { now: () => number; ms: number } {
  const state = { ms: START_MS, now: () => state.ms };
  return state;
}

/** A log that goes on in memory when its History is closed, so that it can be opened again. */
function lasting(log: MemoryLog): Log {
  return new Proxy(log, {
    get: (target, name) => {
      if (name === 'close') return async () => undefined;
      const member = Reflect.get(target, name);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
}

/** A body that contradicts any graph without dataset 99. */
const misfit = snapshotCreated(99, 1);

describe('A history of own streams', () => {
  let log: Log;
  let history: History;
  let time: ReturnType<typeof clock>;

  beforeEach(async () => {
    time = clock();
    log = lasting(new MemoryLog());
    history = await History.open({ log, signer, now: time.now });
  });
  afterEach(() => history.close());

  const reopened = () => History.open({ log, signer, now: time.now });
  const graph = () => history.graph(history.ownStream(tree));

  it('begins with nothing', () => {
    expect(history.node).toBe(signer.node);
    expect(history.streams()).toEqual([]);
    expect(history.head(history.ownStream(tree))).toBeNull();
    expect(() => graph()).toThrow(expect.objectContaining({ code: 'STREAM_UNKNOWN' }));
  });

  it('numbers, stamps and folds what is recorded', async () => {
    const events = await history.record(tree, 'observed', smallTree(2));
    expect(events.map(({ seq, type, cause }) => [seq, type, cause])).toEqual([
      [1, 'tree.added', 'observed'],
      [2, 'dataset.created', 'observed'],
      [3, 'snapshot.created', 'observed'],
      [4, 'snapshot.created', 'observed'],
    ]);
    expect(history.head(history.ownStream(tree))).toMatchObject({ incarnation: 1, seq: 4 });
    expect(
      graph()
        .get(datasetId(1))
        ?.snapshots.map(({ name }) => name),
    ).toEqual(['s1', 's2']);
  });

  it('stamps later events later, even when the wall clock goes back, over all own streams and restarts', async () => {
    const first = await history.record(tree, 'command', smallTree(1));
    time.ms -= 3_600_000;
    const second = await history.record('homes' as TreeName, 'command', [treeAdded('tank/homes')]);
    await history.close();
    history = await reopened();
    const third = await history.record(tree, 'command', [snapshotCreated(1, 2)]);
    const stamps = [...first, ...second, ...third].map(({ at }) => at);
    expect(stamps).toEqual([...new Set(stamps)].sort((a, b) => a - b));
    expect(unixMsOf(stamps[0] ?? 0)).toBe(START_MS);
  });

  it('refuses bodies that contradict the graph or each other, and writes none of them', async () => {
    await history.record(tree, 'command', smallTree(1));
    const before = graph();
    await expect(history.record(tree, 'command', [snapshotCreated(1, 2), misfit])).rejects.toMatchObject({
      code: 'EVENT_INVALID',
      evidence: { seq: 5 },
    });
    expect(graph()).toBe(before);
    expect(history.head(history.ownStream(tree))?.seq).toBe(3);
    await history.record(tree, 'command', [snapshotCreated(1, 2)]);
    expect((await reopened()).head(history.ownStream(tree))?.seq).toBe(4);
  });

  it('refuses many bodies as a whole when the last of them does not fit', async () => {
    await expect(history.record(tree, 'command', [...smallTree(10_500), misfit])).rejects.toMatchObject({
      code: 'EVENT_INVALID',
    });
    expect(history.streams()).toEqual([]);
  });

  it('writes many bodies in several appends, each complete in itself', async () => {
    const changes: number[] = [];
    history.onChange(({ head, events }) => {
      changes.push(head.seq);
      expect(events?.at(-1)?.seq).toBe(head.seq);
      expect(graph().snapshotCount).toBe(head.seq - 2);
    });
    await history.record(tree, 'observed', smallTree(25_000));
    expect(changes).toEqual([10_000, 20_000, 25_002]);
    expect(contentsOf((await reopened()).graph(history.ownStream(tree)))).toEqual(contentsOf(graph()));
  });

  it('records nothing for no bodies', async () => {
    expect(await history.record(tree, 'command', [])).toEqual([]);
    expect(history.streams()).toEqual([]);
  });

  it('keeps the order of records that were asked for at once', async () => {
    await history.record(tree, 'command', smallTree(0));
    await Promise.all(
      Array.from({ length: 20 }, (_, index) => history.record(tree, 'command', [snapshotCreated(1, index + 1)])),
    );
    expect(
      graph()
        .get(datasetId(1))
        ?.snapshots.map(({ createtxg }) => createtxg),
    ).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
  });

  it('shows nothing that is not on disk yet', async () => {
    await history.record(tree, 'command', smallTree(0));
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const append = vi.spyOn(MemoryLog.prototype, 'append').mockImplementationOnce(async function (
      this: MemoryLog,
      change: Append,
    ) {
      await held;
      return MemoryLog.prototype.append.call(this, change);
    });
    onTestFinished(() => append.mockRestore());
    const listener = vi.fn();
    history.onChange(listener);
    const recording = history.record(tree, 'command', [snapshotCreated(1, 1)]);
    await vi.waitFor(() => expect(append).toHaveBeenCalled());
    expect(graph().snapshotCount).toBe(0);
    expect(listener).not.toHaveBeenCalled();
    release();
    await recording;
    expect(graph().snapshotCount).toBe(1);
    expect(listener).toHaveBeenCalledOnce();
  });

  it('stays as it was when the log cannot be written', async () => {
    await history.record(tree, 'command', smallTree(0));
    const append = vi.spyOn(MemoryLog.prototype, 'append').mockRejectedValueOnce(new Error('disk full'));
    onTestFinished(() => append.mockRestore());
    await expect(history.record(tree, 'command', [snapshotCreated(1, 1)])).rejects.toThrow('disk full');
    expect(graph().snapshotCount).toBe(0);
    expect(await history.record(tree, 'command', [snapshotCreated(1, 1)])).toMatchObject([{ seq: 3 }]);
  });

  it('keeps facts about the node in a stream without graph or checkpoints', async () => {
    history = await History.open({ log, signer, now: time.now, checkpointPolicy: () => true });
    const stream = history.ownStream(ADMIN_TREE);
    await history.record(ADMIN_TREE, 'command', [{ type: 'peer.removed', peer: signerOf(2).node }]);
    expect(history.graph(stream).datasets.size).toBe(0);
    expect(await log.checkpoint(stream)).toBeNull();
    await expect(history.compact(stream, 1)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    await expect(history.startIncarnation(ADMIN_TREE)).rejects.toMatchObject({ code: 'LOG_FORKED' });
  });

  it('folds to the same graph after a reopening, whatever was recorded and whenever checkpoints were made', async () => {
    await fc.assert(
      fc.asyncProperty(
        fittingBodies,
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 20 }),
        async (bodies, size, every) => {
          const own = lasting(new MemoryLog());
          const options = { log: own, signer, now: time.now, checkpointPolicy: (tail: number) => tail >= every };
          const recording = await History.open(options);
          for (let start = 0; start < bodies.length; start += size) {
            await recording.record(tree, 'command', bodies.slice(start, start + size));
          }
          const stream = recording.ownStream(tree);
          const expected = contentsOf(fold(EMPTY_GRAPH, bodies.map(asEvent)));
          expect(contentsOf(recording.graph(stream))).toEqual(expected);
          const again = await History.open(options);
          expect(again.faults()).toEqual([]);
          expect(contentsOf(again.graph(stream))).toEqual(expected);
          await again.compact(stream, bodies.length);
          expect(contentsOf((await History.open(options)).graph(stream))).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  describe('checkpoints', () => {
    it('are made after a thousand events, and then each time a growing tree has doubled', async () => {
      const checkpointSeq = async () => (await log.checkpoint(history.ownStream(tree)))?.seal.head.seq ?? null;
      const bodies = smallTree(2_000);
      await history.record(tree, 'command', bodies.slice(0, 999));
      expect(await checkpointSeq()).toBeNull();
      await history.record(tree, 'command', bodies.slice(999, 1_000));
      expect(await checkpointSeq()).toBe(1_000);
      await history.record(tree, 'command', bodies.slice(1_000, 1_998));
      expect(await checkpointSeq()).toBe(1_000);
      await history.record(tree, 'command', bodies.slice(1_998));
      expect(await checkpointSeq()).toBe(2_002);
    });

    describe('that were altered', () => {
      /** Puts the graph of another tree behind the seal of the checkpoint at the head. */
      const alterNewest = async (): Promise<void> => {
        const stream = history.ownStream(tree);
        const { seal } = (await log.checkpoint(stream)) ?? expect.fail();
        const head = (await log.head(stream)) ?? expect.fail();
        const { chunks } = await (await historyOf(smallTree(999))).checkpointOf(stream);
        await log.append({ stream, events: [], head, checkpoint: { seal, chunks: await arrayOf(chunks) } });
      };
      const isAsBefore = async (): Promise<void> => {
        const again = await reopened();
        expect(again.faults()).toEqual([]);
        expect(contentsOf(again.graph(history.ownStream(tree)))).toEqual(contentsOf(graph()));
        expect((await again.verify())[0]?.fault).not.toBeNull();
      };

      it('are passed over where the stream is kept from its first event', async () => {
        await history.record(tree, 'command', smallTree(1_000));
        await alterNewest();
        await isAsBefore();
      });

      it('are passed over for an older one', async () => {
        await history.record(tree, 'command', smallTree(1_000));
        await history.compact(history.ownStream(tree), 1_002);
        const more = Array.from({ length: 1_100 }, (_, index) => snapshotCreated(1, 2_000 + index));
        await history.record(tree, 'command', more);
        await alterNewest();
        await isAsBefore();
      });

      it('are damage where nothing else is left of what they stand for', async () => {
        await history.record(tree, 'command', smallTree(1_000));
        await history.startIncarnation(tree);
        await alterNewest();
        const stream = history.ownStream(tree);
        expect((await reopened()).faults()).toMatchObject([{ stream, error: { code: 'LOG_CORRUPT' } }]);
        await history.record(tree, 'command', [snapshotCreated(1, 1_001)]);
        expect((await reopened()).faults()).toMatchObject([{ stream, error: { evidence: { seq: 0 } } }]);
      });
    });
  });

  describe('the past', () => {
    let events: readonly KnownEvent[];

    beforeEach(async () => {
      history = await History.open({ log, signer, now: time.now, checkpointPolicy: (tail) => tail >= 4 });
      const recorded: KnownEvent[] = [];
      for (const body of smallTree(10)) {
        recorded.push(...(await history.record(tree, 'command', [body])));
        time.ms += 1_000;
      }
      events = recorded;
    });

    it('can be folded up to any moment', async () => {
      const stream = history.ownStream(tree);
      for (const [index, { at }] of events.entries()) {
        const expected = contentsOf(fold(EMPTY_GRAPH, events.slice(0, index + 1)));
        expect(contentsOf(await history.graphAt(stream, at))).toEqual(expected);
        expect(contentsOf(await history.graphAt(stream, at + 1))).toEqual(expected);
      }
      expect(contentsOf(await history.graphAt(stream, 0))).toEqual(contentsOf(EMPTY_GRAPH));
    });

    it('reaches back to the oldest checkpoint that is kept', async () => {
      const stream = history.ownStream(tree);
      expect(await history.compact(stream, 9)).toBe(9);
      expect((await history.graphAt(stream, events[8]?.at ?? 0)).snapshotCount).toBe(7);
      expect((await history.graphAt(stream, events[7]?.at ?? 0)).snapshotCount).toBe(6);
      await expect(history.graphAt(stream, events[6]?.at ?? 0)).rejects.toMatchObject({
        code: 'LOG_COMPACTED',
        message: expect.stringContaining('2027-01-15'),
      });
    });

    it('can be read event by event', async () => {
      const stream = history.ownStream(tree);
      const read = (await arrayOf(history.events(stream, 3, 6))).flat();
      expect(read).toEqual(events.slice(2, 6));
    });
  });

  describe('a new incarnation', () => {
    it('begins with the graph of the old one', async () => {
      await history.record(tree, 'command', smallTree(3));
      const listener = vi.fn();
      history.onChange(listener);
      const head = await history.startIncarnation(tree);
      expect(head).toMatchObject({ incarnation: 2, seq: 0 });
      expect(listener).toHaveBeenCalledWith({ head, events: null });
      await history.record(tree, 'command', [snapshotCreated(1, 4)]);
      const again = await reopened();
      expect(again.head(again.ownStream(tree))).toMatchObject({ incarnation: 2, seq: 1 });
      expect(again.graph(again.ownStream(tree)).snapshotCount).toBe(4);
    });

    it('is later than any head of its own that a peer can show', async () => {
      const lost = await historyOf(smallTree(5));
      await lost.startIncarnation(tree);
      const known = await lost.startIncarnation(tree);
      await history.record(tree, 'command', smallTree(1));
      expect(await history.startIncarnation(tree, known)).toMatchObject({ incarnation: 4, seq: 0 });
    });

    it('is another than one of the same number that began with another graph', async () => {
      const lost = await historyOf(smallTree(5));
      await history.record(tree, 'command', smallTree(1));
      const [known, head] = [await lost.startIncarnation(tree), await history.startIncarnation(tree)];
      expect(head.incarnation).toBe(known.incarnation);
      expect(head.hash).not.toEqual(known.hash);
      expect(await history.signedHeadAt(head.stream, 0)).toEqual(head);
    });

    it('is not begun for a head that this node never signed', async () => {
      await history.record(tree, 'command', smallTree(1));
      const head = history.head(history.ownStream(tree)) ?? expect.fail();
      const forged = { ...head, incarnation: 2 ** 50 };
      await expect(history.startIncarnation(tree, forged)).rejects.toMatchObject({ code: 'LOG_CORRUPT' });
      expect(history.head(history.ownStream(tree))?.incarnation).toBe(1);
    });
  });

  it('tells listeners until they want no more, and none suffers from another', async () => {
    const warning = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    onTestFinished(() => warning.mockRestore());
    const seen: number[] = [];
    const failure = new Error('a listener failed');
    history.onChange(() => {
      throw failure;
    });
    const end = history.onChange(({ head }) => seen.push(head.seq));
    await history.record(tree, 'command', smallTree(1));
    end();
    await history.record(tree, 'command', [snapshotCreated(1, 2)]);
    expect(seen).toEqual([3]);
    expect(warning).toHaveBeenCalledTimes(2);
    expect(warning).toHaveBeenCalledWith(failure);
  });

  describe('a subscription', () => {
    it('gives what is there and then what comes, without gap or duplicate', async () => {
      const end = new AbortController();
      await history.record(tree, 'command', smallTree(1_500));
      const seqs: number[] = [];
      const next: Record<number, () => unknown> = {
        1502: () => history.record(tree, 'command', [snapshotCreated(1, 1_501), snapshotCreated(1, 1_502)]),
        1504: () => setImmediate(() => void history.record(tree, 'command', [snapshotCreated(1, 1_503)])),
        1505: () => end.abort(),
      };
      for await (const { first, events } of history.subscribe(history.ownStream(tree), 500, end.signal)) {
        expect(first).toBe(events[0]?.seq);
        seqs.push(...events.map(({ seq }) => seq));
        await next[seqs.at(-1) ?? 0]?.();
      }
      expect(seqs).toEqual(Array.from({ length: 1_006 }, (_, index) => 500 + index));
    });

    it('ends while it waits', async () => {
      const end = new AbortController();
      await history.record(tree, 'command', smallTree(0));
      const next = history.subscribe(history.ownStream(tree), 3, end.signal)[Symbol.asyncIterator]().next();
      setImmediate(() => end.abort());
      expect(await next).toMatchObject({ done: true });
    });

    it('says so when the stream began anew, when events are gone, and when the log is closed', async () => {
      const { signal } = new AbortController();
      const stream = history.ownStream(tree);
      await history.record(tree, 'command', smallTree(1_000));
      await history.compact(stream, 1_002);
      const begin = (from: number) => history.subscribe(stream, from, signal)[Symbol.asyncIterator]().next();
      await expect(begin(1)).rejects.toMatchObject({ code: 'LOG_COMPACTED' });
      const waiting = begin(1_003);
      await history.startIncarnation(tree);
      await expect(waiting).rejects.toMatchObject({ code: 'LOG_FORKED' });
      const last = begin(1);
      await history.close();
      await expect(last).rejects.toMatchObject({ code: 'LOG_CLOSED' });
    });
  });

  describe('a subscription that begins while the stream goes over to a new incarnation', () => {
    /** Holds the change back between the log, which has it, and everyone else. */
    async function inBetween(
      work: (next: Promise<unknown>, end: AbortController, finish: () => Promise<unknown>) => Promise<void>,
    ): Promise<void> {
      await history.record(tree, 'command', smallTree(1));
      let release = (): void => undefined;
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const { reset, read } = MemoryLog.prototype;
      const resetting = vi.spyOn(MemoryLog.prototype, 'reset').mockImplementation(async function (
        this: MemoryLog,
        ...change
      ) {
        await reset.apply(this, change);
        await held;
      });
      let reads = 0;
      const reading = vi.spyOn(MemoryLog.prototype, 'read').mockImplementation(function (this: MemoryLog, ...range) {
        reads += 1;
        if (reads > 100) throw new Error('It reads the log over and over');
        return read.apply(this, range);
      });
      const stream = history.ownStream(tree);
      const started = history.startIncarnation(tree);
      const finish = () => {
        release();
        return started;
      };
      try {
        await vi.waitFor(async () => expect(await log.head(stream)).toMatchObject({ incarnation: 2 }));
        const end = new AbortController();
        const next = history.subscribe(stream, 1, end.signal)[Symbol.asyncIterator]().next();
        next.catch(() => undefined);
        await vi.waitFor(() => expect(reads).toBe(1));
        await work(next, end, finish);
        expect(reads).toBe(1);
      } finally {
        await finish();
        resetting.mockRestore();
        reading.mockRestore();
      }
    }

    it('waits for it, and says that the stream began anew', async () => {
      await inBetween(async (next, _end, finish) => {
        await finish();
        await expect(next).rejects.toMatchObject({ code: 'LOG_FORKED' });
      });
    });

    it('ends when it is given up', async () => {
      await inBetween(async (next, end) => {
        end.abort();
        expect(await next).toMatchObject({ done: true });
      });
    });
  });

  it('hands out events in batches with signed heads, of bounded size', async () => {
    const note = 'n'.repeat(8_000);
    const large: EventBody[] = Array.from({ length: 50 }, () => ({
      type: 'dataset.properties-changed',
      dataset: datasetId(1),
      changed: { note },
    }));
    await history.record(tree, 'command', [...smallTree(2_500), ...large]);
    const stream = history.ownStream(tree);
    const batches = await arrayOf(history.records(stream, 1));
    expect(batches.at(-1)?.head.seq).toBe(2_552);
    expect(batches.reduce((sum, { events }) => sum + events.length, 0)).toBe(2_552);
    for (const { head, events } of batches) {
      expect(events.length).toBeLessThanOrEqual(1_000);
      expect(events.reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(256 * 1024);
      expect(await history.signedHeadAt(stream, head.seq)).toEqual(head);
    }
    await history.compact(stream, 2_552);
    expect((await history.signedHeadAt(stream, 2_552)).seq).toBe(2_552);
    await expect(history.signedHeadAt(stream, 2_553)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  it('verifies what is on disk', async () => {
    await history.record(tree, 'command', smallTree(1_200));
    await history.record('homes' as TreeName, 'command', [treeAdded('tank/homes')]);
    expect(await history.verify()).toMatchObject([
      { records: 1, fault: null },
      { records: 1_202, fault: null },
    ]);
    expect(await history.verify(history.ownStream(tree))).toMatchObject([{ records: 1_202 }]);
  });

  it('refuses to write when it is closed', async () => {
    await history.record(tree, 'command', smallTree(0));
    const own = await historyOf([]);
    await own.close();
    await expect(own.record(tree, 'command', smallTree(0))).rejects.toMatchObject({ code: 'LOG_CLOSED' });
  });
});

async function historyOf(bodies: readonly EventBody[], node = signer): Promise<History> {
  const history = await History.open({ log: new MemoryLog(), signer: node, now: () => START_MS });
  await history.record(tree, 'command', bodies);
  return history;
}

async function arrayOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const array: T[] = [];
  for await (const item of items) array.push(item);
  return array;
}

describe('A history with a damaged stream', () => {
  it('reports and refuses it, goes on with the others, and can begin it anew', async () => {
    const directory = await tempDirectory();
    const open = async () => History.open({ log: await LevelLog.open(directory), signer, now: () => START_MS });
    let history = await open();
    const good = 'homes' as TreeName;
    await history.record(good, 'command', smallTree(3));
    await history.record(tree, 'command', smallTree(3));
    await history.record(tree, 'command', [snapshotCreated(1, 4), datasetCreated(2)]);
    const stream = history.ownStream(tree);
    await history.close();
    await damageLastPage(directory, stream);

    history = await open();
    onTestFinished(() => history.close());
    expect(history.faults()).toMatchObject([{ stream, error: { code: 'LOG_CORRUPT', evidence: { stream } } }]);
    expect(history.streams().map((head) => head.stream)).toEqual([history.ownStream(good)]);
    const refused = { code: 'LOG_CORRUPT' };
    expect(() => history.graph(stream)).toThrow(expect.objectContaining(refused));
    await expect(history.record(tree, 'command', [snapshotCreated(1, 5)])).rejects.toMatchObject(refused);
    await expect(arrayOf(history.events(stream, 1))).rejects.toMatchObject(refused);
    expect((await history.verify(stream))[0]?.fault).toMatchObject({ stream, seq: 7 });
    await history.record(good, 'command', [snapshotCreated(1, 4)]);

    await history.startIncarnation(tree);
    expect(history.faults()).toEqual([]);
    expect(history.graph(stream).snapshotCount).toBe(3);
    await history.record(tree, 'command', [snapshotCreated(1, 4)]);
    expect((await history.verify(stream))[0]).toMatchObject({ incarnation: 2, records: 1, fault: null });
  });
});

async function damageLastPage(directory: string, stream: string): Promise<void> {
  const { Level } = await import('level');
  const level = new Level<string, Uint8Array>(directory, { valueEncoding: 'view' });
  const [last] = await level
    .iterator({ gte: `page!${stream}!`, lt: `page!${stream}!~`, reverse: true, limit: 1 })
    .all();
  const [key, value] = last ?? expect.fail();
  value[value.length - 1] = (value.at(-1) ?? 0) ^ 1;
  await level.put(key, value);
  await level.close();
}
