/**
 * Extended attributes of files, read with getfattr(1) and set with setfattr(1): Node has no interface to them. Both speak the same format: a line with the name of the file, then
 * one for each attribute, then an empty line. In names, a backslash, a newline and what would end the name are octal.
 */
import type { Readable } from 'node:stream';
import { type ErrorCode, PandoError } from '../../../core/errors.ts';
import { checkNotAborted } from './failures.ts';
import { firstLineOf, runProgram } from './programs.ts';
import { refusedEntry } from './refusals.ts';

export type Xattrs = ReadonlyMap<string, Buffer>;

/** Attributes of one file; the path is relative to the root. */
export interface AttributedFile {
  readonly path: Buffer;
  readonly xattrs: Xattrs;
}

const FILE_LINE = '# file: ';
const BASE64 = '0s';
const NEWLINE = 0x0a;
/** Labels come from the policy of the machine that a file is on, not with the file; other packagers leave them out as well. */
const HOST_LABEL = 'security.selinux';
const NONE: Xattrs = new Map();
/** All attributes, of links themselves, with names as they are. */
const READ = ['--no-dereference', '--dump', '--match=-', '--encoding=base64', '--absolute-names'];
/** What setfattr says, in the words of strerror(3), and what it comes to. */
const COMPLAINTS: readonly (readonly [RegExp, ErrorCode, string])[] = [
  [/not supported/, 'ZFS_UNSUPPORTED', 'the file system takes no such attributes; set xattr=sa on the dataset'],
  [/No space left|quota exceeded/i, 'ZFS_OUT_OF_SPACE', 'there is no space left; free some, then try again'],
  [/not permitted|Permission denied/, 'ZFS_PERMISSION', 'this process may not set them; run Pando as root'],
];

/**
 * Sets attributes of files below `root`, not of what links point to, with one process. Rejects with `ZFS_UNSUPPORTED` where the file system takes none,
 * `PROGRAM_MISSING`, `ZFS_PERMISSION`, `ZFS_OUT_OF_SPACE`, or `PROGRAM_FAILED`.
 */
export async function setXattrs(root: string, files: Iterable<AttributedFile>, signal: AbortSignal): Promise<void> {
  const words = ['--no-dereference', '--restore=-'];
  const complaint = await runProgram({ program: 'setfattr', words, directory: root, signal, input: dumpOf(files) });
  checkNotAborted(signal);
  if (complaint === null) return;
  const [, code, advice] = COMPLAINTS.find(([pattern]) => pattern.test(complaint)) ?? [
    null,
    'PROGRAM_FAILED' as const,
    `setfattr says "${firstLineOf(complaint)}"`,
  ];
  throw new PandoError(code, `Extended attributes of the layer could not be set: ${advice}.`, {
    program: 'setfattr',
    complaint,
  });
}

function* dumpOf(files: Iterable<AttributedFile>): Generator<Buffer> {
  for (const { path, xattrs } of files) {
    // setfattr takes the end of a name to be the first "=" even where that is octal
    const lines = Array.from(xattrs, ([name, value]) => {
      if (name.includes('=')) throw refusedEntry(path, 'has an attribute with "=" in its name');
      // An empty value in base64 is refused by setfattr without a word
      return `${escaped(name)}=${value.length === 0 ? '' : BASE64}${value.toString('base64')}\n`;
    });
    yield Buffer.from(`${FILE_LINE}./${escaped(path.toString('latin1'))}\n${lines.join('')}\n`, 'latin1');
  }
}

function escaped(name: string): string {
  return name.replace(/[\\\n\r]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

/** Attributes of the files of a tree, looked up by the path relative to its root, once they have been read. */
export class TreeXattrs {
  readonly #root: string;
  readonly #signal: AbortSignal;
  readonly #files = new Map<string, Xattrs>();
  /** Paths that have been read; null for all there are. */
  #read: Set<string> | null = new Set();
  #isTaken: Promise<boolean> | null = null;

  constructor(root: string, signal: AbortSignal) {
    this.#root = root;
    this.#signal = signal;
  }

  /** Reads those of the whole tree, which there are none of where the file system takes none. Rejects with `PROGRAM_MISSING` or `PROGRAM_FAILED`. */
  async readAll(): Promise<void> {
    if (this.#read === null) return;
    if (await this.#takesAny()) await this.#run('getfattr', ['--recursive', '--physical', ...READ, '.'], []);
    this.#read = null;
  }

  /** Reads those of some paths, which exist. Rejects as {@link readAll} does. */
  async readAt(paths: Iterable<Buffer>): Promise<void> {
    const read = this.#read;
    if (read === null) return;
    const missing = Array.from(paths).filter((path) => !read.has(path.toString('latin1')));
    if (missing.length === 0) return;
    const input = missing.map((path) => Buffer.concat([Buffer.from('./'), path, Buffer.from([0])]));
    // Arguments of programs are text for Node; paths are bytes. Not every xargs knows the long option
    if (await this.#takesAny()) await this.#run('xargs', ['-0', 'getfattr', ...READ, '--'], input);
    for (const path of missing) read.add(path.toString('latin1'));
  }

  /** In the order of their names. */
  of(path: Buffer): Xattrs {
    return this.#files.get(path.toString('latin1')) ?? NONE;
  }

  #takesAny(): Promise<boolean> {
    this.#isTaken ??= takesXattrs(this.#root, this.#signal);
    return this.#isTaken;
  }

  async #run(program: 'getfattr' | 'xargs', words: readonly string[], input: readonly Buffer[]): Promise<void> {
    const task = { program, words, directory: this.#root, signal: this.#signal, input };
    const complaint = await runProgram(task, (output) => parseDump(output, this.#files));
    checkNotAborted(this.#signal);
    if (complaint === null) return;
    throw new PandoError(
      'PROGRAM_FAILED',
      `Extended attributes of a tree could not be read: ${program} says "${firstLineOf(complaint)}".`,
      { program, complaint },
    );
  }
}

/** Whether the file system of a directory has such attributes at all. */
async function takesXattrs(directory: string, signal: AbortSignal): Promise<boolean> {
  const words = ['--match=-', '--absolute-names', '.'];
  const complaint = await runProgram({ program: 'getfattr', words, directory, signal });
  checkNotAborted(signal);
  return complaint === null || !/not supported/.test(complaint);
}

async function parseDump(output: Readable, files: Map<string, Xattrs>): Promise<void> {
  let path = '';
  let xattrs: [string, Buffer][] = [];
  for await (const line of linesOf(output)) {
    if (line.startsWith(FILE_LINE)) path = unescaped(line.slice(FILE_LINE.length)).replace(/^\.(\/|$)/, '');
    else if (line !== '') xattrs.push(attributeOf(line));
    else {
      const kept = xattrs.filter(([name]) => name !== HOST_LABEL).sort(([a], [b]) => (a < b ? -1 : 1));
      if (kept.length > 0) files.set(path, new Map(kept));
      xattrs = [];
    }
  }
}

function attributeOf(line: string): [string, Buffer] {
  const equals = line.indexOf('=');
  // Without "=" the value is empty
  if (equals === -1) return [unescaped(line), Buffer.alloc(0)];
  return [unescaped(line.slice(0, equals)), Buffer.from(line.slice(equals + 1 + BASE64.length), 'base64')];
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Lines in latin1: each character is one byte. */
async function* linesOf(output: Readable): AsyncGenerator<string> {
  let rest = Buffer.alloc(0);
  for await (const chunk of output as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    let at = 0;
    for (let end = rest.indexOf(NEWLINE); end !== -1; end = rest.indexOf(NEWLINE, at)) {
      yield rest.toString('latin1', at, end);
      at = end + 1;
    }
    rest = rest.subarray(at);
  }
}

/** Whether two files have the same attributes. */
export function sameXattrs(a: Xattrs, b: Xattrs): boolean {
  return a.size === b.size && Array.from(a).every(([name, value]) => b.get(name)?.equals(value) === true);
}
