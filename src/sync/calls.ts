/** Calls between two peers, in both directions over one connection: requests, their answers, and second thoughts. */
import { PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import type { Cancel, Message, Request, Response } from './messages.ts';
import { errorOfRemote, remoteErrorOf } from './remote-error.ts';

/** Calls open at a time in each direction: together with the frame limit this bounds what a peer can make us hold. */
export const CALLS_OPEN_MAX = 16;

/** Answers calls of one method. Validates `params` itself; what it throws goes back as code and message. */
export type CallHandler = (peer: NodeId, params: unknown, signal: AbortSignal) => Promise<unknown>;

export interface CallsOptions {
  readonly peer: NodeId;
  readonly handlers: ReadonlyMap<string, CallHandler>;
  /** Throws `PROTOCOL_FRAME_TOO_LARGE`. */
  readonly send: (message: Message) => void;
  /** Takes what went wrong in a handler for no reason of the peer's. */
  readonly report: (error: unknown) => void;
}

interface OpenCall {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: PandoError) => void;
}

export class Calls {
  readonly #options: CallsOptions;
  /** Calls of ours without an answer. One that was given up keeps its place until the peer is done with it. */
  readonly #open = new Map<number, OpenCall>();
  readonly #waiting: (() => void)[] = [];
  /** Calls of the peer that are being answered. */
  readonly #running = new Map<number, AbortController>();
  #lastId = 0;
  #closed: PandoError | undefined;

  constructor(options: CallsOptions) {
    this.#options = options;
  }

  /**
   * Calls a method of the peer and resolves to its result. Rejects with whatever PandoError the peer answers, with
   * `CALL_CANCELLED` when `signal` is aborted, `CONNECTION_CLOSED` when the connection ends before the answer,
   * `PROTOCOL_FRAME_TOO_LARGE` when the parameters do not fit into a frame.
   */
  async call(method: string, params: unknown, signal?: AbortSignal): Promise<unknown> {
    while (this.#open.size >= CALLS_OPEN_MAX && this.#closed === undefined) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#closed !== undefined) throw this.#closed;
    if (signal?.aborted) throw this.#cancelled(method);
    this.#lastId += 1;
    const id = this.#lastId;
    this.#options.send({ type: 'request', id, method, params });
    let cancel: (() => void) | undefined;
    try {
      return await new Promise((resolve, reject) => {
        this.#open.set(id, { resolve, reject });
        cancel = () => {
          this.#options.send({ type: 'cancel', id });
          reject(this.#cancelled(method));
        };
        signal?.addEventListener('abort', cancel, { once: true });
      });
    } finally {
      if (cancel !== undefined) signal?.removeEventListener('abort', cancel);
    }
  }

  /** Takes an answer. Throws `PROTOCOL_UNEXPECTED` when nobody asked. */
  receiveResponse(response: Response): void {
    const call = this.#open.get(response.id);
    if (call === undefined) {
      throw new PandoError('PROTOCOL_UNEXPECTED', `The peer answered call ${response.id}, which was not made.`);
    }
    this.#open.delete(response.id);
    this.#waiting.shift()?.();
    if ('error' in response) call.reject(errorOfRemote(response.error));
    else call.resolve(response.result);
  }

  /** Takes a call of the peer and sees to its answer. Throws `PROTOCOL_UNEXPECTED` when there are too many, or an id twice. */
  receiveRequest({ id, method, params }: Request): void {
    if (this.#running.size >= CALLS_OPEN_MAX) {
      throw new PandoError('PROTOCOL_UNEXPECTED', `The peer made more than ${CALLS_OPEN_MAX} calls at a time.`);
    }
    if (this.#running.has(id)) {
      throw new PandoError('PROTOCOL_UNEXPECTED', `The peer used the number ${id} for two calls at a time.`);
    }
    const controller = new AbortController();
    this.#running.set(id, controller);
    void this.#answer(id, method, params, controller.signal);
  }

  /** Takes a second thought of the peer; the call may have been answered already. */
  receiveCancel({ id }: Cancel): void {
    this.#running.get(id)?.abort(new PandoError('CALL_CANCELLED', 'The peer gave up its call.'));
  }

  /** Rejects what is open and aborts what runs: the connection is gone. */
  close(reason: PandoError): void {
    this.#closed = new PandoError('CONNECTION_CLOSED', reason.message, reason.evidence, { cause: reason });
    for (const { reject } of this.#open.values()) reject(this.#closed);
    this.#open.clear();
    for (const resume of this.#waiting.splice(0)) resume();
    for (const controller of this.#running.values()) controller.abort(this.#closed);
  }

  async #answer(id: number, method: string, params: unknown, signal: AbortSignal): Promise<void> {
    const response = await this.#respond(method, params, signal).then(
      (result): Response => ({ type: 'response', id, result }),
      (error: unknown): Response => ({ type: 'response', id, error: remoteErrorOf(error, this.#options.report) }),
    );
    this.#running.delete(id);
    if (this.#closed !== undefined) return;
    try {
      this.#options.send(response);
    } catch (error) {
      this.#options.send({ type: 'response', id, error: remoteErrorOf(error, this.#options.report) });
    }
  }

  async #respond(method: string, params: unknown, signal: AbortSignal): Promise<unknown> {
    const handler = this.#options.handlers.get(method);
    if (handler === undefined) {
      throw new PandoError(
        'PROTOCOL_UNEXPECTED',
        `This peer does not know the method "${method}"; update Pando on both sides.`,
      );
    }
    return (await handler(this.#options.peer, params, signal)) ?? null;
  }

  #cancelled(method: string): PandoError {
    return new PandoError('CALL_CANCELLED', `The call "${method}" to peer ${this.#options.peer} was given up.`);
  }
}
