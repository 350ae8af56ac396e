import type { Socket } from 'node:net';
import { type Duplex, pipeline, type Readable, Transform } from 'node:stream';
import type { NodeId } from '../core/ids.ts';
import { parseAddress } from '../sync/address.ts';
import type { Sealing } from '../sync/sealing/sealing.ts';
import type { Meets } from '../sync/transport.ts';
import type { ReceiveSource } from '../zfs/zfs.ts';
import { passed, type RateLimit, throttledFrom } from './bandwidth.ts';
import type { Compressor } from './compression/compressor.ts';
import { openDirect } from './direct-link.ts';
import type { LinkUses } from './link-uses.ts';
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

/** Streams as large as this are sealed in a process of their own, in bytes: starting one takes a tenth of a second, and what is smaller disturbs nobody for long. */
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
  readonly compressor: Compressor;
  readonly uses: LinkUses;
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
  /** Whether the sender compresses it. */
  readonly compressed: boolean;
  /** Of this sync alone. */
  readonly limit: RateLimit | null;
  readonly signal: AbortSignal;
}

/** Opens a data connection for one stream in the mode that the sender chose. */
export async function openDataLink(options: DataLinkOptions, wanted: WantedLink): Promise<DataLink> {
  const { peer, prepared, ticket, signal, compressed } = wanted;
  if (prepared.mode === 'direct' && prepared.directPort !== null) {
    const socket = await openDirect(parseAddress(options.addressOf(peer)).host, prepared.directPort, ticket, signal);
    options.uses.note(peer, { mode: 'direct', compressed, apart: false });
    if (compressed) return throughNode(options, wanted, socket);
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
async function openApart({ apart, limits, uses }: DataLinkOptions, wanted: WantedLink): Promise<DataLink | null> {
  const { peer, ticket, estimatedBytes, compressed, limit, signal } = wanted;
  const hold = limits(peer);
  // What is slow anyway disturbs nobody
  const isSlow = limit !== null || hold.some(({ bytesPerSecond }) => bytesPerSecond !== null);
  if (apart === null || isSlow || compressed || estimatedBytes < APART_BYTES_MIN || !apart.sealing.hasRoom) return null;
  const socket = await apart.openBare(peer, ticket, signal);
  if (socket === null) return null;
  uses.note(peer, { mode: 'sealed', compressed: false, apart: true });
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
      await stream.settled();
      return stream.bytes();
    },
    destroy: stream.destroy,
  };
}

async function openThrough(options: DataLinkOptions, wanted: WantedLink): Promise<DataLink> {
  const { peer, ticket, compressed, signal } = wanted;
  const connection = await options.openData(peer, ticket, signal);
  options.uses.note(peer, { mode: 'sealed', compressed, apart: false });
  return throughNode(options, wanted, connection);
}

function throughNode(options: DataLinkOptions, { peer, compressed, limit }: WantedLink, connection: Duplex): DataLink {
  // What goes wrong with the connection reaches whoever reads from it; this keeps it from ending the process when nobody does.
  connection.on('error', () => undefined);
  const slow = throttledFrom(connection, [...options.limits(peer), ...(limit === null ? [] : [limit])]);
  const { stream, received } = compressed
    ? counted(options.compressor.decompressFrom(slow))
    : { stream: slow, received: () => bytesReadOf(connection) };
  return {
    source: { kind: 'stream', stream },
    received,
    finished: async () => null,
    destroy: () => connection.destroy(),
  };
}

/** Of a compressed stream people see how much of the plain one has come, which is what was estimated. */
function counted(stream: Readable): { readonly stream: Readable; readonly received: () => number } {
  let bytes = 0;
  const counter = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  // Whoever reads from it hears of what went wrong
  return { stream: pipeline(stream, counter, () => undefined), received: () => bytes };
}

function bytesReadOf(stream: Duplex): number | null {
  return 'bytesRead' in stream && typeof stream.bytesRead === 'number' ? stream.bytesRead : null;
}
