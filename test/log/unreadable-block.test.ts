/** A disk that does not give back what was written: LevelDB cannot read a block, and so neither delete what is in it. */
import { Level } from 'level';
import { describe, expect, it } from 'vitest';
import { LevelLog } from '../../src/log/level-log.ts';
import type { Log, LogRecord } from '../../src/log/log.ts';
import {
  appendAfter,
  beginning,
  checkpointAt,
  eventsOf,
  grow,
  readAll,
  stream,
  streamNamed,
  textsOf,
} from '../suites/log-contract.ts';
import { tempDirectory } from './temp-directory.ts';
import { makeUnreadable } from './unreadable-block.ts';

const other = streamNamed('homes');

async function withLog<Result>(directory: string, work: (log: Log) => Promise<Result>): Promise<Result> {
  const log = await LevelLog.open(directory);
  try {
    return await work(log);
  } finally {
    await log.close();
  }
}

/** Five pages of a stream, one of which cannot be read, and another stream beside it. */
async function logWithUnreadable(page: number): Promise<string> {
  const directory = await tempDirectory();
  await withLog(directory, async (log) => {
    await log.append(appendAfter(beginning(other), eventsOf(3)));
    await grow(log, beginning(), 5_000, true);
  });
  // The first page lies in one block with the heads
  await makeUnreadable(directory, `page!${stream}!`, page - 2);
  return directory;
}

describe.each([2, 4, 5])('A LevelLog whose page %i of 5 cannot be read', (page) => {
  it('opens, gives the other streams, and tells where the damage is', async () => {
    const directory = await logWithUnreadable(page);
    await withLog(directory, async (log) => {
      expect(await log.streams()).toEqual([other, stream]);
      expect(await textsOf(log, 1, undefined, other)).toHaveLength(3);
      const given: LogRecord[] = [];
      const reading = async () => {
        for await (const records of log.read(stream, 1)) given.push(...records);
      };
      await expect(reading()).rejects.toMatchObject({ code: 'LOG_CORRUPT', evidence: { stream } });
      expect(given).toHaveLength((page - 1) * 1_000);
      if (page < 5) expect(await readAll(log, page * 1_000 + 1)).toHaveLength((5 - page) * 1_000);
      expect((await log.verify(stream)).fault).toMatchObject({ stream });
    });
  });

  it('goes over to a new incarnation, for good', async () => {
    const directory = await logWithUnreadable(page);
    const { head } = appendAfter(beginning(stream, 2), []);
    await withLog(directory, async (log) => {
      await log.reset(stream, head, checkpointAt(head));
      await grow(log, head, 2);
    });
    await withLog(directory, async (log) => {
      expect(await log.verify(stream)).toMatchObject({ incarnation: 2, records: 2, fault: null });
      expect(await log.verify(other)).toMatchObject({ records: 3, fault: null });
    });
  });

  it('is compacted up to its checkpoint, for good', async () => {
    const directory = await logWithUnreadable(page);
    await withLog(directory, async (log) => expect(await log.compact(stream, 5_000)).toBe(5_001));
    await withLog(directory, async (log) => expect(await log.verify(stream)).toMatchObject({ fault: null }));
  });

  it('keeps what cannot be removed as a damaged stream, on which nothing is written', async () => {
    const directory = await logWithUnreadable(page);
    const refused = { code: 'LOG_CORRUPT', evidence: { stream } };
    const isDamaged = async (log: Log) => {
      expect(await log.streams()).toEqual([other, stream]);
      await expect(log.append(appendAfter(beginning(), eventsOf(1)))).rejects.toMatchObject(refused);
      await expect(log.remove(stream)).rejects.toMatchObject(refused);
      expect(await log.verify(other)).toMatchObject({ records: 3, fault: null });
    };
    await withLog(directory, async (log) => {
      await expect(log.remove(stream)).rejects.toMatchObject(refused);
      await isDamaged(log);
    });
    await withLog(directory, isDamaged);
  });
});

describe('A LevelLog with many streams', () => {
  const streams = Array.from({ length: 60 }, (_, index) => streamNamed(`tree-${String(index).padStart(2, '0')}`));

  async function logWithUnreadableRows(kind: 'head' | 'checkpoint'): Promise<string> {
    const directory = await tempDirectory();
    await withLog(directory, async (log) => {
      for (const each of streams) await grow(log, beginning(each), 3, true);
    });
    await makeUnreadable(directory, `${kind}!`, 0);
    return directory;
  }

  it('does not open without the heads of some, as if it had never heard of them', async () => {
    const directory = await logWithUnreadableRows('head');
    await expect(LevelLog.open(directory)).rejects.toMatchObject({ code: 'LOG_CORRUPT', evidence: { directory } });
  });

  it('does without the checkpoints of some, and deletes nothing that those may refer to', async () => {
    const directory = await logWithUnreadableRows('checkpoint');
    await withLog(directory, async (log) => {
      for (const each of streams) expect(await log.verify(each)).toMatchObject({ records: 3, fault: null });
      const known = await Promise.all(streams.map((each) => log.checkpoint(each)));
      expect(known).toContain(null);
      expect(known.at(-1)).not.toBeNull();
    });
    const rows = new Level<string, Uint8Array>(directory, { valueEncoding: 'view' });
    const chunks = await rows.keys({ gte: 'chunk!', lt: 'chunk!~' }).all();
    await rows.close();
    expect(chunks).toHaveLength(3 * streams.length);
  });
});
