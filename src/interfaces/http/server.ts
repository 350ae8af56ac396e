/** The API of a running node: HTTP and JSON on a Unix socket that only the node's own user can open (design §11). */
import { mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import fastify, { type FastifyInstance } from 'fastify';
import { describeError, PandoError } from '../../core/errors.ts';
import { datasetRoutes } from './dataset-routes.ts';
import { divergedRoutes } from './diverged-routes.ts';
import { ERROR_STATUS } from './error-status.ts';
import { LineStreams } from './lines.ts';
import { operationRoutes } from './operation-routes.ts';
import { readingRoutes } from './reading-routes.ts';
import type { DaemonServices } from './services.ts';
import { settingsRoutes } from './settings-routes.ts';
import { trustRoutes } from './trust-routes.ts';

/** Leaves the socket to its owner alone (mode 0600). */
const SOCKET_UMASK = 0o177;
/** Longest path that fits a socket's address on Linux, in bytes: `sun_path` less its NUL (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

export interface HttpServer {
  /** Ends what is being told, then stops listening and removes the socket. */
  close(): Promise<void>;
}

/** Failures of the framework itself (a body that is no JSON, a method that does not fit) in our words. */
function pandoErrorOf(thrown: unknown): PandoError {
  if (thrown instanceof PandoError) return thrown;
  const status = (thrown as { statusCode?: unknown }).statusCode;
  const isRequest = typeof status === 'number' && status >= 400 && status < 500;
  const what = describeError(thrown);
  return isRequest
    ? new PandoError('ARGUMENT_INVALID', `The request cannot be read: ${what}.`, {}, { cause: thrown })
    : new PandoError('INTERNAL', what, {}, { cause: thrown });
}

function createApp(services: DaemonServices, streams: LineStreams, report: (error: unknown) => void): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true, return503OnClosing: false });
  app.setErrorHandler((thrown, _request, reply) => {
    const error = pandoErrorOf(thrown);
    if (error.code === 'INTERNAL') report(thrown);
    return reply.code(ERROR_STATUS[error.code]).send(error.toJSON());
  });
  app.setNotFoundHandler(({ method, url }, reply) => {
    const error = new PandoError('ARGUMENT_INVALID', `This version of pando does not know ${method} ${url}.`, { url });
    return reply.code(404).send(error.toJSON());
  });
  settingsRoutes(app, services);
  trustRoutes(app, services);
  datasetRoutes(app, services);
  divergedRoutes(app, services);
  readingRoutes(app, services, streams);
  operationRoutes(app, services, streams);
  return app;
}

/** Whether somebody answers on the socket. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function preparePlace(path: string): Promise<void> {
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new PandoError(
      'CONFIG_INVALID',
      `The path of the socket, ${path}, is longer than ${SOCKET_PATH_BYTES_MAX} bytes; set a shorter "socket".`,
      { socket: path },
    );
  }
  if (await isAlive(path)) {
    throw new PandoError('DAEMON_RUNNING', `A pando is running on ${path} already; stop it first.`, { socket: path });
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  // What a daemon that was killed left behind; nobody answered on it.
  await rm(path, { force: true });
}

/** Binds at once, so that nothing else of this process runs under the narrow umask. */
function listen(app: FastifyInstance, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    app.server.once('error', reject);
    const umask = process.umask(SOCKET_UMASK);
    try {
      app.server.listen({ path }, () => {
        app.server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}

/**
 * Serves the API on a socket. Rejects with `DAEMON_RUNNING` when another daemon answers there, `CONFIG_INVALID` when the path is too
 * long, `DATA_DIRECTORY_UNWRITABLE` when the socket cannot be made. `report` takes errors that only the operator should know.
 */
export async function startHttpServer(options: {
  readonly socket: string;
  readonly services: DaemonServices;
  readonly report: (error: unknown) => void;
}): Promise<HttpServer> {
  const { socket, services, report } = options;
  const streams = new LineStreams();
  const app = createApp(services, streams, report);
  try {
    await preparePlace(socket);
    await app.ready();
    await listen(app, socket);
  } catch (error) {
    if (error instanceof PandoError) throw error;
    throw new PandoError(
      'DATA_DIRECTORY_UNWRITABLE',
      `The socket ${socket} cannot be made: ${describeError(error)}.`,
      { socket },
      { cause: error },
    );
  }
  return {
    close: async () => {
      await streams.close();
      await app.close();
    },
  };
}
