/** The tree that a layer is applied to: what is put into it, what is removed from it, and what waits until all entries are there. */
import { chmod, lchown, lutimes, mkdir, readdir, rename, rmdir } from 'node:fs/promises';
import { type AttributedFile, setXattrs } from './attributes.ts';
import { BoundedWork } from './bounded-work.ts';
import { fileTime, needsExactTime, setExactTimes, type TimedFile } from './exact-times.ts';
import { failureAt } from './failures.ts';
import { DirectoryPlace, directoriesOf, type Leaf, type Place, without } from './place.ts';
import { refusedEntry } from './refusals.ts';
import { removeTree } from './remove-tree.ts';
import { implicitAttributes, RootedPaths } from './rooted-path.ts';
import { ownNewFiles, writeSmallFile } from './small-files.ts';
import { makeSpecialFiles, type SpecialFile } from './special-files.ts';
import type { Attributes } from './tar-entry.ts';
import { Turns } from './turns.ts';

/** Files, and later directories, that are worked on at a time: as many as keep Node's four threads and a disk busy. */
const JOBS_MAX = 16;
/** Attributes that wait to be set, in bytes: a hostile archive is mostly such. */
const XATTRS_PENDING_BYTES_MAX = 16 * 1024 * 1024;
/** Special files that wait to be made. */
const SPECIALS_PENDING_MAX = 1000;
/** Times that wait to be set: some tens of megabytes. */
const TIMES_PENDING_MAX = 200_000;
/** Where the content of a directory stays while that is made anew; a whiteout's name, so that no layer brings it. */
const RENEWED = '.wh..wh.pando-renewed';

export class LayerRoot {
  readonly paths: RootedPaths;
  readonly #root: string;
  readonly #signal: AbortSignal;
  readonly #work = new BoundedWork(JOBS_MAX);
  /** Work that is done at once. */
  readonly turns = new Turns();
  readonly #newFiles = ownNewFiles();
  #xattrBytes = 0;
  #specials = 0;
  #times = 0;

  private constructor(root: string, paths: RootedPaths, signal: AbortSignal) {
    this.#root = root;
    this.paths = paths;
    this.#signal = signal;
  }

  static async open(root: string, signal: AbortSignal): Promise<LayerRoot> {
    return new LayerRoot(root, await RootedPaths.open(root), signal);
  }

  /** Starts work that needs no order: on a path that nothing else works on before {@link settled}. */
  start(job: () => Promise<void>): Promise<void> {
    return this.#work.start(job);
  }

  /** Writes a small file at once. Throws a system error. */
  writeSmall(parent: DirectoryPlace, name: string, pieces: readonly Buffer[], attributes: Attributes): Promise<void> {
    return this.turns.take(() => {
      const known = { own: this.#newFiles, isOwn: parent.hasOwnFiles };
      parent.hasOwnFiles = writeSmallFile(parent.pathOf(name), pieces, attributes, known);
    });
  }

  /** Waits for what was started. */
  settled(): Promise<void> {
    return this.#work.idle();
  }

  /** Waits for what was started, however it ends. */
  ended(): Promise<void> {
    return this.#work.ended();
  }

  /**
   * Removes what is at a name, so that an entry can take its place, unless both are directories. Rejects with `ARCHIVE_INVALID` where a link that the same archive made would become another type: whoever wrote
   * through it meanwhile was led elsewhere.
   */
  async vacate(parent: DirectoryPlace, name: string, kind: Place['kind'], entry: Buffer): Promise<Place | null> {
    const there = await this.paths.at(parent, name);
    if (there === null) return null;
    if (there.kind === 'link' && there.isMade && kind !== 'link')
      throw refusedEntry(entry, 'replaces a link that the same archive made');
    if (there.kind === 'directory' && kind === 'directory') return there;
    await this.#remove(parent, name);
    return null;
  }

  /** Notes what was put at a name. */
  put(parent: DirectoryPlace, name: string, leaf: Leaf): void {
    parent.isTouched = true;
    parent.children.set(name, leaf);
    if (leaf.special !== undefined) this.#specials += 1;
    if (leaf.mtimeNs !== undefined) this.#times += 1;
    this.#countXattrs(leaf.xattrs);
  }

  /** What a directory is to have at the end. */
  describe(place: DirectoryPlace, attributes: Attributes): void {
    place.isMade = true;
    place.attributes = attributes;
    this.#countXattrs(attributes.xattrs);
  }

  /** Removes what the layers below brought to a name; what this layer made there stays. */
  async hide(parent: DirectoryPlace, name: string): Promise<void> {
    const there = await this.paths.at(parent, name);
    if (there === null) return;
    if (there.kind !== 'directory') {
      if (!there.isMade) await this.#remove(parent, name);
      return;
    }
    if (!there.isMade && !there.holdsMade()) return this.#remove(parent, name);
    if (there.isFresh) return;
    await this.hideAllIn(there);
    await this.#renew(there);
  }

  /** Removes what the layers below brought to a directory; what this layer made there stays. */
  async hideAllIn(place: DirectoryPlace): Promise<void> {
    if (place.isFresh) return;
    await this.settled();
    this.paths.forget();
    for (const bytes of await readdir(place.path, 'buffer')) {
      const name = bytes.toString('latin1');
      const child = place.children.get(name);
      const isOurs = child !== undefined && (child.isMade || (child.kind === 'directory' && child.holdsMade()));
      if (!isOurs) await this.#remove(place, name);
      else if (child.kind === 'directory') await this.hide(place, name);
    }
    place.isFresh = true;
  }

  /** Does what waits, where that is much. */
  async relieve(): Promise<void> {
    const isMuch =
      this.#xattrBytes > XATTRS_PENDING_BYTES_MAX ||
      this.#specials > SPECIALS_PENDING_MAX ||
      this.#times > TIMES_PENDING_MAX;
    if (isMuch) await this.complete();
  }

  /** Makes special files, sets extended attributes, behind all owners, whose change takes capabilities away (chown(2)), and times. */
  async complete(): Promise<void> {
    await this.settled();
    if (this.#specials > 0) await this.#makeSpecials();
    if (this.#xattrBytes > 0) await setXattrs(this.#root, this.#attributed(), this.#signal);
    if (this.#times > 0) await setExactTimes(this.#root, this.#timed(), this.#signal);
    this.#specials = 0;
    this.#xattrBytes = 0;
    this.#times = 0;
  }

  /** All that can be done only when nothing is put into directories any more, deepest ones first. */
  async finish(): Promise<void> {
    await this.complete();
    const directories = Array.from(directoriesOf(this.paths.root)).sort((a, b) => b.depth - a.depth);
    let depth = -1;
    for (const place of directories) {
      if (place.depth !== depth) await this.settled();
      depth = place.depth;
      if (place.attributes !== null || place.isTouched) await this.start(() => finishDirectory(place));
    }
    await this.settled();
    const timed = directories.flatMap(exactTimeOf);
    if (timed.length > 0) await setExactTimes(this.#root, timed, this.#signal);
  }

  async #remove(parent: DirectoryPlace, name: string): Promise<void> {
    await this.settled();
    this.paths.forget();
    parent.children.delete(name);
    parent.isTouched = true;
    await removeTree(parent.pathOf(name));
  }

  /** A directory of the layers below that stays only for what this layer put into it: one of its own, with no attributes of theirs. */
  async #renew(place: DirectoryPlace): Promise<void> {
    const { parent } = place;
    if (parent === null) return;
    const fresh = parent.pathOf(RENEWED);
    await mkdir(fresh, { mode: 0o700 });
    const into = new DirectoryPlace(parent, fresh, fresh, { isMade: true, mtimeNs: 0n });
    for (const name of await readdir(place.path, 'buffer')) {
      const key = name.toString('latin1');
      await rename(place.pathOf(key), into.pathOf(key));
    }
    await rmdir(place.path);
    await rename(fresh, place.path);
    parent.isTouched = true;
    place.isMade = true;
    place.attributes ??= implicitAttributes();
  }

  #countXattrs(xattrs: ReadonlyMap<string, Buffer> | undefined): void {
    for (const [name, value] of xattrs ?? []) this.#xattrBytes += name.length + value.length + 1;
  }

  async #makeSpecials(): Promise<void> {
    const made: (SpecialFile & { readonly attributes: Attributes; readonly relative: Buffer })[] = [];
    for (const directory of directoriesOf(this.paths.root)) {
      for (const [name, child] of directory.children) {
        if (child.kind !== 'file' || child.special === undefined) continue;
        made.push({ ...child.special, path: directory.pathOf(name), relative: directory.relativeOf(name) });
        directory.children.set(name, without(child, 'special'));
      }
    }
    await makeSpecialFiles(this.#root, made, this.#signal);
    this.paths.root.isTouched = true;
    for (const { path, relative, attributes } of made) {
      await setAttributes(path, attributes, 'file').catch((error: unknown) =>
        Promise.reject(failureAt(relative, error)),
      );
    }
  }

  *#attributed(): Generator<AttributedFile> {
    for (const directory of directoriesOf(this.paths.root)) {
      const { attributes } = directory;
      if (attributes !== null && attributes.xattrs.size > 0) {
        yield { path: directory.relative, xattrs: attributes.xattrs };
        directory.attributes = { ...attributes, xattrs: new Map() };
      }
      for (const [name, child] of directory.children) {
        if (child.kind === 'directory' || child.xattrs === undefined) continue;
        yield { path: directory.relativeOf(name), xattrs: child.xattrs };
        directory.children.set(name, without(child, 'xattrs'));
      }
    }
  }

  *#timed(): Generator<TimedFile> {
    for (const directory of directoriesOf(this.paths.root)) {
      for (const [name, child] of directory.children) {
        if (child.kind === 'directory' || child.mtimeNs === undefined) continue;
        yield { path: directory.relativeOf(name), mtimeNs: child.mtimeNs };
        directory.children.set(name, without(child, 'mtimeNs'));
      }
    }
  }
}

/** None where Node set it, or where nothing changed it. */
function exactTimeOf({ attributes, isTouched, mtimeNs, relative }: DirectoryPlace): TimedFile[] {
  const ns = attributes?.mtimeNs ?? (isTouched ? mtimeNs : 0n);
  return needsExactTime(ns) ? [{ path: relative, mtimeNs: ns }] : [];
}

async function finishDirectory(place: DirectoryPlace): Promise<void> {
  const attributes = place.attributes;
  try {
    if (attributes !== null) await setAttributes(place.path, attributes, 'directory');
    else await lutimes(place.path, fileTime(place.mtimeNs), fileTime(place.mtimeNs));
  } catch (error) {
    throw failureAt(place.relative, error);
  }
}

/** Sets owner, mode (of all but links, which have none) and time, in this order: a change of owner clears the set-user-ID bit (chown(2)). */
export async function setAttributes(path: Buffer, attributes: Attributes, kind: Place['kind']): Promise<void> {
  const seconds = fileTime(attributes.mtimeNs);
  await lchown(path, attributes.uid, attributes.gid);
  if (kind !== 'link') await chmod(path, attributes.mode);
  await lutimes(path, seconds, seconds);
}
