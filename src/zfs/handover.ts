/** Giving a stream's raw end to a child, so that none of its bytes pass through Node. */
import { Socket, type SocketConstructorOpts } from 'node:net';
import type { Readable } from 'node:stream';
import { PandoError } from '../core/errors.ts';

/**
 * What is below a socket, which a process can give to another one over the channel between them (`net.Native` in Node's `child_process`). Unlike a socket,
 * it stays open here as well, and nothing is read from it on arrival.
 */
export type RawHandle = Socket & { readonly isRaw: never };

/** What is below a socket; undefined once it is closed. */
export function handleOf(socket: Socket): RawHandle | undefined {
  return (socket as Socket & { readonly _handle?: RawHandle | null })._handle ?? undefined;
}

/** A socket on what came from another process. Where it is not to be read, nothing is taken from it. */
export function socketOn(handle: RawHandle, { readable }: { readonly readable: boolean }): Socket {
  return new Socket({ handle, readable } as SocketConstructorOpts);
}

/** The part of a libuv stream handle that Node's own `net` uses to stop reading; `pause()` alone lets it read on into a buffer. */
interface ReadingHandle {
  reading?: boolean;
  readStart?(): void;
  readStop?(): void;
}

/**
 * Stops Node from reading the stream. Throws `INTERNAL` when it has read bytes already: they would be missing from the child's input.
 * Node's side of a fresh socket stays unread if the server has `pauseOnConnect`, or `pause()` was called before it connected.
 */
export function detachFromNode(stream: Readable): void {
  stopReading(stream);
  if (stream.readableLength > 0) {
    throw new PandoError(
      'INTERNAL',
      'Bytes of a data connection were read before it was handed over; please report this as a bug.',
    );
  }
}

function stopReading(stream: Readable): void {
  readingHandle(stream)?.readStop?.();
}

/** Where something was read before, Node takes it that it still reads, and would not begin again by itself. */
function startReading(stream: Readable): void {
  const handle = readingHandle(stream);
  if (handle == null) return;
  handle.reading = true;
  handle.readStart?.();
}

function readingHandle(stream: Readable): ReadingHandle | null | undefined {
  return (stream as Readable & { readonly _handle?: ReadingHandle | null })._handle;
}

/**
 * Hears of the far end of a socket that a child writes on. A receiver never writes, so what comes from it is its end, and Node answers that by
 * shutting down this side, for the child too. To anything else the answer is the same; it is not read on, since the child made the
 * socket one that blocks.
 */
export function endWithFarEnd(socket: Socket): void {
  socket.once('data', () => {
    stopReading(socket);
    socket.end();
  });
  startReading(socket);
  socket.resume();
}
