import { type CheckpointSeal, equalHashes, type SignedHead } from '../core/codec/chain.ts';
import { checkpointDigest } from '../core/codec/checkpoint-codec.ts';
import type { StreamId } from '../core/ids.ts';
import type { Append, Checkpoint, Log, LogRecord, StoredCheckpoint, StreamVerification } from './log.ts';
import { closed, compacted, unknownStream } from './log-errors.ts';
import { additionOf, checkCheckpoint, checkSuccession } from './succession.ts';
import { verifyStream } from './verification.ts';

interface KeptCheckpoint {
  readonly head: SignedHead;
  readonly seal: CheckpointSeal;
  readonly chunks: readonly Uint8Array[];
}

interface KeptStream {
  readonly head: SignedHead;
  /** The records that are left, the last with the head's seq. Only ever grows at its end: readers know where theirs is. */
  readonly records: LogRecord[];
  /** By seq. */
  readonly checkpoints: readonly KeptCheckpoint[];
}

/** Records that a read gives out at once. */
const BATCH_RECORDS_MAX = 1_000;

/** A log that is gone with its process: for tests, simulations, and nodes without a disk. */
export class MemoryLog implements Log {
  readonly #streams = new Map<StreamId, KeptStream>();
  #closed = false;

  async streams(): Promise<StreamId[]> {
    this.#checkOpen();
    return [...this.#streams.keys()].sort();
  }

  async head(stream: StreamId): Promise<SignedHead | null> {
    this.#checkOpen();
    return this.#streams.get(stream)?.head ?? null;
  }

  async append(append: Append): Promise<void> {
    this.#checkOpen();
    const { stream, head, checkpoint } = append;
    const kept = this.#streams.get(stream);
    const { records: added } = additionOf(kept?.head ?? null, append);
    if (added.length === 0 && checkpoint === undefined) return;
    const checkpoints = withCheckpoint(kept?.checkpoints ?? [], head, checkpoint);
    const records = kept?.records ?? [];
    for (const record of added) records.push(record);
    this.#streams.set(stream, { head, records, checkpoints });
  }

  async reset(stream: StreamId, head: SignedHead, checkpoint: Checkpoint): Promise<void> {
    this.#checkOpen();
    const kept = this.#streams.get(stream);
    if (kept !== undefined) checkSuccession(kept.head, head);
    checkCheckpoint(head, checkpoint.seal.head);
    this.#streams.set(stream, { head, records: [], checkpoints: withCheckpoint([], head, checkpoint) });
  }

  async *read(stream: StreamId, from: number, to?: number): AsyncGenerator<readonly LogRecord[]> {
    const { head, records } = this.#require(stream);
    const oldest = oldestOf(head, records);
    if (from < oldest) throw compacted(stream, from, oldest);
    const end = Math.min(to ?? head.seq, head.seq) - oldest + 1;
    for (let start = from - oldest; start < end; start += BATCH_RECORDS_MAX) {
      this.#checkOpen();
      yield records.slice(start, Math.min(end, start + BATCH_RECORDS_MAX));
    }
  }

  async checkpoint(stream: StreamId, seq?: number): Promise<StoredCheckpoint | null> {
    const { head, checkpoints } = this.#require(stream);
    const found = newestUpTo(checkpoints, seq ?? head.seq);
    return found === undefined ? null : { ...found, chunks: oneByOne(found.chunks) };
  }

  async compact(stream: StreamId, seq: number): Promise<number> {
    const { head, records, checkpoints } = this.#require(stream);
    const base = newestUpTo(checkpoints.filter(isSealed), seq);
    if (base === undefined) return oldestOf(head, records);
    const start = base.seal.head.seq;
    const left = records.filter((record) => record.seq > start);
    this.#streams.set(stream, {
      head,
      records: left,
      checkpoints: checkpoints.filter(({ seal }) => seal.head.seq >= start),
    });
    return oldestOf(head, left);
  }

  async oldest(stream: StreamId): Promise<number> {
    const { head, records } = this.#require(stream);
    return oldestOf(head, records);
  }

  async remove(stream: StreamId): Promise<void> {
    this.#checkOpen();
    this.#streams.delete(stream);
  }

  async verify(stream: StreamId): Promise<StreamVerification> {
    return verifyStream(this, stream);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #checkOpen(): void {
    if (this.#closed) throw closed();
  }

  #require(stream: StreamId): KeptStream {
    this.#checkOpen();
    const kept = this.#streams.get(stream);
    if (kept === undefined) throw unknownStream(stream);
    return kept;
  }
}

function oldestOf(head: SignedHead, records: readonly LogRecord[]): number {
  return head.seq - records.length + 1;
}

/** A checkpoint takes the place of an earlier one at the same seq. */
function withCheckpoint(
  kept: readonly KeptCheckpoint[],
  head: SignedHead,
  checkpoint: Checkpoint | undefined,
): readonly KeptCheckpoint[] {
  if (checkpoint === undefined) return kept;
  const { seal, chunks } = checkpoint;
  return [...kept.filter((other) => other.seal.head.seq !== seal.head.seq), { head, seal, chunks: [...chunks] }];
}

function newestUpTo(checkpoints: readonly KeptCheckpoint[], seq: number): KeptCheckpoint | undefined {
  return checkpoints.findLast(({ seal }) => seal.head.seq <= seq);
}

function isSealed({ seal, chunks }: KeptCheckpoint): boolean {
  return equalHashes(checkpointDigest(chunks), seal.digest);
}

async function* oneByOne(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}
