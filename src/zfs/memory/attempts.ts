import { type Attempt, zfsFailure } from '../failure.ts';
import { Refusal } from './refusal.ts';

/** Does `work` and turns a Refusal into the PandoError for the attempt. */
export function attempted<T>(attempt: Attempt, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof Refusal ? failureOf(error, attempt) : error;
  }
}

function failureOf(refusal: Refusal, attempt: Attempt): Error {
  const ending = { exitCode: 1, stderr: refusal.detail };
  return zfsFailure(refusal.code, attempt, ending, refusal.detail, refusal.evidence, { cause: refusal });
}

/** What Node reports when the far side of a pipe goes away. */
const BROKEN_PIPE_CODES: readonly unknown[] = ['ERR_STREAM_PREMATURE_CLOSE', 'EPIPE', 'ECONNRESET'];

/** What ended a stream: the caller, a rule, or the far side of the pipe, which does not say why (`brokenPipe`). */
export function streamFailure(
  error: unknown,
  attempt: Attempt,
  signal: AbortSignal,
  brokenPipe: 'ZFS_FAILED' | 'ZFS_STREAM_INVALID',
): unknown {
  const ending = { exitCode: null, stderr: '' };
  if (signal.aborted) return zfsFailure('ZFS_ABORTED', attempt, ending, undefined, {}, { cause: error });
  if (error instanceof Refusal) return failureOf(error, attempt);
  if (error instanceof Error && 'code' in error && BROKEN_PIPE_CODES.includes(error.code)) {
    return zfsFailure(brokenPipe, attempt, ending, 'the other end closed the connection', {}, { cause: error });
  }
  return error;
}
