import { WebSocket } from 'ws';
import type { PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { closeCodeOf, closingError, linkBroken } from './close-codes.ts';
import { DrainWaiters } from './drain-waiters.ts';
import { type Connection, checkFrameSize } from './transport.ts';

/** How long the other side may take to answer a close before the socket is simply dropped, in ms. */
const CLOSE_TIMEOUT_MS = 2_000;
/** `ws` reports with this code that a message exceeds `maxPayload`. */
const MESSAGE_TOO_LARGE = 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';

/** A connection over an open WebSocket whose other end is known. */
export class WebSocketConnection implements Connection {
  readonly peer: NodeId;
  readonly #socket: WebSocket;
  readonly #waiters = new DrainWaiters();
  #closed: PandoError | undefined;
  #closeListener: ((reason: PandoError) => void) | undefined;
  #bytesSent = 0;
  #bytesReceived = 0;
  /** Resolves once the socket is gone. */
  readonly gone: Promise<void>;

  constructor(socket: WebSocket, peer: NodeId) {
    this.#socket = socket;
    this.peer = peer;
    // Frames wait in the socket until someone listens.
    socket.pause();
    socket.on('error', (error) => this.#end(this.#receiveError(error)));
    this.gone = new Promise((resolve) => {
      socket.on('close', (closeCode) => {
        this.#end(closingError(closeCode, peer));
        resolve();
      });
    });
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  get bytesSent(): number {
    return this.#bytesSent;
  }

  get bytesReceived(): number {
    return this.#bytesReceived;
  }

  send(frame: Uint8Array): void {
    checkFrameSize(frame);
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#bytesSent += frame.length;
    this.#socket.send(frame, { binary: true }, () => this.#waiters.settle(this.bufferedBytes));
  }

  drained(bytes: number): Promise<void> {
    return this.#closed !== undefined || this.bufferedBytes <= bytes ? Promise.resolve() : this.#waiters.wait(bytes);
  }

  onFrame(listener: (frame: Uint8Array) => void): void {
    this.#socket.on('message', (data: Buffer, isBinary) => {
      if (this.#closed !== undefined) return;
      this.#bytesReceived += data.length;
      if (isBinary) listener(data);
      else this.close(closingError(1003, this.peer));
    });
    this.#socket.resume();
  }

  onClose(listener: (reason: PandoError) => void): void {
    this.#closeListener = listener;
    const reason = this.#closed;
    if (reason !== undefined) queueMicrotask(() => listener(reason));
  }

  close(reason: PandoError): void {
    if (this.#closed !== undefined) return;
    // A paused socket would never see the answer to its close frame.
    this.#socket.resume();
    this.#socket.close(closeCodeOf(reason));
    const timer = setTimeout(() => this.#socket.terminate(), CLOSE_TIMEOUT_MS);
    this.#socket.once('close', () => clearTimeout(timer));
    this.#end(reason);
  }

  #receiveError(error: Error & { code?: string }): PandoError {
    if (error.code === MESSAGE_TOO_LARGE) return closingError(1009, this.peer);
    return error.code?.startsWith('WS_ERR_') ? closingError(1002, this.peer) : linkBroken(this.peer);
  }

  #end(reason: PandoError): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    this.#waiters.settle(0);
    this.#closeListener?.(reason);
  }
}
