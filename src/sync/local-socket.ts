/** Sockets in the file system, for programs of this machine: each can be opened by the node's own user only. */
import { mkdir, rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { describeError, PandoError } from '../core/errors.ts';

/** Leaves the socket to its owner alone (mode 0600). */
const SOCKET_UMASK = 0o177;
/** Longest path that fits a socket's address on Linux, in bytes: `sun_path` less its NUL (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

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
      `The path of the socket, ${path}, is longer than ${SOCKET_PATH_BYTES_MAX} bytes; configure a shorter one.`,
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
function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const umask = process.umask(SOCKET_UMASK);
    try {
      server.listen({ path }, () => {
        server.off('error', reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}

/**
 * Has a server listen on the socket at `path`, and makes its folder if need be; what a killed daemon left there is replaced. Rejects with
 * `DAEMON_RUNNING` when somebody answers there, `CONFIG_INVALID` when the path is too long, `DATA_DIRECTORY_UNWRITABLE` when the socket
 * cannot be made. The server removes it when it is closed.
 */
export async function listenOnLocalSocket(server: Server, path: string): Promise<void> {
  try {
    await preparePlace(path);
    await listen(server, path);
  } catch (error) {
    if (error instanceof PandoError) throw error;
    throw new PandoError(
      'DATA_DIRECTORY_UNWRITABLE',
      `The socket ${path} cannot be made: ${describeError(error)}.`,
      { socket: path },
      { cause: error },
    );
  }
}
