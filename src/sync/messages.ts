/** What peers say to each other: one message per frame. `message-codec.ts` tells how it looks on the wire. */
import type { CheckpointSeal, Head, SignedHead } from '../core/codec/chain.ts';
import type { ErrorCode, Evidence } from '../core/errors.ts';
import type { NodeId, StreamId } from '../core/ids.ts';

/** Protocol versions that this code speaks. */
export const PROTOCOL_RANGE: ProtocolRange = { min: 1, max: 1 };

/** Streams of one peer: trees that one node shares. Keeps a `have` within one frame. */
export const STREAMS_PER_PEER_MAX = 2_000;
/** Bytes of events or of a checkpoint in one frame: a quarter of the largest frame, so that calls pass in between. */
export const BATCH_BYTES_MAX = 256 * 1024;

/** In the capabilities of a node that hands on and takes streams of other nodes. */
export const RELAY_CAPABILITY = 'relay';
/** Streams of other nodes that a peer is offered, or follows through this node, at a time. Keeps an `offer` or a `follow` within one frame. */
export const RELAYED_STREAMS_MAX = 2_000;

/** Longest sentence about a failure. */
export const MESSAGE_CHARACTERS_MAX = 2_000;

export interface ProtocolRange {
  readonly min: number;
  readonly max: number;
}

/** A failure as it crosses the wire. */
export interface RemoteError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly evidence: Evidence;
}

export interface Hello {
  readonly type: 'hello';
  readonly protocol: ProtocolRange;
  readonly node: NodeId;
  /** Version of the software, for people. */
  readonly software: string;
  readonly capabilities: readonly string[];
}

/**
 * A question or an answer about how far streams have come. A question asks the other side to send what it shares and the
 * asker lacks, and to answer; the first one of a session tells what the asker holds of the other side's streams. The answer
 * comes behind the events that were missing, and tells up to where they go.
 */
export interface Have {
  readonly type: 'have';
  /** Of the question, and again in its answer. */
  readonly id: number;
  readonly reply: boolean;
  /** In a question: the other side shall look at ZFS first. */
  readonly refresh: boolean;
  readonly heads: readonly SignedHead[];
  /** In an answer: why the refresh failed. */
  readonly failure: RemoteError | null;
}

export interface Events {
  readonly type: 'events';
  /** The head after the last event. */
  readonly head: SignedHead;
  readonly events: readonly Uint8Array[];
}
export interface CheckpointBegin {
  readonly type: 'checkpoint-begin';
  readonly head: SignedHead;
  readonly seal: CheckpointSeal;
}
export interface CheckpointChunk {
  readonly type: 'checkpoint-chunk';
  /** A chunk, or a part of one. */
  readonly bytes: Uint8Array;
  /** Whether the chunk ends here. */
  readonly last: boolean;
}
export interface CheckpointEnd {
  readonly type: 'checkpoint-end';
}
/** The streams of other nodes that the sender would hand on, all of them; each such message takes the place of the one before. */
export interface Offer {
  readonly type: 'offer';
  readonly streams: readonly StreamId[];
}
/**
 * The streams out of an offer that the sender wants from now on, all of them, and how far it is in each: nothing of a stream is seq 0 of
 * incarnation 1. The head of a stream that it followed already is ignored.
 */
export interface Follow {
  readonly type: 'follow';
  readonly heads: readonly Head[];
}
/** Up to here, a stream of the receiver is on the sender's disk. */
export interface Ack {
  readonly type: 'ack';
  readonly stream: StreamId;
  readonly incarnation: number;
  readonly seq: number;
}
/** So many bytes more of events and checkpoints may be sent. */
export interface Credit {
  readonly type: 'credit';
  readonly bytes: number;
}
export interface Ping {
  readonly type: 'ping';
}
export interface Pong {
  readonly type: 'pong';
}
export interface Request {
  readonly type: 'request';
  readonly id: number;
  readonly method: string;
  readonly params: unknown;
}
export type Response =
  | { readonly type: 'response'; readonly id: number; readonly result: unknown }
  | { readonly type: 'response'; readonly id: number; readonly error: RemoteError };
export interface Cancel {
  readonly type: 'cancel';
  readonly id: number;
}
/** The last message of a connection: why it ends. */
export interface Goodbye {
  readonly type: 'goodbye';
  readonly code: ErrorCode;
  readonly message: string;
}

/** Messages that carry events or graphs; they are paid for with credit. */
export type Payload = Events | CheckpointBegin | CheckpointChunk | CheckpointEnd;
export type Message =
  | Hello
  | Have
  | Payload
  | Offer
  | Follow
  | Ack
  | Credit
  | Ping
  | Pong
  | Request
  | Response
  | Cancel
  | Goodbye;
