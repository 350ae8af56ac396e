/** Keep rules: which snapshots of a replica are kept, by number or by the time that they cover. */
import { PandoError } from './errors.ts';
import { KEEP_COUNTS, type KeepCounts, type KeepRule, type Snapshot } from './events.ts';
import type { SnapshotGuid } from './ids.ts';

const MS_PER_SECOND = 1000;
const SECONDS_PER_HOUR = 3_600;
const SECONDS_PER_DAY = 86_400;
const DAYS_PER_WEEK = 7;
/** 1970-01-01 was a Thursday: so many days later than a Monday, on which weeks begin (ISO 8601). */
const EPOCH_WEEKDAY = 3;

/** Number of the hour, day, … in UTC that a moment lies in, given in Unix seconds. */
const PERIODS = {
  hourly: (seconds: number) => Math.floor(seconds / SECONDS_PER_HOUR),
  daily: (seconds: number) => Math.floor(seconds / SECONDS_PER_DAY),
  weekly: (seconds: number) => Math.floor((Math.floor(seconds / SECONDS_PER_DAY) + EPOCH_WEEKDAY) / DAYS_PER_WEEK),
  monthly: (seconds: number) => yearOf(seconds) * 12 + new Date(seconds * MS_PER_SECOND).getUTCMonth(),
  yearly: yearOf,
} as const;

function yearOf(seconds: number): number {
  return new Date(seconds * MS_PER_SECOND).getUTCFullYear();
}

/** Reads `all`, or counts such as `last=3,daily=7`. Throws `ARGUMENT_INVALID`. */
export function parseKeepRule(text: string): KeepRule {
  if (text === 'all') return 'all';
  const counts: { -readonly [Key in keyof KeepCounts]: KeepCounts[Key] } = {};
  for (const part of text.split(',')) {
    const [, name, number] = /^([a-z]+)=([1-9][0-9]{0,5})$/.exec(part.trim()) ?? [];
    const known = KEEP_COUNTS.find((one) => one === name);
    if (known === undefined || counts[known] !== undefined) throw refused(text);
    counts[known] = Number(number);
  }
  return counts;
}

function refused(text: string): PandoError {
  return new PandoError(
    'ARGUMENT_INVALID',
    `"${text}" is no rule of what to keep; write "all", or numbers such as "last=3,daily=7" of ${KEEP_COUNTS.join(', ')}.`,
    { keep: text },
  );
}

/** The rule as {@link parseKeepRule} reads it. */
export function formatKeepRule(rule: KeepRule): string {
  if (rule === 'all') return rule;
  return KEEP_COUNTS.flatMap((name) => (rule[name] === undefined ? [] : [`${name}=${rule[name]}`])).join(',');
}

/**
 * Which of a dataset's snapshots, oldest first, a rule keeps: the newest always, the last N, and for `daily=N` the first of each of the newest N days (UTC) that
 * have any. The first, since later ones cannot take its place: whoever makes snapshots can hurry `last`, but not time. `now` is in Unix ms.
 */
export function keptSnapshots(rule: KeepRule, snapshots: readonly Snapshot[], now: number): ReadonlySet<SnapshotGuid> {
  if (rule === 'all') return new Set(snapshots.map(({ guid }) => guid));
  const kept = new Set(snapshots.slice(-Math.max(1, rule.last ?? 0)).map(({ guid }) => guid));
  const times = credibleTimes(snapshots, now / MS_PER_SECOND);
  for (const name of KEEP_COUNTS) {
    if (name === 'last' || rule[name] === undefined) continue;
    for (const guid of firstOfEach(PERIODS[name], snapshots, times).slice(-rule[name])) kept.add(guid);
  }
  return kept;
}

function firstOfEach(
  period: (seconds: number) => number,
  snapshots: readonly Snapshot[],
  times: readonly number[],
): SnapshotGuid[] {
  let current: number | undefined;
  return snapshots.flatMap(({ guid }, index) => {
    const next = period(times[index] ?? 0);
    if (next === current) return [];
    current = next;
    return [guid];
  });
}

/**
 * When the snapshots were taken, in Unix seconds, as far as that can be believed: `creation` is what the owner's clock said. No snapshot is older than the one before
 * it, and one from the future counts as taken with the one before it.
 */
function credibleTimes(snapshots: readonly Snapshot[], now: number): number[] {
  let latest = 0;
  return snapshots.map(({ creation }) => {
    if (creation <= now) latest = Math.max(latest, creation);
    return latest;
  });
}
