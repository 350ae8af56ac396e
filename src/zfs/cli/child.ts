import type { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { execa } from 'execa';

/** What is kept of a child's complaints, in bytes: a message, not a flood of them. */
const STDERR_BYTES_MAX = 64 * 1024;
/** How long a child may take to end after SIGTERM before SIGKILL: `zfs` undoes nothing itself, so it needs no time. */
const KILL_AFTER_MS = 3_000;

/**
 * How long standard error may stay open, in ms, after the process has gone. A shared ssh connection (ControlMaster) holds it for as long as the far
 * end runs; what was to be said has been said by then.
 */
const STDERR_CLOSES_AFTER_MS = 500;

/** What a child gets of this process's environment, with messages that can be recognised. Made once: each look at the real one costs. */
const ENVIRONMENT = { ...process.env, LC_ALL: 'C' };

/** How a child ended. */
export interface ChildEnding {
  /** Null when a signal ended it, or when it could not be started. */
  readonly exitCode: number | null;
  /** Its standard error, at most {@link STDERR_BYTES_MAX} of it; why it could not be started otherwise. */
  readonly stderr: string;
  readonly started: boolean;
}

/** What a standard stream of a child is: nothing, a pipe to this process, or an end that the child alone uses. */
export type ChildStream = 'ignore' | 'pipe' | Socket;

/** A running process in a process group of its own. */
export class Child {
  readonly command: readonly string[];
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  /** Resolves when the process is gone and its output read; never rejects. */
  readonly ended: Promise<ChildEnding>;
  readonly #pid: number | undefined;
  #running = true;

  /** Starts `command`, program first, without a shell. */
  constructor(
    command: readonly string[],
    { stdin, stdout }: { readonly stdin: ChildStream; readonly stdout: ChildStream },
  ) {
    const [program = '', ...words] = command;
    const child = execa(program, words, {
      stdin,
      stdout,
      stderr: 'pipe',
      env: ENVIRONMENT,
      extendEnv: false,
      detached: true,
      cleanup: false,
      reject: false,
      buffer: false,
      encoding: 'buffer',
      stripFinalNewline: false,
    });
    this.command = command;
    this.stdin = stdin === 'pipe' ? child.stdin : null;
    this.stdout = stdout === 'pipe' ? child.stdout : null;
    this.#pid = child.pid;
    // A child that ends early makes its pipe fail; how it ended is told by `ended`
    this.stdin?.on('error', () => undefined);
    const complaints = firstBytes(child.stderr);
    child.once('exit', () => setTimeout(() => child.stderr.destroy(), STDERR_CLOSES_AFTER_MS).unref());
    this.ended = child.then(async ({ exitCode, originalMessage }) => {
      this.#running = false;
      const started = child.pid !== undefined;
      return { exitCode: exitCode ?? null, stderr: started ? await complaints : (originalMessage ?? ''), started };
    });
  }

  /** Ends the process group, by force if it takes too long, and waits until the process is gone. Its pipes are closed. */
  async end(): Promise<void> {
    this.stdin?.destroy();
    this.stdout?.destroy();
    this.#signalGroup('SIGTERM');
    const timer = setTimeout(() => this.#signalGroup('SIGKILL'), KILL_AFTER_MS);
    await this.ended;
    clearTimeout(timer);
  }

  #signalGroup(signal: NodeJS.Signals): void {
    if (!this.#running || this.#pid === undefined) return;
    try {
      process.kill(-this.#pid, signal);
    } catch {
      // It ended in this moment: `ended` tells
    }
  }
}

async function firstBytes(stream: Readable | null): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream?.on('data', (chunk: Buffer) => {
    if (bytes < STDERR_BYTES_MAX) chunks.push(chunk.subarray(0, STDERR_BYTES_MAX - bytes));
    bytes += chunk.length;
  });
  if (stream !== null) await closed(stream);
  return Buffer.concat(chunks).toString();
}

/** A line that whoever it was for could not read, and what they threw. */
export interface UnreadLine {
  readonly line: string;
  readonly error: unknown;
}

/**
 * Hands each line of a stream over, without its newline, holding no more than one line and one chunk. Ends when the stream is closed; what
 * comes after a line on which `onLine` throws is dropped, and that line is the result (null: there was none).
 */
export async function eachLine(stream: Readable, onLine: (line: string) => void): Promise<UnreadLine | null> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let unread: UnreadLine | null = null;
  const read = (line: string): void => {
    if (unread !== null) return;
    try {
      onLine(line);
    } catch (error) {
      unread = { line, error };
    }
  };
  stream.on('data', (chunk: Buffer) => {
    const lines = (rest + decoder.write(chunk)).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(read);
  });
  await closed(stream);
  if (rest !== '') read(rest);
  return unread;
}

async function closed(stream: Readable): Promise<void> {
  if (!stream.closed) await new Promise<void>((resolve) => void stream.once('close', resolve));
}
