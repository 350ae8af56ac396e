/** How long a question takes between two small processes that do nothing else, for comparison: what is left is the machine's own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type RoundTrips, roundTripsOf } from './round-trips.ts';

const SELF = fileURLToPath(import.meta.url);
/** Between two questions, in ms: as often as a node is asked. */
const ASK_EVERY_MS = 20;

/** Asks a process that echoes over TCP while the work goes on. */
export async function measureBareEcho(work: () => Promise<unknown>): Promise<RoundTrips> {
  const server = fork(SELF, ['serve']);
  try {
    const [port] = (await once(server, 'message')) as [number];
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    await once(socket, 'connect');
    const milliseconds: number[] = [];
    let isOver = false;
    const working = work().finally(() => {
      isOver = true;
    });
    while (!isOver) {
      const start = performance.now();
      socket.write('?');
      await once(socket, 'data');
      milliseconds.push(performance.now() - start);
      await setTimeout(ASK_EVERY_MS);
    }
    socket.destroy();
    await working;
    return roundTripsOf(milliseconds);
  } finally {
    server.kill();
  }
}

if (process.argv[2] === 'serve' && process.argv[1] === SELF) {
  const server = createServer({ noDelay: true }, (socket) => socket.on('error', () => undefined).pipe(socket));
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
}
