import type { Socket } from 'node:net';

/**
 * Reads exactly so many bytes and leaves the socket paused; undefined when it ends before, or is silent for longer than `timeoutMs`. Whoever sends must wait for an answer behind them:
 * what comes right behind may have been read as well, and then stays with the socket.
 */
export function readExactly(socket: Socket, bytes: number, timeoutMs: number): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const finish = (found: Buffer | undefined): void => {
      clearTimeout(timeout);
      socket.pause();
      socket.off('readable', read);
      socket.off('close', fail);
      socket.off('end', fail);
      resolve(found);
    };
    const fail = (): void => finish(undefined);
    const timeout = setTimeout(fail, timeoutMs);
    const read = (): void => {
      const found: Buffer | null = socket.read(bytes);
      // At its end a stream gives what is left, however little
      if (found !== null) finish(found.length === bytes ? found : undefined);
    };
    socket.on('readable', read);
    socket.once('close', fail);
    socket.once('end', fail);
  });
}
