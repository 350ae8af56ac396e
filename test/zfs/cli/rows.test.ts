import { describe, expect, test } from 'vitest';
import { Listing } from '../../../src/zfs/cli/listing.ts';
import { openZfsRow, PropertyRows, type Row, ZfsFuseRows } from '../../../src/zfs/cli/rows.ts';
import { receivedBytes } from '../../../src/zfs/cli/streams.ts';
import { linesOf, recorded, VERSIONS, type Version } from './fixtures.ts';

function rowsOf(version: Version): Row[] {
  const lines = linesOf(recorded(version, 'rows'));
  if (version.startsWith('openzfs')) return lines.map(openZfsRow);
  const rows: Row[] = [];
  const parser = new ZfsFuseRows((row) => rows.push(row));
  for (const line of lines) parser.accept(line);
  return rows;
}

function listingOf(rows: readonly Row[]): { listing: Listing; skipped: string[] } {
  const skipped: string[] = [];
  const listing = new Listing((name) => skipped.push(name));
  for (const row of rows) listing.accept(row);
  return { listing, skipped };
}

for (const version of VERSIONS) {
  describe(`rows of ${version}`, () => {
    const datasets = () => listingOf(rowsOf(version)).listing.datasets(() => ({}), new Map());

    test('each dataset has its snapshots by createtxg, whatever their names', () => {
      const parent = datasets().find(({ name }) => name === 'fixa/parent');
      expect(parent?.snapshots.map(({ name }) => name)).toEqual(['2', '1']);
      expect(parent?.snapshots.map(({ userrefs }) => userrefs)).toEqual([0, 2]);
    });

    test('names with spaces and colons are read, and origins found by guid', () => {
      const all = datasets();
      const spaced = all.find(({ name }) => name === 'fixa/with space');
      const clone = all.find(({ name }) => name === 'fixa/parent/clone');
      expect(spaced?.snapshots.map(({ name }) => name)).toEqual(['snap one:1']);
      expect(clone?.origin).toEqual({
        reference: { dataset: 'fixa/with space', snapshot: 'snap one:1' },
        guid: spaced?.snapshots[0]?.guid,
      });
    });

    test('parents stand before children, and written is told where it is known', () => {
      const all = datasets();
      expect(all[0]).toMatchObject({ name: 'fixa', kind: 'filesystem', origin: null });
      const written = all.flatMap(({ snapshots }) => snapshots.map((snapshot) => snapshot.written));
      if (version === 'zfs-fuse-0.7.0') expect(new Set(written)).toEqual(new Set([null]));
      else expect(written.every((bytes) => bytes !== null && bytes >= 0)).toBe(true);
    });

    test('values of properties come back with their tabs and newlines', () => {
      const datasetsAsked = ['fixa', 'fixa/with space', 'fixa/parent', 'fixa/parent/child'];
      const properties = new PropertyRows(datasetsAsked);
      for (const line of linesOf(recorded(version, 'properties'))) properties.accept(line);
      expect(properties.of('fixa/parent')).toEqual({
        atime: 'off',
        'pando:id': 'one',
        'pando:note': 'two words',
        'pando:text': 'ünïcode 日本',
      });
      expect(properties.of('fixa/with space')).toEqual({ 'pando:lines': 'a\tb\nc' });
      expect(properties.of('fixa/parent/child')).toEqual({});
    });

    test('the size of a received stream is read to three digits', () => {
      const bytes = linesOf(recorded(version, 'receive-verbose')).reduce((sum, line) => sum + receivedBytes(line), 0);
      expect(bytes).toBeGreaterThan(640 * 1024);
      expect(bytes).toBeLessThan(660 * 1024);
    });
  });
}

const ROW = {
  createtxg: '1',
  creation: '1',
  origin: '-',
  referenced: '0',
  written: '-',
  userrefs: '-',
  encryptionroot: '-',
  receive_resume_token: '-',
};

test('a name that Pando does not take is left out with its snapshots, and told', () => {
  const { listing, skipped } = listingOf([
    { ...ROW, name: 'pool/..', type: 'filesystem', guid: '1' },
    { ...ROW, name: 'pool/..@s', type: 'snapshot', guid: '2' },
    { ...ROW, name: 'pool/a', type: 'filesystem', guid: '3' },
    { ...ROW, name: 'pool/a@b%c', type: 'snapshot', guid: '4' },
  ]);
  expect(listing.names()).toEqual(['pool/a']);
  expect(skipped).toEqual(['pool/..', 'pool/a@b%c']);
});

test('an origin that is not in the listing is asked for once', () => {
  const clone = { ...ROW, type: 'filesystem', origin: 'pool/base@s' };
  const { listing } = listingOf([
    { ...clone, name: 'pool/a', guid: '1' },
    { ...clone, name: 'pool/b', guid: '2' },
  ]);
  expect(listing.originsElsewhere()).toEqual(['pool/base@s']);
  const origins = listing.datasets(() => ({}), new Map()).map(({ origin }) => origin?.guid);
  expect(origins).toEqual([null, null]);
});

test('sizes of received streams are read in all units', () => {
  expect(receivedBytes('received 257MB stream in 2 seconds (128MB/sec)')).toBe(257 * 1024 ** 2);
  expect(receivedBytes('received 7.74K stream in 0.36 seconds (21.5K/sec)')).toBe(Math.round(7.74 * 1024));
  expect(receivedBytes('received 312B stream in 1 seconds (312B/sec)')).toBe(312);
  expect(receivedBytes('receiving full stream of a@s into b@s')).toBe(0);
});
