/**
 * Data connections that come to the port of the node as bare TCP, for whoever takes the socket to seal in a process of its own: TLS that began here could not be handed on.
 *
 * The receiver writes {@link MARK} and a ticket, and waits. The sender answers one byte, whether it takes the connection like that; then TLS begins, the receiver as its client. A ticket gives nothing away: who has it must still prove
 * in TLS to be the node that it was given to, and where the answer is no it is as good as before.
 */
import { connect, type Socket } from 'node:net';
import { PandoError } from '../core/errors.ts';
import { parseAddress } from './address.ts';
import { readExactly } from './exact-reading.ts';
import { HANDSHAKE_TIMEOUT_MS } from './tls-options.ts';

/** No TLS record begins with it (RFC 8446 §5.1: a handshake begins with 22). */
const MARK = Buffer.from('P');
const YES = Buffer.from('Y');
const NO = Buffer.from('N');
/** Characters of a ticket: 32 random bytes in base64url without padding. */
export const TICKET_CHARACTERS = 43;
/** A data connection only reads at its receiver, who would wait for ever behind a link that is dead. It asks after this much silence, in ms, and gives up some seconds later. */
export const DATA_KEEPALIVE_AFTER_MS = 30_000;

/** Who takes a socket that showed this ticket; null when nobody gave it out, or nobody can seal it now. */
export type BareAccept = (ticket: string) => ((socket: Socket) => void) | null;

/** Whether a connection that just came in is a bare one. Its bytes stay with the socket. Undefined where it says nothing in time. */
export async function isBare(socket: Socket): Promise<boolean | undefined> {
  const first = await readExactly(socket, 1, HANDSHAKE_TIMEOUT_MS);
  if (first === undefined) return undefined;
  socket.unshift(first);
  return first.equals(MARK);
}

/** Answers a bare connection, and hands it on where somebody takes it. `taken` is told of that before. */
export async function welcomeBare(socket: Socket, accept: BareAccept, taken: () => void): Promise<void> {
  const said = await readExactly(socket, MARK.length + TICKET_CHARACTERS, HANDSHAKE_TIMEOUT_MS);
  // Whoever says more does not wait for the answer
  const isWaiting = said !== undefined && socket.readableLength === 0;
  const take = isWaiting ? accept(said.subarray(MARK.length).toString('latin1')) : null;
  if (take === null) {
    socket.end(NO);
    return;
  }
  taken();
  socket.setNoDelay(true).setKeepAlive(true, DATA_KEEPALIVE_AFTER_MS);
  socket.write(YES, () => take(socket));
}

/**
 * Opens a bare connection with a ticket. The socket comes back paused and unread, ready to be handed to a child; null where the other end does not take it, or there is none: then a sealed connection tells more. Rejects with
 * `CONNECTION_CLOSED` when the signal is aborted.
 */
export async function openBare(address: string, ticket: string, signal: AbortSignal): Promise<Socket | null> {
  const socket = connect({
    ...parseAddress(address),
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: DATA_KEEPALIVE_AFTER_MS,
  });
  const abort = (): void => void socket.destroy();
  // Told by the close
  socket.on('error', () => undefined);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  socket.write(Buffer.concat([MARK, Buffer.from(ticket, 'latin1')]));
  const answer = await readExactly(socket, 1, HANDSHAKE_TIMEOUT_MS);
  signal.removeEventListener('abort', abort);
  if (answer?.equals(YES) === true && socket.readableLength === 0 && !signal.aborted) return socket;
  socket.destroy();
  if (!signal.aborted) return null;
  throw new PandoError('CONNECTION_CLOSED', `Connecting to ${address} was given up.`, { address });
}
