/**
 * The one place where a refusal of ZFS becomes a PandoError: both drivers say the same sentence for the same code.
 */
import { type ErrorCode, type Evidence, PandoError } from '../core/errors.ts';

export type ZfsErrorCode = Extract<ErrorCode, `ZFS_${string}`>;

/** What was tried, in words for the message and as the command for the evidence. */
export interface Attempt {
  /** A verb with its object, to stand behind "Cannot": `destroy tank/images`. */
  readonly action: string;
  /** Program and arguments. */
  readonly command: readonly string[];
}

/** How the command ended. */
export interface Ending {
  /** Null when a signal ended it, or it never ran. */
  readonly exitCode: number | null;
  readonly stderr: string;
}

const REASONS: Readonly<Record<ZfsErrorCode, string>> = {
  ZFS_DATASET_EXISTS: 'something of that name exists already; choose another name, or rename or destroy what is there',
  ZFS_NOT_FOUND: 'a dataset or snapshot that it needs does not exist; "zfs list -t all" shows what does',
  ZFS_NO_POOL: 'the pool is not imported here; "zpool import" shows what can be',
  ZFS_POOL_UNAVAILABLE: 'the pool does not answer or is suspended; see "zpool status"',
  ZFS_BUSY: 'it is in use (held, mounted, or part of a running send or receive); release it and try again',
  ZFS_HAS_DEPENDENTS: 'others depend on it; destroy or promote them first',
  ZFS_OUT_OF_SPACE: 'the pool or a quota is full; make room and try again',
  ZFS_OUT_OF_MOUNTS:
    'zfs-fuse has as many file systems mounted as it can; unmount or destroy some, or keep so many on OpenZFS',
  ZFS_STREAM_INVALID: 'the stream is damaged or incomplete; send it again',
  ZFS_BASE_MISSING: 'the snapshot that the increment builds on is not where it is needed; choose another base',
  ZFS_MODIFIED:
    'the target was written to after the snapshot that the increment builds on; keep or roll back those changes',
  ZFS_STREAM_MISMATCH: 'the stream is not what was asked for, or not made as those before it; nothing of it was kept',
  ZFS_KEY_MISSING: 'an encryption key that it takes is not loaded; load it with "zfs load-key"',
  ZFS_PERMISSION: 'permission was denied; run as root or delegate the right with "zfs allow"',
  ZFS_NAME_REFUSED: 'ZFS does not take that name there; choose another',
  ZFS_HOLD_EXISTS: 'a snapshot is held under that tag already; use another tag or release the hold',
  ZFS_HOLD_MISSING: 'there is no hold of that tag',
  ZFS_NOT_A_CLONE: 'it is not a clone, so there is nothing to turn round',
  ZFS_UNSUPPORTED: 'this ZFS cannot do that',
  ZFS_UNAVAILABLE: 'no ZFS answers here; install OpenZFS or zfs-fuse, or start its daemon',
  ZFS_ABORTED: 'it was cancelled',
  ZFS_FAILED: 'ZFS failed',
};

/** Names that a message has room for. */
const NAMES_TOLD_MAX = 3;

/** Names for the action of an {@link Attempt}: the first few, and how many more there are. */
export function firstOf(names: readonly string[]): string {
  const more = names.length - NAMES_TOLD_MAX;
  return more > 0 ? `${names.slice(0, NAMES_TOLD_MAX).join(', ')} and ${more} more` : names.join(', ');
}

/**
 * The error for an attempt that ended so. `detail` says what exactly is in the way, in place of nothing: names, a tag,
 * ZFS's own words.
 */
export function zfsFailure(
  code: ZfsErrorCode,
  attempt: Attempt,
  ending: Ending,
  detail?: string,
  evidence: Evidence = {},
  options?: { cause?: unknown },
): PandoError {
  const what = detail === undefined ? REASONS[code] : `${REASONS[code]} (${detail})`;
  return new PandoError(
    code,
    `Cannot ${attempt.action}: ${what}.`,
    { ...evidence, command: attempt.command, exitCode: ending.exitCode, stderr: ending.stderr },
    options,
  );
}
