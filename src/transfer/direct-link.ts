/**
 * Data connections outside TLS, for links that both ends declared trusted: a bare TCP socket that becomes the standard output of
 * `zfs send` at one end and the standard input of `zfs receive` at the other, so that Node touches none of the bytes.
 *
 * The receiver connects and writes its ticket, nothing else, ever; the sender reads exactly the ticket and then only writes. So
 * neither process can have read bytes of the stream before the child takes over.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { PandoError } from '../core/errors.ts';
import { DATA_KEEPALIVE_AFTER_MS, TICKET_CHARACTERS } from '../sync/bare-connections.ts';
import { readExactly } from '../sync/exact-reading.ts';

/** Connections that have not shown their ticket yet; more are turned away, so that a flood cannot hold memory. */
const PENDING_CONNECTIONS_MAX = 64;
/** A receiver writes its ticket at once; who does not is no receiver. */
const TICKET_TIMEOUT_MS = 5_000;

/** Who takes a socket that showed this ticket; null when nobody gave it out. */
export type DirectAccept = (ticket: string) => ((socket: Socket) => void) | null;

/** Listens for direct data connections. */
export class DirectListener {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #pending = 0;

  private constructor(accept: DirectAccept) {
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => this.#welcome(socket, accept));
  }

  /** Starts to listen; port 0 takes a free one. Rejects with `PORT_IN_USE`. */
  static async listen(host: string, port: number, accept: DirectAccept): Promise<DirectListener> {
    const listener = new DirectListener(accept);
    await new Promise<void>((resolve, reject) => {
      // Stays for later: a connection that cannot be accepted, for want of descriptors, is that peer's to try again
      listener.#server.on('error', (cause: NodeJS.ErrnoException) => reject(listenFailure(host, port, cause)));
      listener.#server.listen({ host, port }, resolve);
    });
    return listener;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #welcome(socket: Socket, accept: DirectAccept): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    // A peer that goes away is the transfer's business once it has the socket; before, there is nothing to tell.
    socket.on('error', () => socket.destroy());
    if (this.#pending >= PENDING_CONNECTIONS_MAX) {
      socket.destroy();
      return;
    }
    this.#pending += 1;
    void readExactly(socket, TICKET_CHARACTERS, TICKET_TIMEOUT_MS)
      .then((ticket) => {
        const take = ticket === undefined ? null : accept(ticket.toString('latin1'));
        if (take === null) socket.destroy();
        else take(socket);
      })
      .finally(() => {
        this.#pending -= 1;
      });
  }
}

function listenFailure(host: string, port: number, cause: NodeJS.ErrnoException): PandoError {
  if (cause.code === 'EADDRINUSE') {
    return new PandoError(
      'PORT_IN_USE',
      `Port ${port} for direct data connections is in use on ${host}; choose another "directPort" in the configuration.`,
      { host, port },
      { cause },
    );
  }
  return new PandoError(
    'ARGUMENT_INVALID',
    `Cannot listen for direct data connections on ${host}:${port} (${cause.message}); correct the "listen" address.`,
    { host, port },
    { cause },
  );
}

/**
 * Opens a direct data connection and shows the ticket. The socket comes back paused and unread, ready to be handed to a child.
 * Rejects with `PEER_UNREACHABLE`, or `TRANSFER_CANCELLED` when the signal is aborted.
 */
export function openDirect(host: string, port: number, ticket: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: DATA_KEEPALIVE_AFTER_MS,
    });
    // Before it is connected: otherwise Node begins to read as soon as it is.
    socket.pause();
    const abort = (): void => {
      socket.destroy();
      reject(new PandoError('TRANSFER_CANCELLED', `Connecting to ${host}:${port} was cancelled.`));
    };
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    socket.on('error', (cause) => {
      signal.removeEventListener('abort', abort);
      reject(
        new PandoError(
          'PEER_UNREACHABLE',
          `No direct data connection to ${host}:${port} (${cause.message}); open that port or declare the link not trusted.`,
          { host, port },
          { cause },
        ),
      );
    });
    socket.once('connect', () => {
      socket.write(ticket, 'latin1', () => {
        signal.removeEventListener('abort', abort);
        resolve(socket);
      });
    });
  });
}
