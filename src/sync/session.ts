/**
 * One session between this node and a peer, over one connection: hello, then each side asks the other what is new, then
 * events as they happen (design §6). The parts know nothing of each other; here every message finds its part.
 *
 * Whatever a peer does wrong ends this session, with a goodbye that says why, and harms nothing else (invariant 7).
 */
import { isPandoError, PandoError } from '../core/errors.ts';
import { type NodeId, type StreamId, splitStreamId, type TreeName } from '../core/ids.ts';
import type { History } from '../log/history.ts';
import { type CallHandler, Calls } from './calls.ts';
import { CatchUp } from './catch-up.ts';
import { ReceiveCredit, SendCredit } from './flow-control.ts';
import { goodbyeFor } from './goodbye.ts';
import { Heartbeat } from './heartbeat.ts';
import { checkProtocol } from './hello.ts';
import { Intake } from './intake.ts';
import { decodeMessage, encodeMessage } from './message-codec.ts';
import {
  BATCH_BYTES_MAX,
  type Goodbye,
  type Have,
  type Hello,
  type Message,
  PROTOCOL_RANGE,
  RELAY_CAPABILITY,
} from './messages.ts';
import { type CaughtUp, Questions } from './questions.ts';
import { RelaySubscription } from './relay-subscription.ts';
import type { Timers } from './timers.ts';
import { type Connection, checkFrameSize, FRAME_BYTES_MAX, type MetNode } from './transport.ts';

/** Time from the connection to the peer's hello, in ms. */
export const HELLO_TIMEOUT_MS = 10_000;
/** Bytes that may wait to be sent before the peer counts as one that does not read: every open call's largest answer, and some. */
const UNSENT_BYTES_MAX = 24 * FRAME_BYTES_MAX;
/** From so many bytes on that wait, frames are counted: a small one takes ten times its bytes of memory until it is sent. */
const UNSENT_BYTES_LOW = BATCH_BYTES_MAX;
const UNSENT_FRAMES_MAX = 10_000;

/** What all sessions of a node share. */
export interface SessionContext {
  readonly history: History;
  /** Version of this software, for people. */
  readonly software: string;
  readonly capabilities: readonly string[];
  /** Whether the peer may read the tree, at this moment. */
  readonly shares: (peer: NodeId, tree: TreeName) => boolean;
  /** Whether the peer may have what `author` says of a tree, from this node, at this moment. */
  readonly handsOn: (peer: NodeId, author: NodeId, tree: TreeName) => boolean;
  /** Whether what `author` says of a tree is of use here when others bring it, at this moment. */
  readonly follows: (author: NodeId, tree: TreeName) => boolean;
  /** Whether a key is one that a node has not replaced, as far as is known here. */
  readonly isCurrentKey: (met: MetNode) => boolean;
  /** Looks at ZFS now, at what this peer may read, and logs what it finds. */
  readonly refresh: (peer: NodeId) => Promise<void>;
  readonly handlers: ReadonlyMap<string, CallHandler>;
  readonly timers: Timers;
  /** Takes errors that only this node's log should tell of. */
  readonly report: (error: unknown) => void;
}

export class Session {
  readonly peer: NodeId;
  /** Resolves once the peer has said hello. Never rejects: see {@link closed}. */
  readonly opened: Promise<void>;
  /** Resolves to the reason once the session is over. */
  readonly closed: Promise<PandoError>;
  readonly #context: SessionContext;
  readonly #connection: Connection;
  readonly #calls: Calls;
  readonly #catchUp: CatchUp;
  readonly #relayed: RelaySubscription;
  readonly #intake: Intake;
  readonly #questions: Questions;
  readonly #heartbeat: Heartbeat;
  readonly #sendCredit = new SendCredit();
  readonly #cancelHelloTimeout: () => void;
  readonly #unsubscribe: () => void;
  /** Frames since the connection last had little to send. */
  #unsentFrames = 0;
  #hello: Hello | undefined;
  #ended: PandoError | undefined;
  #resolveOpened: () => void = () => undefined;
  #resolveClosed: (reason: PandoError) => void = () => undefined;

  constructor(connection: Connection, context: SessionContext) {
    const { history, shares, handsOn, follows, refresh, handlers, timers, report } = context;
    const send = (message: Message): void => this.#send(message);
    this.peer = connection.peer;
    this.#connection = connection;
    this.#context = context;
    this.opened = new Promise((resolve) => {
      this.#resolveOpened = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#calls = new Calls({ peer: this.peer, handlers, send, report });
    this.#catchUp = new CatchUp({
      history,
      connection,
      credit: this.#sendCredit,
      shares,
      handsOn: (author, tree) => this.#relays && handsOn(this.peer, author, tree),
      refresh: () => refresh(this.peer),
      say: send,
      report,
    });
    this.#relayed = new RelaySubscription({
      history,
      wants: (stream) => {
        const { node, tree } = splitStreamId(stream);
        return node !== this.peer && node !== history.node && follows(node, tree);
      },
      say: send,
      report,
    });
    this.#questions = new Questions({ send, storedTimes: () => this.#intake.storedTimes });
    this.#intake = new Intake({
      history,
      peer: this.peer,
      credit: new ReceiveCredit(),
      relayed: this.#relayed,
      isCurrentKey: context.isCurrentKey,
      send,
      answered: (answer) => this.#questions.answered(answer),
    });
    this.#heartbeat = new Heartbeat(
      timers,
      () => send({ type: 'ping' }),
      (reason) => this.#end(reason),
    );
    this.#cancelHelloTimeout = timers.after(HELLO_TIMEOUT_MS, () => {
      this.#end(new PandoError('PROTOCOL_TIMEOUT', `Peer ${this.peer} did not say hello in time.`));
    });
    this.#unsubscribe = history.onChange((change) => {
      this.#catchUp.notice(change);
      this.#relayed.notice(change.head.stream);
    });
    connection.onClose((reason) => this.#end(reason, { tell: false }));
    this.#sayHello();
    connection.onFrame((frame) => this.#receive(frame));
    void this.#catchUp.run().catch((error: unknown) => this.#fail(error));
    void this.#intake.run().catch((error: unknown) => this.#fail(error));
  }

  /** What the peer said of itself, once it has. */
  get hello(): Hello | undefined {
    return this.#hello;
  }

  get bytesSent(): number {
    return this.#connection.bytesSent;
  }

  get bytesReceived(): number {
    return this.#connection.bytesReceived;
  }

  /**
   * Asks the peer what is new, and resolves once everything up to its answer is stored; with `refresh` the peer looks at its
   * ZFS first. Rejects with `CONNECTION_CLOSED`, or with what made the refresh fail.
   */
  sync(options: { readonly refresh?: boolean } = {}): Promise<CaughtUp> {
    return this.#questions.ask(options.refresh ?? false);
  }

  /** See {@link Calls.call}. */
  call(method: string, params: unknown, options: { readonly signal?: AbortSignal } = {}): Promise<unknown> {
    return this.#calls.call(method, params, options.signal);
  }

  /** How much of an own stream is on the peer's disk for certain, or null. */
  acknowledged(stream: StreamId): { readonly incarnation: number; readonly seq: number } | null {
    return this.#catchUp.acknowledged(stream);
  }

  /** Streams of other nodes that this one follows through the peer. */
  get followed(): ReadonlySet<StreamId> {
    return this.#relayed.followed;
  }

  /** Tells that the peer may have something else than before, or that something else is of use here. */
  reconsider(): void {
    this.#catchUp.reconsider();
    this.#relayed.reconsider();
  }

  /** Tells that another node has come or gone, which says itself what the peer would hand on. */
  reconsiderFollowed(): void {
    this.#relayed.reconsider();
  }

  /** Ends the session; the peer learns why. */
  close(reason: PandoError): void {
    this.#end(reason);
  }

  /** Whether the peer hands on and takes streams of other nodes: earlier builds would take them for a fault. */
  get #relays(): boolean {
    return this.#hello?.capabilities.includes(RELAY_CAPABILITY) === true;
  }

  #sayHello(): void {
    const { history, software, capabilities } = this.#context;
    this.#send({
      type: 'hello',
      protocol: PROTOCOL_RANGE,
      node: history.node,
      software,
      capabilities: [...capabilities, RELAY_CAPABILITY],
    });
  }

  #send(message: Message): void {
    if (this.#ended !== undefined) return;
    const frame = encodeMessage(message);
    checkFrameSize(frame);
    this.#connection.send(frame);
    const { bufferedBytes } = this.#connection;
    this.#unsentFrames = bufferedBytes <= UNSENT_BYTES_LOW ? 0 : this.#unsentFrames + 1;
    if (bufferedBytes <= UNSENT_BYTES_MAX && this.#unsentFrames <= UNSENT_FRAMES_MAX) return;
    this.#end(new PandoError('PROTOCOL_TIMEOUT', `Peer ${this.peer} does not read what it asked for.`));
  }

  #receive(frame: Uint8Array): void {
    if (this.#ended !== undefined) return;
    try {
      this.#heartbeat.heard();
      const message = decodeMessage(frame);
      if (message.type === 'goodbye') this.#receiveGoodbye(message);
      else if (this.#hello === undefined) this.#receiveHello(message);
      else this.#dispatch(message, frame.length);
    } catch (error) {
      this.#fail(error);
    }
  }

  #receiveHello(message: Message): void {
    if (message.type !== 'hello') throw this.#unexpected(`began with "${message.type}" instead of a hello`);
    const { node } = message;
    checkProtocol(message, { node: this.#context.history.node, software: this.#context.software });
    if (node !== this.peer) throw this.#unexpected(`says that it is node ${node}`);
    this.#hello = message;
    this.#cancelHelloTimeout();
    this.#resolveOpened();
    void this.#askFirst().catch((error: unknown) => this.#fail(error));
  }

  /** A damaged copy of the peer's stream is dropped before, so that the peer sends it whole. */
  async #askFirst(): Promise<void> {
    const { history, report } = this.#context;
    const isPeers = ({ stream }: { stream: StreamId }): boolean => splitStreamId(stream).node === this.peer;
    for (const { stream, error } of history.faults().filter(isPeers)) {
      report(error);
      await history.forget(stream);
    }
    this.#questions.begin(history.streams().filter(isPeers));
  }

  #dispatch(message: Exclude<Message, Goodbye>, bytes: number): void {
    switch (message.type) {
      case 'hello':
        throw this.#unexpected('said hello twice');
      case 'have':
        this.#receiveHave(message);
        return;
      case 'events':
      case 'checkpoint-begin':
      case 'checkpoint-chunk':
      case 'checkpoint-end':
        this.#intake.receive(message, bytes);
        return;
      case 'offer':
        this.#relayed.receive(message);
        return;
      case 'follow':
        this.#catchUp.receiveFollow(message);
        return;
      case 'ack':
        this.#catchUp.receiveAck(message);
        return;
      case 'credit':
        this.#sendCredit.grant(message.bytes);
        return;
      case 'ping':
        this.#send({ type: 'pong' });
        return;
      case 'pong':
        return;
      case 'request':
        this.#calls.receiveRequest(message);
        return;
      case 'response':
        this.#calls.receiveResponse(message);
        return;
      case 'cancel':
        this.#calls.receiveCancel(message);
        return;
    }
  }

  #receiveHave(message: Have): void {
    if (message.reply) {
      this.#questions.expect(message);
      this.#intake.receiveAnswer(message);
    } else {
      this.#catchUp.receiveQuestion(message);
    }
  }

  #receiveGoodbye({ code, message }: Goodbye): void {
    const reason = new PandoError(code, `Peer ${this.peer} ended the connection: ${message}`, { peer: this.peer });
    this.#end(reason, { tell: false });
  }

  #unexpected(what: string): PandoError {
    return new PandoError('PROTOCOL_UNEXPECTED', `Peer ${this.peer} ${what}.`, { peer: this.peer });
  }

  #fail(error: unknown): void {
    if (this.#ended !== undefined) return;
    if (isPandoError(error)) {
      this.#end(error);
      return;
    }
    this.#context.report(error);
    this.#end(new PandoError('INTERNAL', `The session with peer ${this.peer} met an error; the log tells more.`));
  }

  #end(reason: PandoError, { tell }: { readonly tell: boolean } = { tell: true }): void {
    if (this.#ended !== undefined) return;
    if (tell) this.#connection.send(encodeMessage(goodbyeFor(reason)));
    this.#ended = reason;
    this.#cancelHelloTimeout();
    this.#unsubscribe();
    this.#heartbeat.stop();
    this.#catchUp.stop();
    this.#sendCredit.close(reason);
    this.#intake.stop(reason);
    this.#questions.close(reason);
    this.#calls.close(reason);
    this.#connection.close(reason);
    this.#resolveClosed(reason);
  }
}
