/**
 * What containerd's proxy snapshotter talks to (`snapshots/proxy` there): its snapshots service over gRPC, on a Unix socket that only the
 * node's own user can open.
 */
import { createServer, type Server as SocketServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials, type ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { SnapshotService } from '../../features/snapshots/snapshot-service.ts';
import { listenOnLocalSocket } from '../../sync/local-socket.ts';
import { Answering } from './answering.ts';
import { snapshotsApi } from './snapshots-api.ts';

const SERVICE = 'containerd.services.snapshots.v1.Snapshots';

/** Largest message either way, in bytes: gRPC's default. A request is a key and labels of 4 KiB, so this is a thousand of them. */
const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;
/** Calls on one connection that run at once; others wait their turn. containerd has one connection for everything, and unpacks a few layers. */
const CALLS_PER_CONNECTION_MAX = 256;
/** How long clients may take to read what they were told before the connections are cut, in ms: it is at most what a socket buffers. */
const CLOSE_GRACE_MS = 500;

export interface GrpcServer {
  /** Ends lists, finishes what was begun, then stops listening and removes the socket. */
  close(): Promise<void>;
}

/** Decoded as `messages.ts` says. */
function serviceDefinition(): ServiceDefinition {
  const file = fileURLToPath(new URL('snapshots.proto', import.meta.url));
  const definition = loadSync(file, { defaults: true, enums: String, longs: Number });
  return definition[SERVICE] as ServiceDefinition;
}

function stopListening(sockets: SocketServer): Promise<void> {
  return new Promise((resolve) => sockets.close(() => resolve()));
}

/** Takes no more calls, and resolves once the connections are closed. */
function shutDown(server: Server): Promise<void> {
  return new Promise((resolve) => server.tryShutdown(() => resolve()));
}

/**
 * Serves snapshots on a socket. Rejects as {@link listenOnLocalSocket} does. `report` takes errors that only the operator should know.
 */
export async function startGrpcServer(options: {
  readonly socket: string;
  readonly snapshots: SnapshotService;
  readonly report: (error: unknown) => void;
}): Promise<GrpcServer> {
  const { socket, snapshots, report } = options;
  const answering = new Answering(report);
  const server = new Server({
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_concurrent_streams': CALLS_PER_CONNECTION_MAX,
  });
  server.addService(serviceDefinition(), snapshotsApi(snapshots, answering));
  // gRPC's own way to listen binds later than it is asked to, and so not under the umask that keeps the socket from others.
  const connections = server.createConnectionInjector(ServerCredentials.createInsecure());
  const sockets = createServer((connection) => connections.injectConnection(connection));
  await listenOnLocalSocket(sockets, socket);
  return {
    close: async () => {
      const stopped = Promise.all([stopListening(sockets), shutDown(server)]);
      await answering.close();
      const cut = setTimeout(() => server.forceShutdown(), CLOSE_GRACE_MS);
      await stopped;
      clearTimeout(cut);
    },
  };
}
