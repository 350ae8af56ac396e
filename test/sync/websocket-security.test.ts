/** What the TLS port does with those who are no peers. */
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, createServer, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { WebSocket } from 'ws';
import type { PandoError } from '../../src/core/errors.ts';
import { parseAddress } from '../../src/sync/address.ts';
import { createIdentity, type Identity } from '../../src/sync/identity.ts';
import { PENDING_HANDSHAKES_MAX } from '../../src/sync/pending-handshakes.ts';
import { HANDSHAKE_TIMEOUT_MS } from '../../src/sync/tls-options.ts';
import { type Connection, FRAME_BYTES_MAX, INTRODUCTION_BYTES_MAX } from '../../src/sync/transport.ts';
import { WebSocketTransport } from '../../src/sync/websocket-transport.ts';

const HOST = '127.0.0.1';
const NEVER = new AbortController().signal;

interface Certificate {
  readonly key?: string;
  readonly cert?: string;
}

let server: Identity;
let friend: Identity;
let transport: WebSocketTransport;
let address: string;
let accepted: Connection[];
let asked: string[];
let introduced: string[];

beforeEach(async () => {
  server = createIdentity();
  friend = createIdentity();
  transport = new WebSocketTransport({ identity: server, host: HOST, port: 0 });
  accepted = [];
  asked = [];
  introduced = [];
  address = await transport.listen({
    meets: () => true,
    admit: (peer) => {
      asked.push(peer);
      return peer === friend.node;
    },
    accept: (connection) => accepted.push(connection),
    acceptData: () => null,
    acceptBare: () => null,
    introduce: async (_node, question) => {
      introduced.push(Buffer.from(question).toString());
      return new Uint8Array(1);
    },
  });
});

afterEach(() => transport.close());

function certificateOf({ privateKeyPem, certificatePem }: Identity): Certificate {
  return { key: privateKeyPem, cert: certificatePem };
}

/** A certificate of an RSA key, as openssl makes one. */
async function rsaCertificate(): Promise<Certificate> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-rsa-'));
  try {
    const [keyPath, certPath] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const key = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
    await writeFile(keyPath, key);
    const subject = ['-subj', '/CN=rsa', '-days', '30'];
    await promisify(execFile)('openssl', ['req', '-x509', '-new', '-key', keyPath, '-out', certPath, ...subject]);
    return { key, cert: await readFile(certPath, 'utf8') };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function tlsSocket(certificate: Certificate, options: { maxVersion?: 'TLSv1.2' } = {}): Promise<TLSSocket> {
  const socket = connectTls({ ...parseAddress(address), ...certificate, ...options, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  return socket;
}

/** Everything that the server says on a socket until it hangs up. */
async function answerOn(socket: TLSSocket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => socket.once('close', resolve));
  return Buffer.concat(chunks).toString();
}

const UPGRADE = [
  'GET /sync HTTP/1.1',
  'Host: peer',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  '\r\n',
].join('\r\n');

async function friendlyWebSocket(): Promise<{ webSocket: WebSocket; closeCode: Promise<number> }> {
  const webSocket = new WebSocket(`wss://${address}/sync`, { ...certificateOf(friend), rejectUnauthorized: false });
  const closeCode = new Promise<number>((resolve) => webSocket.once('close', resolve));
  webSocket.on('error', () => undefined);
  await once(webSocket, 'open');
  return { webSocket, closeCode };
}

function reasonOf(connection: Connection | undefined): Promise<PandoError> {
  if (connection === undefined) throw new Error('no connection was accepted');
  connection.onFrame(() => undefined);
  return new Promise((resolve) => connection.onClose(resolve));
}

test('whoever shows no certificate, or one of another key type, is cut off before a request is read', async () => {
  for (const certificate of [{}, await rsaCertificate()]) {
    const socket = await tlsSocket(certificate);
    const answer = answerOn(socket);
    socket.write(UPGRADE);
    expect(await answer).toBe('');
  }
  expect([asked, accepted]).toEqual([[], []]);
});

test('a stranger with a proper key gets a refusal and nothing else', async () => {
  const stranger = createIdentity();
  const socket = await tlsSocket(certificateOf(stranger));
  const answer = answerOn(socket);
  socket.write(UPGRADE);
  expect(await answer).toMatch(/^HTTP\/1\.1 403 /);
  expect(asked).toEqual([stranger.node]);
  expect(accepted).toEqual([]);
});

test('a certificate without its key is of no use to a thief', async () => {
  const thief = createIdentity();
  expect(() =>
    connectTls({ ...parseAddress(address), key: thief.privateKeyPem, cert: friend.certificatePem }),
  ).toThrow();
});

test('TLS before 1.3 is refused', async () => {
  await expect(tlsSocket(certificateOf(friend), { maxVersion: 'TLSv1.2' })).rejects.toThrow();
});

test.each(['GET / HTTP/1.1\r\nHost: x\r\n\r\n', 'GET /sync HTTP/1.1\r\nHost: x\r\n\r\n', 'rubbish\r\n\r\n'])(
  'a request that is no upgrade is answered and dropped: %j',
  async (request) => {
    const socket = await tlsSocket(certificateOf(friend));
    const answer = answerOn(socket);
    socket.write(request);
    expect(await answer).toMatch(/^HTTP\/1\.1 4\d\d /);
    expect(accepted).toEqual([]);
  },
);

test.each(['/data/', '/data/..%2f', '//', 'http://[', `/data/${'x'.repeat(200)}`])(
  'an upgrade of %j is refused and harms nothing',
  async (path) => {
    const socket = await tlsSocket(certificateOf(friend));
    const answer = answerOn(socket);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: pando-data\r\n\r\n`);
    expect(await answer).toMatch(/^HTTP\/1\.1 4\d\d /);
  },
);

function introduction(body: string, length = body.length): string {
  return `POST /introduction HTTP/1.1\r\nHost: peer\r\nContent-Length: ${length}\r\n\r\n${body}`;
}

test('a stranger that introduces itself is answered once, and then hung up on', async () => {
  const socket = await tlsSocket(certificateOf(createIdentity()));
  const answer = answerOn(socket);
  socket.write(introduction('hello') + introduction('hello again'));
  expect((await answer).match(/HTTP\/1\.1 200/g)).toHaveLength(1);
  expect([introduced, accepted]).toEqual([['hello'], []]);
});

test('an introduction that says too much, or claims to, is cut off without an answer', async () => {
  for (const request of [introduction('x'.repeat(INTRODUCTION_BYTES_MAX + 1)), introduction('x'.repeat(5_000), 1e12)]) {
    const socket = await tlsSocket(certificateOf(createIdentity()));
    const answer = answerOn(socket);
    socket.write(request);
    expect(await answer).toBe('');
  }
  expect(introduced).toEqual([]);
});

test('what is not TLS is dropped', async () => {
  const socket = connectTcp(parseAddress(address));
  socket.on('error', () => undefined);
  socket.write(UPGRADE);
  socket.resume();
  await once(socket, 'close');
  expect(accepted).toEqual([]);
});

test('a frame over the limit closes the connection on both sides with its own code', async () => {
  const { webSocket, closeCode } = await friendlyWebSocket();
  const reason = reasonOf(accepted[0]);
  webSocket.send(new Uint8Array(FRAME_BYTES_MAX + 1));
  expect((await reason).code).toBe('PROTOCOL_FRAME_TOO_LARGE');
  expect(await closeCode).toBe(1009);
});

test('a text message closes the connection', async () => {
  const { webSocket, closeCode } = await friendlyWebSocket();
  const reason = reasonOf(accepted[0]);
  webSocket.send('text');
  expect((await reason).code).toBe('PROTOCOL_FRAME_INVALID');
  expect(await closeCode).toBe(4001);
});

test('compression is never agreed on, and WebSocket pings get no answer that could pile up', async () => {
  const { webSocket } = await friendlyWebSocket();
  expect(webSocket.extensions).toBe('');
  let pongs = 0;
  webSocket.on('pong', () => {
    pongs += 1;
  });
  const [connection] = accepted;
  const heard = new Promise<void>((resolve) => connection?.onFrame(() => resolve()));
  for (let count = 0; count < 100; count += 1) webSocket.ping();
  webSocket.send(new Uint8Array(1));
  await heard;
  connection?.send(new Uint8Array(1));
  await once(webSocket, 'message');
  expect(pongs).toBe(0);
  webSocket.terminate();
});

test('a link that breaks is told apart from one that was closed', async () => {
  const { webSocket } = await friendlyWebSocket();
  const reason = reasonOf(accepted[0]);
  webSocket.terminate();
  expect(await reason).toMatchObject({ code: 'CONNECTION_CLOSED', message: expect.stringContaining('link broke') });
});

test('a server with an RSA key, or none that speaks TLS, is recognised by the dialler before it sends anything', async () => {
  const received: Buffer[] = [];
  const impostor = createServer({ ...(await rsaCertificate()) }, (socket) => {
    socket.on('data', (chunk) => received.push(chunk));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => impostor.listen(0, HOST, resolve));
  try {
    const { port } = impostor.address() as { port: number };
    const dialler = new WebSocketTransport({ identity: friend, host: HOST, port: 0 });
    await expect(dialler.dial(`${HOST}:${port}`, server.node, NEVER)).rejects.toMatchObject({ code: 'PEER_UNKNOWN' });
    expect(received).toEqual([]);
  } finally {
    impostor.close();
  }
});

test.each(['no port', 'host:0', 'host:99999', 'http://host:1', '::1:80', ''])(
  'the address %j is refused',
  async (text) => {
    await expect(transport.dial(text, friend.node, NEVER)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
  },
);

test('whoever does not finish its handshake in time is dropped, before TLS and after', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const silent = connectTcp(parseAddress(address));
    await once(silent, 'connect');
    const mute = await tlsSocket(certificateOf(friend));
    const closed = [silent, mute].map((socket) => {
      socket.on('error', () => undefined).resume();
      return once(socket, 'close');
    });
    vi.advanceTimersByTime(HANDSHAKE_TIMEOUT_MS);
    await Promise.all(closed);
  } finally {
    vi.useRealTimers();
  }
});

test('a connection that came through is not dropped at the end of that time', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const { webSocket } = await friendlyWebSocket();
    vi.advanceTimersByTime(2 * HANDSHAKE_TIMEOUT_MS);
    const heard = new Promise<void>((resolve) => accepted[0]?.onFrame(() => resolve()));
    webSocket.send(new Uint8Array(1));
    await heard;
    webSocket.terminate();
  } finally {
    vi.useRealTimers();
  }
});

test('only so many handshakes are pending at a time; when they are gone, others get their turn', async () => {
  const silent = Array.from({ length: PENDING_HANDSHAKES_MAX }, () => connectTcp(parseAddress(address)));
  for (const socket of silent) socket.on('error', () => undefined);
  await Promise.all(silent.map((socket) => once(socket, 'connect')));
  const late = connectTcp(parseAddress(address));
  late.on('error', () => undefined).resume();
  await once(late, 'close');
  for (const socket of silent) socket.destroy();
  // The server hears of each end in its own time; a dial that came too early is simply repeated.
  const friendly = new WebSocketTransport({ identity: friend, host: HOST, port: 0 });
  for (;;) {
    const connection = await friendly.dial(address, server.node, NEVER).catch(() => undefined);
    if (connection !== undefined) break;
  }
  await friendly.close();
});
