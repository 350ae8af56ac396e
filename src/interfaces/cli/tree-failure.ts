import { type ErrorCode, PandoError } from '../../core/errors.ts';

/** After these there is nobody to ask about the next tree, or nobody who wants to know. */
const ENDS_EVERYTHING: ReadonlySet<ErrorCode> = new Set(['DAEMON_UNREACHABLE', 'CALL_CANCELLED', 'INTERNAL']);

/** What went wrong with one tree of several, so that the others can go on. Throws what concerns them all. */
export function failureOfTree(error: unknown, tree: string, what: 'synced' | 'verified'): PandoError {
  if (!(error instanceof PandoError) || ENDS_EVERYTHING.has(error.code)) throw error;
  const { code, message, evidence } = error;
  return new PandoError(code, `"${tree}" could not be ${what}: ${message}`, { tree, ...evidence }, { cause: error });
}
