/** The API of a running node: HTTP and JSON on a Unix socket that only the node's own user can open (design §11). */
import fastify, { type FastifyInstance } from 'fastify';
import { describeError, PandoError } from '../../core/errors.ts';
import { listenOnLocalSocket } from '../../sync/local-socket.ts';
import { datasetRoutes } from './dataset-routes.ts';
import { divergedRoutes } from './diverged-routes.ts';
import { ERROR_STATUS } from './error-status.ts';
import { layerRoutes } from './layer-routes.ts';
import { LineStreams } from './lines.ts';
import { operationRoutes } from './operation-routes.ts';
import { readingRoutes } from './reading-routes.ts';
import type { DaemonServices } from './services.ts';
import { settingsRoutes } from './settings-routes.ts';
import { snapshotRoutes } from './snapshot-routes.ts';
import { trustRoutes } from './trust-routes.ts';

/** Longest part of a path that a route takes, in characters: names of trees, peers, layers and roots are shorter. */
const PARAMETER_CHARACTERS_MAX = 512;

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
  const app = fastify({
    logger: false,
    forceCloseConnections: true,
    return503OnClosing: false,
    routerOptions: { maxParamLength: PARAMETER_CHARACTERS_MAX },
  });
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
  snapshotRoutes(app, services);
  readingRoutes(app, services, streams);
  operationRoutes(app, services, streams);
  layerRoutes(app, services, streams);
  return app;
}

/**
 * Serves the API on a socket. Rejects as {@link listenOnLocalSocket} does. `report` takes errors that only the operator should know.
 */
export async function startHttpServer(options: {
  readonly socket: string;
  readonly services: DaemonServices;
  readonly report: (error: unknown) => void;
}): Promise<HttpServer> {
  const { socket, services, report } = options;
  const streams = new LineStreams();
  const app = createApp(services, streams, report);
  await app.ready();
  await listenOnLocalSocket(app.server, socket);
  return {
    close: async () => {
      await streams.close();
      await app.close();
    },
  };
}
