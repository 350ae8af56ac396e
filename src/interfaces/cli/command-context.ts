import type { Command } from 'commander';
import { PandoError } from '../../core/errors.ts';
import type { DaemonClient } from './daemon-client.ts';
import type { CliDependencies } from './dependencies.ts';
import type { ExitCode } from './exit-codes.ts';
import type { Output } from './output.ts';

/** Options that every command has. */
export interface GlobalOptions {
  readonly config?: string;
  readonly socket?: string;
  readonly json?: boolean;
}

/** One run of a command: where it writes, and the node it talks to. */
export class CommandContext {
  readonly dependencies: CliDependencies;
  readonly output: Output;
  /** Whether programs read what is written. */
  readonly json: boolean;
  readonly #options: GlobalOptions;

  constructor(dependencies: CliDependencies, output: Output, options: GlobalOptions) {
    this.dependencies = dependencies;
    this.output = output;
    this.json = options.json === true;
    this.#options = options;
  }

  get configPath(): string | undefined {
    return this.#options.config;
  }

  /** The socket that was named on the command line. */
  get givenSocket(): string | undefined {
    return this.#options.socket;
  }

  /** The node that the configuration or `--socket` names. Rejects with `CONFIG_INVALID`. */
  async client(): Promise<DaemonClient> {
    const { client, loadConfig } = this.dependencies;
    return client(this.givenSocket ?? (await loadConfig(this.configPath)).socket);
  }

  /** Tells what was done: a sentence for people, a value for programs. */
  done(sentence: string, value: unknown): void {
    if (this.json) this.output.json(value);
    else this.output.line(sentence);
  }

  /** Runs a task whose signal Ctrl-C aborts. */
  async interruptible<Result>(task: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    const interruption = new AbortController();
    const stop = this.dependencies.onInterrupt(() => interruption.abort());
    try {
      return await task(interruption.signal);
    } finally {
      stop();
    }
  }
}

/** What a command does; without a number it ended well. */
// biome-ignore lint/suspicious/noConfusingVoidType: most commands have nothing to say here
type Handler<Arguments extends unknown[]> = (context: CommandContext, ...given: Arguments) => Promise<ExitCode | void>;

/** Makes an action of commander from a handler. */
export type Runner = <Arguments extends unknown[]>(
  handler: Handler<Arguments>,
) => (this: Command, ...given: Arguments) => Promise<void>;

/** Reads a whole number of at least 1. Throws `ARGUMENT_INVALID`. */
export function positiveInteger(option: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new PandoError('ARGUMENT_INVALID', `${option} takes a whole number of at least 1, not "${text}".`);
}

/** The part of a help page that shows how a command is used. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}
