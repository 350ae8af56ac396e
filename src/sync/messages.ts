/**
 * What peers say to each other: one message per frame, a msgpack map whose `type` names the kind. Heads travel as arrays,
 * since they make up most of a small frame.
 *
 * Everything that arrives goes through {@link decodeMessage} once; behind it the types hold. Fields that this version does
 * not know are dropped, so a later one may add some within the same protocol version.
 */
import { z } from 'zod';
import {
  type CheckpointSeal,
  HASH_BYTES,
  PUBLIC_KEY_BYTES,
  SIGNATURE_BYTES,
  type SignedHead,
} from '../core/codec/chain.ts';
import { EVENT_BYTES_MAX } from '../core/codec/event-codec.ts';
import { pack, unpack } from '../core/codec/msgpack.ts';
import { ERROR_CODES, type ErrorCode, type Evidence, isPandoError, PandoError } from '../core/errors.ts';
import { type NodeId, parseNodeId, parseStreamId, type StreamId } from '../core/ids.ts';
import { CREDIT_WINDOW_BYTES } from './flow-control.ts';

/** Protocol versions that this code speaks. */
export const PROTOCOL_RANGE: ProtocolRange = { min: 1, max: 1 };

/** Streams of one peer: trees that one node shares. Keeps a `have` within one frame. */
export const STREAMS_PER_PEER_MAX = 2_000;
/** Events in one frame, so that what a frame unpacks to stays in proportion to its bytes. */
export const EVENTS_PER_FRAME_MAX = 4_096;
/** Bytes of events or of a checkpoint in one frame: a quarter of the largest frame, so that calls pass in between. */
export const BATCH_BYTES_MAX = 256 * 1024;

const CAPABILITIES_MAX = 64;
const SHORT_TEXT_CHARACTERS_MAX = 64;
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
export type Message = Hello | Have | Payload | Ack | Credit | Ping | Pong | Request | Response | Cancel | Goodbye;

const count = z.int().nonnegative();
const positive = z.int().positive();
const shortText = z.string().min(1).max(SHORT_TEXT_CHARACTERS_MAX);
const streamId = z.string().transform((text, context): StreamId => {
  try {
    return parseStreamId(text).stream;
  } catch (error) {
    if (!isPandoError(error)) throw error;
    context.addIssue({ code: 'custom', message: error.message });
    return z.NEVER;
  }
});
const nodeId = z.string().transform((text, context): NodeId => {
  try {
    return parseNodeId(text);
  } catch (error) {
    if (!isPandoError(error)) throw error;
    context.addIssue({ code: 'custom', message: error.message });
    return z.NEVER;
  }
});

/** Text of a peer that people get to see: without characters that could steer a terminal. */
const readableText = z
  .string()
  .max(MESSAGE_CHARACTERS_MAX)
  .transform((text) => text.replace(/\p{Cc}/gu, ' '));

/** A code of a later version means nothing here but that something failed. */
const errorCode = z.string().transform((text): ErrorCode => {
  return (ERROR_CODES as readonly string[]).includes(text) ? (text as ErrorCode) : 'INTERNAL';
});

function bytes(min: number, max: number) {
  return z.custom<Uint8Array>(
    (value) => value instanceof Uint8Array && value.length >= min && value.length <= max,
    `not ${min === max ? min : `${min} to ${max}`} bytes`,
  );
}

const hash = bytes(HASH_BYTES, HASH_BYTES);
const signature = bytes(SIGNATURE_BYTES, SIGNATURE_BYTES);

const head = z
  .tuple([streamId, positive, count, hash, bytes(PUBLIC_KEY_BYTES, PUBLIC_KEY_BYTES), signature])
  .transform(([stream, incarnation, seq, hash, publicKey, signature]): SignedHead => {
    return { stream, incarnation, seq, hash, publicKey, signature };
  });

const remoteError = z.object({
  code: errorCode,
  message: readableText,
  evidence: z.record(z.string(), z.unknown()).default({}),
});

const schemas = {
  hello: z.object({
    type: z.literal('hello'),
    protocol: z.object({ min: positive, max: positive }),
    node: nodeId,
    software: shortText,
    capabilities: z.array(shortText).max(CAPABILITIES_MAX),
  }),
  have: z.object({
    type: z.literal('have'),
    id: positive,
    reply: z.boolean().default(false),
    refresh: z.boolean().default(false),
    heads: z.array(head).max(STREAMS_PER_PEER_MAX).default([]),
    failure: remoteError.nullable().default(null),
  }),
  events: z.object({
    type: z.literal('events'),
    head,
    events: z.array(bytes(1, EVENT_BYTES_MAX)).min(1).max(EVENTS_PER_FRAME_MAX),
  }),
  'checkpoint-begin': z
    .object({ type: z.literal('checkpoint-begin'), head, seal: z.tuple([hash, signature]) })
    .transform(({ type, head, seal: [digest, signature] }): CheckpointBegin => {
      const { stream, incarnation, seq, hash, publicKey } = head;
      return { type, head, seal: { head: { stream, incarnation, seq, hash }, digest, publicKey, signature } };
    }),
  'checkpoint-chunk': z.object({
    type: z.literal('checkpoint-chunk'),
    bytes: bytes(1, BATCH_BYTES_MAX),
    last: z.boolean(),
  }),
  'checkpoint-end': z.object({ type: z.literal('checkpoint-end') }),
  ack: z.object({ type: z.literal('ack'), stream: streamId, incarnation: positive, seq: count }),
  credit: z.object({ type: z.literal('credit'), bytes: positive.max(CREDIT_WINDOW_BYTES) }),
  ping: z.object({ type: z.literal('ping') }),
  pong: z.object({ type: z.literal('pong') }),
  request: z.object({ type: z.literal('request'), id: positive, method: shortText, params: z.unknown() }),
  response: z.union([
    z.object({ type: z.literal('response'), id: positive, error: remoteError }),
    z.object({ type: z.literal('response'), id: positive, result: z.unknown() }),
  ]),
  cancel: z.object({ type: z.literal('cancel'), id: positive }),
  goodbye: z.object({ type: z.literal('goodbye'), code: errorCode, message: readableText }),
} satisfies { [Type in Message['type']]: z.ZodType<Extract<Message, { type: Type }>> };

const typed = z.object({ type: z.enum(Object.keys(schemas) as Message['type'][]) });

function wireHead({ stream, incarnation, seq, hash, publicKey, signature }: SignedHead): unknown[] {
  return [stream, incarnation, seq, hash, publicKey, signature];
}

/** Leaves out what the other side takes for granted. */
function wireHave({ type, id, reply, refresh, heads, failure }: Have): object {
  return {
    type,
    id,
    ...(reply && { reply }),
    ...(refresh && { refresh }),
    ...(heads.length > 0 && { heads: heads.map(wireHead) }),
    ...(failure !== null && { failure }),
  };
}

function wireForm(message: Message): object {
  switch (message.type) {
    case 'have':
      return wireHave(message);
    case 'events':
      return { ...message, head: wireHead(message.head) };
    case 'checkpoint-begin':
      return { ...message, head: wireHead(message.head), seal: [message.seal.digest, message.seal.signature] };
    default:
      return message;
  }
}

/** The frame of a message. */
export function encodeMessage(message: Message): Uint8Array {
  return pack(wireForm(message));
}

function invalid(what: string, error: z.ZodError): PandoError {
  const details = error.issues.map((issue) => `${issue.path.join('.') || what}: ${issue.message}`).join('; ');
  return new PandoError('PROTOCOL_FRAME_INVALID', `A ${what} from the peer is not well formed: ${details}.`);
}

function parse(value: unknown): Message {
  const kind = typed.safeParse(value);
  if (!kind.success) throw invalid('message', kind.error);
  const message = schemas[kind.data.type].safeParse(value);
  if (!message.success) throw invalid(`"${kind.data.type}" message`, message.error);
  return message.data;
}

/** Reads a frame of a peer. Throws `PROTOCOL_FRAME_INVALID` when it is not exactly one valid message. */
export function decodeMessage(frame: Uint8Array): Message {
  let value: unknown;
  try {
    value = unpack(frame);
  } catch (error) {
    if (!isPandoError(error, 'CODEC_INVALID')) throw error;
    throw new PandoError(
      'PROTOCOL_FRAME_INVALID',
      `A frame from the peer is no message: ${error.message}`,
      {},
      { cause: error },
    );
  }
  return parse(value);
}
