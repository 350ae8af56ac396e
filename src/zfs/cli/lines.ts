import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/** A line that whoever it was for could not read, and what they threw. */
export interface UnreadLine {
  readonly line: string;
  readonly error: unknown;
}

/**
 * Hands each line of a stream over, without its newline, holding no more than one line and one chunk. Ends when the stream is closed; what
 * comes after a line on which `onLine` throws is dropped, and that line is the result (null: there was none).
 */
export async function eachLine(stream: Readable, onLine: (line: string) => void): Promise<UnreadLine | null> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let unread: UnreadLine | null = null;
  const read = (line: string): void => {
    if (unread !== null) return;
    try {
      onLine(line);
    } catch (error) {
      unread = { line, error };
    }
  };
  stream.on('data', (chunk: Buffer) => {
    const lines = (rest + decoder.write(chunk)).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(read);
  });
  await closed(stream);
  if (rest !== '') read(rest);
  return unread;
}

/** Resolves once a stream is closed. */
export async function closed(stream: Readable): Promise<void> {
  if (!stream.closed) await new Promise<void>((resolve) => void stream.once('close', resolve));
}
