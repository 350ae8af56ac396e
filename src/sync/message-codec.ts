/**
 * Messages on the wire: msgpack maps whose `type` names the kind. Heads travel as arrays, since they make up most of a
 * small frame, and what is taken for granted is left out.
 *
 * Everything that arrives goes through {@link decodeMessage} once; behind it the types hold. Fields that this version does
 * not know are dropped, so a later one may add some within the same protocol version.
 */
import { z } from 'zod';
import type { Head, SignedHead } from '../core/codec/chain.ts';
import { EVENT_BYTES_MAX } from '../core/codec/event-codec.ts';
import { HASH_BYTES } from '../core/codec/hash.ts';
import { isProofLength, SIGNATURE_BYTES } from '../core/codec/key-proof.ts';
import { pack, unpack } from '../core/codec/msgpack.ts';
import { ERROR_CODES, type ErrorCode, isPandoError, PandoError } from '../core/errors.ts';
import { branded, nodeId } from '../core/event-fields.ts';
import { parseStreamId, type StreamId } from '../core/ids.ts';
import { CREDIT_WINDOW_BYTES } from './flow-control.ts';
import {
  BATCH_BYTES_MAX,
  type CheckpointBegin,
  type Have,
  MESSAGE_CHARACTERS_MAX,
  type Message,
  RELAYED_STREAMS_MAX,
  STREAMS_PER_PEER_MAX,
} from './messages.ts';

/** Events in one frame, so that what a frame unpacks to stays in proportion to its bytes. */
const EVENTS_PER_FRAME_MAX = 4_096;
const CAPABILITIES_MAX = 64;
const SHORT_TEXT_CHARACTERS_MAX = 64;
const HEAD_FIELDS = 6;
/** Things that are wrong with a message, in words, before the rest is cut off. */
const ISSUES_TOLD_MAX = 3;

const count = z.int().nonnegative();
const positive = z.int().positive();
/** Text of a peer that people may get to see: without characters that could steer a terminal or turn its lines round. */
function readable(charactersMax: number) {
  return z
    .string()
    .max(charactersMax)
    .transform((text) => text.replace(/[\p{Cc}\p{Cf}]/gu, ' '));
}

const shortText = readable(SHORT_TEXT_CHARACTERS_MAX);
const sentence = readable(MESSAGE_CHARACTERS_MAX);
const streamId = branded((text) => parseStreamId(text).stream);

/** Counts before it looks at what is inside: a million things that are wrong would take a thousand times their size to tell. */
function listOf<Item extends z.ZodType>(item: Item, itemsMin: number, itemsMax: number) {
  return z.array(z.unknown()).min(itemsMin).max(itemsMax).pipe(z.array(item));
}

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

/** Field by field by hand: most of what peers say all day is heads, and a schema takes ten times as long for one. */
const head = z.unknown().transform((value, context): SignedHead => {
  const fields: readonly unknown[] = Array.isArray(value) && value.length === HEAD_FIELDS ? value : [];
  const [id, incarnation, seq, hash, keyProof, signature] = fields;
  const stream = streamOf(id);
  const isWhole =
    stream !== null &&
    isCount(incarnation) &&
    incarnation > 0 &&
    isCount(seq) &&
    isBytes(hash, HASH_BYTES) &&
    keyProof instanceof Uint8Array &&
    isProofLength(keyProof.length) &&
    isBytes(signature, SIGNATURE_BYTES);
  if (isWhole) return { stream, incarnation, seq, hash, keyProof, signature };
  context.addIssue({ code: 'custom', message: 'not the head of a stream' });
  return z.NEVER;
});

const bareHead = z
  .tuple([streamId, positive, count, hash])
  .transform(([stream, incarnation, seq, hash]): Head => ({ stream, incarnation, seq, hash }));

function streamOf(value: unknown): StreamId | null {
  if (typeof value !== 'string') return null;
  try {
    return parseStreamId(value).stream;
  } catch (error) {
    if (!isPandoError(error)) throw error;
    return null;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isBytes(value: unknown, length: number): value is Uint8Array {
  return value instanceof Uint8Array && value.length === length;
}

const remoteError = z.object({
  code: errorCode,
  message: sentence,
  evidence: z.record(z.string(), z.unknown()).default({}),
});

const schemas = {
  hello: z.object({
    type: z.literal('hello'),
    protocol: z.object({ min: positive, max: positive }),
    node: nodeId,
    software: shortText,
    capabilities: listOf(shortText, 0, CAPABILITIES_MAX),
  }),
  have: z.object({
    type: z.literal('have'),
    id: positive,
    reply: z.boolean().default(false),
    refresh: z.boolean().default(false),
    heads: listOf(head, 0, STREAMS_PER_PEER_MAX).default([]),
    failure: remoteError.nullable().default(null),
  }),
  events: z.object({
    type: z.literal('events'),
    head,
    events: listOf(bytes(1, EVENT_BYTES_MAX), 1, EVENTS_PER_FRAME_MAX),
  }),
  'checkpoint-begin': z
    .object({ type: z.literal('checkpoint-begin'), head, seal: z.tuple([hash, signature]) })
    .transform(({ type, head, seal: [digest, signature] }): CheckpointBegin => {
      const { stream, incarnation, seq, hash, keyProof } = head;
      return { type, head, seal: { head: { stream, incarnation, seq, hash }, digest, keyProof, signature } };
    }),
  'checkpoint-chunk': z.object({
    type: z.literal('checkpoint-chunk'),
    bytes: bytes(1, BATCH_BYTES_MAX),
    last: z.boolean(),
  }),
  'checkpoint-end': z.object({ type: z.literal('checkpoint-end') }),
  offer: z.object({ type: z.literal('offer'), streams: listOf(streamId, 0, RELAYED_STREAMS_MAX) }),
  follow: z.object({ type: z.literal('follow'), heads: listOf(bareHead, 0, RELAYED_STREAMS_MAX) }),
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
  goodbye: z.object({ type: z.literal('goodbye'), code: errorCode, message: sentence }),
} satisfies { [Type in Message['type']]: z.ZodType<Extract<Message, { type: Type }>> };

function typeOf(value: unknown): Message['type'] | null {
  const type = typeof value === 'object' && value !== null && 'type' in value ? value.type : null;
  return typeof type === 'string' && Object.hasOwn(schemas, type) ? (type as Message['type']) : null;
}

function wireHead({ stream, incarnation, seq, hash, keyProof, signature }: SignedHead): unknown[] {
  return [stream, incarnation, seq, hash, keyProof, signature];
}

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
    case 'follow':
      return {
        ...message,
        heads: message.heads.map(({ stream, incarnation, seq, hash }) => [stream, incarnation, seq, hash]),
      };
    default:
      return message;
  }
}

/** The frame of a message. */
export function encodeMessage(message: Message): Uint8Array {
  return pack(wireForm(message));
}

function invalid(what: string, error: z.ZodError): PandoError {
  const told = error.issues.slice(0, ISSUES_TOLD_MAX);
  const details = told.map((issue) => `${issue.path.join('.') || what}: ${issue.message}`).join('; ');
  return new PandoError('PROTOCOL_FRAME_INVALID', `A ${what} from the peer is not well formed: ${details}.`);
}

function parse(value: unknown): Message {
  const type = typeOf(value);
  if (type === null) {
    throw new PandoError('PROTOCOL_FRAME_INVALID', 'A message from the peer is of no type that this version knows.');
  }
  const message = schemas[type].safeParse(value);
  if (!message.success) throw invalid(`"${type}" message`, message.error);
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
