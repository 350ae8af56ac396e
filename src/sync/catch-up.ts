/**
 * The publishing half of a session: brings the peer up to this node's own streams, and to what it follows of others (handing-on.ts), and
 * keeps it there.
 *
 * What it believes about the world:
 * 1. The peer tells once, in its first question, what it holds. From then on it holds what was sent, since the connection
 *    keeps order and a peer that cannot store something ends the session.
 * 2. Only streams of trees that the peer may read, at this moment, are mentioned to it in any way.
 * 3. One pass at a time sends everything up to the heads it finds; questions that came before the pass are answered behind it.
 * 4. Nothing is read from the log before there is credit for what was read last and the connection has sent most of what
 *    it holds, so a slow reader costs a frame or two of memory, not a backlog (invariant 8).
 */
import { equalHashes, type SignedHead } from '../core/codec/chain.ts';
import { isPandoError, PandoError } from '../core/errors.ts';
import type { Graph } from '../core/graph/graph.ts';
import { ADMIN_TREE, isPrivateTree, type NodeId, type StreamId, splitStreamId, type TreeName } from '../core/ids.ts';
import type { History } from '../log/history.ts';
import type { SealedCheckpoint } from '../log/signed.ts';
import type { HistoryChange } from '../log/stream-table.ts';
import { Doorbell } from './doorbell.ts';
import type { SendCredit } from './flow-control.ts';
import { HandingOn } from './handing-on.ts';
import { encodeMessage } from './message-codec.ts';
import {
  type Ack,
  BATCH_BYTES_MAX,
  type Follow,
  type Have,
  type Message,
  type Payload,
  type RemoteError,
} from './messages.ts';
import { remoteErrorOf } from './remote-error.ts';
import type { Connection } from './transport.ts';

/** Questions of the peer that wait for an answer: its own rule is one at a time, and the first overlaps with hello. */
const QUESTIONS_OPEN_MAX = 4;
/** More bytes than this in the connection's buffer mean that the peer or the link is slow, and sending pauses. */
const BUFFERED_BYTES_LOW = BATCH_BYTES_MAX;
/** Up to so many events are sent whatever the size of the graph: they are cheap, and carry the history that a graph lacks. */
const EVENTS_ALWAYS_WORTH = 1_000;

/** How often what is handed on may be interrupted by other news before a question is answered: the asker waits for that, and there may be no end of news. */
export const ROUNDS_BEFORE_ANSWER = 8;

export interface CatchUpOptions {
  readonly history: History;
  readonly connection: Connection;
  readonly credit: SendCredit;
  readonly shares: (peer: NodeId, tree: TreeName) => boolean;
  readonly refresh: () => Promise<void>;
  /** Sends what is not paid for with credit. */
  readonly say: (message: Message) => void;
  /** Whether a peer may have what another node says of a tree, at this moment. */
  readonly handsOn: (author: NodeId, tree: TreeName) => boolean;
  readonly report: (error: unknown) => void;
}

interface Question {
  readonly id: number;
  readonly failure: RemoteError | null;
}

/**
 * Whether a gap of that many events is better bridged by the graph itself: once it takes more events than the graph has
 * datasets and snapshots, the checkpoint is the smaller of the two.
 */
function isWorthCheckpoint(missingEvents: number, graph: Graph): boolean {
  if (missingEvents <= Math.max(EVENTS_ALWAYS_WORTH, graph.datasets.size)) return false;
  return missingEvents > graph.datasets.size + graph.snapshotCount;
}

/** The next chunk of a checkpoint that was begun: one that cannot be read ends the session, since the peer waits for it. */
async function nextOf(chunks: AsyncIterator<Uint8Array>, { stream }: SignedHead): Promise<Uint8Array | null> {
  try {
    const next = await chunks.next();
    return next.done === true ? null : next.value;
  } catch (error) {
    const message = `A checkpoint of ${stream} could not be read to its end.`;
    throw new PandoError('INTERNAL', message, { stream }, { cause: error });
  }
}

export class CatchUp {
  readonly #options: CatchUpOptions;
  readonly #handingOn: HandingOn;
  readonly #bell = new Doorbell();
  /** What the peer says it holds and nobody has compared with our own history yet. */
  readonly #claims = new Map<StreamId, SignedHead>();
  /** Up to where each stream was sent (belief 1). */
  readonly #sent = new Map<StreamId, SignedHead>();
  readonly #acknowledged = new Map<StreamId, { readonly incarnation: number; readonly seq: number }>();
  readonly #questions: Question[] = [];
  #open = 0;
  #asked = false;
  #stopped = false;

  constructor(options: CatchUpOptions) {
    const { history, connection, handsOn, say, report } = options;
    this.#options = options;
    this.#handingOn = new HandingOn({
      history,
      peer: connection.peer,
      handsOn,
      say,
      isOver: () => this.#stopped,
      isInterrupted: () => this.#bell.isRung,
      sendEvents: (events) => this.#send(events),
      sendCheckpoint: (checkpoint) => this.#sendCheckpoint(checkpoint),
      report,
    });
  }

  /** The peer may have something else than before. */
  reconsider(): void {
    this.#handingOn.reconsider();
    this.#bell.ring();
  }

  stop(): void {
    this.#stopped = true;
    this.#bell.ring();
  }

  /** Takes a question. Throws `PROTOCOL_UNEXPECTED`. */
  receiveQuestion(have: Have): void {
    this.#takeClaims(have);
    this.#open += 1;
    if (this.#open > QUESTIONS_OPEN_MAX) {
      throw new PandoError('PROTOCOL_UNEXPECTED', 'The peer asks again and again without waiting for an answer.');
    }
    if (have.refresh) void this.#refresh(have.id);
    else this.#enqueue({ id: have.id, failure: null });
  }

  /** Takes the peer's word on which streams of other nodes it follows through this one. */
  receiveFollow(follow: Follow): void {
    this.#handingOn.receive(follow);
    this.#bell.ring();
  }

  /** Takes notice of a change of any stream. */
  notice({ head: { stream }, events }: HistoryChange): void {
    const { node, tree } = splitStreamId(stream);
    if (isPrivateTree(tree)) return;
    if (node === this.#options.history.node || this.#handingOn.notice(stream, events === null)) this.#bell.ring();
  }

  /** Takes word of what the peer has stored. Throws `PROTOCOL_UNEXPECTED` when that was never sent. */
  receiveAck({ stream, incarnation, seq }: Ack): void {
    const sent = this.#sent.get(stream);
    if (sent === undefined || incarnation > sent.incarnation || (incarnation === sent.incarnation && seq > sent.seq)) {
      throw new PandoError(
        'PROTOCOL_UNEXPECTED',
        `The peer acknowledged event ${seq} of ${stream}, which was not sent.`,
      );
    }
    this.#acknowledged.set(stream, { incarnation, seq });
  }

  /** How much of an own stream is on the peer's disk for certain, or null. */
  acknowledged(stream: StreamId): { readonly incarnation: number; readonly seq: number } | null {
    return this.#acknowledged.get(stream) ?? null;
  }

  /** Publishes until {@link stop}. Rejects when the peer shows a forged head, or the log fails. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      await this.#bell.wait();
      if (this.#asked && !this.#stopped) await this.#pass();
    }
  }

  #takeClaims({ heads }: Have): void {
    if (this.#asked && heads.length > 0) {
      throw new PandoError('PROTOCOL_UNEXPECTED', 'The peer told twice what it holds.');
    }
    this.#asked = true;
    for (const head of heads) {
      if (splitStreamId(head.stream).node !== this.#options.history.node) {
        throw new PandoError(
          'PROTOCOL_UNEXPECTED',
          `The peer asks here for ${head.stream}, which another node writes.`,
        );
      }
      this.#claims.set(head.stream, head);
    }
  }

  async #refresh(id: number): Promise<void> {
    const { refresh, report } = this.#options;
    const failure = await refresh().then(
      () => null,
      (error: unknown) => remoteErrorOf(error, report),
    );
    this.#enqueue({ id, failure });
  }

  #enqueue(question: Question): void {
    this.#questions.push(question);
    this.#bell.ring();
  }

  async #pass(): Promise<void> {
    const questions: Question[] = [];
    let round = 0;
    for (let isDone = false; !isDone && !this.#stopped; round += 1) {
      this.#bell.answer();
      questions.push(...this.#questions.splice(0));
      for (const stream of this.#shared()) await this.#bringUp(stream);
      isDone = await this.#handingOn.pass();
      if (!isDone && round < ROUNDS_BEFORE_ANSWER) continue;
      for (const question of questions.splice(0)) this.#answer(question);
    }
  }

  #shared(): StreamId[] {
    const { history, connection, shares } = this.#options;
    return history.ownStreams().flatMap(({ stream }) => {
      const { tree } = splitStreamId(stream);
      return tree !== ADMIN_TREE && shares(connection.peer, tree) ? [stream] : [];
    });
  }

  #answer({ id, failure }: Question): void {
    const heads = this.#shared().flatMap((stream) => this.#sent.get(stream) ?? []);
    this.#open -= 1;
    this.#options.say({ type: 'have', id, reply: true, refresh: false, heads, failure });
  }

  async #bringUp(stream: StreamId): Promise<void> {
    const { history } = this.#options;
    const claim = this.#claims.get(stream);
    if (claim !== undefined) await this.#judge(claim);
    const head = history.head(stream);
    // To hold nothing counts as the beginning of the first incarnation.
    const sent = this.#sent.get(stream) ?? { incarnation: 1, seq: 0 };
    if (head === null || (sent.incarnation === head.incarnation && sent.seq >= head.seq)) return;
    if (await this.#needsCheckpoint(head, sent)) {
      const checkpoint = await history.checkpointOf(stream);
      await this.#sendCheckpoint(checkpoint);
      this.#sent.set(stream, checkpoint.head);
    } else {
      await this.#sendEvents(stream, sent.seq + 1, head.seq);
    }
  }

  /**
   * Compares what the peer holds of an own stream with our history of it. When the peer can show a head that this node signed
   * and does not know any more, this node lost part of its log, and its stream begins anew (design §4).
   */
  async #judge(claim: SignedHead): Promise<void> {
    const { history } = this.#options;
    const { stream, incarnation, seq } = claim;
    const head = history.head(stream);
    if (head === null) return;
    this.#claims.delete(stream);
    if (incarnation < head.incarnation) return;
    if (incarnation === head.incarnation && seq <= head.seq) {
      const ours = await this.#headAt(stream, seq);
      if (ours === null) return;
      if (equalHashes(ours.hash, claim.hash)) {
        this.#sent.set(stream, ours);
        this.#acknowledged.set(stream, { incarnation, seq });
        return;
      }
    }
    await history.startIncarnation(splitStreamId(stream).tree, claim);
  }

  /** The head at `seq` of the current incarnation, or null when that event is not kept any more. */
  async #headAt(stream: StreamId, seq: number): Promise<SignedHead | null> {
    try {
      return await this.#options.history.signedHeadAt(stream, seq);
    } catch (error) {
      if (isPandoError(error, 'LOG_COMPACTED')) return null;
      throw error;
    }
  }

  async #needsCheckpoint(head: SignedHead, sent: { incarnation: number; seq: number }): Promise<boolean> {
    const { history } = this.#options;
    if (sent.incarnation !== head.incarnation) return true;
    if (isWorthCheckpoint(head.seq - sent.seq, history.graph(head.stream))) return true;
    return (await history.oldest(head.stream)) > sent.seq + 1;
  }

  async #sendEvents(stream: StreamId, from: number, to: number): Promise<void> {
    for await (const { head, events } of this.#options.history.records(stream, from, to)) {
      await this.#send({ type: 'events', head, events });
      this.#sent.set(stream, head);
    }
  }

  async #sendCheckpoint({ head, seal, chunks }: SealedCheckpoint): Promise<void> {
    const parts = chunks[Symbol.asyncIterator]();
    try {
      await this.#send({ type: 'checkpoint-begin', head, seal });
      for (let part = await nextOf(parts, head); part !== null; part = await nextOf(parts, head)) {
        await this.#sendChunk(part);
      }
      await this.#send({ type: 'checkpoint-end' });
    } finally {
      await parts.return?.();
    }
  }

  async #sendChunk(chunk: Uint8Array): Promise<void> {
    for (let start = 0; start < chunk.length; start += BATCH_BYTES_MAX) {
      const end = Math.min(chunk.length, start + BATCH_BYTES_MAX);
      await this.#send({ type: 'checkpoint-chunk', bytes: chunk.subarray(start, end), last: end === chunk.length });
    }
  }

  async #send(message: Payload): Promise<void> {
    const { credit, connection } = this.#options;
    const frame = encodeMessage(message);
    await credit.take(frame.length);
    await connection.drained(BUFFERED_BYTES_LOW);
    connection.send(frame);
  }
}
