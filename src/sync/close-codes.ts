/** WebSocket close codes (RFC 6455 §7.4) and what they stand for here: the one table between the two. */
import { type ErrorCode, PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';

interface ClosingReason {
  readonly closeCode: number;
  readonly code: ErrorCode;
  /** Behind "The connection to peer X was closed: ". */
  readonly sentence: string;
}

/** Codes below 4000 are the protocol's own, those from 4000 on are ours (RFC 6455 §7.4.2). The first of a code is what we send. */
const REASONS: readonly ClosingReason[] = [
  { closeCode: 1000, code: 'CONNECTION_CLOSED', sentence: 'the other side ended it' },
  { closeCode: 1001, code: 'CONNECTION_CLOSED', sentence: 'the other side went away' },
  { closeCode: 1006, code: 'CONNECTION_CLOSED', sentence: 'the link broke' },
  { closeCode: 1009, code: 'PROTOCOL_FRAME_TOO_LARGE', sentence: 'a frame was larger than allowed' },
  { closeCode: 4001, code: 'PROTOCOL_FRAME_INVALID', sentence: 'a frame could not be understood' },
  { closeCode: 1002, code: 'PROTOCOL_FRAME_INVALID', sentence: 'the WebSocket protocol was broken' },
  { closeCode: 1003, code: 'PROTOCOL_FRAME_INVALID', sentence: 'a frame was text where bytes belong' },
  { closeCode: 1007, code: 'PROTOCOL_FRAME_INVALID', sentence: 'a text was not valid UTF-8' },
  { closeCode: 4002, code: 'PROTOCOL_VERSION', sentence: 'the two versions of Pando have no protocol in common' },
  { closeCode: 4003, code: 'PROTOCOL_UNEXPECTED', sentence: 'something came that did not belong there' },
  { closeCode: 4004, code: 'PROTOCOL_CREDIT_EXCEEDED', sentence: 'more was sent than there was credit for' },
  { closeCode: 4005, code: 'PROTOCOL_TIMEOUT', sentence: 'nothing was heard for too long' },
  { closeCode: 4006, code: 'PEER_REFUSED', sentence: 'the other side does not accept this node any more' },
  { closeCode: 4007, code: 'LOG_GAP', sentence: 'events were missing' },
  { closeCode: 4008, code: 'LOG_FORKED', sentence: 'two histories of a stream contradict each other' },
  { closeCode: 4009, code: 'LOG_CORRUPT', sentence: 'events were not what their author signed' },
  { closeCode: 4010, code: 'EVENT_INVALID', sentence: 'an event was not valid' },
];

const OTHER: ClosingReason = { closeCode: 4000, code: 'CONNECTION_CLOSED', sentence: 'the other side met an error' };

/** The close code to send for an error. */
export function closeCodeOf(error: PandoError): number {
  return (REASONS.find(({ code }) => code === error.code) ?? OTHER).closeCode;
}

/** What a close code from `peer` means. */
export function closingError(closeCode: number, peer: NodeId): PandoError {
  const { code, sentence } = REASONS.find((reason) => reason.closeCode === closeCode) ?? OTHER;
  return new PandoError(code, `The connection to peer ${peer} was closed: ${sentence}.`, { peer, closeCode });
}

/** What a connection without a close code means: the link is gone. */
export function linkBroken(peer: NodeId): PandoError {
  return closingError(1006, peer);
}
