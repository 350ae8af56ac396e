/**
 * The receiving half of a session: stores what the peer publishes, in order, and tells it so.
 *
 * A peer may speak for its own streams only. Everything else that could be wrong with events (order, hashes, signatures,
 * meaning) is found by History before anything is written (invariant 7).
 */
import { equalHashes } from '../core/codec/chain.ts';
import { PandoError } from '../core/errors.ts';
import { ADMIN_TREE, type NodeId, type StreamId, splitStreamId } from '../core/ids.ts';
import type { History } from '../log/history.ts';
import type { ReceiveCredit } from './flow-control.ts';
import { FrameQueue } from './frame-queue.ts';
import {
  type CheckpointBegin,
  type Events,
  type Have,
  type Message,
  type Payload,
  STREAMS_PER_PEER_MAX,
} from './messages.ts';

/** Largest chunk of a checkpoint, in bytes: thirty times what CHUNK_ENTRIES_MAX entries usually take. */
const CHUNK_BYTES_MAX = 16 * 1024 * 1024;

export interface IntakeOptions {
  readonly history: History;
  readonly peer: NodeId;
  readonly credit: ReceiveCredit;
  readonly send: (message: Message) => void;
  /** An answer of the peer, once everything that came before it is stored. */
  readonly answered: (answer: Have) => void;
}

interface Arrival {
  readonly message: Payload | Have;
  /** What the frame cost in credit. */
  readonly bytes: number;
}

function unexpected(message: string): PandoError {
  return new PandoError('PROTOCOL_UNEXPECTED', message);
}

export class Intake {
  readonly #options: IntakeOptions;
  readonly #queue = new FrameQueue<Arrival>();
  #storedTimes = 0;
  #stopped = false;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Counts what was stored; tells whether anything came in between two looks. */
  get storedTimes(): number {
    return this.#storedTimes;
  }

  /** Takes events or a part of a checkpoint. Throws `PROTOCOL_CREDIT_EXCEEDED`. */
  receive(message: Payload, bytes: number): void {
    this.#options.credit.charge(bytes);
    this.#queue.push({ message, bytes });
  }

  /** Takes an answer; the caller has made sure that it was asked for. */
  receiveAnswer(message: Have): void {
    this.#queue.push({ message, bytes: 0 });
  }

  stop(reason: PandoError): void {
    this.#stopped = true;
    this.#queue.close(reason);
  }

  /** Stores until {@link stop}, which makes it reject, or until something is wrong with what came. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      const { message, bytes } = await this.#queue.next();
      await this.#take(message);
      this.#release(bytes);
    }
  }

  async #take(message: Payload | Have): Promise<void> {
    switch (message.type) {
      case 'events':
        return this.#storeEvents(message);
      case 'checkpoint-begin':
        return this.#storeCheckpoint(message);
      case 'have':
        this.#checkAnswer(message);
        this.#options.answered(message);
        return;
      default:
        throw unexpected('The peer sent a part of a checkpoint that it did not begin.');
    }
  }

  async #storeEvents({ head, events }: Events): Promise<void> {
    this.#checkStream(head.stream);
    await this.#options.history.ingest({ head, events });
    this.#stored(head);
  }

  async #storeCheckpoint({ head, seal }: CheckpointBegin): Promise<void> {
    this.#checkStream(head.stream);
    await this.#options.history.ingestCheckpoint({ head, seal, chunks: this.#chunks() });
    this.#stored(head);
  }

  #stored({ stream, incarnation, seq }: CheckpointBegin['head']): void {
    this.#storedTimes += 1;
    this.#options.send({ type: 'ack', stream, incarnation, seq });
  }

  /** The chunks of a checkpoint as their parts come in, up to its end. */
  async *#chunks(): AsyncGenerator<Uint8Array> {
    let parts: Uint8Array[] = [];
    let size = 0;
    for (;;) {
      const { message, bytes } = await this.#queue.next();
      this.#release(bytes);
      if (message.type === 'checkpoint-end' && parts.length === 0) return;
      if (message.type !== 'checkpoint-chunk') throw unexpected('The peer broke off a checkpoint.');
      parts.push(message.bytes);
      size += message.bytes.length;
      if (size > CHUNK_BYTES_MAX) throw unexpected(`The peer sent a chunk of more than ${CHUNK_BYTES_MAX} bytes.`);
      if (!message.last) continue;
      yield parts.length === 1 ? message.bytes : Buffer.concat(parts);
      parts = [];
      size = 0;
    }
  }

  #checkStream(stream: StreamId): void {
    const { history, peer } = this.#options;
    const { node, tree } = splitStreamId(stream);
    if (node !== peer || tree === ADMIN_TREE) {
      throw unexpected(`The peer sent events of ${stream}, which are not its to send.`);
    }
    if (history.head(stream) !== null) return;
    const known = history.streams().filter((head) => splitStreamId(head.stream).node === peer).length;
    if (known >= STREAMS_PER_PEER_MAX) throw unexpected(`The peer sent more than ${STREAMS_PER_PEER_MAX} streams.`);
  }

  /** An answer names heads; whatever leads up to them must have come before it. */
  #checkAnswer({ heads }: Have): void {
    for (const head of heads) {
      const { stream, incarnation, seq, hash } = head;
      const known = this.#options.history.head(stream);
      const same = known?.incarnation === incarnation && known.seq === seq && equalHashes(known.hash, hash);
      if (splitStreamId(stream).node !== this.#options.peer || !same) {
        throw unexpected(`The peer says that ${stream} goes up to event ${seq}, but did not send that.`);
      }
    }
  }

  #release(bytes: number): void {
    const granted = this.#options.credit.release(bytes);
    if (granted > 0) this.#options.send({ type: 'credit', bytes: granted });
  }
}
