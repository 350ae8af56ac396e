/** What is known of a path below the root while a layer is applied: each is looked at once at most. */
import { needsExactTime } from './exact-times.ts';
import type { Attributes, Device } from './tar-entry.ts';

const SLASH = Buffer.from('/');

/** A file, a link or the like. One that was made is from this layer, others from those below. */
export interface Leaf {
  readonly kind: 'file' | 'link';
  readonly isMade: boolean;
  /** Where a link from below leads. */
  readonly target?: string;
  /** To be set at the end. */
  readonly xattrs?: ReadonlyMap<string, Buffer>;
  /** A time that Node cannot set, to be set at the end. */
  readonly mtimeNs?: bigint;
  /** A fifo, with null, or a device that is to be made at the end, and what it is to have. */
  readonly special?: { readonly device: Device | null; readonly attributes: Attributes };
}

/** Most leaves have nothing to tell but this in the end; a layer has hundreds of thousands. */
const MADE_FILE: Leaf = { kind: 'file', isMade: true };
const MADE_LINK: Leaf = { kind: 'link', isMade: true };

/** What this layer made, with what waits to be set. */
export function made(
  kind: Leaf['kind'],
  { xattrs, mtimeNs, special }: Pick<Attributes, 'xattrs' | 'mtimeNs'> & Pick<Leaf, 'special'>,
): Leaf {
  const waiting = {
    ...(xattrs.size === 0 ? {} : { xattrs }),
    ...(needsExactTime(mtimeNs) ? { mtimeNs } : {}),
    ...(special === undefined ? {} : { special }),
  };
  return plain({ kind, isMade: true, ...waiting });
}

/** The same leaf without what takes memory for nothing. */
function plain(leaf: Leaf): Leaf {
  if (leaf.xattrs !== undefined || leaf.mtimeNs !== undefined || leaf.special !== undefined) return leaf;
  return leaf.kind === 'file' ? MADE_FILE : MADE_LINK;
}

/** A made one without something that was waiting and is done. */
export function without(leaf: Leaf, done: 'xattrs' | 'mtimeNs' | 'special'): Leaf {
  const { [done]: _, ...rest } = leaf;
  return plain(rest);
}

export type Place = Leaf | DirectoryPlace;

/** A directory that exists. Names are latin1: each character one byte. */
export class DirectoryPlace {
  readonly kind = 'directory';
  readonly parent: DirectoryPlace | null;
  readonly path: Buffer;
  /** Relative to the root; empty for that. */
  readonly relative: Buffer;
  readonly depth: number;
  readonly children = new Map<string, Place>();
  /** Whether this layer brought it, by an entry of its own or because one below needed it. */
  isMade: boolean;
  /** Whether all in it is of this layer, so that what is not among the children is not there. */
  isFresh: boolean;
  /** What it is to have at the end; null leaves all but the time as it is. */
  attributes: Attributes | null = null;
  /** Its time before this layer changed something in it. */
  readonly mtimeNs: bigint;
  isTouched = false;
  /** Whether new files in it have what this process gives them; null before the first. */
  hasOwnFiles: boolean | null = null;

  constructor(
    parent: DirectoryPlace | null,
    path: Buffer,
    relative: Buffer,
    state: { isMade: boolean; mtimeNs: bigint },
  ) {
    this.parent = parent;
    this.path = path;
    this.relative = relative;
    this.depth = parent === null ? 0 : parent.depth + 1;
    this.isMade = state.isMade;
    this.isFresh = state.isMade;
    this.mtimeNs = state.mtimeNs;
  }

  pathOf(name: string): Buffer {
    return Buffer.concat([this.path, SLASH, Buffer.from(name, 'latin1')]);
  }

  relativeOf(name: string): Buffer {
    const bytes = Buffer.from(name, 'latin1');
    return this.parent === null ? bytes : Buffer.concat([this.relative, SLASH, bytes]);
  }

  add(name: string, state: { isMade: boolean; mtimeNs: bigint }): DirectoryPlace {
    const child = new DirectoryPlace(this, this.pathOf(name), this.relativeOf(name), state);
    this.children.set(name, child);
    return child;
  }

  /** Whether it is that directory or anywhere below it. */
  isWithin(other: DirectoryPlace): boolean {
    return this === other || (this.parent?.isWithin(other) ?? false);
  }

  /** Whether this layer made anything in it, however deep. */
  holdsMade(): boolean {
    return Array.from(this.children.values()).some(
      (child) => child.isMade || (child.kind === 'directory' && child.holdsMade()),
    );
  }
}

/** All directories below and with `top`, those above first. */
export function* directoriesOf(top: DirectoryPlace): Generator<DirectoryPlace> {
  const waiting = [top];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    yield next;
    for (const child of next.children.values()) if (child.kind === 'directory') waiting.push(child);
  }
}
