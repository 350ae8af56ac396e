/** A log as a disk keeps it: there again after its node is gone, and, where the disk is bad, without what was written last. */
import type { SignedHead } from '../../src/core/codec/chain.ts';
import type { StreamId } from '../../src/core/ids.ts';
import type { Append, Checkpoint, Log, LogRecord, StoredCheckpoint, StreamVerification } from '../../src/log/log.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';

type Write = (log: Log) => Promise<unknown>;

export class DurableLog implements Log {
  #log = new MemoryLog();
  #writes: Write[] = [];
  #events = 0;

  /** Events that were ever appended, own and others'. */
  get eventsAppended(): number {
    return this.#events;
  }

  /** Writes that the disk has. */
  get writes(): number {
    return this.#writes.length;
  }

  /** Takes the log back to what it was after that many writes: a copy restored from a backup, a write that a disk lost, or with 0 a new disk. */
  async goBackTo(writes: number): Promise<void> {
    const kept = this.#writes.slice(0, writes);
    const log = new MemoryLog();
    for (const write of kept) await write(log);
    this.#log = log;
    this.#writes = kept;
  }

  async append(append: Append): Promise<void> {
    await this.#write((log) => log.append(append));
    this.#events += append.events.length;
  }

  reset(stream: StreamId, head: SignedHead, checkpoint: Checkpoint): Promise<void> {
    return this.#write((log) => log.reset(stream, head, checkpoint));
  }

  async compact(stream: StreamId, seq: number): Promise<number> {
    await this.#write((log) => log.compact(stream, seq));
    return this.#log.oldest(stream);
  }

  remove(stream: StreamId): Promise<void> {
    return this.#write((log) => log.remove(stream));
  }

  streams(): Promise<StreamId[]> {
    return this.#log.streams();
  }

  head(stream: StreamId): Promise<SignedHead | null> {
    return this.#log.head(stream);
  }

  read(stream: StreamId, from: number, to?: number): AsyncIterable<readonly LogRecord[]> {
    return this.#log.read(stream, from, to);
  }

  checkpoint(stream: StreamId, seq?: number): Promise<StoredCheckpoint | null> {
    return this.#log.checkpoint(stream, seq);
  }

  oldest(stream: StreamId): Promise<number> {
    return this.#log.oldest(stream);
  }

  verify(stream: StreamId): Promise<StreamVerification> {
    return this.#log.verify(stream);
  }

  /** The disk stays. */
  async close(): Promise<void> {}

  async #write(write: Write): Promise<void> {
    await write(this.#log);
    this.#writes.push(write);
  }
}
