import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { NodeId } from '../core/ids.ts';
import { parseAddress } from '../sync/address.ts';
import { type Sealing, settled } from '../sync/sealing/sealing.ts';
import type { Meets } from '../sync/transport.ts';
import type { ReceiveSource } from '../zfs/zfs.ts';
import { passed, type RateLimit, throttledFrom } from './bandwidth.ts';
import { openDirect } from './direct-link.ts';
import type { Prepared } from './protocol.ts';

/** The receiving end of a data connection. */
export interface DataLink {
  readonly source: ReceiveSource;
  /** Bytes that have come so far, or null where Node does not see them. */
  readonly received: () => number | null;
  /** Once ZFS has all: the exact number of bytes, where only the connection counted them. */
  readonly finished: () => Promise<number | null>;
  /** Ends the connection, whatever its state. */
  readonly destroy: () => void;
}

/** Streams as large as this are sealed in a process of their own, in bytes: starting one takes as long as some ten MiB, and what is smaller disturbs nobody for long. */
const APART_BYTES_MIN = 32 * 1024 * 1024;

/** Sealing streams in processes of their own, between nodes that have sockets. */
export interface ApartLinks {
  readonly sealing: Sealing;
  /** `Hub.openBare`. */
  readonly openBare: (peer: NodeId, ticket: string, signal: AbortSignal) => Promise<Socket | null>;
  readonly meets: Meets;
}

/** How a receiver reaches a sender; `Hub` has the first. */
export interface DataLinkOptions {
  /** Null where all streams go through this process. */
  readonly apart: ApartLinks | null;
  readonly openData: (peer: NodeId, ticket: string, signal: AbortSignal) => Promise<Duplex>;
  /** Address of a peer as `host:port`. Throws `PEER_UNREACHABLE` for one that has none. */
  readonly addressOf: (peer: NodeId) => string;
  /** What streams from a peer go by. */
  readonly limits: (peer: NodeId) => readonly RateLimit[];
}

/** A stream that is to be fetched. */
export interface WantedLink {
  readonly peer: NodeId;
  readonly prepared: Pick<Prepared, 'mode' | 'directPort'>;
  readonly ticket: string;
  readonly estimatedBytes: number;
  /** Of this sync alone. */
  readonly limit: RateLimit | null;
  readonly signal: AbortSignal;
}

/** Opens a data connection for one stream in the mode that the sender chose. */
export async function openDataLink(options: DataLinkOptions, wanted: WantedLink): Promise<DataLink> {
  const { peer, prepared, ticket, signal } = wanted;
  if (prepared.mode === 'direct' && prepared.directPort !== null) {
    const socket = await openDirect(parseAddress(options.addressOf(peer)).host, prepared.directPort, ticket, signal);
    return {
      source: { kind: 'socket', socket, head: null },
      received: () => null,
      finished: async () => null,
      destroy: () => socket.destroy(),
    };
  }
  return (await openApart(options, wanted)) ?? openThrough(options, wanted);
}

/** A connection that a process of its own decrypts; null where it is not worth one, or cannot be had. */
async function openApart({ apart, limits }: DataLinkOptions, wanted: WantedLink): Promise<DataLink | null> {
  const { peer, ticket, estimatedBytes, limit, signal } = wanted;
  const hold = limits(peer);
  // What is slow anyway disturbs nobody
  const isSlow = limit !== null || hold.some(({ bytesPerSecond }) => bytesPerSecond !== null);
  if (apart === null || isSlow || estimatedBytes < APART_BYTES_MIN || !apart.sealing.hasRoom) return null;
  const socket = await apart.openBare(peer, ticket, signal);
  if (socket === null) return null;
  const stream = await apart.sealing.receive({
    socket,
    peer,
    meets: apart.meets,
    passed: (bytes) => passed(hold, bytes),
    signal,
  });
  return {
    source: { kind: 'socket', socket: stream.socket, head: stream.head },
    received: stream.bytes,
    finished: async () => {
      await settled(stream);
      return stream.bytes();
    },
    destroy: stream.destroy,
  };
}

async function openThrough(options: DataLinkOptions, { peer, ticket, limit, signal }: WantedLink): Promise<DataLink> {
  const stream = await options.openData(peer, ticket, signal);
  // What goes wrong with the connection reaches whoever reads from it; this keeps it from ending the process when nobody does.
  stream.on('error', () => undefined);
  const slow = throttledFrom(stream, [...options.limits(peer), ...(limit === null ? [] : [limit])]);
  return {
    source: { kind: 'stream', stream: slow },
    received: () => bytesReadOf(stream),
    finished: async () => null,
    destroy: () => stream.destroy(),
  };
}

function bytesReadOf(stream: Duplex): number | null {
  return 'bytesRead' in stream && typeof stream.bytesRead === 'number' ? stream.bytesRead : null;
}
