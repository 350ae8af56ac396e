import type { StreamId } from '../../src/core/ids.ts';
import type { Log } from '../../src/log/log.ts';
import { corrupt } from '../../src/log/log-errors.ts';
import { verifyStream } from '../../src/log/verification.ts';

/** A log in which a stream cannot be read from an event on until it begins anew, or whose head cannot be read at all. */
export function damaged(log: Log, stream: StreamId, at: 'head' | number): Log {
  let broken = true;
  const fault = corrupt({ stream, seq: at === 'head' ? 0 : at, expected: 'what was written', found: 'something else' });
  const changed: Partial<Log> = {
    head: async (asked) => {
      if (broken && asked === stream && at === 'head') throw fault;
      return log.head(asked);
    },
    read: async function* (asked, from, to) {
      const isHit = broken && asked === stream && at !== 'head';
      if (!isHit) yield* log.read(asked, from, to);
      else if (from < at) yield* log.read(asked, from, at - 1);
      if (isHit) throw fault;
    },
    reset: async (asked, ...rest) => {
      // Replaced unconditionally, as the contract of a log says of a damaged stream
      if (asked === stream && at === 'head') await log.remove(asked);
      await log.reset(asked, ...rest);
      if (asked === stream) broken = false;
    },
    verify: (asked) => verifyStream(asDamaged, asked),
  };
  const asDamaged = new Proxy(log, {
    get: (target, name: keyof Log) => changed[name] ?? target[name].bind(target),
  });
  return asDamaged;
}
