import ms from 'ms';
import { PandoError } from '../../core/errors.ts';

/** Reads `30d`, `12h` and the like into ms. Throws `ARGUMENT_INVALID`. */
export function parseDuration(text: string): number {
  // A number alone would be ms, which nobody means
  const length = /[a-z]$/i.test(text) ? ms(text as ms.StringValue) : undefined;
  if (length !== undefined && Number.isSafeInteger(Math.round(length)) && length >= 0) return Math.round(length);
  throw new PandoError('ARGUMENT_INVALID', `"${text}" is no duration; write "30d", "12h" or "2w".`, { duration: text });
}

/** The same, where `forever`, or nothing, is null. */
export function parseGrace(text: string | undefined): number | null {
  return text === undefined || text === 'forever' ? null : parseDuration(text);
}
