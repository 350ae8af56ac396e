import { type CheckpointSeal, genesisHash, type SignedHead, type Signer } from '../core/codec/chain.ts';
import type { Hash } from '../core/codec/hash.ts';
import type { SignatureCheck } from '../core/codec/key-proof.ts';
import { PandoError } from '../core/errors.ts';
import type { Event } from '../core/events.ts';
import type { Graph } from '../core/graph/graph.ts';
import type { StreamId } from '../core/ids.ts';
import { type CheckpointPolicy, sealedGraph, underSealOf } from './checkpointing.ts';
import type { Checkpoint, Log } from './log.ts';
import { closed, unknownStream } from './log-errors.ts';
import { notify } from './notify.ts';
import {
  type FaultyStream,
  type GraphAtSeq,
  hasGraph,
  type Keeper,
  loadStream,
  type SoundStream,
} from './stream-state.ts';
import { Turns } from './turns.ts';

/** A change of a stream that is on disk. */
export interface HistoryChange {
  /** Where the stream stands now. Names the stream. */
  readonly head: SignedHead;
  /** What was added, the last with the head's seq; null when a checkpoint took the place of everything before. */
  readonly events: readonly Event[] | null;
}

export type HistoryListener = (change: HistoryChange) => void;

/** A stream that cannot be used, and why (`LOG_CORRUPT`). */
export interface StreamFault {
  readonly stream: StreamId;
  readonly error: PandoError;
}

/** Events that fold to `graph`, about to be written. */
export interface Extension {
  readonly head: SignedHead;
  readonly events: readonly Event[];
  /** The same events as their author encoded them. */
  readonly bytes: readonly Uint8Array[];
  /** The graph after them. */
  readonly graph: Graph;
}

/** How this node signs, and how it checks what others signed. */
interface Signatures {
  readonly signer: Signer;
  readonly isSigned: SignatureCheck;
}

/**
 * All streams of a log with the graphs they fold to. Writes to the log first and shows the outcome afterwards, so that nobody sees what
 * a crash could take back.
 */
export class StreamTable {
  readonly log: Log;
  readonly signer: Signer;
  readonly isSigned: SignatureCheck;
  readonly #policy: CheckpointPolicy;
  readonly #streams = new Map<StreamId, SoundStream | FaultyStream>();
  readonly #turns = new Turns<StreamId>();
  readonly #listeners = new Set<HistoryListener>();
  readonly #waiting = new Set<() => void>();
  #closed = false;

  private constructor(log: Log, { signer, isSigned }: Signatures, policy: CheckpointPolicy) {
    this.log = log;
    this.signer = signer;
    this.isSigned = isSigned;
    this.#policy = policy;
  }

  static async open(log: Log, signatures: Signatures, policy: CheckpointPolicy): Promise<StreamTable> {
    const table = new StreamTable(log, signatures, policy);
    for (const stream of await log.streams()) {
      table.#streams.set(stream, await loadStream(log, stream, table.keeper));
    }
    return table;
  }

  /** Whose log this is: seals its checkpoints. */
  get keeper(): Keeper {
    return { node: this.signer.node, isSigned: this.isSigned };
  }

  /** Streams in order, and those that are not. */
  *all(): Generator<readonly [StreamId, SoundStream | FaultyStream]> {
    yield* this.#streams;
  }

  faults(): StreamFault[] {
    return Array.from(this.#streams).flatMap(([stream, state]) =>
      state.kind === 'faulty' ? [{ stream, error: state.error }] : [],
    );
  }

  /** A stream in whatever condition, or undefined when nothing is known of it. */
  find(stream: StreamId): SoundStream | FaultyStream | undefined {
    return this.#streams.get(stream);
  }

  /** A stream, or undefined when nothing is known of it. Throws `LOG_CORRUPT` when it is damaged. */
  sound(stream: StreamId): SoundStream | undefined {
    const state = this.#streams.get(stream);
    if (state?.kind === 'faulty') throw state.error;
    return state;
  }

  /** A stream. Throws `STREAM_UNKNOWN`, or `LOG_CORRUPT` when it is damaged. */
  require(stream: StreamId): SoundStream {
    const state = this.sound(stream);
    if (state === undefined) throw unknownStream(stream);
    return state;
  }

  /**
   * Hash of the chain up to and including event `seq` of a stream's current incarnation. Rejects with `LOG_COMPACTED` when that is not kept
   * any more, `ARGUMENT_INVALID` beyond the head, `STREAM_UNKNOWN`, `LOG_CORRUPT`.
   */
  async hashAt(stream: StreamId, seq: number): Promise<Hash> {
    const { head } = this.require(stream);
    if (seq === head.seq) return head.hash;
    if (seq === 0 && head.incarnation === 1) return genesisHash(stream, 1);
    // The event that a checkpoint covers may be compacted away; its hash is known from the seal.
    const sealed = (await this.log.checkpoint(stream, seq))?.seal.head;
    if (sealed?.seq === seq) return sealed.hash;
    for await (const [record] of this.log.read(stream, seq, seq)) {
      if (record !== undefined) return record.hash;
    }
    throw new PandoError('ARGUMENT_INVALID', `Stream ${stream} has no event ${seq}; its last is ${head.seq}.`, {
      stream,
    });
  }

  /** Runs a task that changes a stream after those that came before. */
  inTurn<Result>(stream: StreamId, task: () => Promise<Result>): Promise<Result> {
    return this.#turns.run(stream, task);
  }

  /**
   * Writes events behind what `before` stands for (null: a stream that is not known yet), with a checkpoint when the policy asks for
   * one, and shows the outcome.
   */
  async append(before: SoundStream | null, { head, events, bytes, graph }: Extension): Promise<SoundStream> {
    const { stream, seq } = head;
    const at = events.at(-1)?.at ?? before?.at ?? 0;
    const checkpointed = before?.checkpointSeq ?? 0;
    const due = hasGraph(stream) && this.#policy(seq - checkpointed, graph);
    const checkpoint = due ? await sealedGraph(head, graph, at, this.signer) : undefined;
    await this.log.append({ stream, events: bytes, head, ...(checkpoint && { checkpoint }) });
    const after: SoundStream = { kind: 'sound', head, seq, at, graph, checkpointSeq: due ? seq : checkpointed };
    this.#show(after, events);
    return after;
  }

  /** Puts a graph at a head in the place of whatever is known of a stream, and shows it. `author` is the author's seal, where another node is that. */
  async reset(
    head: SignedHead,
    { at, graph }: Pick<GraphAtSeq, 'at' | 'graph'>,
    author?: CheckpointSeal,
  ): Promise<void> {
    const { stream, seq } = head;
    const own: Checkpoint = await sealedGraph(head, graph, at, this.signer);
    await this.log.reset(stream, head, author === undefined ? own : underSealOf(author, own));
    this.#show({ kind: 'sound', head, seq, at, graph, checkpointSeq: seq }, null);
  }

  async forget(stream: StreamId): Promise<void> {
    await this.log.remove(stream);
    this.#streams.delete(stream);
    this.#wake();
  }

  onChange(listener: HistoryListener): () => void {
    // A listener of its own for each call, so that two subscriptions of one function end one by one.
    const own: HistoryListener = (change) => listener(change);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  /** Resolves at the next change of any stream, when the table is closed, and when the signal is aborted. */
  async changed(signal: AbortSignal): Promise<void> {
    if (this.#closed) throw closed();
    if (signal.aborted) return;
    const { promise, resolve } = withResolvers();
    this.#waiting.add(resolve);
    signal.addEventListener('abort', resolve, { once: true });
    try {
      await promise;
    } finally {
      this.#waiting.delete(resolve);
      signal.removeEventListener('abort', resolve);
    }
    if (this.#closed) throw closed();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#turns.idle();
    await this.log.close();
    this.#wake();
  }

  #show(state: SoundStream, events: readonly Event[] | null): void {
    this.#streams.set(state.head.stream, state);
    this.#wake();
    notify(this.#listeners, { head: state.head, events });
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = () => settle();
  });
  return { promise, resolve };
}
