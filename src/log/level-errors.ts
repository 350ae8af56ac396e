/** What LevelDB and the file system say, as errors of a log. */
import { describeError, isPandoError, PandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import { closed, corrupt } from './log-errors.ts';

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null)?.code;
}

/** What was being done: where the log is, and where in which stream, if in one. */
export interface Activity {
  readonly directory: string;
  readonly stream?: StreamId;
  readonly seq?: number;
}

/** An error of LevelDB as PandoError: `LOG_CORRUPT`, `LOG_CLOSED` or `LOG_UNWRITABLE`. A PandoError stays as it is. */
export function levelError(error: unknown, { directory, stream, seq = 0 }: Activity): PandoError {
  if (isPandoError(error)) return error;
  switch (codeOf(error)) {
    case 'LEVEL_DATABASE_NOT_OPEN':
    case 'LEVEL_ITERATOR_NOT_OPEN':
    case 'LEVEL_SNAPSHOT_NOT_OPEN':
      return closed();
    case 'LEVEL_CORRUPTION':
      if (stream === undefined) return damagedFiles(directory, error);
      return corrupt({ stream, seq, expected: 'rows as they were written', found: describeError(error) }, error);
    default:
      return unwritable(directory, error);
  }
}

/** Why LevelDB could not be opened: also `LOG_LOCKED`, with the process that has it when that is known. */
export function openError(error: unknown, directory: string, holder: string | null): PandoError {
  const cause = (error as { cause?: unknown } | null)?.cause ?? error;
  if (codeOf(cause) !== 'LEVEL_LOCKED') {
    return codeOf(cause) === 'LEVEL_CORRUPTION' ? damagedFiles(directory, cause) : unwritable(directory, cause);
  }
  const who = holder === null ? 'Another process' : `Another pando (process ${holder})`;
  return new PandoError(
    'LOG_LOCKED',
    `${who} uses ${directory}; stop it or choose another data directory.`,
    { directory, process: holder },
    { cause },
  );
}

function damagedFiles(directory: string, cause: unknown): PandoError {
  return new PandoError(
    'LOG_CORRUPT',
    `The files of the log in ${directory} are damaged: ${describeError(cause)}. ` +
      'Restore the directory from a backup, or move it away to begin anew.',
    { directory },
    { cause },
  );
}

function unwritable(directory: string, cause: unknown): PandoError {
  return new PandoError(
    'LOG_UNWRITABLE',
    `The log in ${directory} cannot be written: ${describeError(cause)}. Check the directory's permissions and the disk's free space.`,
    { directory },
    { cause },
  );
}
