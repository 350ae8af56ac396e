import type { Duplex } from 'node:stream';
import type { NodeId } from '../core/ids.ts';
import { parseAddress } from '../sync/address.ts';
import type { ReceiveSource } from '../zfs/zfs.ts';
import { type RateLimit, throttledFrom } from './bandwidth.ts';
import { openDirect } from './direct-link.ts';
import type { Prepared } from './protocol.ts';

/** The receiving end of a data connection. */
export interface DataLink {
  readonly source: ReceiveSource;
  /** Bytes that have come so far, or null where Node does not see them. */
  readonly received: () => number | null;
  /** Ends the connection, whatever its state. */
  readonly destroy: () => void;
}

/** How a receiver reaches a sender; `Hub` has the first. */
export interface DataLinkOptions {
  readonly openData: (peer: NodeId, ticket: string, signal: AbortSignal) => Promise<Duplex>;
  /** Address of a peer as `host:port`. Throws `PEER_UNREACHABLE` for one that has none. */
  readonly addressOf: (peer: NodeId) => string;
  /** What streams from a peer go by. */
  readonly limits: (peer: NodeId) => readonly RateLimit[];
}

/** Opens a data connection for one stream in the mode that the sender chose. `limit` is of this sync alone. */
export async function openDataLink(
  options: DataLinkOptions,
  peer: NodeId,
  prepared: Pick<Prepared, 'mode' | 'directPort'>,
  ticket: string,
  signal: AbortSignal,
  limit: RateLimit | null,
): Promise<DataLink> {
  if (prepared.mode === 'direct' && prepared.directPort !== null) {
    const socket = await openDirect(parseAddress(options.addressOf(peer)).host, prepared.directPort, ticket, signal);
    return { source: { kind: 'socket', socket }, received: () => null, destroy: () => socket.destroy() };
  }
  const stream = await options.openData(peer, ticket, signal);
  // What goes wrong with the connection reaches whoever reads from it; this keeps it from ending the process when nobody does.
  stream.on('error', () => undefined);
  const slow = throttledFrom(stream, [...options.limits(peer), ...(limit === null ? [] : [limit])]);
  return {
    source: { kind: 'stream', stream: slow },
    received: () => bytesReadOf(stream),
    destroy: () => stream.destroy(),
  };
}

function bytesReadOf(stream: Duplex): number | null {
  return 'bytesRead' in stream && typeof stream.bytesRead === 'number' ? stream.bytesRead : null;
}
