import type { ErrorCode, PandoError } from '../core/errors.ts';
import { type Goodbye, MESSAGE_CHARACTERS_MAX } from './messages.ts';

/** Failures that the peer caused, or can do something about; it is not told of any others. */
const TOLD_CODES: readonly ErrorCode[] = [
  'PROTOCOL_VERSION',
  'PROTOCOL_FRAME_TOO_LARGE',
  'PROTOCOL_FRAME_INVALID',
  'PROTOCOL_UNEXPECTED',
  'PROTOCOL_CREDIT_EXCEEDED',
  'PROTOCOL_TIMEOUT',
  'CONNECTION_CLOSED',
  'PEER_REFUSED',
  'CODEC_INVALID',
  'CODEC_VERSION',
  'EVENT_INVALID',
  'LOG_GAP',
  'LOG_FORKED',
  'LOG_CORRUPT',
];

/** What a peer is told when its session ends for that reason. */
export function goodbyeFor({ code, message }: PandoError): Goodbye {
  if (TOLD_CODES.includes(code)) return { type: 'goodbye', code, message: message.slice(0, MESSAGE_CHARACTERS_MAX) };
  return {
    type: 'goodbye',
    code: 'INTERNAL',
    message: 'An error on its side, which has nothing to do with this peer.',
  };
}
