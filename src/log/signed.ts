import type { CheckpointSeal, SignedHead } from '../core/codec/chain.ts';

/** Limits of a batch for sending, so that it fits a frame. An event alone is at most EVENT_BYTES_MAX, which is the same. */
export const BATCH_EVENTS_MAX = 1_000;
export const BATCH_BYTES_MAX = 256 * 1024;

/** Events in a row of one stream as their author encoded them, and its signed word that this is what leads up to that head. */
export interface SignedBatch {
  /** The head after the last of the events. Names the stream. */
  readonly head: SignedHead;
  readonly events: readonly Uint8Array[];
}

/** A graph at a head, signed and sealed by the stream's author. The chunks come one at a time, for one pass. */
export interface SealedCheckpoint {
  readonly head: SignedHead;
  readonly seal: CheckpointSeal;
  readonly chunks: AsyncIterable<Uint8Array>;
}
