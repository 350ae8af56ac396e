import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { DirectListener, openDirect } from '../../src/transfer/direct-link.ts';

const TICKET = 'T'.repeat(43);
const NEVER = new AbortController().signal;

const listeners: DirectListener[] = [];
const sockets: Socket[] = [];

async function listen(known: readonly string[]): Promise<{ port: number; taken: Promise<Socket> }> {
  let take: (socket: Socket) => void = () => undefined;
  const taken = new Promise<Socket>((resolve) => {
    take = resolve;
  });
  const listener = await DirectListener.listen('127.0.0.1', 0, (ticket) => (known.includes(ticket) ? take : null));
  listeners.push(listener);
  return { port: listener.port, taken };
}

async function open(port: number, ticket = TICKET): Promise<Socket> {
  const socket = await openDirect('127.0.0.1', port, ticket, NEVER);
  sockets.push(socket);
  return socket;
}

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const listener of listeners.splice(0)) await listener.close();
});

describe('a direct data connection', () => {
  it('is handed over with nothing of the stream read at the receiving end', async () => {
    const { port, taken } = await listen([TICKET]);
    const receiver = await open(port);
    (await taken).end('the stream');
    expect(receiver.isPaused()).toBe(true);
    expect(receiver.bytesRead).toBe(0);
    const chunks: Buffer[] = [];
    receiver.on('data', (chunk: Buffer) => chunks.push(chunk));
    receiver.resume();
    await once(receiver, 'end');
    expect(Buffer.concat(chunks).toString()).toBe('the stream');
  });

  it('with a ticket that nobody gave out is closed', async () => {
    const { port } = await listen([TICKET]);
    const receiver = await open(port, 'X'.repeat(43));
    receiver.resume();
    await once(receiver, 'close');
    expect(receiver.bytesRead).toBe(0);
  });

  it('that hangs up before its ticket is whole harms nothing', async () => {
    const { port, taken } = await listen([TICKET]);
    const socket = connect({ host: '127.0.0.1', port });
    await once(socket, 'connect');
    socket.end('T'.repeat(10));
    socket.resume();
    await once(socket, 'close');
    await open(port);
    expect((await taken).destroyed).toBe(false);
  });

  it('is refused where the port is in use', async () => {
    const { port } = await listen([]);
    const second = DirectListener.listen('127.0.0.1', port, () => null);
    await expect(second).rejects.toMatchObject({ code: 'PORT_IN_USE', message: expect.stringContaining('directPort') });
  });

  it('that nobody answers, or that is cancelled, is an error with a code', async () => {
    const { port } = await listen([]);
    await listeners.splice(0)[0]?.close();
    await expect(openDirect('127.0.0.1', port, TICKET, NEVER)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
    const cancelled = openDirect('127.0.0.1', port, TICKET, AbortSignal.abort());
    await expect(cancelled).rejects.toMatchObject({ code: 'TRANSFER_CANCELLED' });
  });
});
