import fc from 'fast-check';
import { expect, test } from 'vitest';
import { writeNanoseconds } from '../../../src/core/snapshots/nanoseconds.ts';
import { writeSnapshot } from '../../../src/core/snapshots/written-snapshot.ts';

test('a time is written with all of its nanoseconds', () => {
  expect(writeNanoseconds(1_700_000_000_123_456_789n)).toBe('2023-11-14T22:13:20.123456789Z');
  expect(writeNanoseconds(1n)).toBe('1970-01-01T00:00:00.000000001Z');
  expect(writeNanoseconds(-1n)).toBe('1969-12-31T23:59:59.999999999Z');
});

test('a later time is written as a later text', () => {
  const times = fc.bigInt({ min: 0n, max: 2n ** 62n });
  fc.assert(
    fc.property(times, times, (a, b) => {
      expect(writeNanoseconds(a) < writeNanoseconds(b)).toBe(a < b);
    }),
  );
});

test('a written snapshot is JSON', () => {
  const info = { kind: 'active', key: 'a', parent: null, labels: {}, createdAt: 1n, updatedAt: 2n } as const;
  const written = writeSnapshot(info);
  expect(JSON.parse(JSON.stringify(written))).toEqual(written);
  expect(written.updatedAt).toBe('1970-01-01T00:00:00.000000002Z');
});
