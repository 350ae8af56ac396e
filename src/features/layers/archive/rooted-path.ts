/**
 * Finds the directory that an entry belongs to, component by component and never outside the root. Links of the layers below are followed as the container would follow them: absolute targets begin at
 * the root, `..` there stays. Links that the same archive made are not followed: nothing that builds layers writes through them, and attacks do.
 */
import { lstat, mkdir, readlink } from 'node:fs/promises';
import { failureAt, systemCode } from './failures.ts';
import { DirectoryPlace, type Leaf, type Place } from './place.ts';
import { refusedEntry } from './refusals.ts';

/** As the kernel has it (path_resolution(7)). */
const LINKS_MAX = 40;
/** Nobody else reads a tree while it is half done. */
const UNFINISHED_MODE = 0o700;
const IMPLICIT_MODE = 0o755;

export class RootedPaths {
  readonly root: DirectoryPlace;
  #last: { readonly names: readonly string[]; readonly place: DirectoryPlace } | null = null;

  private constructor(root: DirectoryPlace) {
    this.root = root;
  }

  /** Rejects unless `root` is a directory that exists. */
  static async open(root: string): Promise<RootedPaths> {
    const path = Buffer.from(root);
    const { mtimeNs } = await lstat(path, { bigint: true });
    return new RootedPaths(new DirectoryPlace(null, path, Buffer.alloc(0), { isMade: false, mtimeNs }));
  }

  /** The directory of these names, made where it is missing. Rejects with `ARCHIVE_INVALID` where a part of it is no directory. */
  async directory(names: readonly string[], entry: Buffer): Promise<DirectoryPlace> {
    const last = this.#last;
    if (last !== null && last.names.length === names.length && last.names.every((name, at) => name === names[at]))
      return last.place;
    const place = await this.#walk(names, entry);
    this.#last = { names, place };
    return place;
  }

  /** To be called when a directory or a link is no more what it was. */
  forget(): void {
    this.#last = null;
  }

  /** What is at a name, looked up where it is not known; null where there is nothing. */
  async at(parent: DirectoryPlace, name: string): Promise<Place | null> {
    const known = parent.children.get(name);
    if (known !== undefined) return known;
    return parent.isFresh ? null : this.#lookUp(parent, name);
  }

  /** Makes a directory where nothing is. */
  async make(parent: DirectoryPlace, name: string): Promise<DirectoryPlace> {
    const path = parent.pathOf(name);
    await mkdir(path, { mode: UNFINISHED_MODE });
    parent.isTouched = true;
    return parent.add(name, { isMade: true, mtimeNs: 0n });
  }

  async #walk(names: readonly string[], entry: Buffer): Promise<DirectoryPlace> {
    const waiting = [...names].reverse();
    let links = 0;
    let place = this.root;
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      if (name === '..') place = place.parent ?? place;
      if (['', '.', '..'].includes(name)) continue;
      const child = await this.#step(place, name, entry);
      if (child.kind === 'directory') {
        place = child;
        continue;
      }
      const target = targetOf(child, entry);
      links += 1;
      if (links > LINKS_MAX) throw refusedEntry(entry, 'is below a loop of links');
      if (target.startsWith('/')) place = this.root;
      waiting.push(...target.split('/').reverse());
    }
    return place;
  }

  async #step(parent: DirectoryPlace, name: string, entry: Buffer): Promise<Place> {
    try {
      return (await this.at(parent, name)) ?? (await this.#makeImplicit(parent, name));
    } catch (error) {
      throw failureAt(entry, error);
    }
  }

  async #makeImplicit(parent: DirectoryPlace, name: string): Promise<DirectoryPlace> {
    const made = await this.make(parent, name);
    made.attributes = implicitAttributes();
    return made;
  }

  async #lookUp(parent: DirectoryPlace, name: string): Promise<Place | null> {
    const path = parent.pathOf(name);
    try {
      const found = await lstat(path, { bigint: true });
      if (found.isDirectory()) return parent.add(name, { isMade: false, mtimeNs: found.mtimeNs });
      const leaf: Leaf = found.isSymbolicLink()
        ? { kind: 'link', isMade: false, target: (await readlink(path, 'buffer')).toString('latin1') }
        : { kind: 'file', isMade: false };
      parent.children.set(name, leaf);
      return leaf;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return null;
      throw error;
    }
  }
}

function targetOf({ kind, isMade, target }: Leaf, entry: Buffer): string {
  if (kind === 'file') throw refusedEntry(entry, 'is below something that is no directory');
  if (isMade || target === undefined)
    throw refusedEntry(entry, 'would be written through a link that the same archive made');
  return target;
}

/** What a directory has that no entry tells of: as containerd makes it, and with a time that is the same everywhere. */
export function implicitAttributes(): DirectoryPlace['attributes'] {
  return { mode: IMPLICIT_MODE, uid: 0, gid: 0, mtimeNs: 0n, xattrs: new Map() };
}
