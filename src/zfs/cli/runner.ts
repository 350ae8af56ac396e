import { isPandoError, type PandoError } from '../../core/errors.ts';
import { type DatasetName, poolOf } from '../../core/ids.ts';
import { type Attempt, zfsFailure } from '../failure.ts';
import type { ChildEnding, Starter } from './children/child.ts';
import type { CommandLine } from './command-line.ts';
import { failureOf } from './failures.ts';
import { eachLine, type UnreadLine } from './lines.ts';
import { Semaphore } from './semaphore.ts';

/** Longest part of a line that makes no sense which is quoted, in characters. */
const LINE_CHARACTERS_MAX = 200;

/** A command that ends by itself soon. */
export interface ShortCommand {
  readonly program?: 'zfs' | 'zpool';
  readonly words: readonly string[];
  /** For the message: see `Attempt` in failure.ts. */
  readonly action: string;
  /** Datasets that it names: the first one's pool is the one whose queue it waits in. */
  readonly names: readonly DatasetName[];
  readonly signal?: AbortSignal | undefined;
  /** Gets each line of standard output as it comes. When it throws, the command fails with `ZFS_FAILED` and the line as evidence. */
  readonly onLine?: (line: string) => void;
  /** Complaints, line by line, that are no failure if there are no others. */
  readonly passOver?: RegExp;
}

/** Runs short commands, a limited number per pool at a time. */
export class Runner {
  readonly commandLine: CommandLine;
  readonly #starter: Starter;
  readonly #limit: number;
  readonly #queues = new Map<string, Semaphore>();

  constructor(commandLine: CommandLine, starter: Starter, concurrencyPerPool: number) {
    this.commandLine = commandLine;
    this.#starter = starter;
    this.#limit = concurrencyPerPool;
  }

  /** Runs to the end; resolves with the complaints that were passed over. Rejects with the code of what was printed. */
  async run(command: ShortCommand): Promise<string> {
    const [first] = command.names;
    const { unread, ...ending } = await this.#queue(first === undefined ? '' : poolOf(first)).run(() =>
      this.#once(command),
    );
    const attempt = { action: command.action, command: this.#words(command) };
    if (command.signal?.aborted === true) throw zfsFailure('ZFS_ABORTED', attempt, ending);
    if (ending.exitCode === 0 || isPassedOver(ending, command.passOver)) {
      if (unread !== null) throw unreadable(attempt, ending, unread);
      return ending.stderr;
    }
    const failure = failureOf(attempt, ending);
    // Both dialects say "dataset does not exist" for a missing pool too
    if (isPandoError(failure, 'ZFS_NOT_FOUND')) await this.requirePools(command.names, command.action);
    throw failure;
  }

  /** The lines of standard output. */
  async lines(command: Omit<ShortCommand, 'onLine'>): Promise<string[]> {
    const lines: string[] = [];
    await this.run({ ...command, onLine: (line) => lines.push(line) });
    return lines;
  }

  async pools(): Promise<string[]> {
    const words = ['list', '-H', '-o', 'name'];
    const lines = await this.lines({ program: 'zpool', words, action: 'list the pools', names: [] });
    return lines.filter((line) => line !== '' && line !== 'no pools available');
  }

  /** Rejects with `ZFS_NO_POOL` when the pool of one of these datasets is not imported. */
  async requirePools(names: readonly DatasetName[], action: string): Promise<void> {
    const imported = await this.pools();
    const missing = names.map(poolOf).find((pool) => !imported.includes(pool));
    if (missing === undefined) return;
    const command = this.commandLine.words('zpool', ['list']);
    throw zfsFailure('ZFS_NO_POOL', { action, command }, { exitCode: 0, stderr: '' }, `no such pool '${missing}'`);
  }

  /** Divides names among as many commands as may run side by side, none of them, but the last, with fewer names than `least`. Order is kept. */
  divided<Name extends string>(names: readonly Name[], least: number): Name[][] {
    const share = Math.max(least, Math.ceil(names.length / this.#limit));
    const parts = Array.from({ length: Math.ceil(names.length / share) }, (_, part) =>
      names.slice(part * share, (part + 1) * share),
    );
    return parts.flatMap((part) => this.commandLine.batches(part));
  }

  async #once(command: ShortCommand): Promise<ChildEnding & { readonly unread: UnreadLine | null }> {
    const { signal, onLine } = command;
    if (isAborted(signal)) return { exitCode: null, stderr: '', started: false, unread: null };
    const child = await this.#starter.start(this.#words(command), { stdin: 'ignore', stdout: 'pipe' });
    const abort = (): void => void child.end();
    if (isAborted(signal)) abort();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const unread = child.stdout === null ? null : await eachLine(child.stdout, onLine ?? (() => undefined));
      const ending = await child.ended;
      // Given up in the middle of what it said, however it ended
      const isCut = child.stdout !== null && !child.stdout.readableEnded;
      return { ...ending, exitCode: isCut ? null : ending.exitCode, unread };
    } finally {
      signal?.removeEventListener('abort', abort);
      await child.end();
    }
  }

  #words({ program = 'zfs', words }: ShortCommand): string[] {
    return this.commandLine.words(program, words);
  }

  #queue(pool: string): Semaphore {
    let queue = this.#queues.get(pool);
    if (queue === undefined) {
      queue = new Semaphore(this.#limit);
      this.#queues.set(pool, queue);
    }
    return queue;
  }
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

function unreadable(attempt: Attempt, ending: ChildEnding, { line: whole, error }: UnreadLine): PandoError {
  const line = whole.length > LINE_CHARACTERS_MAX ? `${whole.slice(0, LINE_CHARACTERS_MAX)}…` : whole;
  const detail = `a line that it printed makes no sense, keep login shells from printing anything: "${line}"`;
  return zfsFailure('ZFS_FAILED', attempt, ending, detail, { line }, { cause: error });
}

function isPassedOver({ stderr, started }: ChildEnding, passOver: RegExp | undefined): boolean {
  const lines = stderr.split('\n').filter((line) => line !== '');
  return started && passOver !== undefined && lines.length > 0 && lines.every((line) => passOver.test(line));
}
