/** Looking at the first bytes of a stream before anybody gets them. */
import type { Readable } from 'node:stream';
import { readBeginning } from './begin-record.ts';
import type { StreamHead, Unreadable } from './zfs.ts';

/**
 * Reads until the begin of the stream is there, and puts everything back. Holds no more than that takes and one chunk. Resolves to why there is none
 * where the stream ends, breaks off or is none at all.
 */
export function peekAtBegin(stream: Readable, signal: AbortSignal): Promise<StreamHead | Unreadable> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let [length, needed] = [0, 0];
    const finish = (result: StreamHead | Unreadable): void => {
      stream.off('readable', read);
      stream.off('end', end);
      stream.off('error', breakOff);
      stream.off('close', breakOff);
      signal.removeEventListener('abort', abort);
      resolve(result);
    };
    const read = (): void => {
      for (let chunk: Buffer | null = stream.read(); chunk !== null; chunk = stream.read()) {
        chunks.push(chunk);
        length += chunk.length;
        if (length < needed) continue;
        const bytes = Buffer.concat(chunks);
        const beginning = readBeginning(bytes);
        if (beginning.kind === 'more') {
          needed = beginning.bytes;
          continue;
        }
        stream.unshift(bytes);
        finish(beginning.kind === 'begin' ? beginning.head : beginning.kind);
        return;
      }
    };
    const end = (): void => finish('ended');
    const breakOff = (): void => finish('broken');
    const abort = (): void => finish('aborted');
    if (signal.aborted) {
      resolve('aborted');
      return;
    }
    if (stream.destroyed) {
      resolve('broken');
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    stream.on('readable', read).once('end', end).once('error', breakOff).once('close', breakOff);
  });
}
