/**
 * Credit for events and checkpoints, in bytes of frames and for each direction by itself: a sender may have this much under
 * way that the receiver has not stored (design §6, invariant 8).
 */
import { PandoError } from '../core/errors.ts';

/** Credit at the start, in bytes: 4 MiB in flight fill a link of 160 Mbit/s at a round trip of 200 ms. */
export const CREDIT_WINDOW_BYTES = 4 * 1024 * 1024;
/** Stored bytes are granted again in portions of this size, so that a small exchange needs no credit message at all. */
const GRANT_BYTES_MIN = CREDIT_WINDOW_BYTES / 4;

/** What this side may still send. One sender waits at a time. */
export class SendCredit {
  #available = CREDIT_WINDOW_BYTES;
  #waiting:
    | { readonly bytes: number; readonly resolve: () => void; readonly reject: (error: Error) => void }
    | undefined;
  #closed: PandoError | undefined;

  /** Takes `bytes` of the credit, as soon as there is that much. Rejects once the connection is closed. */
  take(bytes: number): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (this.#available >= bytes) {
      this.#available -= bytes;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      this.#waiting = { bytes, resolve, reject };
    });
  }

  close(reason: PandoError): void {
    this.#closed = reason;
    this.#waiting?.reject(reason);
    this.#waiting = undefined;
  }

  /** Throws `PROTOCOL_CREDIT_EXCEEDED` when the peer grants more than was ever sent to it. */
  grant(bytes: number): void {
    if (this.#available + bytes > CREDIT_WINDOW_BYTES) {
      throw new PandoError('PROTOCOL_CREDIT_EXCEEDED', `The peer granted ${bytes} bytes of credit for nothing sent.`);
    }
    this.#available += bytes;
    const waiting = this.#waiting;
    if (waiting === undefined || this.#available < waiting.bytes) return;
    this.#waiting = undefined;
    this.#available -= waiting.bytes;
    waiting.resolve();
  }
}

/** What the other side may still send. */
export class ReceiveCredit {
  #available = CREDIT_WINDOW_BYTES;
  #stored = 0;

  /** Counts a frame that came in. Throws `PROTOCOL_CREDIT_EXCEEDED`. */
  charge(bytes: number): void {
    this.#available -= bytes;
    if (this.#available >= 0) return;
    throw new PandoError(
      'PROTOCOL_CREDIT_EXCEEDED',
      `The peer sent ${-this.#available} bytes of events more than it had credit for.`,
    );
  }

  /** Counts a frame that is dealt with, and returns how many bytes to grant now, often 0. */
  release(bytes: number): number {
    this.#stored += bytes;
    if (this.#stored < GRANT_BYTES_MIN) return 0;
    const granted = this.#stored;
    this.#stored = 0;
    this.#available += granted;
    return granted;
  }
}
