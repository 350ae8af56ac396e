/**
 * What a node and a process that seals a stream for it say to each other, over the channel that Node opens between them. Nobody else can speak there, so that nothing is checked: a library for that would be most of what the
 * process takes to start.
 */
import type { StreamHead, Unreadable } from '../../zfs/zfs.ts';

/** Sent once, first: what to do, and as whom. */
export interface StartOrder {
  readonly say: 'start';
  readonly role: 'send' | 'receive';
  readonly privateKeyPem: string;
  readonly certificatePem: string;
}

export type Order =
  | StartOrder
  /** So many more bytes may pass. */
  | { readonly say: 'go'; readonly bytes: number };

export type Report =
  /** TLS stands, with whoever has the key of this certificate, in base64. Nothing passes before the answer, the first `go`. */
  | { readonly say: 'met'; readonly certificate: string }
  /** What the stream that comes begins with; the rest waits behind it for `go`. */
  | { readonly say: 'begin'; readonly head: StreamHead | Unreadable }
  /** So many more bytes have passed. */
  | { readonly say: 'passed'; readonly bytes: number }
  /** Why it ends without having done all of it. */
  | { readonly say: 'failed'; readonly why: string };

/** Descriptors of the process: the connection to the peer, and the end of the pair whose other one ZFS has. */
export const CONNECTION_DESCRIPTOR = 0;
export const PAIR_DESCRIPTOR = 4;

/** Bytes that may be under way without leave: enough never to wait for it at full speed, little enough for a limit to bite soon. */
export const WINDOW_BYTES = 16 * 1024 * 1024;
/** How often what has passed is reported, in bytes. */
export const REPORT_BYTES = 4 * 1024 * 1024;
