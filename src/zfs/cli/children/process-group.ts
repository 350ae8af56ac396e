/** What a child complains about, and how it is ended, however it was started. */
import type { EventEmitter } from 'node:events';
import type { Readable } from 'node:stream';
import { closed } from '../lines.ts';

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
export const ENVIRONMENT = { ...process.env, LC_ALL: 'C' };

/** The beginning of what a child says on standard error, once that is closed: soon after the child has gone at the latest. */
export async function complaintsOf(child: EventEmitter & { readonly stderr: Readable | null }): Promise<string> {
  const { stderr } = child;
  // One for which there was no room has none
  if (!stderr) return '';
  let bytes = 0;
  const chunks: Buffer[] = [];
  stderr.on('data', (chunk: Buffer) => {
    if (bytes < STDERR_BYTES_MAX) chunks.push(chunk.subarray(0, STDERR_BYTES_MAX - bytes));
    bytes += chunk.length;
  });
  let timer: NodeJS.Timeout | undefined;
  child.once('exit', () => {
    timer = setTimeout(() => stderr.destroy(), STDERR_CLOSES_AFTER_MS);
  });
  await closed(stderr);
  clearTimeout(timer);
  return Buffer.concat(chunks).toString();
}

/** A process with all that it starts. */
export class ProcessGroup {
  readonly #leader: number | undefined;
  readonly #ended: Promise<unknown>;
  #isRunning = true;

  /** `leader` is undefined where it could not be started; `ended` resolves when it is gone. */
  constructor(leader: number | undefined, ended: Promise<unknown>) {
    this.#leader = leader;
    this.#ended = ended;
    void ended.then(() => {
      this.#isRunning = false;
    });
  }

  /** Ends it, by force if it takes too long, and waits until its leader is gone. */
  async end(): Promise<void> {
    this.#signal('SIGTERM');
    const timer = setTimeout(() => this.#signal('SIGKILL'), KILL_AFTER_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#isRunning && this.#leader !== undefined) signalGroup(this.#leader, signal);
  }
}

/** False where there is nobody, or nobody that may be signalled. */
export function signalGroup(leader: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(-leader, signal);
    return true;
  } catch {
    return false;
  }
}
