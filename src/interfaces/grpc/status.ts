import { type StatusObject, status } from '@grpc/grpc-js';
import { describeError, type ErrorCode, PandoError } from '../../core/errors.ts';

/**
 * The gRPC status of each failure (`google/rpc/code.proto`; containerd, `errdefs/grpc.go`).
 *
 * containerd acts on three of them: after ALREADY_EXISTS it takes a layer for unpacked, after NOT_FOUND a snapshot for gone, and after
 * FAILED_PRECONDITION one for used by others. So these are said only where that is what was found out about a snapshot; a dataset that is
 * missing below one is INTERNAL.
 */
export const ERROR_STATUS = {
  NAME_INVALID: status.INVALID_ARGUMENT,
  ID_INVALID: status.INVALID_ARGUMENT,
  ARGUMENT_INVALID: status.INVALID_ARGUMENT,
  CONFIG_INVALID: status.INTERNAL,
  EVENT_INVALID: status.INTERNAL,
  CODEC_INVALID: status.DATA_LOSS,
  CODEC_VERSION: status.INTERNAL,
  LOG_CORRUPT: status.DATA_LOSS,
  LOG_GAP: status.DATA_LOSS,
  LOG_FORKED: status.INTERNAL,
  LOG_LOCKED: status.UNAVAILABLE,
  LOG_UNWRITABLE: status.RESOURCE_EXHAUSTED,
  LOG_CLOSED: status.UNAVAILABLE,
  LOG_COMPACTED: status.INTERNAL,
  STREAM_UNKNOWN: status.INTERNAL,
  ZFS_DATASET_EXISTS: status.INTERNAL,
  ZFS_NOT_FOUND: status.INTERNAL,
  ZFS_NO_POOL: status.UNAVAILABLE,
  ZFS_POOL_UNAVAILABLE: status.UNAVAILABLE,
  ZFS_BUSY: status.FAILED_PRECONDITION,
  ZFS_HAS_DEPENDENTS: status.FAILED_PRECONDITION,
  ZFS_OUT_OF_SPACE: status.RESOURCE_EXHAUSTED,
  ZFS_OUT_OF_MOUNTS: status.RESOURCE_EXHAUSTED,
  ZFS_STREAM_INVALID: status.DATA_LOSS,
  ZFS_BASE_MISSING: status.INTERNAL,
  ZFS_MODIFIED: status.INTERNAL,
  ZFS_STREAM_MISMATCH: status.INTERNAL,
  ZFS_KEY_MISSING: status.UNAVAILABLE,
  ZFS_PERMISSION: status.PERMISSION_DENIED,
  ZFS_NAME_REFUSED: status.INTERNAL,
  ZFS_HOLD_EXISTS: status.INTERNAL,
  ZFS_HOLD_MISSING: status.INTERNAL,
  ZFS_NOT_A_CLONE: status.INTERNAL,
  ZFS_UNSUPPORTED: status.UNIMPLEMENTED,
  ZFS_UNAVAILABLE: status.UNAVAILABLE,
  ZFS_ABORTED: status.UNAVAILABLE,
  ZFS_FAILED: status.INTERNAL,
  TREE_EXISTS: status.INTERNAL,
  TREE_UNKNOWN: status.INTERNAL,
  TREE_OVERLAP: status.INTERNAL,
  TREE_ROOT_MISSING: status.UNAVAILABLE,
  DATASET_UNKNOWN: status.INTERNAL,
  DATASET_NOT_OWNED: status.PERMISSION_DENIED,
  REPLICA_BEHIND: status.UNAVAILABLE,
  DIVERGED_UNKNOWN: status.INTERNAL,
  MIRROR_EXISTS: status.INTERNAL,
  MIRROR_UNKNOWN: status.INTERNAL,
  PEER_EXISTS: status.INTERNAL,
  PEER_UNKNOWN: status.INTERNAL,
  PEER_UNREACHABLE: status.UNAVAILABLE,
  PEER_REFUSED: status.UNAVAILABLE,
  GRANT_MISSING: status.PERMISSION_DENIED,
  GRANT_UNKNOWN: status.INTERNAL,
  INVITATION_INVALID: status.INVALID_ARGUMENT,
  INVITATION_UNKNOWN: status.INTERNAL,
  PROTOCOL_VERSION: status.UNAVAILABLE,
  PROTOCOL_FRAME_TOO_LARGE: status.UNAVAILABLE,
  PROTOCOL_FRAME_INVALID: status.UNAVAILABLE,
  PROTOCOL_UNEXPECTED: status.UNAVAILABLE,
  PROTOCOL_CREDIT_EXCEEDED: status.UNAVAILABLE,
  PROTOCOL_TIMEOUT: status.DEADLINE_EXCEEDED,
  PROTOCOL_LIMIT: status.RESOURCE_EXHAUSTED,
  CONNECTION_CLOSED: status.UNAVAILABLE,
  CALL_CANCELLED: status.CANCELLED,
  TRANSFER_REFUSED: status.PERMISSION_DENIED,
  TRANSFER_CANCELLED: status.CANCELLED,
  TRANSFER_FAILED: status.UNAVAILABLE,
  TRANSFER_VERIFICATION_FAILED: status.DATA_LOSS,
  PLAN_CONFLICT: status.INTERNAL,
  DIGEST_MISMATCH: status.DATA_LOSS,
  ARCHIVE_INVALID: status.DATA_LOSS,
  IMAGE_INVALID: status.DATA_LOSS,
  IMAGE_UNKNOWN: status.INTERNAL,
  LAYER_UNKNOWN: status.INTERNAL,
  LAYER_IN_USE: status.FAILED_PRECONDITION,
  LAYER_STORE_UNKNOWN: status.UNAVAILABLE,
  ROOT_EXISTS: status.INTERNAL,
  ROOT_UNKNOWN: status.INTERNAL,
  ROOT_IN_USE: status.FAILED_PRECONDITION,
  SNAPSHOT_EXISTS: status.ALREADY_EXISTS,
  SNAPSHOT_UNKNOWN: status.NOT_FOUND,
  SNAPSHOT_STATE: status.FAILED_PRECONDITION,
  PROGRAM_MISSING: status.UNIMPLEMENTED,
  PROGRAM_FAILED: status.INTERNAL,
  IDENTITY_INVALID: status.INTERNAL,
  PORT_IN_USE: status.INTERNAL,
  DATA_DIRECTORY_UNWRITABLE: status.INTERNAL,
  DAEMON_UNREACHABLE: status.UNAVAILABLE,
  DAEMON_RUNNING: status.INTERNAL,
  INTERNAL: status.INTERNAL,
} as const satisfies Record<ErrorCode, status>;

/**
 * Longest text of a status, in characters. It travels as a header in which each may take nine bytes, and a client refuses headers of more
 * than 16 KiB in all (the smallest default that is about); a key in it may be longer than that.
 */
const DETAILS_CHARACTERS_MAX = 1500;

/** What a client is told of a failure: its status and its sentence, never a stack. */
export function statusOf(thrown: unknown): Pick<StatusObject, 'code' | 'details'> {
  const code = thrown instanceof PandoError ? ERROR_STATUS[thrown.code] : status.INTERNAL;
  const details = describeError(thrown);
  const isLong = details.length > DETAILS_CHARACTERS_MAX;
  return { code, details: isLong ? `${details.slice(0, DETAILS_CHARACTERS_MAX)}…` : details };
}
