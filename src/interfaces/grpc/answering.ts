import type { Writable } from 'node:stream';
import type { handleServerStreamingCall, handleUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import { isPandoError, PandoError } from '../../core/errors.ts';
import { statusOf } from './status.ts';

/** Calls that are being answered: handlers for them, and an end to them with the server. */
export class Answering {
  readonly #running = new Set<Promise<void>>();
  readonly #streams = new Set<AbortController>();
  readonly #report: (error: unknown) => void;

  /** `report` takes errors that only the operator should know. */
  constructor(report: (error: unknown) => void) {
    this.#report = report;
  }

  /**
   * A handler that answers once. What it began it finishes, also for a client that has gone away: half a snapshot would be of use to nobody,
   * and whoever asks again hears how it went.
   */
  once<Request, Response>(answer: (request: Request) => Promise<Response>): handleUnaryCall<Request, Response> {
    return (call, callback) => {
      this.#track(
        answer(call.request).then(
          (response) => callback(null, response),
          (error: unknown) => callback(this.#told(error)),
        ),
      );
    };
  }

  /**
   * A handler that answers with a stream, at the pace at which the client reads it. It ends when the client goes away, and with
   * `DAEMON_UNREACHABLE` when the server is closed.
   */
  many<Request, Response>(
    answers: (request: Request) => AsyncIterable<Response>,
  ): handleServerStreamingCall<Request, Response> {
    return (call) => {
      const ended = new AbortController();
      call.once('cancelled', () => ended.abort());
      this.#streams.add(ended);
      this.#track(
        writeAll(call, answers(call.request), ended.signal)
          .catch((error: unknown) => {
            // A stream of grpc-js ends with the status that it is told as an error.
            if (!call.cancelled) call.emit('error', this.#told(error));
          })
          .finally(() => this.#streams.delete(ended)),
      );
    };
  }

  /** Ends the streams; resolves once everything that was begun is done. */
  async close(): Promise<void> {
    const stopping = new PandoError('DAEMON_UNREACHABLE', 'The node was told to stop; ask again once it is back.');
    for (const ended of this.#streams) ended.abort(stopping);
    await Promise.all(this.#running);
  }

  #track(task: Promise<void>): void {
    const tracked = task.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  #told(error: unknown): ReturnType<typeof statusOf> {
    if (!isPandoError(error) || error.code === 'INTERNAL') this.#report(error);
    return statusOf(error);
  }
}

async function writeAll<Request, Response>(
  call: ServerWritableStream<Request, Response>,
  answers: AsyncIterable<Response>,
  signal: AbortSignal,
): Promise<void> {
  for await (const answer of answers) {
    if (!call.write(answer)) await untilDrained(call, signal);
    if (call.cancelled) return;
    signal.throwIfAborted();
  }
  call.end();
}

/** Resolves when the client has read enough, and when the signal is aborted. */
function untilDrained(call: Writable, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = (): void => {
      call.off('drain', finish);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    call.once('drain', finish);
    signal.addEventListener('abort', finish, { once: true });
  });
}
