/**
 * Every failure that Pando can name. The set is closed: each boundary (command line, HTTP, wire) maps it once.
 * Tests and callers match the code, never the message.
 */
export const ERROR_CODES = [
  // What a person or a peer handed in
  'NAME_INVALID',
  'ID_INVALID',
  'ARGUMENT_INVALID',
  'CONFIG_INVALID',
  'EVENT_INVALID',
  // Bytes on disk or on the wire
  'CODEC_INVALID',
  'CODEC_VERSION',
  // The log
  'LOG_CORRUPT',
  'LOG_GAP',
  'LOG_FORKED',
  'LOG_LOCKED',
  'LOG_UNWRITABLE',
  'LOG_CLOSED',
  'LOG_COMPACTED',
  'STREAM_UNKNOWN',
  // ZFS
  'ZFS_DATASET_EXISTS',
  'ZFS_NOT_FOUND',
  'ZFS_NO_POOL',
  'ZFS_POOL_UNAVAILABLE',
  'ZFS_BUSY',
  'ZFS_HAS_DEPENDENTS',
  'ZFS_OUT_OF_SPACE',
  'ZFS_OUT_OF_MOUNTS',
  'ZFS_STREAM_INVALID',
  'ZFS_BASE_MISSING',
  'ZFS_MODIFIED',
  'ZFS_STREAM_MISMATCH',
  'ZFS_KEY_MISSING',
  'ZFS_PERMISSION',
  'ZFS_NAME_REFUSED',
  'ZFS_HOLD_EXISTS',
  'ZFS_HOLD_MISSING',
  'ZFS_NOT_A_CLONE',
  'ZFS_UNSUPPORTED',
  'ZFS_UNAVAILABLE',
  'ZFS_ABORTED',
  'ZFS_FAILED',
  // Trees, mirrors and peers of this node
  'TREE_EXISTS',
  'TREE_UNKNOWN',
  'TREE_OVERLAP',
  'TREE_ROOT_MISSING',
  'DATASET_UNKNOWN',
  'DATASET_NOT_OWNED',
  'REPLICA_BEHIND',
  'DIVERGED_UNKNOWN',
  'MIRROR_EXISTS',
  'MIRROR_UNKNOWN',
  'PEER_EXISTS',
  'PEER_UNKNOWN',
  'PEER_UNREACHABLE',
  'PEER_REFUSED',
  'GRANT_MISSING',
  'GRANT_UNKNOWN',
  'INVITATION_INVALID',
  'INVITATION_UNKNOWN',
  // The wire
  'PROTOCOL_VERSION',
  'PROTOCOL_FRAME_TOO_LARGE',
  'PROTOCOL_FRAME_INVALID',
  'PROTOCOL_UNEXPECTED',
  'PROTOCOL_CREDIT_EXCEEDED',
  'PROTOCOL_TIMEOUT',
  'PROTOCOL_LIMIT',
  'CONNECTION_CLOSED',
  'CALL_CANCELLED',
  // Transfers
  'TRANSFER_REFUSED',
  'TRANSFER_CANCELLED',
  'TRANSFER_FAILED',
  'TRANSFER_VERIFICATION_FAILED',
  'PLAN_CONFLICT',
  // Layers, images and container roots
  'DIGEST_MISMATCH',
  'ARCHIVE_INVALID',
  'IMAGE_INVALID',
  'IMAGE_UNKNOWN',
  'LAYER_UNKNOWN',
  'LAYER_IN_USE',
  'LAYER_STORE_UNKNOWN',
  'ROOT_EXISTS',
  'ROOT_UNKNOWN',
  'ROOT_IN_USE',
  'SNAPSHOT_EXISTS',
  'SNAPSHOT_UNKNOWN',
  'SNAPSHOT_STATE',
  'PROGRAM_MISSING',
  'PROGRAM_FAILED',
  // The daemon
  'IDENTITY_INVALID',
  'PORT_IN_USE',
  'DATA_DIRECTORY_UNWRITABLE',
  'DAEMON_UNREACHABLE',
  'DAEMON_RUNNING',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Facts behind a failure, in a form that `--json` can print. */
export type Evidence = Readonly<Record<string, unknown>>;

/**
 * The only error class that crosses a module boundary.
 *
 * `message` is one sentence for a person: what happened, to which dataset, stream or peer, and what to do now.
 */
export class PandoError extends Error {
  readonly code: ErrorCode;
  readonly evidence: Evidence;

  constructor(code: ErrorCode, message: string, evidence: Evidence = {}, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'PandoError';
    this.code = code;
    this.evidence = evidence;
  }

  /** What `--json` and the API show of it: never the stack. */
  toJSON(): { readonly code: ErrorCode; readonly message: string; readonly evidence: Evidence } {
    return { code: this.code, message: this.message, evidence: this.evidence };
  }
}

/** Tells whether `error` is a PandoError, and with `codes` whether it carries one of them. */
export function isPandoError(error: unknown, ...codes: readonly ErrorCode[]): error is PandoError {
  return error instanceof PandoError && (codes.length === 0 || codes.includes(error.code));
}

/** One sentence about anything that was thrown; for a PandoError its own message. */
export function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Marks a place that the types say cannot be reached. Throws `INTERNAL`. */
export function unreachable(value: never): never {
  throw new PandoError('INTERNAL', `Unexpected value ${JSON.stringify(value)}; please report this as a bug.`);
}
