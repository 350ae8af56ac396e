/** How an archive, or an entry of it, is refused. */
import { PandoError } from '../../../core/errors.ts';

/** How much of a name is shown, in bytes: names are somebody else's text, and can be long. */
const SHOWN_BYTES_MAX = 100;
const BACKSLASH = 0x5c;

/** A name for people: printable ASCII as it is, other bytes as `\xNN`, shortened. */
export function shownName(name: Buffer): string {
  const shown = Array.from(name.subarray(0, SHOWN_BYTES_MAX), (byte) => {
    const isPrintable = byte >= 0x20 && byte < 0x7f && byte !== BACKSLASH;
    return isPrintable ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  });
  return `${shown.join('')}${name.length > SHOWN_BYTES_MAX ? '…' : ''}`;
}

/** `ARCHIVE_INVALID` for an entry, null where it has no name yet. `reason` continues "It …". */
export function refusedEntry(entry: Buffer | null, reason: string, cause?: unknown): PandoError {
  const shown = entry === null ? null : shownName(entry);
  const where =
    shown === null ? 'The archive of the layer is refused' : `The archive of the layer is refused at entry "${shown}"`;
  return new PandoError(
    'ARCHIVE_INVALID',
    `${where}: it ${reason}; fetch the layer again, or have it built by other means.`,
    { entry: shown },
    { cause },
  );
}

/** `ARCHIVE_INVALID` for what a tree holds that no layer can say. `reason` continues "it …". */
export function unpackable(path: Buffer, reason: string): PandoError {
  const entry = shownName(path);
  return new PandoError(
    'ARCHIVE_INVALID',
    `The tree cannot be packaged as a layer because of "${entry}": it ${reason}; remove or change it, then package again.`,
    { entry },
  );
}
