/**
 * A process that seals one stream (`sealing.ts` starts it): TLS on one side, ZFS on the other. It knows nothing but the two ends, and ends with the node that started it.
 */
import { writevSync } from 'node:fs';
import { Socket } from 'node:net';
import { connect, TLSSocket } from 'node:tls';
import { peekAtBegin } from '../../zfs/peek.ts';
import { HANDSHAKE_TIMEOUT_MS, tlsOptions } from '../tls-options.ts';
import {
  CONNECTION_DESCRIPTOR,
  type Order,
  PAIR_DESCRIPTOR,
  REPORT_BYTES,
  type Report,
  type StartOrder,
} from './conversation.ts';

/** Received bytes that are written at once: each write wakes ZFS, which costs as much as the bytes themselves where they are few. */
const GATHERED_BYTES = 64 * 1024;
/** Bytes that wait for the network before ZFS has to: with less, it stops and goes on all the time. */
const BUFFERED_BYTES = 1024 * 1024;
/** How long the other end may take to hear that a stream has ended, in ms. */
const FAREWELL_MS = 10_000;

const NEVER = new AbortController().signal;

function report(what: Report): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected === true) process.send?.(what, undefined, {}, () => resolve());
    else resolve();
  });
}

async function leave(failure: Error): Promise<never> {
  await report({ say: 'failed', why: failure.message });
  process.exit(1);
}

/** Leave to pass bytes, as the node gives it. */
class Allowance {
  #left = 0;
  #unreported = 0;
  #waiting: (() => void) | undefined;

  give(bytes: number): void {
    this.#left += bytes;
    if (this.#left <= 0) return;
    this.#waiting?.();
    this.#waiting = undefined;
  }

  /** Counts bytes that have passed. False when whoever passes them is to wait, until `goOn` is called. */
  pass(bytes: number, goOn: () => void): boolean {
    this.#left -= bytes;
    this.#unreported += bytes;
    if (this.#unreported >= REPORT_BYTES) void this.tell();
    if (this.#left > 0) return true;
    this.#waiting = goOn;
    return false;
  }

  async tell(): Promise<void> {
    const bytes = this.#unreported;
    this.#unreported = 0;
    if (bytes > 0) await report({ say: 'passed', bytes });
  }
}

/** TLS with whoever is at the other end; who that is the node decides, by the certificate. */
async function shakeHands({ role, privateKeyPem, certificatePem }: StartOrder): Promise<TLSSocket> {
  const connection = new Socket({ fd: CONNECTION_DESCRIPTOR });
  const options = { ...tlsOptions({ privateKeyPem, certificatePem }), highWaterMark: BUFFERED_BYTES };
  const socket =
    role === 'receive'
      ? connect({ ...options, socket: connection })
      : new TLSSocket(connection, { ...options, isServer: true });
  await new Promise<void>((resolve, reject) => {
    const late = (): void => reject(new Error('The other end did not finish its handshake.'));
    const timer = setTimeout(late, HANDSHAKE_TIMEOUT_MS);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('The other end hung up.')));
    socket.once(role === 'receive' ? 'secureConnect' : 'secure', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  socket.removeAllListeners('error').removeAllListeners('close');
  socket.on('error', (error) => void leave(error));
  const certificate = socket.getPeerX509Certificate()?.raw.toString('base64') ?? '';
  await report({ say: 'met', certificate });
  return socket;
}

/** Writes what comes to ZFS, much at a time; this process has nothing else to do meanwhile, so it may block. Once ZFS takes no more, the rest is read and dropped, so that the other end can finish. */
function receive(socket: TLSSocket, allowance: Allowance): void {
  let chunks: Buffer[] = [];
  let length = 0;
  let isOpen = true;
  const flush = (): void => {
    const [pending, bytes] = [chunks, length];
    [chunks, length] = [[], 0];
    if (bytes === 0) return;
    if (isOpen) isOpen = writeAll(pending);
    if (!allowance.pass(bytes, () => void socket.resume())) socket.pause();
  };
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= GATHERED_BYTES) flush();
    else if (chunks.length === 1) setImmediate(flush);
  });
  socket.once('end', () => {
    flush();
    void allowance.tell().then(() => process.exit(0));
  });
  endWith(socket);
}

/** Ends when the connection does before its stream. */
function endWith(socket: TLSSocket): void {
  const hungUp = (): void => void leave(new Error('The other end hung up.'));
  // An end that was read is told behind this
  const close = (): void => void setImmediate(() => (socket.readableEnded ? undefined : hungUp()));
  if (socket.destroyed) close();
  else socket.once('close', close);
}

/** False where ZFS takes nothing any more. */
function writeAll(chunks: readonly Buffer[]): boolean {
  let rest = chunks;
  try {
    while (rest.length > 0) {
      let written = writevSync(PAIR_DESCRIPTOR, rest);
      const first = rest.findIndex(({ length }) => {
        if (written < length) return true;
        written -= length;
        return false;
      });
      if (first < 0) return true;
      rest = [(rest[first] as Buffer).subarray(written), ...rest.slice(first + 1)];
    }
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EPIPE' || code === 'ECONNRESET') return false;
    throw error;
  }
}

/** Sends what ZFS gives, until that ends. */
function send(socket: TLSSocket, allowance: Allowance): void {
  const source = new Socket({ fd: PAIR_DESCRIPTOR, writable: false });
  let isFull = false;
  let isAllowed = true;
  const goOn = (): void => {
    if (isAllowed && !isFull) source.resume();
  };
  socket.on('drain', () => {
    isFull = false;
    goOn();
  });
  source.on('data', (chunk: Buffer) => {
    isFull = !socket.write(chunk);
    isAllowed = allowance.pass(chunk.length, () => {
      isAllowed = true;
      goOn();
    });
    if (isFull || !isAllowed) source.pause();
  });
  source.on('error', (error) => void leave(error));
  const hungUp = (): void => void leave(new Error('The other end hung up.'));
  socket.once('close', hungUp);
  source.once('end', () => {
    const end = (): void => void allowance.tell().then(() => process.exit(0));
    socket.off('close', hungUp).once('close', end);
    // Not before all of it has left: a slow link takes long for what waits here
    socket.resume().end(() => setTimeout(end, FAREWELL_MS).unref());
  });
}

async function run(order: StartOrder, allowance: Allowance, allowed: Promise<void>): Promise<void> {
  const socket = await shakeHands(order);
  if (order.role === 'send') {
    await allowed;
    send(socket, allowance);
    return;
  }
  const head = await peekAtBegin(socket, NEVER);
  await report({ say: 'begin', head });
  if (typeof head === 'string') process.exit(1);
  await allowed;
  receive(socket, allowance);
}

const allowance = new Allowance();
let allow: () => void = () => undefined;
const allowed = new Promise<void>((resolve) => {
  allow = resolve;
});
process.on('uncaughtException', (error) => void leave(error));
process.on('disconnect', () => process.exit(1));
process.on('message', (message) => {
  const order = message as Order;
  if (order.say === 'start') run(order, allowance, allowed).catch(leave);
  else {
    allowance.give(order.bytes);
    allow();
  }
});
