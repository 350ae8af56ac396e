/** The begin of streams, as OpenZFS 2.3 wrote them on a little-endian machine, and as they would be from the other kind. */
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readBeginning } from '../../src/zfs/begin-record.ts';
import { peekAtBegin } from '../../src/zfs/peek.ts';

const RECORD_BYTES = 312;
const RAW_FEATURES = 0x0508_0011n;
const PLAIN_FEATURES = 0x11n;
const COMPOUND = 0x2n;

interface Fields {
  readonly type?: number;
  readonly payloadBytes?: number;
  readonly version?: bigint;
  readonly toGuid?: bigint;
  readonly fromGuid?: bigint;
  readonly isBig?: boolean;
}

/** A record of 312 bytes (zfs_ioctl.h). */
function record({ type = 0, payloadBytes = 0, version = PLAIN_FEATURES, toGuid = 0n, fromGuid = 0n, isBig }: Fields) {
  const bytes = Buffer.alloc(RECORD_BYTES);
  const u32 = (value: number, at: number) => (isBig ? bytes.writeUInt32BE(value, at) : bytes.writeUInt32LE(value, at));
  const u64 = (value: bigint, at: number) =>
    isBig ? bytes.writeBigUInt64BE(value, at) : bytes.writeBigUInt64LE(value, at);
  u32(type, 0);
  u32(payloadBytes, 4);
  if (type !== 0) return bytes;
  u64(0x2f5bacbacn, 8);
  u64(version, 16);
  u64(toGuid, 40);
  u64(fromGuid, 48);
  bytes.write('tank/plain@1', 56);
  return bytes;
}

describe('the begin of a stream', () => {
  it('is read from what OpenZFS writes', () => {
    const recorded = Buffer.alloc(RECORD_BYTES);
    const head =
      '0000000004040000accbbaf502000000110008050000000' +
      '0ea7f016b00000000020000000c00000020375bda7dc1c8c3ce0dbb1ec370b25c';
    Buffer.from(head, 'hex').copy(recorded);
    const found = { toGuid: '14107738579016562464', fromGuid: '6679525180680375758', raw: true };
    expect(readBeginning(recorded)).toMatchObject({ kind: 'begin', head: found });
  });

  it.each([false, true])('is read in both byte orders, alone and in a compound stream (big-endian: %s)', (isBig) => {
    const inner = record({ version: RAW_FEATURES, toGuid: 2n ** 64n - 1n, fromGuid: 7n, isBig });
    const head = { toGuid: '18446744073709551615', fromGuid: '7', raw: true };
    expect(readBeginning(inner)).toMatchObject({ kind: 'begin', head });
    const compound = Buffer.concat([record({ version: COMPOUND, isBig }), record({ type: 5, isBig }), inner]);
    expect(readBeginning(compound)).toMatchObject({ kind: 'begin', head: { ...head, several: true } });
    for (const length of [0, 311, 312, 624, compound.length - 1]) {
      expect(readBeginning(compound.subarray(0, length)).kind).toBe('more');
    }
    expect(readBeginning(record({ toGuid: 5n, isBig }))).toMatchObject({
      head: { toGuid: '5', fromGuid: null, raw: false },
    });
  });

  it.each([false, true])('is refused where properties come before it (big-endian: %s)', (isBig) => {
    for (const payloadBytes of [1, 1000, 0xffff_ffff]) {
      expect(readBeginning(record({ version: COMPOUND, payloadBytes, isBig }))).toEqual({ kind: 'properties' });
    }
  });

  it('is not found in what is no stream, or has no end to its outer part', () => {
    expect(readBeginning(Buffer.alloc(RECORD_BYTES, 7))).toEqual({ kind: 'none' });
    expect(readBeginning(record({ type: 5 }))).toEqual({ kind: 'none' });
    expect(readBeginning(record({ version: 0x3n }))).toEqual({ kind: 'none' });
    const outer = record({ version: COMPOUND });
    expect(readBeginning(Buffer.concat([outer, record({ type: 4 }), record({})]))).toEqual({ kind: 'none' });
    expect(readBeginning(Buffer.concat([outer, record({ type: 5 }), outer]))).toEqual({ kind: 'none' });
  });

  it('is found or not in whatever bytes there are, and never asks for more than a kilobyte', () => {
    const bytes = fc
      .uint8Array({ maxLength: 1000 })
      .map((tail) => Buffer.concat([record({ version: COMPOUND }), tail]));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 700 }).map(Buffer.from), bytes), (given) => {
        const beginning = readBeginning(given);
        if (beginning.kind === 'more') expect(beginning.bytes).toBeLessThan(1024);
        if (beginning.kind === 'more') expect(beginning.bytes).toBeGreaterThan(given.length);
      }),
    );
  });

  it('is looked at without taking a byte away, however the stream comes in', async () => {
    const stream = Buffer.concat([record({ toGuid: 3n }), Buffer.alloc(5_000, 9)]);
    for (const size of [1, 100, 312, 313, stream.length]) {
      const pipe = new PassThrough();
      const looking = peekAtBegin(pipe, new AbortController().signal);
      for (let start = 0; start < stream.length; start += size) pipe.write(stream.subarray(start, start + size));
      pipe.end();
      expect(await looking).toMatchObject({ toGuid: '3' });
      const chunks: Buffer[] = [];
      pipe.on('data', (chunk: Buffer) => chunks.push(chunk));
      await once(pipe, 'end');
      expect(Buffer.concat(chunks).equals(stream)).toBe(true);
    }
  });
});
