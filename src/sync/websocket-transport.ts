/**
 * The transport over WebSockets in TLS. One port takes two kinds of upgrade requests: `/sync`, a WebSocket for frames, and
 * `/data/<ticket>`, a plain stream of bytes. Anything else is answered with a status and dropped. What is no TLS at all may be a bare data connection, by its first byte.
 */

import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { WebSocket, WebSocketServer } from 'ws';
import { describeError, PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { formatAddress } from './address.ts';
import { DATA_KEEPALIVE_AFTER_MS, isBare, openBare, welcomeBare } from './bare-connections.ts';
import { closingError } from './close-codes.ts';
import type { Identity } from './identity.ts';
import { answerIntroduction, askForIntroduction } from './introductions.ts';
import { PendingHandshakes } from './pending-handshakes.ts';
import { connectTls, remoteOf } from './tls.ts';
import { HANDSHAKE_TIMEOUT_MS, tlsOptions } from './tls-options.ts';
import {
  type Connection,
  dialFailure,
  FRAME_BYTES_MAX,
  type ListenOptions,
  type Meets,
  TICKET_PATTERN,
  type Transport,
} from './transport.ts';
import { WebSocketConnection } from './websocket-connection.ts';

const SYNC_PATH = '/sync';
const DATA_PATH = '/data/';
const DATA_PROTOCOL = 'pando-data';

/** Pings of the WebSocket protocol are not answered: sessions have their own, and answers to a flood would pile up. */
const SOCKET_OPTIONS = { maxPayload: FRAME_BYTES_MAX, perMessageDeflate: false, autoPong: false } as const;

const STATUS_TEXTS = { 403: 'Forbidden', 404: 'Not Found', 426: 'Upgrade Required' } as const;

/** Answers an upgrade request with a status, and hangs up. */
function refuseUpgrade(socket: Duplex, status: keyof typeof STATUS_TEXTS): void {
  socket.end(`HTTP/1.1 ${status} ${STATUS_TEXTS[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

export interface WebSocketTransportOptions {
  readonly identity: Identity;
  /** Host and port to listen on; port 0 lets the system choose. */
  readonly host: string;
  readonly port: number;
}

export class WebSocketTransport implements Transport {
  readonly bare = { open: openBare };
  readonly #options: WebSocketTransportOptions;
  readonly #upgrades = new WebSocketServer({ noServer: true, clientTracking: false, ...SOCKET_OPTIONS });
  readonly #pending = new PendingHandshakes();
  readonly #connections = new Set<WebSocketConnection>();
  readonly #dataSockets = new Set<Socket>();
  #server: Server | undefined;
  /** Nobody is known to have replaced a key before it listens. */
  #meets: Meets = () => true;

  constructor(options: WebSocketTransportOptions) {
    this.#options = options;
  }

  async listen(options: ListenOptions): Promise<string> {
    this.#meets = options.meets;
    const server = createServer(tlsOptions(this.#options.identity), (request, response) => {
      void answerIntroduction(options, request, response);
    });
    // A connection is one upgrade, or one introduction
    server.maxRequestsPerSocket = 1;
    const welcomeTls = server.listeners('connection') as ((socket: Socket) => void)[];
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) => {
      this.#pending.begin(socket);
      void this.#sort(socket, options, () => {
        for (const welcome of welcomeTls) welcome.call(server, socket);
      });
    });
    server.prependListener('secureConnection', (socket) => {
      if (remoteOf(socket) === null) socket.destroy();
    });
    server.on('upgrade', (request: IncomingMessage, socket: TLSSocket, head) => {
      this.#upgrade(options, request, socket, head);
    });
    await this.#bind(server);
    this.#server = server;
    const { address, port } = server.address() as AddressInfo;
    return formatAddress({ host: address, port });
  }

  dial(address: string, peer: NodeId, signal: AbortSignal): Promise<Connection> {
    return this.#reach<Connection>(address, peer, signal, (socket, done, refuse) => {
      const webSocket = new WebSocket(`ws://peer${SYNC_PATH}`, { ...SOCKET_OPTIONS, createConnection: () => socket });
      webSocket.once('open', () => done(this.#connection(webSocket, peer)));
      webSocket.once('unexpected-response', (_request, { statusCode }) => {
        refuse(this.#refusal(address, peer, statusCode));
      });
      webSocket.on('error', (error) => refuse(dialFailure.unreachable(peer, address, describeError(error), error)));
    });
  }

  openData(address: string, peer: NodeId, ticket: string, signal: AbortSignal): Promise<Duplex> {
    return this.#reach<Duplex>(address, peer, signal, (socket, done, refuse) => {
      const upgrade = request({
        path: `${DATA_PATH}${ticket}`,
        headers: { connection: 'upgrade', upgrade: DATA_PROTOCOL },
        createConnection: () => socket,
      });
      upgrade.once('upgrade', (_response, _socket, head) => {
        // What came right behind the answer belongs to the stream.
        if (head.length > 0) socket.unshift(head);
        done(this.#dataSocket(socket));
      });
      upgrade.once('response', ({ statusCode }) => {
        refuse(
          statusCode === 404 ? dialFailure.ticketUnknown(peer, address) : this.#refusal(address, peer, statusCode),
        );
      });
      upgrade.on('error', (error) => refuse(dialFailure.unreachable(peer, address, describeError(error), error)));
      upgrade.end();
    });
  }

  introduce(address: string, peer: NodeId, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return this.#reach<Uint8Array>(address, peer, signal, (socket, done, refuse) => {
      askForIntroduction(socket, question).then(
        (answer) => {
          socket.destroy();
          done(answer);
        },
        (error: unknown) => refuse(dialFailure.unreachable(peer, address, describeError(error), error)),
      );
    });
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    const closed = server && new Promise<void>((resolve) => server.close(() => resolve()));
    this.#pending.destroyAll();
    for (const socket of this.#dataSockets) socket.destroy();
    for (const connection of this.#connections) connection.close(closingError(1001, connection.peer));
    await Promise.all(Array.from(this.#connections, ({ gone }) => gone));
    server?.closeAllConnections();
    await closed;
  }

  /** Until a process has it, it is this node's to end. */
  #keepBare(socket: Socket): void {
    this.#pending.end(socket);
    this.#keep(socket);
  }

  #keep(socket: Socket): void {
    this.#dataSockets.add(socket);
    socket.once('close', () => this.#dataSockets.delete(socket));
  }

  /** By its first byte a connection is one of TLS, or a bare one. */
  async #sort(socket: Socket, { acceptBare }: ListenOptions, welcomeTls: () => void): Promise<void> {
    socket.on('error', () => socket.destroy());
    const bare = await isBare(socket);
    if (bare === undefined) socket.destroy();
    else if (bare) await welcomeBare(socket, acceptBare, () => this.#keepBare(socket));
    else welcomeTls();
  }

  #bind(server: Server): Promise<void> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        reject(error.code === 'EADDRINUSE' ? portInUse(host, port) : cannotListen(host, port, error));
      });
      server.listen(port, host, () => {
        // A server that runs reports what a single connection met (ECONNABORTED and the like): nothing to act on.
        server.removeAllListeners('error').on('error', () => undefined);
        resolve();
      });
    });
  }

  #upgrade(options: ListenOptions, request: IncomingMessage, socket: TLSSocket, head: Buffer): void {
    // Without a listener, a reset from the other side would end the process.
    socket.on('error', () => socket.destroy());
    const remote = remoteOf(socket);
    if (remote === null || !options.meets(remote) || !options.admit(remote.node)) {
      refuseUpgrade(socket, 403);
      return;
    }
    const peer = remote.node;
    const path = request.url ?? '';
    if (path === SYNC_PATH) {
      this.#upgrades.handleUpgrade(request, socket, head, (webSocket) => {
        this.#pending.end(socket);
        options.accept(this.#connection(webSocket, peer));
      });
      return;
    }
    this.#upgradeData(options, request, socket, head, peer, path);
  }

  #upgradeData(
    options: ListenOptions,
    request: IncomingMessage,
    socket: TLSSocket,
    head: Buffer,
    peer: NodeId,
    path: string,
  ): void {
    const ticket = path.startsWith(DATA_PATH) ? path.slice(DATA_PATH.length) : '';
    const asked = request.headers.upgrade === DATA_PROTOCOL && TICKET_PATTERN.test(ticket);
    const take = asked ? options.acceptData(peer, ticket) : null;
    if (take === null) {
      refuseUpgrade(socket, 404);
      return;
    }
    this.#pending.end(socket);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${DATA_PROTOCOL}\r\n\r\n`);
    if (head.length > 0) socket.unshift(head);
    take(this.#dataSocket(socket));
  }

  /**
   * A TLS connection to `peer` on which `negotiate` asks for what it is to become. Whatever ends the attempt first, the
   * peer, the signal or the time limit, decides; a failed attempt leaves no socket behind.
   */
  async #reach<T>(
    address: string,
    peer: NodeId,
    signal: AbortSignal,
    negotiate: (socket: TLSSocket, done: (value: T) => void, refuse: (error: PandoError) => void) => void,
  ): Promise<T> {
    // AbortSignal.any() holds an AbortSignal.timeout() weakly: it could be collected before it fires
    const timeout = new AbortController();
    const late = new DOMException('The peer did not answer in time.', 'TimeoutError');
    const timer = setTimeout(() => timeout.abort(late), HANDSHAKE_TIMEOUT_MS);
    const limit = AbortSignal.any([signal, timeout.signal]);
    try {
      return await this.#negotiated(address, peer, limit, negotiate);
    } finally {
      clearTimeout(timer);
    }
  }

  async #negotiated<T>(
    address: string,
    peer: NodeId,
    limit: AbortSignal,
    negotiate: (socket: TLSSocket, done: (value: T) => void, refuse: (error: PandoError) => void) => void,
  ): Promise<T> {
    const socket = await connectTls({ ...this.#options, meets: this.#meets }, address, peer, limit);
    return new Promise((resolve, reject) => {
      const refuse = (error: PandoError): void => {
        reject(error);
        socket.destroy();
      };
      const giveUp = (): void => refuse(dialFailure.givenUp(peer, address, limit));
      const done = (value: T): void => {
        limit.removeEventListener('abort', giveUp);
        resolve(value);
      };
      limit.addEventListener('abort', giveUp, { once: true });
      negotiate(socket, done, refuse);
    });
  }

  #connection(webSocket: WebSocket, peer: NodeId): WebSocketConnection {
    const connection = new WebSocketConnection(webSocket, peer);
    this.#connections.add(connection);
    void connection.gone.then(() => this.#connections.delete(connection));
    return connection;
  }

  #dataSocket(socket: TLSSocket): TLSSocket {
    socket.setTimeout(0).setNoDelay(true).setKeepAlive(true, DATA_KEEPALIVE_AFTER_MS);
    this.#keep(socket);
    return socket;
  }

  #refusal(address: string, peer: NodeId, status: number | undefined): PandoError {
    if (status === 403) return dialFailure.refused(peer, address, this.#options.identity.node);
    return dialFailure.unreachable(peer, address, `it answered with status ${status}`);
  }
}

function portInUse(host: string, port: number): PandoError {
  return new PandoError(
    'PORT_IN_USE',
    `Port ${port} on ${host} is in use by another program; stop that one, or choose another port with "listen".`,
    { host, port },
  );
}

function cannotListen(host: string, port: number, error: Error): PandoError {
  return new PandoError(
    'CONFIG_INVALID',
    `Pando cannot listen on ${formatAddress({ host, port })} (${describeError(error)}); choose another address with "listen".`,
    { host, port },
    { cause: error },
  );
}
