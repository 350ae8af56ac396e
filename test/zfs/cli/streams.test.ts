import { describe, expect, it } from 'vitest';
import type { DatasetName, SnapshotName } from '../../../src/core/ids.ts';
import { PLAIN_STREAM, RAW_STREAM } from '../../../src/core/stream-flags.ts';
import { receivedBytes, receiveWords, sendWords } from '../../../src/zfs/cli/streams.ts';

const target = 'ssd/mirror/web' as DatasetName;
const at = (dataset: string, snapshot: string) => ({
  dataset: dataset as DatasetName,
  snapshot: snapshot as SnapshotName,
});
const request = { target, create: null, overPlaceholder: false, baseHeld: true, expected: null, keepPartial: false };

const OPENZFS = { receiveProperties: true, resumableReceive: true };
const ZFS_FUSE = { receiveProperties: false, resumableReceive: false };

describe('the words of a receive', () => {
  it('take nothing that a stream says of mounts, shares and powers, nor what a replica has of its own', () => {
    const words = receiveWords(request, 'stream', OPENZFS).join(' ');
    for (const name of ['mountpoint', 'sharenfs', 'sharesmb', 'setuid', 'exec', 'devices', 'canmount', 'readonly']) {
      expect(words).toContain(`-x ${name} `);
    }
    expect(words).toMatch(/^receive -u .* ssd\/mirror\/web$/);
  });

  it('name the origin and give a new replica its properties, without excluding them', () => {
    const properties = { readonly: 'on', canmount: 'noauto', exec: 'off' };
    const create = { origin: at('ssd/mirror/base', '1'), properties, snapshot: null };
    const words = receiveWords({ ...request, create, baseHeld: false }, 'socket', OPENZFS).join(' ');
    expect(words).toContain('-o origin=ssd/mirror/base@1 -o readonly=on -o canmount=noauto -o exec=off');
    expect(words).toContain('-x setuid');
    expect(words).not.toMatch(/-x (exec|readonly|canmount)/);
    expect(words).toContain(' -v ');
  });

  it('force only over a placeholder', () => {
    expect(receiveWords(request, 'stream', OPENZFS)).not.toContain('-F');
    expect(receiveWords({ ...request, overPlaceholder: true }, 'stream', ZFS_FUSE)).toEqual([
      'receive',
      '-u',
      '-F',
      target,
    ]);
  });
});

describe('the words of a send', () => {
  it('say how the stream is made, and name the base in full, since it may lie in another dataset', () => {
    const snapshot = at('tank/web', '2');
    expect(sendWords({ snapshot, base: null, flags: PLAIN_STREAM, resumeToken: null })).toEqual(['tank/web@2']);
    const base = { ...at('tank/base', '1'), intermediates: false };
    expect(sendWords({ snapshot, base, flags: PLAIN_STREAM, resumeToken: null })).toEqual([
      '-i',
      'tank/base@1',
      'tank/web@2',
    ]);
    expect(
      sendWords({ snapshot, base: { ...base, intermediates: true }, flags: RAW_STREAM, resumeToken: null }),
    ).toEqual(['-w', '-c', '-L', '-e', '-I', 'tank/base@1', 'tank/web@2']);
  });
});

describe('the bytes that a receive tells of', () => {
  it.each([
    ['received 312B stream in 1 seconds (312B/sec)', 312],
    ['received 257MB stream in 2 seconds (128MB/sec)', 257 * 1024 ** 2],
    ['received 1.50G stream in 0.01 seconds (150G/sec)', 1.5 * 1024 ** 3],
    ['receiving full stream of tank/a@1 into ssd/a@1', 0],
  ])('%s', (line, bytes) => {
    expect(receivedBytes(line)).toBe(bytes);
  });
});
