import { equalHashes, type SignedHead, verifyHead, verifySeal } from '../core/codec/chain.ts';
import { isPandoError, PandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import type { LogRecord, StoredCheckpoint } from './log.ts';
import { BATCH_BYTES_MAX, BATCH_EVENTS_MAX, type SealedCheckpoint, type SignedBatch } from './signed.ts';
import type { StreamTable } from './stream-table.ts';
import { isSealed } from './verification.ts';

/** The streams of other nodes, as this node hands them on: under the signatures of their authors, which it cannot make itself (design §4). */
export class RelayedStreams {
  readonly #table: StreamTable;

  constructor(table: StreamTable) {
    this.#table = table;
  }

  async *batches(stream: StreamId, from: number): AsyncGenerator<SignedBatch> {
    const { head } = this.#table.require(stream);
    const batch = new SignedRecords(head);
    for await (const records of this.#table.log.read(stream, from, head.seq)) {
      for (const record of records) {
        if (batch.isFullFor(record)) yield this.#checked(batch.take());
        batch.add(record);
      }
    }
    if (!batch.isEmpty) yield this.#checked(batch.take());
  }

  async checkpoint(stream: StreamId): Promise<SealedCheckpoint> {
    const { log } = this.#table;
    for (let at = this.#table.require(stream).seq; at >= 0; ) {
      const stored = await log.checkpoint(stream, at);
      if (stored === null) break;
      const { head, seal } = stored;
      if (head !== null && this.#isAuthors(stored) && (await isSealed(stored))) {
        const again = await log.checkpoint(stream, at);
        if (again !== null && equalHashes(again.seal.digest, seal.digest)) {
          return { head, seal, chunks: await begun(again.chunks) };
        }
      }
      at = seal.head.seq - 1;
    }
    throw cannotHandOn(stream, 'its author has sealed nothing of what is kept of it');
  }

  #isAuthors({ seal }: StoredCheckpoint): boolean {
    try {
      verifySeal(seal, undefined, this.#table.isSigned);
      return true;
    } catch (error) {
      if (isPandoError(error, 'LOG_CORRUPT')) return false;
      throw error;
    }
  }

  /** What a bad disk made of a signature is not handed on: the next node would blame this one. */
  #checked(batch: SignedBatch): SignedBatch {
    verifyHead(batch.head, this.#table.isSigned);
    return batch;
  }
}

/** Chunks of which the first is read: from then on they are what they were, whatever becomes of the stream. To be read to their end, or closed. */
async function begun(chunks: AsyncIterable<Uint8Array>): Promise<AsyncIterable<Uint8Array>> {
  const iterator = chunks[Symbol.asyncIterator]();
  let first: IteratorResult<Uint8Array> | null = await iterator.next();
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    const read = first ?? (await iterator.next());
    first = null;
    return read;
  };
  const close = async (): Promise<IteratorResult<Uint8Array>> => {
    await iterator.return?.();
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next, return: close }) };
}

/** Records in a row, given out up to the last that their author signed. */
class SignedRecords {
  readonly #head: SignedHead;
  #records: LogRecord[] = [];
  #bytes = 0;
  #signed: { readonly head: SignedHead; readonly count: number } | null = null;

  /** `head` is the stream's, which has a signature whoever wrote the records. */
  constructor(head: SignedHead) {
    this.#head = head;
  }

  get isEmpty(): boolean {
    return this.#records.length === 0;
  }

  isFullFor({ bytes }: LogRecord): boolean {
    return this.#records.length === BATCH_EVENTS_MAX || this.#bytes + bytes.length > BATCH_BYTES_MAX;
  }

  add(record: LogRecord): void {
    const { seq, hash, bytes } = record;
    this.#records.push(record);
    this.#bytes += bytes.length;
    const signature = seq === this.#head.seq ? this.#head : record.signature;
    if (signature === null) return;
    const { keyProof, signature: signed } = signature;
    const { stream, incarnation } = this.#head;
    this.#signed = {
      head: { stream, incarnation, seq, hash, keyProof, signature: signed },
      count: this.#records.length,
    };
  }

  /** Throws `LOG_COMPACTED` when none of them is signed. */
  take(): SignedBatch {
    if (this.#signed === null) {
      const [first] = this.#records;
      throw cannotHandOn(this.#head.stream, `event ${first?.seq} and those behind it lack its author's signature`);
    }
    const { head, count } = this.#signed;
    const taken = this.#records.slice(0, count);
    this.#records = this.#records.slice(count);
    this.#bytes = this.#records.reduce((sum, { bytes }) => sum + bytes.length, 0);
    this.#signed = null;
    return { head, events: taken.map(({ bytes }) => bytes) };
  }
}

function cannotHandOn(stream: StreamId, why: string): PandoError {
  return new PandoError(
    'LOG_COMPACTED',
    `Stream ${stream} cannot be handed on: ${why}. Peers learn it from its author, once they meet.`,
    { stream },
  );
}
