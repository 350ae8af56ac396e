import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isBare, openBare, TICKET_CHARACTERS, welcomeBare } from '../../src/sync/bare-connections.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { WebSocketTransport } from '../../src/sync/websocket-transport.ts';

const TICKET = 't'.repeat(TICKET_CHARACTERS);
const NEVER = new AbortController().signal;

describe('a bare connection', () => {
  let server: Server;
  let address: string;
  const taken: Socket[] = [];
  const open: Socket[] = [];

  beforeEach(async () => {
    server = createServer((socket) => {
      open.push(socket);
      socket.on('error', () => socket.destroy());
      void isBare(socket).then(async (bare) => {
        if (bare !== true) socket.destroy();
        else
          await welcomeBare(
            socket,
            (ticket) => (ticket === TICKET ? (one) => void taken.push(one) : null),
            () => undefined,
          );
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const bound = server.address();
    address = `127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`;
  });

  afterEach(() => {
    for (const socket of [...taken.splice(0), ...open.splice(0)]) socket.destroy();
    server.close();
  });

  it('is handed on, unread at both ends, with a ticket that somebody gave out', async () => {
    const near = await openBare(address, TICKET, NEVER);
    await expect.poll(() => taken.length).toBe(1);
    expect(near?.readableLength).toBe(0);
    expect(taken[0]?.readableLength).toBe(0);
    taken[0]?.end('later');
    near?.resume();
    const [said] = (await once(near as Socket, 'data')) as [Buffer];
    expect(said.toString()).toBe('later');
  });

  it('is none with another ticket, nor where nobody answers as a node does', async () => {
    expect(await openBare(address, 'x'.repeat(TICKET_CHARACTERS), NEVER)).toBeNull();
    const other = createServer((socket) => void socket.resume().end('220 mail.example ESMTP\r\n')).listen(
      0,
      '127.0.0.1',
    );
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    expect(await openBare(`127.0.0.1:${port}`, TICKET, NEVER)).toBeNull();
    other.close();
    await once(other, 'close');
    expect(await openBare(`127.0.0.1:${port}`, TICKET, NEVER)).toBeNull();
  });

  it('is given up when the signal is aborted', async () => {
    const abort = new AbortController();
    const opening = openBare(address, TICKET, abort.signal);
    abort.abort();
    await expect(opening).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' });
  });
});

describe('the port of a node', () => {
  it('is as it was for those who begin with neither TLS nor a ticket that is good', async () => {
    const identity = createIdentity();
    const transport = new WebSocketTransport({ identity, host: '127.0.0.1', port: 0 });
    const shown: string[] = [];
    const address = await transport.listen({
      admit: () => true,
      meets: () => true,
      accept: () => undefined,
      acceptData: () => null,
      acceptBare: (ticket) => {
        shown.push(ticket);
        return null;
      },
      introduce: async () => new Uint8Array(),
    });
    const [host, port] = address.split(':');
    const path = '../'.repeat(20).slice(0, TICKET_CHARACTERS);
    // The last says more than its ticket, which whoever waits for the answer does not
    for (const said of ['GET / HTTP/1.1\r\n\r\n', 'P', `P${path}`, '\u0016\u0003\u0001', '', `P${TICKET}more`]) {
      const socket = connect({ host: host as string, port: Number(port) });
      socket.on('error', () => undefined).resume();
      socket.end(said, 'latin1');
      await once(socket, 'close');
    }
    expect(shown).toEqual([path]);
    const dialler = new WebSocketTransport({ identity: createIdentity(), host: '127.0.0.1', port: 0 });
    await dialler.dial(address, identity.node, NEVER);
    await Promise.all([transport.close(), dialler.close()]);
  });
});
