/**
 * Compression around a data connection, for links that are slower than the processors at both ends. Two adapters: `zstd.ts` runs zstd in a process of its own for each stream, `memory-compressor.ts` stands for it between nodes in memory.
 * Both pass `test/suites/compressor-contract.ts`.
 */
import { type Duplex, pipeline, type Readable, Writable } from 'node:stream';

export interface Compressor {
  /** Whether it can be had on this machine; found out once. */
  isAvailable(): Promise<boolean>;
  /** Takes a stream for a target that gets it compressed. It is finished once the target has all of it, and then has ended that; it ends with it, too. */
  compressInto(target: Writable): Writable;
  /** What a compressed stream was. Fails where that was cut short or is none, and ends the source with itself. */
  decompressFrom(source: Readable): Readable;
}

/** The part of a compressor that is the same however the bytes are made: what goes in at one end of `through` comes out at the other. */
export function compressInto(through: Duplex, target: Writable): Writable {
  let isDone = (_failure?: Error | null): void => undefined;
  const done = new Promise<Error | null>((resolve) => {
    isDone = (failure) => resolve(failure ?? null);
  });
  pipeline(through, target, (failure) => isDone(failure));
  const entry = new Writable({
    write: (chunk: Buffer, _encoding, next) => {
      if (through.write(chunk)) next();
      else through.once('drain', next);
    },
    final: (finish) => {
      through.end();
      void done.then(finish);
    },
    destroy: (failure, finish) => {
      through.destroy();
      target.destroy();
      finish(failure);
    },
  });
  // Whoever writes to it hears of that; before anybody does, it is in nobody's way
  entry.on('error', () => undefined);
  void done.then((failure) => (failure === null ? undefined : entry.destroy(failure)));
  return entry;
}

/** The same for the way back. */
export function decompressFrom(source: Readable, through: Duplex): Readable {
  // Whoever reads from it hears of what went wrong
  pipeline(source, through, () => undefined);
  return through;
}
