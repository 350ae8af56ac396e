/** What the file system says while a layer is unpacked or packaged, as failures that Pando can name. */
import { type ErrorCode, PandoError } from '../../../core/errors.ts';
import { refusedEntry, shownName } from './refusals.ts';

const CODES: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  ENOSPC: ['ZFS_OUT_OF_SPACE', 'there is no space left; free some, then try again'],
  EDQUOT: ['ZFS_OUT_OF_SPACE', 'the quota is used up; raise it, then try again'],
  EPERM: ['ZFS_PERMISSION', 'this process may not do that; run Pando as root'],
  EACCES: ['ZFS_PERMISSION', 'this process may not do that; run Pando as root'],
  EROFS: ['ZFS_PERMISSION', 'the file system is read-only; mount it for writing'],
  ENOTSUP: ['ZFS_UNSUPPORTED', 'the file system does not take it; keep layers on a ZFS that does'],
  EOPNOTSUPP: ['ZFS_UNSUPPORTED', 'the file system does not take it; keep layers on a ZFS that does'],
};
/** Names that are longer below the root than the kernel takes (path_resolution(7)), and loops of links. */
const ENTRY_FAULTS: ReadonlySet<string> = new Set(['ENAMETOOLONG', 'ELOOP']);

/** The `code` of a system error, or undefined. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** A failure at a path of a tree as a PandoError; one that is one already is given back. */
export function failureAt(path: Buffer, error: unknown): PandoError {
  if (error instanceof PandoError) return error;
  const system = systemCode(error) ?? '';
  if (ENTRY_FAULTS.has(system)) return refusedEntry(path, `cannot be made here (${system})`, error);
  const [code, advice] = CODES[system] ?? ['ZFS_FAILED', 'look at the cause, then try again'];
  const entry = shownName(path);
  return new PandoError(code, `"${entry}" of the layer failed: ${advice}.`, { entry, system }, { cause: error });
}

/** Throws the reason of a signal that is aborted; `TRANSFER_CANCELLED` where that is no PandoError. */
export function checkNotAborted(signal: AbortSignal): void {
  if (!signal.aborted) return;
  if (signal.reason instanceof PandoError) throw signal.reason;
  throw new PandoError(
    'TRANSFER_CANCELLED',
    'Working on the layer was cancelled; start it again.',
    {},
    { cause: signal.reason },
  );
}
