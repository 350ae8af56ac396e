/** What may follow on what: the rules of {@link Log.append} and {@link Log.reset}, the same for every driver. */
import {
  chainHash,
  equalHashes,
  genesisHash,
  type Head,
  type HeadSignature,
  hashText,
  type SignedHead,
} from '../core/codec/chain.ts';
import type { Hash } from '../core/codec/hash.ts';
import type { Append, LogRecord } from './log.ts';
import { corrupt, forked, gap } from './log-errors.ts';
import type { Page } from './page.ts';

/** What an append adds behind `current` (null: a stream that is not known yet). Throws as {@link Log.append} says. */
export function additionOf(current: Head | null, { stream, events, head, checkpoint }: Append): Page {
  const from = current ?? {
    stream,
    incarnation: head.incarnation,
    seq: 0,
    hash: genesisHash(stream, head.incarnation),
  };
  if (head.incarnation !== from.incarnation) {
    throw forked(stream, `it is in incarnation ${from.incarnation}, what was to be appended is in ${head.incarnation}`);
  }
  const first = head.seq - events.length + 1;
  if (first !== from.seq + 1) throw gap(stream, from.seq + 1, first);
  const records = chained(from.hash, first, events, head);
  expectHash(head, records.at(-1)?.hash ?? from.hash);
  if (checkpoint !== undefined) checkCheckpoint(head, checkpoint.seal.head);
  return { previous: from.hash, records };
}

/** The hash after each of the events. */
export function hashesAfter(previous: Hash, events: readonly Uint8Array[]): Hash[] {
  let hash = previous;
  return events.map((bytes) => {
    hash = chainHash(hash, bytes);
    return hash;
  });
}

/** The last of them with the author's word on it. */
function chained(
  previous: Hash,
  first: number,
  events: readonly Uint8Array[],
  { keyProof, signature }: HeadSignature,
): LogRecord[] {
  const last = events.length - 1;
  return hashesAfter(previous, events).map((hash, index) => {
    const bytes = events[index] as Uint8Array;
    return { seq: first + index, bytes, hash, signature: index === last ? { keyProof, signature } : null };
  });
}

/** Throws `LOG_CORRUPT` unless the chain up to a head comes out as the head says. */
export function expectHash({ stream, seq, hash }: Head, found: Hash): void {
  if (!equalHashes(hash, found)) throw corrupt({ stream, seq, expected: hashText(hash), found: hashText(found) });
}

/** Throws `LOG_CORRUPT` unless a checkpoint is sealed at that head. */
export function checkCheckpoint(head: Head, sealed: Head): void {
  const same = sealed.stream === head.stream && sealed.incarnation === head.incarnation && sealed.seq === head.seq;
  if (same && equalHashes(sealed.hash, head.hash)) return;
  const { stream, seq } = head;
  throw corrupt({ stream, seq, expected: 'a checkpoint at the head', found: `one at event ${sealed.seq}` });
}

/** Throws `LOG_FORKED` unless a stream at `current` may go over to `next` without the events in between. */
export function checkSuccession(current: Head, next: SignedHead): void {
  const { stream } = next;
  if (next.incarnation > current.incarnation) return;
  if (next.incarnation < current.incarnation) {
    throw forked(stream, `incarnation ${next.incarnation} is older than ${current.incarnation}, which is known`);
  }
  if (next.seq < current.seq)
    throw forked(stream, `event ${next.seq} lies before event ${current.seq}, which is known`);
  if (next.seq === current.seq && !equalHashes(next.hash, current.hash)) {
    throw forked(stream, `event ${next.seq} is known with another hash`);
  }
}
