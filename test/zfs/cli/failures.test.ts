import { describe, expect, test } from 'vitest';
import { codeOf, dependentsIn, failureOf, onlyBrokenPipe } from '../../../src/zfs/cli/failures.ts';
import type { ZfsErrorCode } from '../../../src/zfs/failure.ts';
import { recorded, VERSIONS } from './fixtures.ts';

/** Recorded failure → the code it stands for, the same on each version unless a list says otherwise. */
const EXPECTED: Readonly<Record<string, ZfsErrorCode>> = {
  'create-exists': 'ZFS_DATASET_EXISTS',
  'create-no-parent': 'ZFS_NOT_FOUND',
  'create-no-pool': 'ZFS_NO_POOL',
  'create-pool-name': 'ZFS_NAME_REFUSED',
  'create-bad-character': 'ZFS_NAME_REFUSED',
  'create-bad-property': 'ZFS_UNSUPPORTED',
  'set-bad-property': 'ZFS_UNSUPPORTED',
  'set-bad-value': 'ZFS_UNSUPPORTED',
  'set-one-missing': 'ZFS_NOT_FOUND',
  'list-missing': 'ZFS_NOT_FOUND',
  'snapshot-exists': 'ZFS_DATASET_EXISTS',
  'snapshot-no-dataset': 'ZFS_NOT_FOUND',
  'clone-other-pool': 'ZFS_NAME_REFUSED',
  'clone-no-snapshot': 'ZFS_NOT_FOUND',
  'promote-no-clone': 'ZFS_NOT_A_CLONE',
  'promote-conflict': 'ZFS_DATASET_EXISTS',
  'rename-exists': 'ZFS_DATASET_EXISTS',
  'rename-into-itself': 'ZFS_NAME_REFUSED',
  'rename-other-pool': 'ZFS_NAME_REFUSED',
  'rename-no-parent': 'ZFS_NOT_FOUND',
  'destroy-children': 'ZFS_HAS_DEPENDENTS',
  'destroy-clones': 'ZFS_HAS_DEPENDENTS',
  'destroy-snapshot-cloned': 'ZFS_HAS_DEPENDENTS',
  'destroy-snapshot-held': 'ZFS_BUSY',
  'destroy-snapshot-missing': 'ZFS_NOT_FOUND',
  'destroy-pool': 'ZFS_UNSUPPORTED',
  'destroy-busy': 'ZFS_BUSY',
  'hold-exists': 'ZFS_HOLD_EXISTS',
  'hold-missing': 'ZFS_NOT_FOUND',
  'release-no-tag': 'ZFS_HOLD_MISSING',
  'release-missing': 'ZFS_NOT_FOUND',
  'send-missing': 'ZFS_NOT_FOUND',
  'send-later-base': 'ZFS_BASE_MISSING',
  'send-foreign-base': 'ZFS_BASE_MISSING',
  'receive-exists': 'ZFS_DATASET_EXISTS',
  'receive-no-parent': 'ZFS_NOT_FOUND',
  'receive-no-pool': 'ZFS_NOT_FOUND',
  'receive-wrong-base': 'ZFS_BASE_MISSING',
  'receive-modified': 'ZFS_MODIFIED',
  'receive-no-origin': 'ZFS_BASE_MISSING',
  'receive-cut': 'ZFS_STREAM_INVALID',
  'receive-short': 'ZFS_STREAM_INVALID',
  'receive-foreign': 'ZFS_STREAM_INVALID',
  'receive-empty': 'ZFS_STREAM_INVALID',
  'receive-no-space': 'ZFS_OUT_OF_SPACE',
};

for (const version of VERSIONS) {
  describe(`failures of ${version}`, () => {
    test.each(Object.entries(EXPECTED))('%s is %s', (name, code) => {
      expect(codeOf(recorded(version, name))).toBe(code);
    });

    test('the dependents of a refused destroy are named, each dataset once', () => {
      expect(dependentsIn(recorded(version, 'destroy-clones').stderr)).toEqual(['fixa/clone2']);
      expect(dependentsIn(recorded(version, 'destroy-snapshot-cloned').stderr)).toEqual(['fixa/clone2']);
    });

    test('the message quotes ZFS without the usage behind it', () => {
      const ending = recorded(version, 'snapshot-no-dataset');
      const { message, evidence } = failureOf({ action: 'snapshot fixa/nope@1', command: ending.argv }, ending);
      expect(message).toMatch(
        /^Cannot snapshot fixa\/nope@1: .* \(cannot open 'fixa\/nope': dataset does not exist\)\.$/,
      );
      expect(evidence).toEqual({ command: ending.argv, exitCode: ending.exitCode, stderr: ending.stderr });
    });
  });
}

/** Wordings seen once that no scenario brings about at will, from both dialects. */
const SEEN: readonly (readonly [string, ZfsErrorCode])[] = [
  ["cannot open 'sus/a': pool I/O is currently suspended\n", 'ZFS_POOL_UNAVAILABLE'],
  ["cannot create 'tank/u': permission denied\n", 'ZFS_PERMISSION'],
  ['cannot receive incremental stream: dataset is busy\n', 'ZFS_BUSY'],
  [
    'cannot receive incremental stream: destination b/t contains partially-complete state from "zfs receive -s".\n',
    'ZFS_BUSY',
  ],
  ['cannot restore to back/snapconf@b: destination already exists\n', 'ZFS_DATASET_EXISTS'],
  ['cannot receive new filesystem stream: checksum mismatch\n', 'ZFS_STREAM_INVALID'],
  ['cannot receive: specified origin fs (cc/q@nope) does not exist\n', 'ZFS_BASE_MISSING'],
  ['internal error: failed to initialize ZFS library\n', 'ZFS_UNAVAILABLE'],
  ['The ZFS modules are not loaded.\n', 'ZFS_UNAVAILABLE'],
  ['something nobody has seen before\n', 'ZFS_FAILED'],
];

test.each(SEEN)('%j is %s', (stderr, code) => {
  expect(codeOf({ exitCode: 1, stderr, started: true })).toBe(code);
});

test('a program that could not be started, or a host that could not be reached, is no ZFS', () => {
  expect(codeOf({ exitCode: null, stderr: 'spawn zfs ENOENT', started: false })).toBe('ZFS_UNAVAILABLE');
  expect(codeOf({ exitCode: 127, stderr: 'sh: zfs: not found\n', started: true })).toBe('ZFS_UNAVAILABLE');
  expect(codeOf({ exitCode: 255, stderr: 'ssh: connect to host nas port 22\n', started: true })).toBe(
    'ZFS_UNAVAILABLE',
  );
});

test('a broken pipe alone is the story of the other end, a broken pipe after a failure is not', () => {
  const ending = (stderr: string) => ({ exitCode: 1, stderr, started: true });
  for (const farEndFailed of [false, true]) {
    expect(onlyBrokenPipe(ending("warning: cannot send 'a@s': Broken pipe\n"), farEndFailed, 'openzfs')).toBe(true);
    expect(onlyBrokenPipe(ending('internal error: Connection reset by peer\n'), farEndFailed, 'openzfs')).toBe(true);
    expect(onlyBrokenPipe(ending("cannot open 'a@s': dataset does not exist\n"), farEndFailed, 'openzfs')).toBe(false);
    expect(onlyBrokenPipe({ exitCode: 0, stderr: '', started: true }, farEndFailed, 'openzfs')).toBe(false);
  }
});

test.each([false, true])('a disk error or a signal is the story of the other end only if that failed: %j', (failed) => {
  const unreadable = "warning: cannot send 'a@s': Input/output error\n";
  const killed = { exitCode: null, stderr: '', started: true };
  expect(onlyBrokenPipe({ exitCode: 1, stderr: unreadable, started: true }, failed, 'openzfs')).toBe(failed);
  expect(onlyBrokenPipe({ exitCode: 1, stderr: unreadable, started: true }, failed, 'zfs-fuse')).toBe(true);
  for (const dialect of ['openzfs', 'zfs-fuse'] as const) expect(onlyBrokenPipe(killed, failed, dialect)).toBe(failed);
});
