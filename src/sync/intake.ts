/**
 * The receiving half of a session: stores what the peer publishes, in order, and tells it so.
 *
 * A peer may speak for its own streams, and hand on those of others that it was asked for. Everything else that could be wrong with
 * events (order, hashes, signatures, meaning) is found by History before anything is written (invariant 7).
 */
import { createHash } from 'node:crypto';
import { type CheckpointSeal, equalHashes, type Head, type SignedHead } from '../core/codec/chain.ts';
import { keysAgainst, keysOf } from '../core/codec/key-proof.ts';
import { type ErrorCode, isPandoError, PandoError } from '../core/errors.ts';
import { ADMIN_TREE, type NodeId, type StreamId, splitStreamId } from '../core/ids.ts';
import { CHECKPOINT_BYTES_MAX } from '../log/followed-streams.ts';
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
import type { RelaySubscription } from './relay-subscription.ts';
import type { MetNode } from './transport.ts';

/** Largest chunk of a checkpoint, in bytes: thirty times what CHUNK_ENTRIES_MAX entries usually take. */
const CHUNK_BYTES_MAX = 16 * 1024 * 1024;

/** What is wrong with what its author signed: another version, a history of which there are two, a key that is none any more, or no sense at all. */
const AUTHORS_FAULTS = ['LOG_FORKED', 'EVENT_INVALID', 'CODEC_INVALID', 'CODEC_VERSION', 'PEER_REFUSED'] as const;

export interface IntakeOptions {
  readonly history: History;
  readonly peer: NodeId;
  readonly credit: ReceiveCredit;
  readonly relayed: RelaySubscription;
  /** See {@link SessionContext.isCurrentKey}. */
  readonly isCurrentKey: (met: MetNode) => boolean;
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

/** Whether a place in a stream is not beyond another. */
function isUpTo(place: Head, other: Head): boolean {
  return place.incarnation < other.incarnation || (place.incarnation === other.incarnation && place.seq <= other.seq);
}

/** Whether what leads up to a head is known: an older incarnation, or no more of the same. */
function isPassed(head: SignedHead, known: SignedHead | null): boolean {
  if (known === null || !isUpTo(head, known)) return false;
  return isUpTo(known, head) ? equalHashes(known.hash, head.hash) : true;
}

/** Whether the author is to blame for what was not taken. Of a checkpoint only where it is what the author sealed, to the last byte. */
function isAuthorsFault(fault: unknown, checkpoint: WholeCheckpoint | null): boolean {
  if (!isPandoError(fault, ...AUTHORS_FAULTS)) return false;
  return checkpoint === null || isPandoError(fault, 'LOG_FORKED', 'PEER_REFUSED') || checkpoint.isWhatWasSealed();
}

/** The chunks of a checkpoint on their way, all of which are hashed and taken, also when whoever reads them breaks off. */
class WholeCheckpoint implements AsyncIterable<Uint8Array> {
  readonly #seal: CheckpointSeal;
  readonly #chunks: AsyncGenerator<Uint8Array>;
  readonly #hash = createHash('sha256');
  #bytes = 0;

  constructor(seal: CheckpointSeal, chunks: AsyncGenerator<Uint8Array>) {
    this.#seal = seal;
    this.#chunks = chunks;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return { next: () => this.#next() };
  }

  async drain(): Promise<void> {
    while ((await this.#next()).done !== true);
  }

  /** To be asked once, after {@link drain}. */
  isWhatWasSealed(): boolean {
    return equalHashes(this.#hash.digest(), this.#seal.digest);
  }

  async #next(): Promise<IteratorResult<Uint8Array>> {
    const next = await this.#chunks.next();
    if (next.done === true) return next;
    this.#bytes += next.value.length;
    if (this.#bytes > CHECKPOINT_BYTES_MAX) throw unexpected('The peer sent a checkpoint that does not end.');
    this.#hash.update(next.value);
    return next;
  }
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
    const { history } = this.#options;
    if (this.#isRelayed(head)) {
      await this.#storeRelayed(head, () => history.ingest({ head, events }));
      return;
    }
    await history.ingest({ head, events });
    this.#stored(head);
  }

  async #storeCheckpoint({ head, seal }: CheckpointBegin): Promise<void> {
    const { history } = this.#options;
    if (this.#isRelayed(head)) {
      const chunks = new WholeCheckpoint(seal, this.#chunks());
      await this.#storeRelayed(head, () => history.ingestCheckpoint({ head, seal, chunks }), chunks);
      return;
    }
    await history.ingestCheckpoint({ head, seal, chunks: this.#chunks() });
    this.#stored(head);
  }

  #stored({ stream, incarnation, seq }: Head): void {
    this.#storedTimes += 1;
    this.#options.send({ type: 'ack', stream, incarnation, seq });
  }

  /**
   * Stores what the peer hands on, unless it is not wanted any more, or lies behind what is known. What the author signed and is no use is no fault of
   * who brings it; what the author did not sign is. All of a checkpoint is taken out of the queue, whatever becomes of it.
   */
  async #storeRelayed(
    head: SignedHead,
    store: () => Promise<unknown>,
    checkpoint: WholeCheckpoint | null = null,
  ): Promise<void> {
    const { history, relayed } = this.#options;
    const { stream } = head;
    const isOld = (): boolean => isPassed(head, history.head(stream));
    const fault = relayed.takes(stream) && !isOld() ? await this.#faultOf(head, store) : null;
    await checkpoint?.drain();
    if (fault === null || (isPandoError(fault, 'LOG_FORKED') && isOld())) return;
    if (isPandoError(fault, 'LOG_GAP')) relayed.askAgain(stream);
    else if (isAuthorsFault(fault, checkpoint)) relayed.giveUp(stream, fault);
    else throw fault;
  }

  async #faultOf(head: SignedHead, store: () => Promise<unknown>): Promise<unknown> {
    try {
      this.#checkKey(head);
      this.#checkNumber(head.stream, 'LOG_FORKED');
      await store();
      this.#storedTimes += 1;
      return null;
    } catch (error) {
      return error;
    }
  }

  /** With a key that was replaced, whoever found or stole it could say anything: its owner has another now, and says it itself. */
  #checkKey(head: SignedHead): void {
    const { history, isCurrentKey } = this.#options;
    const { stream, keyProof } = head;
    const { node } = splitStreamId(stream);
    const known = history.head(stream);
    const isReplaced = known !== null && keysAgainst(keysOf(known.keyProof), keysOf(keyProof)) === 'others';
    if (!isReplaced && isCurrentKey({ node, keyProof })) return;
    history.verifyHead(head);
    throw new PandoError(
      'PEER_REFUSED',
      `Stream ${stream} was signed with a key that node ${node} has replaced since.`,
    );
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

  /** Whether a stream is another node's, and was asked for. Throws `PROTOCOL_UNEXPECTED` for what the peer may not send. */
  #isRelayed({ stream }: Head): boolean {
    const { peer, relayed } = this.#options;
    const { node, tree } = splitStreamId(stream);
    if (node !== peer && relayed.wasAskedFor(stream)) return true;
    if (node !== peer || tree === ADMIN_TREE) {
      throw unexpected(`The peer sent events of ${stream}, which are not its to send.`);
    }
    this.#checkNumber(stream, 'PROTOCOL_UNEXPECTED');
    return false;
  }

  #checkNumber(stream: StreamId, code: ErrorCode): void {
    const { history } = this.#options;
    if (history.head(stream) !== null) return;
    const { node } = splitStreamId(stream);
    const known = history.streams().filter((head) => splitStreamId(head.stream).node === node).length;
    if (known < STREAMS_PER_PEER_MAX) return;
    throw new PandoError(code, `Node ${node} has more than ${STREAMS_PER_PEER_MAX} streams.`, { node });
  }

  /** An answer names heads; whatever leads up to them must have come before it. */
  #checkAnswer({ heads }: Have): void {
    for (const head of heads) {
      const { stream, incarnation, seq, hash } = head;
      const known = this.#options.history.head(stream);
      const isSame = known?.incarnation === incarnation && known.seq === seq && equalHashes(known.hash, hash);
      // Others may have brought more of it by now
      const isThere = known !== null && (isSame || (isUpTo(head, known) && !isUpTo(known, head)));
      if (splitStreamId(stream).node !== this.#options.peer || !isThere) {
        throw unexpected(`The peer says that ${stream} goes up to event ${seq}, but did not send that.`);
      }
    }
  }

  #release(bytes: number): void {
    const granted = this.#options.credit.release(bytes);
    if (granted > 0) this.#options.send({ type: 'credit', bytes: granted });
  }
}
