import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Departed } from '../../src/core/events.ts';
import { DEPARTURES_TREE, type SnapshotGuid, type TreeName } from '../../src/core/ids.ts';
import { DepartureJournal } from '../../src/features/mirrors/departure-journal.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { systemTimers } from '../../src/sync/timers.ts';
import { datasetId, OWNER } from '../core/graph-language.ts';

const MIRRORS = ['images', 'homes'].map((tree) => ({ tree: tree as TreeName, from: OWNER.node }));
const [IMAGES] = MIRRORS as [(typeof MIRRORS)[0]];
const START = Date.parse('2026-01-01');

/** What may depart: ten snapshots and a dataset. */
const POSSIBLE: Departed[] = [
  { dataset: datasetId('a'), snapshot: null },
  ...Array.from({ length: 10 }, (_, number) => ({ dataset: datasetId('b'), snapshot: `${number}` as SnapshotGuid })),
];

async function open(log: MemoryLog, clock: { now: number }) {
  const history = await History.open({ log, signer: createIdentity(), now: () => clock.now });
  const timers = { ...systemTimers, now: () => clock.now };
  return { history, timers, journal: await DepartureJournal.open(history, timers) };
}

function noticedIn(journal: DepartureJournal) {
  return MIRRORS.map((mirror) => POSSIBLE.map((departed) => journal.noticedAt(mirror, departed)));
}

describe('the journal of departures', () => {
  it('knows since when each has been gone without a break, also after it was read back', async () => {
    const noticing = fc.record({
      mirror: fc.constantFrom(...MIRRORS),
      gone: fc.subarray(POSSIBLE),
      pass: fc.integer({ min: 1, max: 1_000_000 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(noticing, { maxLength: 20 }), async (all) => {
        const clock = { now: START };
        const { history, timers, journal } = await open(new MemoryLog(), clock);
        const expected = MIRRORS.map(() => POSSIBLE.map((): number | undefined => undefined));
        for (const { mirror, gone, pass } of all) {
          clock.now += pass;
          await journal.notice(mirror, gone);
          const since = expected[MIRRORS.indexOf(mirror)] ?? [];
          POSSIBLE.forEach((departed, index) => {
            since[index] = gone.includes(departed) ? (since[index] ?? clock.now) : undefined;
          });
          expect(noticedIn(journal)).toEqual(expected);
        }
        expect(noticedIn(await DepartureJournal.open(history, timers))).toEqual(expected);
      }),
    );
  });

  it('stays small however often things come and go, and forgets nothing', async () => {
    const clock = { now: START };
    const { history, timers, journal } = await open(new MemoryLog(), clock);
    const [lasting, passing] = POSSIBLE as [Departed, Departed];
    for (let round = 0; round < 6_000; round += 1) {
      await journal.notice(IMAGES, round % 2 === 0 ? [lasting, passing] : [lasting]);
      clock.now += 1;
    }
    expect((await DepartureJournal.open(history, timers)).noticedAt(IMAGES, lasting)).toBe(START);
    const stream = history.ownStream(DEPARTURES_TREE);
    const oldest = await history.oldest(stream);
    expect((history.head(stream)?.seq ?? 0) - oldest).toBeLessThan(5_000);
  });
});
