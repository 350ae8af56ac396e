import type { Socket } from 'node:net';
import { HANDSHAKE_TIMEOUT_MS } from './tls-options.ts';

/** Connections that have not said who they are, at any time: enough for a team that reconnects at once after a reboot. */
export const PENDING_HANDSHAKES_MAX = 128;

/** Connections between their first packet and the end of their handshake: few, and none for long (invariant 8). */
export class PendingHandshakes {
  readonly #pending = new Map<string, { readonly socket: Socket; readonly timer: NodeJS.Timeout }>();

  /** Counts a connection that just came in, or destroys it when there are too many. */
  begin(socket: Socket): void {
    const key = keyOf(socket);
    if (key === undefined || this.#pending.size >= PENDING_HANDSHAKES_MAX) {
      socket.destroy();
      return;
    }
    const timer = setTimeout(() => socket.destroy(), HANDSHAKE_TIMEOUT_MS);
    this.#pending.set(key, { socket, timer });
    socket.once('close', () => this.#forget(key));
  }

  /** Tells that this connection is through, whether it is known by the raw socket or by the TLS socket on top of it. */
  end(socket: Socket): void {
    const key = keyOf(socket);
    if (key !== undefined) this.#forget(key);
  }

  destroyAll(): void {
    for (const { socket } of this.#pending.values()) socket.destroy();
  }

  #forget(key: string): void {
    clearTimeout(this.#pending.get(key)?.timer);
    this.#pending.delete(key);
  }
}

/** The far end's address: unique among open connections to one port, and the same on a TLS socket and the socket below it. */
function keyOf(socket: Socket): string | undefined {
  return socket.remoteAddress === undefined ? undefined : `${socket.remoteAddress} ${socket.remotePort}`;
}
