import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isPandoError } from '../../src/core/errors.ts';
import { KEEP_COUNTS, type KeepCounts, type KeepRule, type Snapshot } from '../../src/core/events.ts';
import { formatKeepRule, keptSnapshots, parseKeepRule } from '../../src/core/keep.ts';
import { snapshot } from './graph-language.ts';

const HOUR = 3_600;
const DAY = 24 * HOUR;

/** Snapshots taken at these moments, oldest first; their names are their positions. */
function takenAt(...moments: readonly (string | number)[]): Snapshot[] {
  return moments.map((moment, index) => ({
    ...snapshot('data', `@${index}`),
    creation: typeof moment === 'number' ? moment : Date.parse(moment) / 1000,
  }));
}

function kept(rule: KeepRule, snapshots: readonly Snapshot[], now = Date.parse('2100-01-01')): number[] {
  const guids = keptSnapshots(rule, snapshots, now);
  return snapshots.flatMap(({ guid, name }) => (guids.has(guid) ? [Number(name)] : []));
}

const counts = fc
  .record(Object.fromEntries(KEEP_COUNTS.map((name) => [name, fc.integer({ min: 1, max: 9 })])), { requiredKeys: [] })
  .filter((rule) => Object.keys(rule).length > 0) as fc.Arbitrary<KeepCounts>;
const series = fc
  .array(fc.nat(40 * DAY), { minLength: 1, maxLength: 60 })
  .map((moments) => takenAt(...moments.sort((a, b) => a - b)));

describe('a keep rule', () => {
  it('keeps all, or the newest so many', () => {
    const five = takenAt(1, 2, 3, 4, 5);
    expect(kept('all', five)).toEqual([0, 1, 2, 3, 4]);
    expect(kept({ last: 2 }, five)).toEqual([3, 4]);
    expect(kept({ last: 9 }, five)).toEqual([0, 1, 2, 3, 4]);
  });

  it('keeps the first of each of the newest days that have any, and the newest of all', () => {
    const snapshots = takenAt(
      '2026-03-01T08:00Z',
      '2026-03-01T20:00Z',
      '2026-03-04T00:00Z',
      '2026-03-04T12:00Z',
      '2026-03-05T10:00Z',
      '2026-03-05T11:00Z',
    );
    expect(kept({ daily: 2 }, snapshots)).toEqual([2, 4, 5]);
    expect(kept({ daily: 7 }, snapshots)).toEqual([0, 2, 4, 5]);
    expect(kept({ daily: 1, last: 3 }, snapshots)).toEqual([3, 4, 5]);
  });

  it('knows hours, weeks that begin on Mondays, months and years, in UTC', () => {
    const snapshots = takenAt(
      '2025-12-31T23:59Z',
      '2026-01-01T00:00Z',
      '2026-01-04T23:59Z',
      '2026-01-05T00:00Z',
      '2026-01-05T00:30Z',
      '2026-02-01T00:00Z',
    );
    expect(kept({ hourly: 3 }, snapshots)).toEqual([2, 3, 5]);
    expect(kept({ weekly: 2 }, snapshots)).toEqual([3, 5]);
    expect(kept({ weekly: 9 }, snapshots)).toEqual([0, 3, 5]);
    expect(kept({ monthly: 2 }, snapshots)).toEqual([1, 5]);
    expect(kept({ yearly: 9 }, snapshots)).toEqual([0, 1, 5]);
  });

  it('counts what claims to come from the future, or from before its predecessor, with the one before it', () => {
    const now = Date.parse('2026-03-05');
    const snapshots = takenAt('2026-03-01', '2099-01-01', '2026-03-02', '1970-01-01', '2026-03-03');
    expect(kept({ daily: 9 }, snapshots, now)).toEqual([0, 2, 4]);
  });

  it('is not hurried by whoever takes snapshots, whatever times they claim: in three days at most three more days count', () => {
    const forged = fc.array(fc.integer({ min: 0, max: 200 * DAY }), { maxLength: 40 });
    fc.assert(
      fc.property(series, forged, (honest, moments) => {
        const start = 40 * DAY;
        const before = kept({ daily: 9 }, honest, start * 1000).slice(0, -1);
        const attacked = takenAt(...honest.map(({ creation }) => creation), ...moments);
        const after = kept({ daily: 9 + 3 }, attacked, (start + 3 * DAY - 1) * 1000);
        expect(after).toEqual(expect.arrayContaining(before));
      }),
    );
  });

  it('keeps the newest whatever else it says, and nothing more once the rest is gone', () => {
    fc.assert(
      fc.property(counts, series, (rule, snapshots) => {
        const guids = keptSnapshots(rule, snapshots, Date.now());
        expect(guids.has((snapshots.at(-1) as Snapshot).guid)).toBe(true);
        const left = snapshots.filter(({ guid }) => guids.has(guid));
        expect(keptSnapshots(rule, left, Date.now())).toEqual(guids);
      }),
    );
  });

  it('is read as it is written', () => {
    fc.assert(
      fc.property(counts, (rule) => {
        expect(parseKeepRule(formatKeepRule(rule))).toEqual(rule);
      }),
    );
    expect(parseKeepRule('all')).toBe('all');
    expect(parseKeepRule('daily=7, last=3')).toEqual({ last: 3, daily: 7 });
  });

  it.each(['', 'none', 'last', 'last=', 'last=0', 'last=-1', 'last=1.5', 'minutely=3', 'last=1,last=2', 'all,last=1'])(
    'is refused when it says "%s"',
    (text) => {
      let refused: unknown;
      try {
        parseKeepRule(text);
      } catch (error) {
        refused = error;
      }
      expect(isPandoError(refused, 'ARGUMENT_INVALID')).toBe(true);
    },
  );
});
