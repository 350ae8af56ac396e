import { once } from 'node:events';
import type { Writable } from 'node:stream';
import type { PandoError } from '../../core/errors.ts';

/** Erases the line that the cursor stands in, and returns to its beginning (ECMA-48 EL). */
const ERASE_LINE = '\r\u001b[2K';

export interface OutputOptions {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly isTTY: boolean;
  readonly columns: () => number;
}

/** What a person must not be sent from afar: characters that steer a terminal, made visible. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** Where commands write: results on standard output, errors and the one line of progress on standard error. */
export class Output {
  readonly #options: OutputOptions;
  #hasProgress = false;
  #failure: NodeJS.ErrnoException | null = null;

  constructor(options: OutputOptions) {
    this.#options = options;
    // Without a listener, an error would end the process with a stack; `process.stdout` itself does not remember it.
    options.stdout.on('error', (error) => {
      this.#failure ??= error;
    });
    options.stderr.on('error', () => undefined);
  }

  get isTTY(): boolean {
    return this.#options.isTTY;
  }

  /** One line for a person. */
  line(text = ''): void {
    this.clearProgress();
    this.#options.stdout.write(`${printable(text)}\n`);
  }

  /** A table with two spaces between its columns; the first row is its head. */
  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    const all = [head, ...rows];
    const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
    for (const row of all) {
      this.line(
        row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd(),
      );
    }
  }

  /** One value on a line of its own, for programs. */
  json(value: unknown): void {
    this.#options.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** Resolves when the reader has taken enough for more to be written, with whether anybody reads still (`pando log | head`). */
  async drained(): Promise<boolean> {
    const { stdout } = this.#options;
    // What fails the wait is remembered above.
    if (stdout.writableNeedDrain) await once(stdout, 'drain').catch(() => undefined);
    return this.#failure === null;
  }

  /** Resolves once all was written, with what kept it from that; null also when the reader had enough and went away. */
  async finished(): Promise<Error | null> {
    const { stdout } = this.#options;
    await new Promise((resolve) => stdout.write('', resolve));
    // The event comes after the callback.
    await new Promise((resolve) => setImmediate(resolve));
    return this.#failure?.code === 'EPIPE' ? null : this.#failure;
  }

  complain(error: PandoError, json: boolean): void {
    this.clearProgress();
    const text = json ? JSON.stringify(error) : printable(`pando: ${error.message}`);
    this.#options.stderr.write(`${text}\n`);
  }

  /** Shows a line that the next one replaces. On a terminal only. */
  progress(text: string): void {
    if (!this.isTTY) return;
    this.#hasProgress = true;
    this.#options.stderr.write(`${ERASE_LINE}${printable(text).slice(0, this.#options.columns() - 1)}`);
  }

  clearProgress(): void {
    if (!this.#hasProgress) return;
    this.#hasProgress = false;
    this.#options.stderr.write(ERASE_LINE);
  }
}
