/** Programs for what Node has no interface to: extended attributes, special files and exact times. */
import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { PandoError } from '../../../core/errors.ts';
import { systemCode } from './failures.ts';

/** Debian's package of each program. */
const PACKAGES = {
  getfattr: 'attr',
  setfattr: 'attr',
  mknod: 'coreutils',
  mkfifo: 'coreutils',
  perl: 'perl-base',
  xargs: 'findutils',
} as const;
/** What is kept of complaints, in bytes: the first one says what is wrong. */
const STDERR_BYTES_MAX = 4096;

interface Task {
  readonly program: keyof typeof PACKAGES;
  readonly words: readonly string[];
  /** Where it runs. */
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly input?: Iterable<Buffer>;
}

/**
 * Runs a program without a shell, and hands its output to `take`. Gives what it complained about, or how it ended where it said nothing; null where it ended well. It has ended whenever this has.
 * Rejects with `PROGRAM_MISSING`, and with what `take` throws.
 */
export async function runProgram(
  task: Task,
  take: (output: Readable) => Promise<void> = drained,
): Promise<string | null> {
  const { program, words, directory, signal, input } = task;
  const child = spawn(program, words, { cwd: directory, env: { PATH: process.env.PATH, LC_ALL: 'C' }, stdio: 'pipe' });
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop, { once: true });
  const ended = new Promise<string | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, by) => resolve(code === 0 ? null : `it ended with ${by ?? `code ${code}`}`));
  });
  let complaints = '';
  child.stderr.on('data', (chunk: Buffer) => {
    complaints = `${complaints}${chunk.toString('latin1')}`.slice(0, STDERR_BYTES_MAX);
  });
  // Its exit tells why it takes no more
  child.stdin.on('error', () => undefined);
  try {
    const [failure] = await Promise.all([ended, take(child.stdout), write(child.stdin, input ?? [], ended)]);
    return failure === null ? null : complaints.trim() || failure;
  } catch (error) {
    stop();
    await ended.catch(() => undefined);
    throw systemCode(error) === 'ENOENT' ? missing(program, error) : error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

async function write(stdin: NodeJS.WritableStream, input: Iterable<Buffer>, ended: Promise<unknown>): Promise<void> {
  const gone = ended.then(
    () => undefined,
    () => undefined,
  );
  for (const piece of input) {
    if (stdin.write(piece)) continue;
    await Promise.race([new Promise((resolve) => void stdin.once('drain', resolve)), gone]);
    if (!stdin.writable) return;
  }
  stdin.end();
}

/** What a program said first, for a message; mostly all that it said. */
export function firstLineOf(complaint: string): string {
  return complaint.split('\n')[0] ?? '';
}

async function drained(output: Readable): Promise<void> {
  for await (const _ of output);
}

function missing(program: keyof typeof PACKAGES, cause: unknown): PandoError {
  const debian = PACKAGES[program];
  return new PandoError(
    'PROGRAM_MISSING',
    `This machine has no "${program}", which layers need; install the package "${debian}" (on Debian: apt-get install ${debian}).`,
    { program, package: debian },
    { cause },
  );
}
