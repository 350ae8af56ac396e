import { once } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { beforeEach, describe, expect, it } from 'vitest';
import { Bandwidth, RateLimit, throttledFrom, throttledInto } from '../../src/transfer/bandwidth.ts';
import { signerOf } from '../log/identity.ts';
import { FakeTimers } from '../sync/fake-timers.ts';

const RATE = 1_000_000;
const CHUNK = Buffer.alloc(100_000, 'x');
const CHUNKS = 20;
const PEER = signerOf(1).node;
const OTHER = signerOf(2).node;

let timers: FakeTimers;

beforeEach(() => {
  timers = new FakeTimers();
});

/** Virtual ms that it takes until the promise settles. */
async function duration(work: Promise<unknown>): Promise<number> {
  const start = timers.now();
  let isOver = false;
  const over = work.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    await new Promise((resolve) => setImmediate(resolve));
    if (!isOver) await timers.advance(10);
  }
  await over;
  return timers.now() - start;
}

async function take(limit: RateLimit, times = CHUNKS): Promise<void> {
  for (let time = 0; time < times; time += 1) await limit.take(CHUNK.length);
}

describe('a limit', () => {
  it('lets as many bytes pass as it says, and shares them among those that take', async () => {
    const limit = new RateLimit(timers, RATE);
    const seconds = (CHUNKS * CHUNK.length) / RATE;
    const taken = await duration(Promise.all([take(limit, CHUNKS / 2), take(limit, CHUNKS / 2)]));
    expect(taken).toBeGreaterThan((seconds - 0.1) * 1000);
    expect(taken).toBeLessThan((seconds + 0.1) * 1000);
  });

  it('does not let a pause be made up for by more than a moment', async () => {
    const limit = new RateLimit(timers, RATE);
    await timers.advance(60_000);
    expect(await duration(take(limit))).toBeGreaterThan(1_800);
  });

  it('is none without a rate', () => {
    expect(new RateLimit(timers).take(1e12)).toBeUndefined();
  });

  it('can be lifted, and then nobody waits any longer', async () => {
    const limit = new RateLimit(timers, 1_024);
    const waiting = take(limit, 3);
    await timers.advance(10);
    limit.set(null);
    await waiting;
    expect(timers.now()).toBeLessThan(100);
  });
});

describe('the limits of a node', () => {
  it('are those of all streams, and those with one peer, each way on its own', () => {
    const bandwidth = new Bandwidth(timers);
    const rates = (peer = PEER, way: 'in' | 'out' = 'in') =>
      bandwidth.limits(peer, way).map(({ bytesPerSecond }) => bytesPerSecond);
    expect([rates(), bandwidth.isLimited(PEER)]).toEqual([[null, null], false]);
    bandwidth.apply({ overall: null, peers: new Map([[PEER, 5_000]]) });
    expect([rates(), rates(OTHER), rates(PEER, 'out')]).toEqual([
      [null, 5_000],
      [null, null],
      [null, 5_000],
    ]);
    expect([bandwidth.isLimited(PEER), bandwidth.isLimited(OTHER)]).toEqual([true, false]);
    bandwidth.apply({ overall: 9_000, peers: new Map() });
    expect([rates(), rates(OTHER)]).toEqual([
      [9_000, null],
      [9_000, null],
    ]);
    expect(bandwidth.limits(PEER, 'in')[0]).toBe(bandwidth.limits(OTHER, 'in')[0]);
    expect(bandwidth.limits(PEER, 'in')[0]).not.toBe(bandwidth.limits(PEER, 'out')[0]);
  });

  it('slow a stream that has begun without one', async () => {
    const bandwidth = new Bandwidth(timers);
    const connection = new PassThrough();
    const received = buffer(throttledFrom(connection, bandwidth.limits(PEER, 'in')));
    connection.write(CHUNK);
    await new Promise((resolve) => setImmediate(resolve));
    bandwidth.apply({ overall: RATE, peers: new Map() });
    for (let chunk = 1; chunk < CHUNKS; chunk += 1) connection.write(CHUNK);
    connection.end();
    expect(await duration(received)).toBeGreaterThan(1_500);
    expect((await received).length).toBe(CHUNKS * CHUNK.length);
  });
});

describe('a stream into a connection', () => {
  it('arrives whole and slowly, and is finished only when the connection has all of it', async () => {
    const chunks: Buffer[] = [];
    const connection = new Writable({
      highWaterMark: 1,
      write: (chunk, _encoding, done) => {
        chunks.push(chunk);
        setImmediate(done);
      },
    });
    const stream = throttledInto(connection, [new RateLimit(timers, RATE)]);
    for (let chunk = 0; chunk < CHUNKS; chunk += 1) stream.write(CHUNK);
    stream.end();
    expect(await duration(once(stream, 'finish'))).toBeGreaterThan(1_800);
    expect(connection.writableFinished).toBe(true);
    expect(Buffer.concat(chunks).length).toBe(CHUNKS * CHUNK.length);
  });

  it.each(['stream', 'connection'] as const)(
    'ends with the other when the %s is cut, also while it waits',
    async (cut) => {
      const connection = new PassThrough({ highWaterMark: 1 });
      const stream = throttledInto(connection, [new RateLimit(timers, RATE)]);
      const ends = Promise.all([once(connection, 'close'), once(stream, 'close')]);
      stream.write(CHUNK);
      stream.write(CHUNK);
      (cut === 'stream' ? stream : connection).destroy();
      await ends;
      await timers.advance(60_000);
      expect([connection.destroyed, stream.destroyed]).toEqual([true, true]);
    },
  );

  it('is cut with its cause when the connection fails', async () => {
    const connection = new PassThrough();
    connection.on('error', () => undefined);
    const stream = throttledInto(connection, []);
    connection.destroy(new Error('the link broke'));
    await once(stream, 'close');
    expect(stream.writableFinished).toBe(false);
  });
});

it('a stream from a connection that is cut fails, rather than ending early', async () => {
  const connection = new PassThrough();
  const stream = throttledFrom(connection, [new RateLimit(timers, RATE)]);
  connection.write(CHUNK);
  const read = buffer(stream);
  connection.destroy();
  await expect(read).rejects.toThrow();
});
