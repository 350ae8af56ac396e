/** From what `zfs` and `zpool` print to the codes of ours. The wordings are those of libzfs_util.c, libzfs_sendrecv.c and zfs_main.c. */
import type { PandoError } from '../../core/errors.ts';
import { type Attempt, type ZfsErrorCode, zfsFailure } from '../failure.ts';
import type { ZfsCapabilities } from '../zfs.ts';
import type { ChildEnding } from './children/child.ts';

/** The first pattern that matches counts, so what is special stands before what is general. */
const PATTERNS: readonly (readonly [RegExp, ZfsErrorCode])[] = [
  [/tag already exists on this dataset/, 'ZFS_HOLD_EXISTS'],
  [/no such tag on this dataset/, 'ZFS_HOLD_MISSING'],
  [/it's being held|is busy|target is busy|umount failed|contains partially-complete state/, 'ZFS_BUSY'],
  [/has children|has dependent clones|clones of previous snapshots exist|more recent snapshots/, 'ZFS_HAS_DEPENDENTS'],
  [/out of space|No space left on device|quota exceeded/i, 'ZFS_OUT_OF_SPACE'],
  [/does not\s+match incremental source|not an earlier snapshot from the same fs/, 'ZFS_BASE_MISSING'],
  [/local origin for clone .* does not exist|specified origin fs .* does not exist/, 'ZFS_BASE_MISSING'],
  [/incremental source .*(must be in same filesystem|does not exist|is not earlier than it)/s, 'ZFS_BASE_MISSING'],
  [/incremental source must be in same filesystem/, 'ZFS_BASE_MISSING'],
  [/has been modified/, 'ZFS_MODIFIED'],
  [/key must be loaded|key is not loaded|encryption key not loaded/, 'ZFS_KEY_MISSING'],
  [
    /IV set guid mismatch|raw receive on top of existing|requires -L|overwrite an unencrypted one with an encrypted/,
    'ZFS_STREAM_MISMATCH',
  ],
  [
    /incomplete stream|bad magic number|invalid backup stream|checksum mismatch|failed to read from stream/,
    'ZFS_STREAM_INVALID',
  ],
  [/invalid stream|stream is corrupt/, 'ZFS_STREAM_INVALID'],
  [/permission denied|operation not permitted|must be (superuser|root)|delegated permission/i, 'ZFS_PERMISSION'],
  [/suspended|pool is unavailable|is currently unavailable|I\/O error/i, 'ZFS_POOL_UNAVAILABLE'],
  [/no such pool/, 'ZFS_NO_POOL'],
  [
    /already exists|bookmark exists|destination .* exists|destination has snapshots|conflicting snapshot/,
    'ZFS_DATASET_EXISTS',
  ],
  [/not a cloned filesystem/, 'ZFS_NOT_A_CLONE'],
  [
    /property value too long|missing value in property=value|operation does not apply to pools|can not be modified/,
    'ZFS_UNSUPPORTED',
  ],
  [/invalid (character|name|dataset name)|missing dataset name|too long|is not expected here/, 'ZFS_NAME_REFUSED'],
  [/within same pool|pools differ|cannot be a descendant|reference, '\.|may not start with/, 'ZFS_NAME_REFUSED'],
  [/does not exist|no longer exists|could not find any snapshots|no datasets available/, 'ZFS_NOT_FOUND'],
  [
    /invalid (property|option)|bad property|must be one of|unrecognized command|must be upgraded|not supported|unsupported/i,
    'ZFS_UNSUPPORTED',
  ],
  [/Function not implemented|internal error: .* not found|is readonly|cannot be inherited/, 'ZFS_UNSUPPORTED'],
  [
    /failed to initialize ZFS library|modules (are not|cannot be) loaded|not found|No such file or directory/,
    'ZFS_UNAVAILABLE',
  ],
];

/** Exit status of a shell or of `env` that found no such program, and of ssh that reached no host. */
const NOT_STARTED_EXIT_CODES: readonly (number | null)[] = [126, 127, 255];

/** Longest part of standard error that a message quotes, in characters; the evidence has all of it. */
const DETAIL_CHARACTERS_MAX = 300;

/** What the wrong end of a pipe complains about; the cause is elsewhere. */
const BROKEN_PIPE = /^.*(Broken pipe|Connection reset by peer).*$\n?/gm;
/** What zfs-fuse says of a broken pipe, and any ZFS of a disk that it cannot read. */
const UNREADABLE = /^.*Input\/output error.*$\n?/gm;

/** The code for what was printed. `ZFS_FAILED` for a wording that is not known. */
export function codeOf({ exitCode, stderr, started }: ChildEnding): ZfsErrorCode {
  if (!started) return 'ZFS_UNAVAILABLE';
  const complaint = withoutUsage(stderr);
  const found = PATTERNS.find(([pattern]) => pattern.test(complaint));
  if (found !== undefined) return found[1];
  return NOT_STARTED_EXIT_CODES.includes(exitCode) ? 'ZFS_UNAVAILABLE' : 'ZFS_FAILED';
}

/** Names after "use '-r' to destroy the following datasets:", as datasets, each once. */
export function dependentsIn(stderr: string): string[] {
  const names: string[] = [];
  let listing = false;
  for (const line of stderr.split('\n')) {
    if (/^use '-[rR]'/.test(line)) listing = true;
    else if (line === '' || /^cannot /.test(line)) listing = false;
    else if (listing) names.push(line.trimStart().split('@')[0] ?? line);
  }
  return Array.from(new Set(names));
}

/**
 * Whether a stream's process failed for no other reason than that the far end went away. `farEndFailed` tells whether that is known: then it may
 * also have been ended for it by a signal, or have taken it for a failure of the disk.
 */
export function onlyBrokenPipe(
  { exitCode, stderr, started }: ChildEnding,
  farEndFailed: boolean,
  dialect: ZfsCapabilities['dialect'],
): boolean {
  if (!started || exitCode === 0 || (exitCode === null && !farEndFailed)) return false;
  const others = stderr.replace(BROKEN_PIPE, '');
  return (farEndFailed || dialect === 'zfs-fuse' ? others.replace(UNREADABLE, '') : others).trim() === '';
}

/** The error for a command that ended so. */
export function failureOf(attempt: Attempt, ending: ChildEnding, cause?: unknown): PandoError {
  const code = codeOf(ending);
  const dependents = code === 'ZFS_HAS_DEPENDENTS' ? { dependents: dependentsIn(ending.stderr) } : {};
  return zfsFailure(code, attempt, ending, detailOf(ending), dependents, cause === undefined ? {} : { cause });
}

/** What is complained of, without the usage that follows some: it mentions permissions and more. */
function withoutUsage(stderr: string): string {
  return stderr.split(/^usage:$/m)[0] ?? stderr;
}

/** The complaint on one line. */
function detailOf({ exitCode, stderr, started }: ChildEnding): string | undefined {
  const text = withoutUsage(stderr).trim().replace(/\s+/g, ' ').replace(/\.$/, '');
  if (text === '') return started && exitCode === null ? 'the command was ended by a signal; try again' : undefined;
  return text.length > DETAIL_CHARACTERS_MAX ? `${text.slice(0, DETAIL_CHARACTERS_MAX)}…` : text;
}
