/** What an entry of a tar says. Names and values of attributes are bytes: nothing says that they are text. */

export type TarEntryType = 'file' | 'hardlink' | 'symlink' | 'character-device' | 'block-device' | 'directory' | 'fifo';

export interface Attributes {
  /** Permissions with set-user-ID, set-group-ID and sticky bit: 12 bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Since 1970, in nanoseconds; negative before. */
  readonly mtimeNs: bigint;
  /** Values by name; each character of a name stands for one byte (latin1). */
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

export interface Device {
  readonly major: number;
  readonly minor: number;
}

/** Bytes of a sparse file that are in the archive; between them there are zeros. */
export interface Extent {
  readonly offset: number;
  readonly bytes: number;
}

export interface TarHeader extends Attributes {
  readonly type: TarEntryType;
  readonly path: Buffer;
  /** Target of a link; empty for others. */
  readonly linkPath: Buffer;
  /** Of the file as it is to be, in bytes; zero for all but files. */
  readonly size: number;
  readonly device: Device;
}

export interface TarEntry extends TarHeader {
  /** Where the bytes of the body belong, ascending, or null where it is the file as it is. */
  readonly sparse: readonly Extent[] | null;
  /** Bytes of the body. */
  readonly storedBytes: number;
  /** The body, once; it can be read until the next entry is asked for. */
  body(): AsyncGenerator<Buffer, void, undefined>;
}

export const BLOCK_BYTES = 512;

/** What comes after `bytes` of a body up to the next block. */
export function paddingOf(bytes: number): number {
  return (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;
}
