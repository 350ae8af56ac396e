/** Moves the bytes of one stream, with back-pressure, between a pool and the other end. */
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describeError } from '../../core/errors.ts';
import { Refusal } from './refusal.ts';
import { decodeStream, encodeStream, type StreamRecord } from './stream-format.ts';
import type { MemoryReceive, SendStep } from './transfers.ts';

/** Sends what the steps come to, then ends the target. Returns the number of bytes. The snapshots count as in use meanwhile. */
export async function streamOut(
  steps: readonly SendStep[],
  records: Iterable<StreamRecord>,
  target: Writable,
  signal: AbortSignal,
): Promise<number> {
  let bytes = 0;
  const counted = function* (): Generator<Buffer> {
    for (const chunk of encodeStream(records)) {
      yield chunk;
      bytes += chunk.length;
    }
  };
  for (const { to } of steps) to.streams += 1;
  try {
    await pipeline(Readable.from(counted(), { objectMode: false }), target, { signal }).catch((error: unknown) => {
      throw new Refusal('ZFS_FAILED', 'the receiving end closed the connection', { cause: describeError(error) });
    });
  } finally {
    for (const { to } of steps) to.streams -= 1;
  }
  return bytes;
}

/** Feeds a receive until the source ends. Returns the number of bytes. */
export async function streamIn(receive: MemoryReceive, source: Readable, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  const counted = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of chunks) {
        bytes += chunk.length;
        yield chunk;
      }
    } catch (error) {
      throw new Refusal('ZFS_STREAM_INVALID', 'the stream broke off', { cause: describeError(error) });
    }
  };
  try {
    await pipeline(
      source,
      async (chunks: AsyncIterable<Buffer>) => {
        for await (const record of decodeStream(counted(chunks))) receive.accept(record);
      },
      { signal },
    );
  } finally {
    receive.close();
  }
  return bytes;
}
