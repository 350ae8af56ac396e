/**
 * What any {@link Log} does. A factory makes a log that is empty; `reopen` closes it and gives the same one anew, where a driver keeps
 * anything at all.
 */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  chainHash,
  genesisHash,
  type Head,
  type SignedHead,
  sealCheckpoint,
  signHead,
} from '../../src/core/codec/chain.ts';
import { checkpointDigest } from '../../src/core/codec/checkpoint-codec.ts';
import type { Hash } from '../../src/core/codec/hash.ts';
import { type StreamId, streamIdOf, type TreeName } from '../../src/core/ids.ts';
import type { Append, Checkpoint, Log, LogRecord } from '../../src/log/log.ts';
import { signerOf } from '../log/identity.ts';

/** A log under test. */
export interface LogFixture {
  readonly log: Log;
  /** Closes the log and opens it again, or null where nothing outlives a close. */
  readonly reopen: (() => Promise<Log>) | null;
  /** Closes the log and takes away what it leaves. */
  dispose(): Promise<void>;
}

const signer = signerOf(1);

export function streamNamed(tree: string): StreamId {
  return streamIdOf(signer.node, tree as TreeName);
}

export const stream = streamNamed('images');

/** Event bytes that can be told apart. */
export function eventsOf(count: number, label = 'event'): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => Buffer.from(`${label} ${index}`));
}

/** Where a stream is, with the hash that goes with it. */
export interface Place {
  readonly stream: StreamId;
  readonly incarnation: number;
  readonly seq: number;
  readonly hash: Hash;
}

export function beginning(of: StreamId = stream, incarnation = 1): Place {
  return { stream: of, incarnation, seq: 0, hash: genesisHash(of, incarnation) };
}

/** The signed head after `events` behind `place`. */
function headAfter(place: Place, events: readonly Uint8Array[]): SignedHead {
  const hash = events.reduce(chainHash, place.hash);
  return signHead(
    { stream: place.stream, incarnation: place.incarnation, seq: place.seq + events.length, hash },
    signer,
  );
}

export function appendAfter(place: Place, events: readonly Uint8Array[]): Append {
  return { stream: place.stream, events, head: headAfter(place, events) };
}

export function checkpointAt(
  head: Head,
  chunks: readonly Uint8Array[] = eventsOf(3, `chunk of ${head.seq}`),
): Checkpoint {
  const { incarnation, seq, hash } = head;
  return {
    seal: sealCheckpoint({ stream: head.stream, incarnation, seq, hash }, checkpointDigest(chunks), signer),
    chunks,
  };
}

export async function readAll(log: Log, from = 1, to?: number, of = stream): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for await (const batch of log.read(of, from, to)) records.push(...batch);
  return records;
}

export async function textsOf(log: Log, from = 1, to?: number, of = stream): Promise<string[]> {
  return (await readAll(log, from, to, of)).map(({ bytes }) => Buffer.from(bytes).toString());
}

/** A head whose bytes compare, whatever kind of array they came in. */
function plain(head: SignedHead | null | undefined): object | null {
  if (head == null) return null;
  const { hash, keyProof, signature } = head;
  return { ...head, hash: [...hash], keyProof: [...keyProof], signature: [...signature] };
}

async function currentHead(log: Log): Promise<SignedHead> {
  const head = await log.head(stream);
  if (head === null) throw new Error('the stream has no head');
  return head;
}

async function chunksOf(log: Log, seq?: number): Promise<{ seq: number; chunks: string[] } | null> {
  const checkpoint = await log.checkpoint(stream, seq);
  if (checkpoint === null) return null;
  const chunks: string[] = [];
  for await (const chunk of checkpoint.chunks) chunks.push(Buffer.from(chunk).toString());
  return { seq: checkpoint.seal.head.seq, chunks };
}

/** Appends `count` events and gives the head after them. */
export async function grow(log: Log, place: Place, count: number, withCheckpoint = false): Promise<SignedHead> {
  const append = appendAfter(place, eventsOf(count, `after ${place.seq}`));
  await log.append(withCheckpoint ? { ...append, checkpoint: checkpointAt(append.head) } : append);
  return append.head;
}

export function logContract(name: string, open: () => Promise<LogFixture>): void {
  describe(`${name} keeps the contract of a log`, () => {
    let fixture: LogFixture;
    let log: Log;

    beforeEach(async () => {
      fixture = await open();
      log = fixture.log;
    });
    afterEach(() => fixture.dispose());

    describe('appending', () => {
      it('gives back what was appended, numbered and chained', async () => {
        const events = eventsOf(3);
        const head = headAfter(beginning(), events);
        await log.append({ stream, events, head });
        const records = await readAll(log);
        expect(records.map(({ seq }) => seq)).toEqual([1, 2, 3]);
        expect(records.map(({ bytes }) => Buffer.from(bytes))).toEqual(events);
        expect(Buffer.from(records[2]?.hash ?? [])).toEqual(Buffer.from(head.hash));
        expect(await log.head(stream)).toMatchObject({ incarnation: 1, seq: 3 });
      });

      it('keeps the head with its signature', async () => {
        const head = await grow(log, beginning(), 2);
        const kept = await log.head(stream);
        expect(Buffer.from(kept?.signature ?? [])).toEqual(Buffer.from(head.signature));
        expect(Buffer.from(kept?.keyProof ?? [])).toEqual(Buffer.from(head.keyProof));
      });

      it('keeps the signature of each head at which an append ended, and no other', async () => {
        const heads = [await grow(log, beginning(), 2)];
        heads.push(await grow(log, heads[0] as SignedHead, 1_500), await grow(log, await currentHead(log), 1));
        const again = fixture.reopen === null ? log : await fixture.reopen();
        const signed = (await readAll(again)).flatMap(({ seq, hash, signature }) =>
          signature === null ? [] : [plain({ stream, incarnation: 1, seq, hash, ...signature })],
        );
        expect(signed).toEqual(heads.map(plain));
      });

      it('takes thousands of events at once and gives them back from any place', async () => {
        const events = eventsOf(3_500);
        await log.append(appendAfter(beginning(), events));
        const texts = events.map(String);
        expect(await textsOf(log)).toEqual(texts);
        expect(await textsOf(log, 999, 1_002)).toEqual(texts.slice(998, 1_002));
        expect(await textsOf(log, 3_500)).toEqual(texts.slice(3_499));
      });

      it('takes events of every size, empty ones too', async () => {
        const events = [
          Buffer.alloc(0),
          Buffer.alloc(200_000, 1),
          Buffer.alloc(0),
          ...Array.from({ length: 9 }, (_, n) => Buffer.alloc(250_000, n)),
        ];
        await log.append(appendAfter(beginning(), events));
        const records = await readAll(log);
        expect(records.map(({ bytes }) => Buffer.from(bytes).equals(events[0] ?? Buffer.alloc(1)))).toEqual(
          events.map((event) => event.length === 0),
        );
        expect(records.map(({ bytes }) => bytes.length)).toEqual(events.map(({ length }) => length));
      });

      it('keeps streams apart', async () => {
        const other = streamNamed('images-2');
        await grow(log, beginning(), 2);
        await log.append(appendAfter(beginning(other), eventsOf(1, 'other')));
        expect(await log.streams()).toEqual([stream, other]);
        expect(await textsOf(log, 1, undefined, other)).toEqual(['other 0']);
        expect(await textsOf(log)).toHaveLength(2);
      });

      it('refuses a head that does not follow, and names what it expected and found', async () => {
        const head = await grow(log, beginning(), 2);
        const later = { ...head, seq: 5 };
        await expect(log.append(appendAfter(later, eventsOf(1)))).rejects.toMatchObject({
          code: 'LOG_GAP',
          evidence: { expected: 3, found: 6 },
        });
        await expect(log.append(appendAfter(beginning(), eventsOf(1)))).rejects.toMatchObject({ code: 'LOG_GAP' });
        expect(await readAll(log)).toHaveLength(2);
      });

      it('refuses a head whose hash is not that of the events', async () => {
        const head = await grow(log, beginning(), 2);
        const append = appendAfter(head, eventsOf(2));
        await expect(log.append({ ...append, events: eventsOf(2, 'others') })).rejects.toMatchObject({
          code: 'LOG_CORRUPT',
          evidence: { stream, seq: 4 },
        });
        expect(await readAll(log)).toHaveLength(2);
        await log.append(append);
        expect(await readAll(log)).toHaveLength(4);
      });

      it('refuses events of another incarnation', async () => {
        await grow(log, beginning(), 2);
        await expect(log.append(appendAfter(beginning(stream, 2), eventsOf(3)))).rejects.toMatchObject({
          code: 'LOG_FORKED',
        });
      });

      it('lets appends of one stream take turns in the order they were asked for', async () => {
        let place: Place = beginning();
        const appends = Array.from({ length: 20 }, (_, index) => {
          const append = appendAfter(place, eventsOf(2, `batch ${index},`));
          place = append.head;
          return log.append(append);
        });
        await Promise.all(appends);
        expect(await log.head(stream)).toMatchObject({ seq: 40 });
        expect((await textsOf(log)).slice(-2)).toEqual(['batch 19, 0', 'batch 19, 1']);
      });

      it('changes nothing for an append of nothing', async () => {
        await log.append(appendAfter(beginning(), []));
        expect(await log.streams()).toEqual([]);
      });
    });

    describe('reading', () => {
      it('gives nothing beyond the head', async () => {
        await grow(log, beginning(), 3);
        expect(await readAll(log, 4)).toEqual([]);
        expect(await readAll(log, 2, 99)).toHaveLength(2);
        expect(await readAll(log, 3, 2)).toEqual([]);
      });

      it('refuses a stream that nothing is known of', async () => {
        await expect(readAll(log)).rejects.toMatchObject({ code: 'STREAM_UNKNOWN' });
        await expect(log.oldest(stream)).rejects.toMatchObject({ code: 'STREAM_UNKNOWN' });
        await expect(log.verify(stream)).rejects.toMatchObject({ code: 'STREAM_UNKNOWN' });
        expect(await log.head(stream)).toBeNull();
      });

      it('goes on undisturbed while the stream grows and is compacted', async () => {
        let head: SignedHead = await grow(log, beginning(), 1_500);
        head = await grow(log, head, 1_500, true);
        const texts: string[] = [];
        for await (const records of log.read(stream, 1)) {
          if (texts.length === 0) {
            head = await grow(log, head, 10);
            await log.compact(stream, head.seq);
          }
          texts.push(...records.map(({ bytes }) => Buffer.from(bytes).toString()));
        }
        expect(texts).toHaveLength(3_000);
        expect(await log.oldest(stream)).toBe(3_001);
      });

      it('can be left in the middle', async () => {
        await grow(log, beginning(), 3_000);
        for await (const records of log.read(stream, 1)) {
          expect(records.length).toBeGreaterThan(0);
          break;
        }
        expect(await readAll(log, 2_999)).toHaveLength(2);
      });
    });

    describe('checkpoints', () => {
      it('gives the newest at or before a seq', async () => {
        const first = await grow(log, beginning(), 4, true);
        const second = await grow(log, first, 4, true);
        await grow(log, second, 1);
        expect(await chunksOf(log)).toMatchObject({ seq: 8 });
        expect(await chunksOf(log, 7)).toEqual({ seq: 4, chunks: ['chunk of 4 0', 'chunk of 4 1', 'chunk of 4 2'] });
        expect(await chunksOf(log, 3)).toBeNull();
      });

      it('gives each with the signed head that it was written at', async () => {
        const first = await grow(log, beginning(), 2, true);
        const second = headAfter(first, eventsOf(7));
        await log.reset(stream, second, checkpointAt(second));
        await grow(log, second, 3, true);
        const again = fixture.reopen === null ? log : await fixture.reopen();
        expect(plain((await again.checkpoint(stream, second.seq))?.head)).toEqual(plain(second));
        expect(plain((await again.checkpoint(stream))?.head)).toEqual(plain(await again.head(stream)));
      });

      it('takes one on its own, and puts it in the place of another at the same seq', async () => {
        const head = await grow(log, beginning(), 4, true);
        await log.append({ stream, events: [], head, checkpoint: checkpointAt(head, eventsOf(1, 'new')) });
        expect(await chunksOf(log)).toEqual({ seq: 4, chunks: ['new 0'] });
        expect((await log.verify(stream)).fault).toBeNull();
      });

      it('refuses one that belongs to another head, and the events with it', async () => {
        const head = await grow(log, beginning(), 4);
        const append = appendAfter(head, eventsOf(1));
        await expect(log.append({ ...append, checkpoint: checkpointAt(head) })).rejects.toMatchObject({
          code: 'LOG_CORRUPT',
        });
        expect(await log.head(stream)).toMatchObject({ seq: 4 });
        expect(await chunksOf(log)).toBeNull();
      });

      it('leaves nothing of an append whose chunks fail on the way', async () => {
        const head = await grow(log, beginning(), 4);
        const append = appendAfter(head, eventsOf(1));
        const { seal } = checkpointAt(append.head);
        const chunks = (function* failing() {
          yield Buffer.from('one');
          throw new Error('no more');
        })();
        await expect(log.append({ ...append, checkpoint: { seal, chunks } })).rejects.toThrow('no more');
        expect(await log.head(stream)).toMatchObject({ seq: 4 });
        await log.append(append);
        expect(await log.head(stream)).toMatchObject({ seq: 5 });
      });
    });

    describe('compaction', () => {
      it('never lets a checkpoint that is not what was sealed stand for anything', async () => {
        const first = await grow(log, beginning(), 4, true);
        const append = appendAfter(first, eventsOf(4));
        const { seal } = checkpointAt(append.head);
        await log.append({ ...append, checkpoint: { seal, chunks: eventsOf(1, 'something else') } });
        expect(await log.compact(stream, 8)).toBe(5);
        expect(await readAll(log, 5)).toHaveLength(4);
        expect(await chunksOf(log, 4)).toMatchObject({ seq: 4 });
      });

      it('forgets what the newest checkpoint at or before a seq stands for, and older checkpoints', async () => {
        const first = await grow(log, beginning(), 4, true);
        const second = await grow(log, first, 4, true);
        const third = await grow(log, second, 4, true);
        await grow(log, third, 2);
        expect(await log.compact(stream, 11)).toBe(9);
        expect(await log.oldest(stream)).toBe(9);
        expect(await chunksOf(log, 7)).toBeNull();
        expect(await chunksOf(log, 11)).toMatchObject({ seq: 8 });
        expect(await readAll(log, 9)).toHaveLength(6);
        await expect(readAll(log, 8)).rejects.toMatchObject({ code: 'LOG_COMPACTED', evidence: { oldest: 9 } });
      });

      it('keeps everything where there is no checkpoint', async () => {
        const head = await grow(log, beginning(), 4);
        await grow(log, head, 4, true);
        expect(await log.compact(stream, 7)).toBe(1);
        expect(await readAll(log)).toHaveLength(8);
      });

      it('can leave no record at all, and the stream still goes on', async () => {
        const head = await grow(log, beginning(), 4, true);
        expect(await log.compact(stream, 4)).toBe(5);
        expect(await readAll(log, 5)).toEqual([]);
        await grow(log, head, 2);
        expect(await textsOf(log, 5)).toEqual(['after 4 0', 'after 4 1']);
        expect((await log.verify(stream)).fault).toBeNull();
      });
    });

    describe('resetting', () => {
      it('puts a checkpoint in the place of everything before', async () => {
        const old = await grow(log, beginning(), 4, true);
        const head = headAfter(old, eventsOf(10));
        await log.reset(stream, head, checkpointAt(head));
        expect(await log.head(stream)).toMatchObject({ incarnation: 1, seq: 14 });
        expect(await log.oldest(stream)).toBe(15);
        expect(await chunksOf(log, 13)).toBeNull();
        expect(await chunksOf(log)).toMatchObject({ seq: 14 });
        await grow(log, head, 2);
        expect(await readAll(log, 15)).toHaveLength(2);
        expect((await log.verify(stream)).fault).toBeNull();
      });

      it('begins an unknown stream in the middle', async () => {
        const head = headAfter(beginning(), eventsOf(7));
        await log.reset(stream, head, checkpointAt(head));
        expect(await log.head(stream)).toMatchObject({ seq: 7 });
      });

      it('goes over to a new incarnation, which may be shorter', async () => {
        await grow(log, beginning(), 40);
        const head = headAfter(beginning(stream, 2), []);
        await log.reset(stream, head, checkpointAt(head));
        await grow(log, head, 3);
        expect(await log.head(stream)).toMatchObject({ incarnation: 2, seq: 3 });
        expect(await textsOf(log)).toEqual(['after 0 0', 'after 0 1', 'after 0 2']);
        expect(await chunksOf(log)).toMatchObject({ seq: 0 });
        expect((await log.verify(stream)).fault).toBeNull();
      });

      it('never goes back', async () => {
        const head = await grow(log, beginning(stream), 4);
        const earlier = headAfter(beginning(), eventsOf(2, 'after 0'));
        await expect(log.reset(stream, earlier, checkpointAt(earlier))).rejects.toMatchObject({ code: 'LOG_FORKED' });
        const other = headAfter(beginning(), eventsOf(4, 'others'));
        await expect(log.reset(stream, other, checkpointAt(other))).rejects.toMatchObject({ code: 'LOG_FORKED' });
        const next = headAfter(beginning(stream, 2), []);
        await log.reset(stream, next, checkpointAt(next));
        await expect(log.reset(stream, head, checkpointAt(head))).rejects.toMatchObject({ code: 'LOG_FORKED' });
        expect(await log.head(stream)).toMatchObject({ incarnation: 2, seq: 0 });
      });
    });

    it('forgets a stream altogether, and can begin it anew', async () => {
      await grow(log, beginning(), 4, true);
      await log.remove(stream);
      await log.remove(stream);
      expect(await log.streams()).toEqual([]);
      expect(await log.head(stream)).toBeNull();
      await grow(log, beginning(), 2);
      expect(await readAll(log)).toHaveLength(2);
      expect(await chunksOf(log)).toBeNull();
    });

    describe('verification', () => {
      it('counts what it has read', async () => {
        const head = await grow(log, beginning(), 1_200, true);
        await grow(log, head, 5);
        expect(await log.verify(stream)).toEqual({ stream, incarnation: 1, records: 1_205, seq: 1_205, fault: null });
      });

      it('finds a head that its author did not sign', async () => {
        const append = appendAfter(beginning(), eventsOf(2));
        const head = { ...append.head, signature: Buffer.alloc(64) };
        await log.append({ ...append, head });
        expect((await log.verify(stream)).fault).toMatchObject({ stream, seq: 2 });
      });

      it('finds a checkpoint that is not what was sealed', async () => {
        const append = appendAfter(beginning(), eventsOf(2));
        const { seal } = checkpointAt(append.head);
        await log.append({ ...append, checkpoint: { seal, chunks: eventsOf(3, 'others') } });
        expect((await log.verify(stream)).fault).toMatchObject({
          stream,
          seq: 2,
          expected: Buffer.from(seal.digest).toString('hex'),
        });
      });
    });

    it('finishes running writes when it is closed, and refuses everything afterwards', async () => {
      const append = appendAfter(beginning(), eventsOf(10));
      const running = log.append(append);
      await Promise.all([log.close(), log.close()]);
      await running;
      const refused = { code: 'LOG_CLOSED' };
      await expect(log.append(appendAfter(append.head, eventsOf(1)))).rejects.toMatchObject(refused);
      await expect(log.streams()).rejects.toMatchObject(refused);
      await expect(log.head(stream)).rejects.toMatchObject(refused);
      await expect(readAll(log)).rejects.toMatchObject(refused);
      await expect(log.checkpoint(stream)).rejects.toMatchObject(refused);
      await expect(log.compact(stream, 1)).rejects.toMatchObject(refused);
      await expect(log.remove(stream)).rejects.toMatchObject(refused);
      await expect(log.verify(stream)).rejects.toMatchObject(refused);
      if (fixture.reopen !== null) expect(await readAll(await fixture.reopen())).toHaveLength(10);
    });
  });

  describe(`${name} is what a list of events would be`, () => {
    it('after any sequence of appends, checkpoints, compactions, resets, removals and reopenings', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
          const fixture = await open();
          try {
            await playAgainstModel(fixture, actions);
          } finally {
            await fixture.dispose();
          }
        }),
        { numRuns: 40 },
      );
    });
  });
}

type Action =
  | { readonly type: 'append'; readonly count: number; readonly checkpoint: boolean }
  | { readonly type: 'compact'; readonly at: number }
  | { readonly type: 'reset'; readonly ahead: number; readonly incarnation: boolean }
  | { readonly type: 'read'; readonly from: number; readonly length: number }
  | { readonly type: 'remove' }
  | { readonly type: 'reopen' };

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('append' as const),
      count: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 990, max: 2_010 })),
      checkpoint: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant('compact' as const), at: fc.double({ min: 0, max: 1, noNaN: true }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('reset' as const),
      ahead: fc.integer({ min: 0, max: 9 }),
      incarnation: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('read' as const),
      from: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.integer({ min: 0, max: 1_500 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('remove' as const) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('reopen' as const) }) },
);

interface Model {
  place: Place;
  /** Texts of the records that are left, the last at the place's seq. */
  texts: string[];
  /** Seqs of the checkpoints. */
  checkpoints: number[];
}

function emptyModel(): Model {
  return { place: beginning(), texts: [], checkpoints: [] };
}

function oldestIn({ place, texts }: Model): number {
  return place.seq - texts.length + 1;
}

async function playAgainstModel(fixture: LogFixture, actions: readonly Action[]): Promise<void> {
  let { log } = fixture;
  let model = emptyModel();
  for (const [index, each] of actions.entries()) {
    if (each.type === 'reopen') log = (await fixture.reopen?.()) ?? log;
    else model = await play(log, model, each, index);
    await compare(log, model);
  }
}

async function play(
  log: Log,
  model: Model,
  action: Exclude<Action, { type: 'reopen' }>,
  index: number,
): Promise<Model> {
  switch (action.type) {
    case 'append': {
      const events = eventsOf(action.count, `action ${index},`);
      const append = appendAfter(model.place, events);
      await log.append(action.checkpoint ? { ...append, checkpoint: checkpointAt(append.head) } : append);
      const checkpoints = action.checkpoint ? [...new Set([...model.checkpoints, append.head.seq])] : model.checkpoints;
      return { place: append.head, texts: [...model.texts, ...events.map(String)], checkpoints };
    }
    case 'compact': {
      if ((await log.head(stream)) === null) return model;
      const seq = Math.round(action.at * model.place.seq);
      const base = model.checkpoints.findLast((each) => each <= seq);
      const left = await log.compact(stream, seq);
      if (base !== undefined) {
        model.texts = model.texts.slice(base + 1 - oldestIn(model));
        model.checkpoints = model.checkpoints.filter((each) => each >= base);
      }
      expect(left).toBe(oldestIn(model));
      return model;
    }
    case 'reset': {
      const from = action.incarnation ? beginning(stream, model.place.incarnation + 1) : model.place;
      const head = headAfter(from, eventsOf(action.ahead, `skipped by ${index},`));
      await log.reset(stream, head, checkpointAt(head));
      return { place: head, texts: [], checkpoints: [head.seq] };
    }
    case 'read': {
      if ((await log.head(stream)) === null) return model;
      const from = oldestIn(model) + Math.floor(action.from * model.texts.length);
      const start = from - oldestIn(model);
      expect(await textsOf(log, from, from + action.length - 1)).toEqual(
        model.texts.slice(start, start + action.length),
      );
      return model;
    }
    case 'remove':
      await log.remove(stream);
      return emptyModel();
  }
}

async function compare(log: Log, model: Model): Promise<void> {
  const head = await log.head(stream);
  if (head === null) {
    expect(model.place.seq).toBe(0);
    return;
  }
  expect(head).toMatchObject({ incarnation: model.place.incarnation, seq: model.place.seq });
  expect(await log.oldest(stream)).toBe(oldestIn(model));
  expect((await log.checkpoint(stream))?.seal.head.seq ?? null).toBe(model.checkpoints.at(-1) ?? null);
  expect(await log.verify(stream)).toMatchObject({ records: model.texts.length, fault: null });
}
