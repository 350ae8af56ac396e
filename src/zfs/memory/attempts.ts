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

/** What ended a stream: the caller, or a rule. */
export function streamFailure(error: unknown, attempt: Attempt, signal: AbortSignal): unknown {
  if (signal.aborted) {
    return zfsFailure('ZFS_ABORTED', attempt, { exitCode: null, stderr: '' }, undefined, {}, { cause: error });
  }
  return error instanceof Refusal ? failureOf(error, attempt) : error;
}
