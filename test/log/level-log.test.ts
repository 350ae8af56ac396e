import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Level } from 'level';
import { describe, expect, it, onTestFinished } from 'vitest';
import { isPandoError } from '../../src/core/errors.ts';
import { levelError, openError } from '../../src/log/level-errors.ts';
import { LevelLog } from '../../src/log/level-log.ts';
import type { Log } from '../../src/log/log.ts';
import {
  appendAfter,
  beginning,
  checkpointAt,
  eventsOf,
  grow,
  logContract,
  readAll,
  stream,
  streamNamed,
  textsOf,
} from '../suites/log-contract.ts';
import { tempDirectory } from './temp-directory.ts';

logContract('LevelLog', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-log-'));
  let log = await LevelLog.open(directory);
  return {
    log,
    reopen: async () => {
      await log.close();
      log = await LevelLog.open(directory);
      return log;
    },
    dispose: async () => {
      await log.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});

type Rows = Level<string, Uint8Array>;

/** Works on the rows of a log that is closed. */
async function withRows<Result>(directory: string, work: (rows: Rows) => Promise<Result>): Promise<Result> {
  const rows: Rows = new Level(directory, { valueEncoding: 'view' });
  try {
    return await work(rows);
  } finally {
    await rows.close();
  }
}

function keysOf(directory: string): Promise<string[]> {
  return withRows(directory, (rows) => rows.keys().all());
}

async function withLog<Result>(directory: string, work: (log: Log) => Promise<Result>): Promise<Result> {
  const log = await LevelLog.open(directory);
  try {
    return await work(log);
  } finally {
    await log.close();
  }
}

/** Three pages of 1,000, 1,000 and 500 records and one of 7, a checkpoint after the first append, another stream beside it. */
async function sampleLog(): Promise<string> {
  const directory = await tempDirectory();
  await withLog(directory, async (log) => {
    const head = await grow(log, beginning(), 2_500, true);
    await grow(log, head, 7);
    await log.append(appendAfter(beginning(streamNamed('other')), eventsOf(3)));
  });
  return directory;
}

async function pageKeys(directory: string): Promise<string[]> {
  return (await keysOf(directory)).filter((key) => key.startsWith(`page!${stream}!`));
}

/** Reads until it fails, and gives what came and how it failed. */
async function readUntilFault(log: Log): Promise<{ given: string[]; error: unknown }> {
  const given: string[] = [];
  try {
    for await (const records of log.read(stream, 1))
      given.push(...records.map(({ bytes }) => Buffer.from(bytes).toString()));
    return { given, error: null };
  } catch (error) {
    return { given, error };
  }
}

describe('A LevelLog whose rows were altered', () => {
  it('finds any bit that flipped in any page, and gives nothing out that is not what was written', async () => {
    const directory = await sampleLog();
    const written = await withLog(directory, (log) => textsOf(log));
    const keys = await pageKeys(directory);
    expect(keys).toHaveLength(4);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(3),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.nat(7),
        async (page, place, bit) => {
          const key = keys[page] as string;
          const original = await withRows(directory, async (rows) => {
            const value = (await rows.get(key)) ?? expect.fail();
            const altered = Buffer.from(value);
            const index = Math.floor(place * altered.length);
            altered[index] = (altered[index] ?? 0) ^ (1 << bit);
            await rows.put(key, altered);
            return value;
          });
          await withLog(directory, async (log) => {
            const { given, error } = await readUntilFault(log);
            expect(error).toMatchObject({ code: 'LOG_CORRUPT', evidence: { stream } });
            expect(given).toEqual(written.slice(0, given.length));
            expect(given.length).toBeLessThanOrEqual(1_000 * page);
            const { fault } = await log.verify(stream);
            expect(isPandoError(error) ? error.evidence : error).toEqual(fault);
            expect((await log.verify(streamNamed('other'))).fault).toBeNull();
          });
          await withRows(directory, (rows) => rows.put(key, original));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('names the record, with the hash that it should have and the one that it has', async () => {
    const directory = await sampleLog();
    const records = await withLog(directory, (log) => readAll(log));
    const [, second = ''] = await pageKeys(directory);
    await withRows(directory, async (rows) => {
      const value = Buffer.from((await rows.get(second)) ?? expect.fail());
      value.write('X', value.indexOf('after 0 1233'));
      await rows.put(second, value);
    });
    await withLog(directory, async (log) => {
      const { error } = await readUntilFault(log);
      expect(error).toMatchObject({
        code: 'LOG_CORRUPT',
        evidence: {
          stream,
          seq: 1_234,
          expected: Buffer.from(records[1_233]?.hash ?? []).toString('hex'),
          found: expect.stringMatching(/^[0-9a-f]{64}$/),
        },
      });
      await expect(readAll(log, 2_001)).resolves.toHaveLength(507);
      await expect(readAll(log, 1_500)).rejects.toMatchObject({ code: 'LOG_CORRUPT', evidence: { seq: 1_234 } });
    });
  });

  const alterations: Record<string, (rows: Rows, keys: readonly string[]) => Promise<void>> = {
    'a page that is cut short': async (rows, [, key = '']) => {
      const value = (await rows.get(key)) ?? expect.fail();
      await rows.put(key, value.subarray(0, value.length - 10));
    },
    'a page that is empty': (rows, [, key = '']) => rows.put(key, new Uint8Array()),
    'a page that goes on too long': async (rows, [, key = '']) => {
      await rows.put(key, Buffer.concat([(await rows.get(key)) ?? expect.fail(), Buffer.alloc(3)]));
    },
    'a page in the place of another': async (rows, [first = '', second = '']) => {
      await rows.put(second, (await rows.get(first)) ?? expect.fail());
    },
    'a missing page': (rows, [, key = '']) => rows.del(key),
    'a missing first page': (rows, [key = '']) => rows.del(key),
    'a missing last page': (rows, keys) => rows.del(keys.at(-1) ?? ''),
    'a page of another stream': async (rows, [first = '']) => {
      const [foreign] = await rows.values({ gte: `page!${streamNamed('other')}!`, limit: 1 }).all();
      await rows.put(first, foreign ?? expect.fail());
    },
    'a page whose records are more than the bytes there': async (rows, [, key = '']) => {
      const value = Buffer.from((await rows.get(key)) ?? expect.fail());
      value.writeUInt32BE(0xffffffff, 9);
      await rows.put(key, value);
    },
    'a page of a later format': async (rows, [, key = '']) => {
      const value = Buffer.from((await rows.get(key)) ?? expect.fail());
      value.writeUInt8(9);
      await rows.put(key, value);
    },
  };

  for (const [what, alter] of Object.entries(alterations)) {
    it(`finds ${what}`, async () => {
      const directory = await sampleLog();
      const written = await withLog(directory, (log) => textsOf(log));
      const keys = await pageKeys(directory);
      await withRows(directory, (rows) => alter(rows, keys));
      await withLog(directory, async (log) => {
        const { given, error } = await readUntilFault(log);
        expect(error).toMatchObject({ code: 'LOG_CORRUPT', evidence: { stream, seq: expect.any(Number) } });
        expect(given).toEqual(written.slice(0, given.length));
        expect((await log.verify(stream)).fault).not.toBeNull();
      });
    });
  }

  it('finds a chain that is consistent in itself but leads to another head', async () => {
    const directory = await tempDirectory();
    const other = await tempDirectory();
    await withLog(directory, (log) => log.append(appendAfter(beginning(), eventsOf(5))));
    await withLog(other, (log) => log.append(appendAfter(beginning(), eventsOf(5, 'forged'))));
    const [key = ''] = await pageKeys(directory);
    const forged = await withRows(other, (rows) => rows.get(key));
    await withRows(directory, (rows) => rows.put(key, forged ?? expect.fail()));
    await withLog(directory, async (log) => {
      expect(await readUntilFault(log)).toMatchObject({
        given: [],
        error: { code: 'LOG_CORRUPT', evidence: { seq: 5 } },
      });
    });
  });

  it.each(['head', 'checkpoint'])('finds an altered %s row, and goes on with the other streams', async (kind) => {
    const directory = await sampleLog();
    const key = (await keysOf(directory)).find((each) => each.startsWith(`${kind}!${stream}`)) ?? '';
    await withRows(directory, async (rows) => {
      const value = Buffer.from((await rows.get(key)) ?? expect.fail());
      value[40] = (value[40] ?? 0) ^ 1;
      await rows.put(key, value);
    });
    await withLog(directory, async (log) => {
      const refused = { code: 'LOG_CORRUPT', evidence: { stream } };
      expect(await log.streams()).toEqual([stream, streamNamed('other')]);
      await expect(log.head(stream)).rejects.toMatchObject(refused);
      await expect(readAll(log)).rejects.toMatchObject(refused);
      await expect(log.append(appendAfter(beginning(), eventsOf(1)))).rejects.toMatchObject(refused);
      expect((await log.verify(stream)).fault).toMatchObject({ stream });
      expect(await textsOf(log, 1, undefined, streamNamed('other'))).toHaveLength(3);
    });
  });

  it('finds a head row that is gone, or was moved from another stream', async () => {
    const directory = await sampleLog();
    await withRows(directory, async (rows) => {
      const value = await rows.get(`head!${streamNamed('other')}`);
      await rows.put(`head!${stream}`, value ?? expect.fail());
      await rows.del(`head!${streamNamed('other')}`);
    });
    await withLog(directory, async (log) => {
      expect(await log.streams()).toEqual([stream, streamNamed('other')]);
      await expect(log.head(stream)).rejects.toMatchObject({ code: 'LOG_CORRUPT' });
      await expect(log.head(streamNamed('other'))).rejects.toMatchObject({
        code: 'LOG_CORRUPT',
        evidence: { found: 'none' },
      });
    });
  });

  it('finds a checkpoint chunk that is altered or gone', async () => {
    const directory = await sampleLog();
    const key = (await keysOf(directory)).find((each) => each.startsWith('chunk!')) ?? '';
    const original = await withRows(directory, (rows) => rows.get(key));
    await withRows(directory, (rows) => rows.put(key, Buffer.from('something else')));
    await withLog(directory, async (log) => expect((await log.verify(stream)).fault).toMatchObject({ seq: 2_500 }));
    await withRows(directory, (rows) => rows.del(key));
    await withLog(directory, async (log) => expect((await log.verify(stream)).fault).toMatchObject({ found: '2' }));
    await withRows(directory, (rows) => rows.put(key, original ?? expect.fail()));
    await withLog(directory, async (log) => expect((await log.verify(stream)).fault).toBeNull());
  });

  it('puts a checkpoint in the place of a stream whose head is damaged', async () => {
    const directory = await sampleLog();
    await withRows(directory, (rows) => rows.put(`head!${stream}`, Buffer.from('nonsense')));
    await withLog(directory, async (log) => {
      const { head } = appendAfter(beginning(), eventsOf(9));
      await log.reset(stream, head, checkpointAt(head));
      await grow(log, head, 2);
      expect(await log.verify(stream)).toMatchObject({ records: 2, seq: 11, fault: null });
    });
  });

  it('says so, or opens with what is sound, when the files of LevelDB themselves are damaged', async () => {
    const directory = await sampleLog();
    // Opening again moves the rows from LevelDB's own log to a table file.
    await withLog(directory, (log) => log.streams());
    const written = await withLog(directory, (log) => textsOf(log));
    const table = (await readdir(directory)).find((name) => name.endsWith('.ldb')) ?? expect.fail();
    const original = await readFile(join(directory, table));
    for (let place = 0; place < original.length; place += Math.ceil(original.length / 12)) {
      await writeFile(join(directory, table), Buffer.from(original).fill(0xff, place, place + 24));
      const outcome = await withLog(directory, readUntilFault).catch((error: unknown) => ({ given: [], error }));
      if (outcome.error === null) expect(outcome.given).toEqual(written);
      else expect(outcome.error).toMatchObject({ code: expect.stringMatching(/^(LOG_CORRUPT|STREAM_UNKNOWN)$/) });
      expect(outcome.given).toEqual(written.slice(0, outcome.given.length));
    }
  });
});

describe('A LevelLog after a crash', () => {
  it('deletes chunks that nothing refers to, and nothing else', async () => {
    const directory = await sampleLog();
    const before = await keysOf(directory);
    await withRows(directory, async (rows) => {
      for (let index = 0; index < 5; index += 1) {
        await rows.put(`chunk!0-cut-short!${String(index).padStart(16, '0')}`, Buffer.from('part'));
        await rows.put(`chunk!zzz-cut-short!${String(index).padStart(16, '0')}`, Buffer.from('part'));
      }
    });
    await withLog(directory, async (log) =>
      expect(await log.verify(stream)).toMatchObject({ records: 2_507, fault: null }),
    );
    expect(await keysOf(directory)).toEqual(before);
  });

  it('deletes pages that a compaction or a new incarnation left behind', async () => {
    const directory = await sampleLog();
    const left = await withRows(directory, async (rows) =>
      rows.iterator({ gte: `page!${stream}!`, lt: `page!${stream}!~` }).all(),
    );
    await withLog(directory, async (log) => {
      await log.compact(stream, 2_507);
      const { head } = appendAfter(beginning(streamNamed('other'), 2), []);
      await log.reset(streamNamed('other'), head, checkpointAt(head));
    });
    const before = await keysOf(directory);
    expect(before.filter((key) => key.startsWith('page!'))).toHaveLength(1);
    await withRows(directory, async (rows) => {
      await rows.batch(left.map(([key, value]) => ({ type: 'put', key, value })));
      await rows.put(`page!${streamNamed('other')}!0000000000000001!0000000000000001`, Buffer.from('old'));
    });
    await withLog(directory, async (log) => {
      expect(await log.oldest(stream)).toBe(2_501);
      expect(await readAll(log, 2_501)).toHaveLength(7);
    });
    expect(await keysOf(directory)).toEqual(before);
  });

  it('finishes a removal that was cut short', async () => {
    const directory = await sampleLog();
    const removed = await tempDirectory();
    await withLog(removed, async (log) => {
      await grow(log, beginning(), 3);
      await log.remove(stream);
    });
    expect(await keysOf(removed)).toEqual([]);
    const mark = await markOfRemoval();
    await withRows(directory, (rows) => rows.put(`head!${stream}`, mark));
    await withLog(directory, async (log) => expect(await log.streams()).toEqual([streamNamed('other')]));
    expect((await keysOf(directory)).filter((key) => key.includes(stream) || key.startsWith('chunk!'))).toEqual([]);
  });
});

/** The head row of a stream whose removal has begun, as `remove` writes it. */
async function markOfRemoval(): Promise<Uint8Array> {
  const { encodeHead } = await import('../../src/log/level-rows.ts');
  return encodeHead(`head!${stream}`, null);
}

/** A child process that keeps a directory's database open until it is told to go. */
const HOLDER = `
const { ClassicLevel } = require('classic-level');
const level = new ClassicLevel(process.argv[1]);
level.open().then(() => process.send('open'));
process.on('message', () => level.close().then(() => process.disconnect()));
`;

describe('A LevelLog that cannot be opened', () => {
  it('says that another process has it, and opens once that is gone', async () => {
    const directory = await tempDirectory();
    const child = spawn(process.execPath, ['-e', HOLDER, directory], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    onTestFinished(() => void child.kill());
    await once(child, 'message');
    await expect(LevelLog.open(directory)).rejects.toMatchObject({
      code: 'LOG_LOCKED',
      message: `Another process uses ${directory}; stop it or choose another data directory.`,
    });
    child.send('go');
    await once(child, 'exit');
    await withLog(directory, async (log) => expect(await log.streams()).toEqual([]));
  });

  it('names the process when that is a pando', async () => {
    const directory = await tempDirectory();
    await withLog(directory, async () => {
      await expect(LevelLog.open(directory)).rejects.toMatchObject({
        code: 'LOG_LOCKED',
        message: `Another pando (process ${process.pid}) uses ${directory}; stop it or choose another data directory.`,
      });
    });
  });

  it('says that it cannot write where there is a file instead of a directory', async () => {
    const file = join(await tempDirectory(), 'file');
    await writeFile(file, 'in the way');
    await expect(LevelLog.open(file)).rejects.toMatchObject({ code: 'LOG_UNWRITABLE', evidence: { directory: file } });
    await expect(LevelLog.open(join(file, 'below'))).rejects.toMatchObject({ code: 'LOG_UNWRITABLE' });
  });

  it('says that it cannot write where a directory is in the way of a file', async () => {
    const directory = await tempDirectory();
    await mkdir(join(directory, 'PROCESS'));
    await expect(LevelLog.open(directory)).rejects.toMatchObject({ code: 'LOG_UNWRITABLE' });
    await rm(join(directory, 'PROCESS'), { recursive: true });
    await withLog(directory, async (log) => expect(await log.streams()).toEqual([]));
  });
});

describe('What LevelDB says', () => {
  const failure = (code: string, message = 'some detail') => Object.assign(new Error(message), { code });

  it('about a full disk becomes LOG_UNWRITABLE', () => {
    const error = levelError(failure('LEVEL_IO_ERROR', '000005.log: No space left on device'), { directory: 'DIR' });
    expect(error).toMatchObject({
      code: 'LOG_UNWRITABLE',
      message: expect.stringContaining('No space left on device'),
    });
  });

  it('about checksums becomes LOG_CORRUPT, with the place where there is one', () => {
    const error = levelError(failure('LEVEL_CORRUPTION'), { directory: 'DIR', stream, seq: 7 });
    expect(error).toMatchObject({ code: 'LOG_CORRUPT', evidence: { stream, seq: 7, found: 'some detail' } });
    expect(levelError(failure('LEVEL_CORRUPTION'), { directory: 'DIR' })).toMatchObject({ code: 'LOG_CORRUPT' });
    const notOpen = new Error('not open', { cause: failure('LEVEL_CORRUPTION') });
    expect(openError(notOpen, 'DIR', null)).toMatchObject({ code: 'LOG_CORRUPT', evidence: { directory: 'DIR' } });
  });

  it('about being closed becomes LOG_CLOSED', () => {
    for (const code of ['LEVEL_DATABASE_NOT_OPEN', 'LEVEL_ITERATOR_NOT_OPEN', 'LEVEL_SNAPSHOT_NOT_OPEN']) {
      expect(levelError(failure(code), { directory: 'DIR' }).code).toBe('LOG_CLOSED');
    }
  });
});
