/**
 * The Log port: streams of events, each a hash chain with one author, kept so that what comes back is what went in, or an error that
 * names the place.
 *
 * - A **record** is one event as its author encoded it, with the chain's hash behind it. A log never looks inside.
 * - A **stream** has one current incarnation and a head, the last record's seq and hash, signed by the author.
 * - A **checkpoint** stands for everything up to its seq: chunks of an encoded graph and a seal over them. A log takes the seal as it is.
 * - Where an append ended, its head's signature stays with the last record: whoever hands on another node's stream cannot sign in its place.
 * - Appends are atomic: after a crash, a batch, its signed head and its checkpoint are there, or none of them.
 *
 * Two drivers: `level-log.ts` on LevelDB, `memory-log.ts`. Both pass `test/suites/log-contract.ts`.
 */
import type { CheckpointSeal, HeadSignature, SignedHead } from '../core/codec/chain.ts';
import type { Hash } from '../core/codec/hash.ts';
import type { StreamId } from '../core/ids.ts';

/** One event in a stream, as bytes. */
export interface LogRecord {
  readonly seq: number;
  readonly bytes: Uint8Array;
  /** Hash of the chain up to and including this record. */
  readonly hash: Hash;
  /** The author's word on the head after this record, where an append ended; null elsewhere, and in what earlier builds wrote. */
  readonly signature: HeadSignature | null;
}

/**
 * A graph in chunks, and a seal over them: by the stream's author, whose word counts anywhere, or by the node that keeps the log, for its
 * own use. Chunks may be made while they are written.
 */
export interface Checkpoint {
  readonly seal: CheckpointSeal;
  readonly chunks: Iterable<Uint8Array>;
}

/** A checkpoint read back: the chunks come one at a time, for one pass. */
export interface StoredCheckpoint {
  /** The signed head that it was written at; null in what earlier builds wrote. */
  readonly head: SignedHead | null;
  readonly seal: CheckpointSeal;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** One atomic change of a stream. */
export interface Append {
  readonly stream: StreamId;
  /** Encoded events in order; the log numbers and chains them after its head. May be empty when only a checkpoint is added. */
  readonly events: readonly Uint8Array[];
  /** The head after these events. Its seq and hash must be those that the log computes itself. */
  readonly head: SignedHead;
  /** A checkpoint at exactly that head. */
  readonly checkpoint?: Checkpoint;
}

/** What `verify` found in one stream. */
export interface StreamVerification {
  readonly stream: StreamId;
  readonly incarnation: number;
  /** Records read and hashed. */
  readonly records: number;
  /** Seq of the head. */
  readonly seq: number;
  /** The first thing that is wrong, or null. */
  readonly fault: LogFault | null;
}

/** Where a log is not what was written: the evidence of `LOG_CORRUPT`. */
export interface LogFault {
  readonly stream: StreamId;
  readonly seq: number;
  /** Hashes in hexadecimal, or what else was expected and found there. */
  readonly expected: string;
  readonly found: string;
}

export interface Log {
  /** Streams that something is kept of, own and others', in the order of their ids; a stream whose head is damaged is among them. */
  streams(): Promise<StreamId[]>;
  /** The head of a stream, or null when nothing is known of it. Rejects with `LOG_CORRUPT` when it is not what was written. */
  head(stream: StreamId): Promise<SignedHead | null>;

  /**
   * Appends atomically. An unknown stream begins with the incarnation that the head names.
   * Rejects, and changes nothing, with `LOG_GAP` when the head's seq is not what follows, `LOG_FORKED` when the incarnation is not the
   * current one, `LOG_CORRUPT` when the computed hash is not the head's or the checkpoint belongs to another head, `LOG_UNWRITABLE` when
   * the disk takes nothing more.
   */
  append(append: Append): Promise<void>;

  /**
   * Replaces whatever is kept of a stream by a checkpoint at its seal's head: how a peer catches up past a compacted gap, and how a
   * stream goes over to a new incarnation. Rejects with `LOG_FORKED` when that would go back, to an earlier incarnation or seq, or would
   * put another hash in the place of the head's. A damaged stream is replaced unconditionally.
   */
  reset(stream: StreamId, head: SignedHead, checkpoint: Checkpoint): Promise<void>;

  /**
   * Records from seq `from` to `to` inclusive (default and at most: the head), in batches of bounded size, each hash checked against the
   * chain. Rejects with `LOG_CORRUPT` (evidence: a {@link LogFault}) before a record that is not what was written is given out,
   * `LOG_COMPACTED` when `from` lies before the oldest record, `STREAM_UNKNOWN`. The records are those at the time of the call.
   */
  read(stream: StreamId, from: number, to?: number): AsyncIterable<readonly LogRecord[]>;

  /** The newest checkpoint of a stream at or before `seq` (default: the head), or null. Its digest is checked by whoever reads it. */
  checkpoint(stream: StreamId, seq?: number): Promise<StoredCheckpoint | null>;

  /**
   * Forgets the records that the newest sound checkpoint at or below `seq` stands for, and older checkpoints: one that is not what was sealed
   * stands for nothing. Returns the seq of the oldest record that is left (head seq + 1 when none is).
   */
  compact(stream: StreamId, seq: number): Promise<number>;
  /** Seq of the oldest record that `read` can give (head seq + 1 when there is none). */
  oldest(stream: StreamId): Promise<number>;
  /** Forgets a stream altogether. Rejects with `LOG_CORRUPT`, and keeps it as a damaged one, when some of it cannot be deleted. */
  remove(stream: StreamId): Promise<void>;

  /**
   * Reads a stream to its end and checks every hash, the head's signature and the checkpoints' digests. Never rejects for a fault;
   * `STREAM_UNKNOWN` when nothing is kept of it.
   */
  verify(stream: StreamId): Promise<StreamVerification>;

  /** Waits for running writes, then closes. Whatever comes later rejects with `LOG_CLOSED`. */
  close(): Promise<void>;
}
