/**
 * What a layer changes in the tree below it: found by walking both, or by looking at the paths that are known to differ. Both ways find the same.
 *
 * A directory that became another one keeps what both have: only what is gone is whited out, name by name. That is less than an opaque whiteout, which would have all of it written again. A directory that lost an extended attribute is the
 * exception: readers add the attributes of an entry to those that are there, so it is whited out and written with all below it.
 */
import { isSame } from './comparison.ts';
import { WHITEOUT_PREFIX } from './entry-names.ts';
import { checkNotAborted } from './failures.ts';
import { alsoChanged, type LinkedName } from './hard-links.ts';
import { unpackable } from './refusals.ts';
import { type Found, joined, type TreeSide } from './tree-side.ts';

const SLASH = 0x2f;
const ROOT = Buffer.alloc(0);
/** Longest name whose whiteout is one still (NAME_MAX less the prefix), in bytes. */
const HIDDEN_NAME_BYTES_MAX = 255 - WHITEOUT_PREFIX.length;

export interface Differences {
  /** What is new or other than it was, with all names of a changed inode. */
  readonly changed: readonly Found[];
  /** Paths that are gone; not those below others. */
  readonly gone: readonly Buffer[];
}

/** Reads what attributes it needs, and those of all that is changed. `parent` is null for the lowest layer. Outside of `candidates` nothing differs; null has both trees walked. Rejects with `ARCHIVE_INVALID` for what no layer can say. */
export async function findDifferences(
  sides: { readonly parent: TreeSide | null; readonly layer: TreeSide },
  candidates: readonly Buffer[] | null,
  signal: AbortSignal,
): Promise<Differences> {
  const { parent, layer } = sides;
  if (candidates !== null && parent !== null) {
    const paths = Array.from(candidates, normal).sort(Buffer.compare);
    const compared = distinct(paths.flatMap((path) => [...pathsAbove(path), path]));
    for (const side of [parent, layer]) await side.readXattrs(compared);
    const looked = new Comparison(sides, signal);
    await looked.lookAt(paths);
    // Other names of an inode need not be among the candidates
    if (!looked.hasLinks) {
      const result = looked.result();
      await layer.readXattrs(result.changed.map(({ path }) => path));
      return result;
    }
  }
  for (const side of [parent, layer]) await side?.readXattrs(null);
  const walked = new Comparison(sides, signal);
  await walked.walk();
  return walked.result();
}

function distinct(paths: readonly Buffer[]): Buffer[] {
  return Array.from(new Map(paths.map((path) => [path.toString('latin1'), path])).values());
}

class Comparison {
  /** Whether a file that was looked at has several names. */
  hasLinks = false;
  readonly #parent: TreeSide | null;
  readonly #layer: TreeSide;
  readonly #signal: AbortSignal;
  readonly #changed: Found[] = [];
  readonly #gone: Buffer[] = [];
  readonly #linked: LinkedName[] = [];

  constructor({ parent, layer }: { parent: TreeSide | null; layer: TreeSide }, signal: AbortSignal) {
    this.#parent = parent;
    this.#layer = layer;
    this.#signal = signal;
  }

  result(): Differences {
    const changed = [...this.#changed, ...alsoChanged(this.#linked)];
    for (const { path } of changed) checkName(path);
    for (const path of this.#gone) checkGone(path);
    return { changed, gone: this.#gone };
  }

  async walk(): Promise<void> {
    await this.#walkFrom((await this.#parent?.find(ROOT)) ?? null, await this.#layer.find(ROOT));
  }

  /** `paths` are normal and ascend. */
  async lookAt(paths: readonly Buffer[]): Promise<void> {
    // Whether to go on below a path that was looked at
    const isOpen = new Map<string, boolean>();
    for (const path of paths) {
      let open = true;
      for (const above of pathsAbove(path)) {
        const key = above.toString('latin1');
        open = isOpen.get(key) ?? (await this.#isDirectoryOnBoth(above));
        isOpen.set(key, open);
        if (!open) break;
      }
      const key = path.toString('latin1');
      // A directory that only leads to candidates was not compared, and one that comes before what is in it was
      if (open && !isOpen.has(key)) isOpen.set(key, await this.#compareAt(path));
    }
  }

  async #compareAt(path: Buffer): Promise<boolean> {
    return this.#compare((await this.#parent?.find(path)) ?? null, await this.#layer.find(path));
  }

  /** Compares it where it is not: then it differs, whatever the candidates say. */
  async #isDirectoryOnBoth(path: Buffer): Promise<boolean> {
    const [before, after] = [await this.#parent?.find(path), await this.#layer.find(path)];
    if (before?.type === 'directory' && after?.type === 'directory') return true;
    await this.#compare(before ?? null, after);
    return false;
  }

  async #walkFrom(before: Found | null, after: Found | null): Promise<void> {
    if (!(await this.#compare(before, after)) || before === null || after === null) return;
    const found = new Map<string, { before: Found | null; after: Found | null }>();
    for (const child of (await this.#parent?.children(before.path)) ?? []) {
      found.set(child.path.toString('latin1'), { before: child, after: null });
    }
    for (const child of await this.#layer.children(after.path)) {
      const key = child.path.toString('latin1');
      found.set(key, { before: found.get(key)?.before ?? null, after: child });
    }
    for (const child of found.values()) await this.#walkFrom(child.before, child.after);
  }

  /** Whether it is a directory on both sides, whose content is to be compared too. */
  async #compare(before: Found | null, after: Found | null): Promise<boolean> {
    checkNotAborted(this.#signal);
    if (before !== null && isLinked(before)) this.hasLinks = true;
    if (after === null || before === null || before.type !== after.type || this.#parent === null) {
      if (after !== null) await this.#addTree(after, before);
      else if (before !== null) this.#gone.push(before.path);
      return false;
    }
    if (after.type === 'directory' && this.#hasLostXattr(this.#parent, before, after)) {
      if (after.path.length === 0)
        throw unpackable(Buffer.from('.'), 'lost an extended attribute, which no layer can tell of its root');
      this.#gone.push(before.path);
      await this.#addTree(after, before);
      return false;
    }
    const isChanged = !(await isSame(this.#parent, before, this.#layer, after));
    if (isChanged) this.#changed.push(after);
    this.#noteLinks(after, before, isChanged);
    return after.type === 'directory';
  }

  async #addTree(after: Found, before: Found | null): Promise<void> {
    checkNotAborted(this.#signal);
    this.#changed.push(after);
    this.#noteLinks(after, before, true);
    if (after.type !== 'directory') return;
    for (const child of await this.#layer.children(after.path)) await this.#addTree(child, null);
  }

  #noteLinks(found: Found, before: Found | null, isChanged: boolean): void {
    if (found.type === 'directory' || !(isLinked(found) || (before !== null && isLinked(before)))) return;
    this.hasLinks = true;
    this.#linked.push({ found, parentInode: before?.stats.ino ?? null, isChanged });
  }

  #hasLostXattr(parent: TreeSide, before: Found, after: Found): boolean {
    const kept = this.#layer.xattrs(after.path);
    return Array.from(parent.xattrs(before.path).keys()).some((name) => !kept.has(name));
  }
}

function isLinked({ type, stats }: Found): boolean {
  return type !== 'directory' && stats.nlink > 1n;
}

/** Without slashes that say nothing. Throws `ARCHIVE_INVALID` for `..`. */
function normal(path: Buffer): Buffer {
  const parts = path
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw unpackable(path, 'has ".." in its path');
  return Buffer.from(parts.join('/'), 'latin1');
}

/** The directories above, from the root down. */
function pathsAbove(path: Buffer): Buffer[] {
  const above: Buffer[] = path.length === 0 ? [] : [ROOT];
  for (let at = path.indexOf(SLASH); at !== -1; at = path.indexOf(SLASH, at + 1)) above.push(path.subarray(0, at));
  return above;
}

/** Path of the directory, and name. */
export function split(path: Buffer): readonly [directory: Buffer, name: Buffer] {
  const slash = path.lastIndexOf(SLASH);
  return slash === -1 ? [ROOT, path] : [path.subarray(0, slash), path.subarray(slash + 1)];
}

function checkName(path: Buffer): void {
  const [, name] = split(path);
  if (name.toString('latin1').startsWith(WHITEOUT_PREFIX)) throw unpackable(path, 'has the name of a whiteout');
}

function checkGone(path: Buffer): void {
  const [, name] = split(path);
  if (name.length > HIDDEN_NAME_BYTES_MAX) throw unpackable(path, 'is gone, and its name is too long for a whiteout');
}

/** The path of the entry that says that another is gone. */
export function whiteoutOf(path: Buffer): Buffer {
  const [directory, name] = split(path);
  return joined(directory, Buffer.concat([Buffer.from(WHITEOUT_PREFIX), name]));
}
