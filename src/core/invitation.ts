/**
 * Invitations: one line that pairs two nodes for good. Whoever has the line may join once, until it expires; the node that made it knows its secret by hash only.
 *
 * `pando://ADDRESS/NODEID/SECRET/EXPIRY/CHECK`. The check catches what was typed or copied wrong; it keeps nobody from making up a line, and need not: the node id is proved by the
 * key behind it, the secret by being known, and the expiry is the inviting node's own.
 */
import { createHash } from 'node:crypto';
import { base32nopad } from '@scure/base';
import { PandoError } from './errors.ts';
import { type NodeId, parseNodeId } from './ids.ts';

/** 128 bits: nobody guesses that in the time that an invitation lives. */
export const SECRET_BYTES = 16;
const CHECK_CHARACTERS = 8;
const SCHEME = 'pando://';
/** Longer lines are no invitations: the longest host name has 253 characters (RFC 1035 §2.3.4). */
const LINE_CHARACTERS_MAX = 512;
const MS_PER_SECOND = 1000;

export interface InvitationLine {
  /** Where the inviting node listens, as `host:port`. */
  readonly address: string;
  readonly node: NodeId;
  readonly secret: Uint8Array;
  /** Unix ms, whole seconds. */
  readonly expiresAt: number;
}

function checkOf(text: string): string {
  const digest = createHash('sha256').update(`pando invitation ${text}`).digest();
  return base32nopad.encode(new Uint8Array(digest)).slice(0, CHECK_CHARACTERS);
}

/** ISO 8601 in its basic form, which has no character that a shell takes for something else. */
function formatExpiry(expiresAt: number): string {
  return new Date(expiresAt).toISOString().replace(/[-:]|\.\d{3}/g, '');
}

function parseExpiry(text: string): number {
  const match = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/.exec(text);
  if (match === null) return Number.NaN;
  const [year, month, day, hour, minute, second] = match.slice(1);
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

/** Whole seconds, as a line can say them. */
export function expiryAfter(nowMs: number, lifetimeMs: number): number {
  return Math.ceil((nowMs + lifetimeMs) / MS_PER_SECOND) * MS_PER_SECOND;
}

export function formatInvitation({ address, node, secret, expiresAt }: InvitationLine): string {
  const text = `${SCHEME}${address}/${node}/${base32nopad.encode(secret)}/${formatExpiry(expiresAt)}`;
  return `${text}/${checkOf(text)}`;
}

function invalid(why: string): PandoError {
  return new PandoError(
    'INVITATION_INVALID',
    `That is not an invitation as it was made: ${why}. Copy the whole line that "pando peer invite" printed.`,
  );
}

function secretOf(text: string): Uint8Array | undefined {
  try {
    return base32nopad.decode(text);
  } catch {
    return undefined;
  }
}

/** Reads a line. Throws `INVITATION_INVALID` for what was altered, or is no invitation at all; whether it has expired is for whoever knows the time. */
export function parseInvitation(given: string): InvitationLine {
  const line = given.trim();
  if (!line.startsWith(SCHEME) || line.length > LINE_CHARACTERS_MAX)
    throw invalid(`it does not begin with "${SCHEME}"`);
  const end = line.lastIndexOf('/');
  const [text, check] = [line.slice(0, end), line.slice(end + 1)];
  if (checkOf(text) !== check) throw invalid('a character of it is wrong, or some are missing');
  const [address = '', node = '', secretText = '', expiry = '', ...rest] = text.slice(SCHEME.length).split('/');
  const secret = secretOf(secretText);
  const expiresAt = parseExpiry(expiry);
  if (rest.length > 0 || secret?.length !== SECRET_BYTES || Number.isNaN(expiresAt))
    throw invalid('it has other parts');
  return { address, node: parseNodeId(node), secret, expiresAt };
}

/** What the inviting node keeps of a secret, as hexadecimal digits. */
export function secretHash(secret: Uint8Array): string {
  return createHash('sha256').update('pando invitation secret ').update(secret).digest('hex');
}
