/** One of two trees that are compared: what is at a path below its root, without following any link. */
import type { BigIntStats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { TreeXattrs, type Xattrs } from './attributes.ts';
import { failureAt, systemCode } from './failures.ts';
import type { Device, TarEntryType } from './tar-entry.ts';

const SLASH = Buffer.from('/');
/** Where the parts of a device number are (makedev(3), as glibc has it for 64 bits). */
const MAJOR_LOW = { shift: 8n, bits: 0xfffn } as const;
const MAJOR_HIGH = { shift: 32n, bits: 0xfffff000n } as const;
const MINOR_LOW_BITS = 0xffn;
const MINOR_HIGH = { shift: 12n, bits: 0xffffff00n } as const;

/** Something at a path; sockets are nothing, as for every packager: a tar cannot say them, and whoever listens makes its own. */
export interface Found {
  readonly type: Exclude<TarEntryType, 'hardlink'>;
  /** Relative to the root, empty for that. */
  readonly path: Buffer;
  readonly stats: BigIntStats;
}

export class TreeSide {
  readonly #root: Buffer;
  readonly #xattrs: TreeXattrs;

  constructor(root: string, signal: AbortSignal) {
    this.#root = Buffer.from(root);
    this.#xattrs = new TreeXattrs(root, signal);
  }

  /** Reads the extended attributes of what is at these paths, null for all there are. Rejects with `PROGRAM_MISSING` or `PROGRAM_FAILED`. */
  async readXattrs(paths: Iterable<Buffer> | null): Promise<void> {
    if (paths === null) return this.#xattrs.readAll();
    const found: Buffer[] = [];
    for (const path of paths) if ((await this.find(path)) !== null) found.push(path);
    await this.#xattrs.readAt(found);
  }

  /** Where the path is for the file system. */
  pathOf(path: Buffer): Buffer {
    return path.length === 0 ? this.#root : Buffer.concat([this.#root, SLASH, path]);
  }

  /** What is at a path whose directories are known to be such. */
  async find(path: Buffer): Promise<Found | null> {
    try {
      const stats = await lstat(this.pathOf(path), { bigint: true });
      const type = typeOf(stats);
      return type === null ? null : { type, path, stats };
    } catch (error) {
      if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return null;
      throw failureAt(path, error);
    }
  }

  /** All in a directory. */
  async children(path: Buffer): Promise<Found[]> {
    const names = await readdir(this.pathOf(path), 'buffer').catch((error: unknown) =>
      Promise.reject(failureAt(path, error)),
    );
    const found: Found[] = [];
    for (const name of names) {
      const child = await this.find(joined(path, name));
      if (child !== null) found.push(child);
    }
    return found;
  }

  /** Of a path that {@link readXattrs} was called for. */
  xattrs(path: Buffer): Xattrs {
    return this.#xattrs.of(path);
  }

  async linkTarget(path: Buffer): Promise<Buffer> {
    try {
      return await readlink(this.pathOf(path), 'buffer');
    } catch (error) {
      throw failureAt(path, error);
    }
  }
}

export function joined(path: Buffer, name: Buffer): Buffer {
  return path.length === 0 ? name : Buffer.concat([path, SLASH, name]);
}

export function deviceOf({ rdev }: BigIntStats): Device {
  const major = ((rdev >> MAJOR_LOW.shift) & MAJOR_LOW.bits) | ((rdev >> MAJOR_HIGH.shift) & MAJOR_HIGH.bits);
  const minor = (rdev & MINOR_LOW_BITS) | ((rdev >> MINOR_HIGH.shift) & MINOR_HIGH.bits);
  return { major: Number(major), minor: Number(minor) };
}

function typeOf(stats: BigIntStats): Found['type'] | null {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isCharacterDevice()) return 'character-device';
  return stats.isBlockDevice() ? 'block-device' : null;
}
