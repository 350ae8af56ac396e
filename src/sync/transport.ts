/**
 * The transport port: connections between nodes that know each other by their keys and by nothing else.
 *
 * - A **connection** carries frames of at most FRAME_BYTES_MAX bytes, whole and in order, in both directions.
 * - Whoever is at the other end has proved to hold the key behind `peer` before a connection exists. A node that
 *   `admit` does not know never gets as far as a frame.
 * - A **data connection** is a plain stream of bytes beside it, for one transfer, opened with a ticket that the other side
 *   gave out before (design §8: a stream never delays a heartbeat).
 * - An **introduction** is one question of a node that need not be known yet, and one answer; nothing stays open behind it.
 *
 * Two adapters: `websocket-transport.ts` (TLS) and `memory-transport.ts`. Both pass `test/suites/transport-contract.ts`.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { KeyProof } from '../core/codec/key-proof.ts';
import { PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import type { BareAccept } from './bare-connections.ts';

/** Largest frame in bytes: big enough to make batches worthwhile, small enough that a heartbeat never waits long behind one. */
export const FRAME_BYTES_MAX = 1024 * 1024;

/** Largest question or answer of an introduction, in bytes: who knocks is a stranger. */
export const INTRODUCTION_BYTES_MAX = 4_096;

/** What a data connection may be asked for by: letters, digits, `_` and `-`. */
export const TICKET_PATTERN = /^[A-Za-z0-9_-]{1,128}$/;

export interface Connection {
  /** Proved by the peer's key. */
  readonly peer: NodeId;
  /** Bytes handed to `send` that have not left this process. */
  readonly bufferedBytes: number;
  /** Bytes in frames, both ways, since the connection was opened. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Queues a frame. Throws `PROTOCOL_FRAME_TOO_LARGE`; does nothing on a closed connection. */
  send(frame: Uint8Array): void;
  /** Resolves once `bufferedBytes` is at most `bytes`, or the connection is closed. */
  drained(bytes: number): Promise<void>;
  /** Sets the one listener for frames; frames that came before wait for it. */
  onFrame(listener: (frame: Uint8Array) => void): void;
  /** Sets the one listener for the end of the connection, called once, also when that has passed already. */
  onClose(listener: (reason: PandoError) => void): void;
  /** Ends the connection after what was sent; the other side learns the code of `reason`. */
  close(reason: PandoError): void;
}

/** A node that proved to hold the newest key of a proof. */
export interface MetNode {
  readonly node: NodeId;
  readonly keyProof: KeyProof;
}

/** Told of every node that proved its key, whoever dialled. False for one that has shown a newer key here before: then this is none of its keys any more, or somebody else has it. */
export type Meets = (met: MetNode) => boolean;

export interface ListenOptions {
  /** Whether a node that proved its key may come in. */
  readonly admit: (peer: NodeId) => boolean;
  /** Asked first, also of nodes that this one dials. */
  readonly meets: Meets;
  readonly accept: (connection: Connection) => void;
  /** Who takes the data connection that `peer` asks for, or null when nobody gave out this ticket to this peer. */
  readonly acceptData: (peer: NodeId, ticket: string) => ((stream: Duplex) => void) | null;
  /** Who takes a bare connection that showed this ticket; null when nobody does. */
  readonly acceptBare: BareAccept;
  /** Answers a node that proved its key and may be anybody. Never rejects. */
  readonly introduce: (node: NodeId, question: Uint8Array) => Promise<Uint8Array>;
}

/** Data connections on which TLS is left to whoever takes the socket (`bare-connections.ts`). */
export interface BareConnections {
  /** Null where the peer takes none, and the ticket is as good as before. Rejects with `CONNECTION_CLOSED` when the signal is aborted. */
  open(address: string, ticket: string, signal: AbortSignal): Promise<Socket | null>;
}

export interface Transport {
  /** Null where there are no sockets. */
  readonly bare: BareConnections | null;
  /** Starts to listen and resolves to the address at which others reach it. Rejects with `PORT_IN_USE`. */
  listen(options: ListenOptions): Promise<string>;
  /**
   * Connects to `peer` at `address`. Rejects with `PEER_UNREACHABLE` (nobody answers), `PEER_UNKNOWN` (someone else
   * answers), `PEER_REFUSED` (the peer does not know this node), `ARGUMENT_INVALID` (not an address), and with
   * `CONNECTION_CLOSED` when `signal` is aborted.
   */
  dial(address: string, peer: NodeId, signal: AbortSignal): Promise<Connection>;
  /** Opens a data connection. Rejects like `dial`; `PEER_REFUSED` also when the peer does not know the ticket. */
  openData(address: string, peer: NodeId, ticket: string, signal: AbortSignal): Promise<Duplex>;
  /** Asks a node that need not know this one, and gives its answer. Rejects like `dial`, but for `PEER_REFUSED`. */
  introduce(address: string, peer: NodeId, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
  /** Stops listening and ends whatever is still open, connections after what was sent; resolves within seconds. */
  close(): Promise<void>;
}

/** Throws `PROTOCOL_FRAME_TOO_LARGE` when a frame is over the limit. */
export function checkFrameSize(frame: Uint8Array): void {
  if (frame.length <= FRAME_BYTES_MAX) return;
  throw new PandoError(
    'PROTOCOL_FRAME_TOO_LARGE',
    `A frame of ${frame.length} bytes is larger than the ${FRAME_BYTES_MAX} bytes that peers accept; please report this as a bug.`,
    { bytes: frame.length },
  );
}

/** Why a dial or a data connection failed, in one place so that every adapter says the same. */
export const dialFailure = {
  unreachable(peer: NodeId, address: string, why: string, cause?: unknown): PandoError {
    return new PandoError(
      'PEER_UNREACHABLE',
      `Peer ${peer} cannot be reached at ${address} (${why}); check that "pando serve" runs there and that the address is right.`,
      { peer, address },
      { cause },
    );
  },
  /** `found` is the node that answered, or null when it showed no key that could be a node's. */
  someoneElse(peer: NodeId, address: string, found: NodeId | null): PandoError {
    const who = found === null ? 'something that is not a Pando node' : `node ${found}`;
    return new PandoError(
      'PEER_UNKNOWN',
      `At ${address} answers ${who} instead of peer ${peer}; correct the address or the id with "pando peer add".`,
      { peer, address, found },
    );
  },
  formerKey(peer: NodeId, address: string): PandoError {
    return new PandoError(
      'PEER_UNKNOWN',
      `At ${address} answers peer ${peer} with a key that it has replaced; somebody may have stolen that one. If the node was set up again from an old backup, give it its newest key back, or remove the peer here and add it anew.`,
      { peer, address },
    );
  },
  refused(peer: NodeId, address: string, self: NodeId): PandoError {
    return new PandoError(
      'PEER_REFUSED',
      `Peer ${peer} at ${address} does not know this node, or knows a newer key of it; add it there with "pando peer add ${self}".`,
      { peer, address, self },
    );
  },
  ticketUnknown(peer: NodeId, address: string): PandoError {
    return new PandoError(
      'PEER_REFUSED',
      `Peer ${peer} at ${address} does not expect this data connection (any more); start the transfer again.`,
      { peer, address },
    );
  },
  /** `signal` is aborted, by whoever asked or by a time limit. */
  givenUp(peer: NodeId, address: string, signal: AbortSignal): PandoError {
    const { reason } = signal;
    if (reason instanceof DOMException && reason.name === 'TimeoutError') {
      return dialFailure.unreachable(peer, address, 'it did not answer in time');
    }
    return new PandoError('CONNECTION_CLOSED', `Connecting to peer ${peer} at ${address} was given up.`, {
      peer,
      address,
    });
  },
};
