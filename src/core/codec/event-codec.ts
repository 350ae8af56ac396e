import { PandoError } from '../errors.ts';
import { EVENT_VERSION, type Event, isKnownType, type KnownEvent, parseEvent } from '../events.ts';
import { pack, unpack, unpackTrusted } from './msgpack.ts';

/** Largest encoded event, in bytes: PROPERTIES_MAX full values would exceed it, real ones are three orders below. */
export const EVENT_BYTES_MAX = 256 * 1024;

/** The bytes of an event: what is hashed, kept and relayed. Throws `EVENT_INVALID` when they exceed the limit. */
export function encodeEvent(event: KnownEvent): Uint8Array {
  const bytes = pack(event);
  checkSize(bytes);
  return bytes;
}

function checkSize(bytes: Uint8Array): void {
  if (bytes.length <= EVENT_BYTES_MAX) return;
  throw new PandoError('EVENT_INVALID', `An event of ${bytes.length} bytes is larger than ${EVENT_BYTES_MAX} bytes.`);
}

/** Decodes and validates an event from outside. Throws `CODEC_INVALID`, `CODEC_VERSION` or `EVENT_INVALID`. */
export function decodeEvent(bytes: Uint8Array): Event {
  checkSize(bytes);
  const value = unpack(bytes);
  const version = (value as { v?: unknown } | null)?.v;
  if (Number.isInteger(version) && version !== EVENT_VERSION) {
    throw new PandoError(
      'CODEC_VERSION',
      `An event has format ${version}, this version reads format ${EVENT_VERSION}; update Pando on this node.`,
      { version },
    );
  }
  return parseEvent(value);
}

/** Decodes an event that went through {@link decodeEvent} or {@link encodeEvent} here before and whose hash was checked. */
export function decodeStoredEvent(bytes: Uint8Array): Event {
  const event = unpackTrusted(bytes) as Event;
  if (isKnownType(event.type)) return event;
  return { v: event.v, seq: event.seq, at: event.at, cause: event.cause, type: 'unknown', originalType: event.type };
}
