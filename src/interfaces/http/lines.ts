import { PassThrough } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { describeError, PandoError } from '../../core/errors.ts';
import { NDJSON } from './wire.ts';

/** Writes one line. A line that is `optional` is left out while the client is slow to read. */
export type TellLine = (line: object, options?: { readonly optional: boolean }) => void;

/**
 * Tells lines until it is done; what it resolves to is the last. The signal is aborted when nobody reads any more, and when the node
 * stops: then its reason is the PandoError to tell.
 */
export type LineTask = (tell: TellLine, signal: AbortSignal, drained: () => Promise<void>) => Promise<object>;

/** Answers that are being written line by line, so that they can be ended with the server. */
export class LineStreams {
  readonly #running = new Map<AbortController, Promise<void>>();

  /** Starts the task and gives what the route returns. The client's going away, and {@link close}, abort its signal. */
  start(reply: FastifyReply, task: LineTask): FastifyReply {
    const lines = new PassThrough();
    const ending = new AbortController();
    // Also emitted after the whole was sent: then nobody listens to the signal any more.
    reply.raw.once('close', () => ending.abort());
    const run = this.#run(lines, task, ending.signal).finally(() => this.#running.delete(ending));
    this.#running.set(ending, run);
    return reply.type(NDJSON).send(lines);
  }

  /** Aborts all tasks and resolves once they have told their last. */
  async close(): Promise<void> {
    const stopping = new PandoError('DAEMON_UNREACHABLE', 'The node was told to stop; ask again once it is back.');
    for (const ending of this.#running.keys()) ending.abort(stopping);
    await Promise.all(this.#running.values());
  }

  async #run(lines: PassThrough, task: LineTask, signal: AbortSignal): Promise<void> {
    const tell: TellLine = (line, options) => {
      if (lines.destroyed || (options?.optional === true && lines.writableNeedDrain)) return;
      lines.write(`${JSON.stringify(line)}\n`);
    };
    const drained = () => waitForDrain(lines, signal);
    try {
      tell(await task(tell, signal, drained));
    } catch (thrown) {
      const error = thrown instanceof PandoError ? thrown : new PandoError('INTERNAL', describeError(thrown));
      tell({ type: 'error', error });
    } finally {
      lines.end();
    }
  }
}

function waitForDrain(lines: PassThrough, signal: AbortSignal): Promise<void> {
  if (!lines.writableNeedDrain || signal.aborted || lines.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = (): void => {
      lines.off('drain', finish);
      lines.off('close', finish);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    lines.once('drain', finish);
    lines.once('close', finish);
    signal.addEventListener('abort', finish, { once: true });
  });
}
