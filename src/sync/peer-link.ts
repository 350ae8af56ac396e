/**
 * This node's tie to one known peer: dials it while there is no session, keeps the one session, and decides between two
 * connections. Events only record; {@link PeerLink.#settle} alone decides what to do next.
 */
import { isPandoError, PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { BackOff, RECONNECT_STABLE_MS } from './back-off.ts';
import { Session, type SessionContext } from './session.ts';
import type { Connection, Transport } from './transport.ts';

/**
 * `idle`: no address, so the peer has to dial. `dialling` and `waiting`: between attempts. `connected`: a session is up.
 */
export type LinkState = 'idle' | 'dialling' | 'waiting' | 'connected';

/** How the tie to a peer is. */
export interface LinkStatus {
  readonly node: NodeId;
  readonly address: string | null;
  readonly state: LinkState;
  /** Unix ms at which the state began. */
  readonly since: number;
  /** Why there is no session, or why the last one ended; null when nothing has gone wrong. */
  readonly lastError: PandoError | null;
  /** Bytes of frames since this node started. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

export interface PeerLinkOptions {
  readonly peer: NodeId;
  readonly transport: Transport;
  readonly context: SessionContext;
  readonly random: () => number;
  /** Wall clock in Unix ms. */
  readonly wallClock: () => number;
  readonly connected: (session: Session) => void;
  readonly disconnected: (reason: PandoError) => void;
}

type Dialler = 'us' | 'them';

interface Current {
  readonly session: Session;
  readonly dialler: Dialler;
}

function superseded(peer: NodeId): PandoError {
  return new PandoError('CONNECTION_CLOSED', `Another connection to peer ${peer} took the place of this one.`, {
    peer,
  });
}

export class PeerLink {
  readonly #options: PeerLinkOptions;
  readonly #backOff: BackOff;
  #address: string | null = null;
  #current: Current | undefined;
  #dialling: AbortController | undefined;
  #cancelWait: (() => void) | undefined;
  #state: LinkState = 'idle';
  #since: number;
  #lastError: PandoError | null = null;
  /** Of sessions that are over. */
  #bytes = { sent: 0, received: 0 };
  #closed = false;

  constructor(options: PeerLinkOptions) {
    this.#options = options;
    this.#backOff = new BackOff(options.random);
    this.#since = options.wallClock();
  }

  /** The session, once the peer has said hello. */
  get session(): Session | undefined {
    return this.#current?.session.hello === undefined ? undefined : this.#current.session;
  }

  /** Whether there is a connection, or one being dialled: then it is known soon whether there is a session. */
  get isConnecting(): boolean {
    return this.#current !== undefined || this.#dialling !== undefined;
  }

  get address(): string | null {
    return this.#address;
  }

  status(): LinkStatus {
    return {
      node: this.#options.peer,
      address: this.#address,
      state: this.#state,
      since: this.#since,
      lastError: this.#lastError,
      bytesSent: this.#bytes.sent + (this.#current?.session.bytesSent ?? 0),
      bytesReceived: this.#bytes.received + (this.#current?.session.bytesReceived ?? 0),
    };
  }

  /** Sets where the peer listens; a new address is tried at once. */
  setAddress(address: string | null): void {
    if (address === this.#address) return;
    this.#address = address;
    this.#dialling?.abort();
    this.#dialling = undefined;
    this.retry();
  }

  /** Dials now rather than at the end of the wait: someone needs the peer. */
  retry(): void {
    this.#cancelWait?.();
    this.#cancelWait = undefined;
    this.#settle();
  }

  /** Takes a connection that the peer dialled. */
  accept(connection: Connection): void {
    this.#adopt(connection, 'them');
  }

  /** See {@link Session.reconsider}. */
  reconsider(): void {
    this.#current?.session.reconsider();
  }

  /** Ends the session; whoever dialled it may dial again. */
  disconnect(reason: PandoError): void {
    this.#current?.session.close(reason);
  }

  close(reason: PandoError): void {
    this.#closed = true;
    this.#dialling?.abort();
    this.#cancelWait?.();
    this.#current?.session.close(reason);
  }

  #settle(): void {
    if (this.#closed) return;
    if (this.#current !== undefined) {
      this.#enter(this.session === undefined ? this.#state : 'connected');
    } else if (this.#dialling !== undefined) {
      this.#enter('dialling');
    } else if (this.#cancelWait !== undefined) {
      this.#enter('waiting');
    } else if (this.#address === null) {
      this.#enter('idle');
    } else {
      this.#enter('dialling');
      void this.#dial(this.#address);
    }
  }

  #enter(state: LinkState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#since = this.#options.wallClock();
  }

  async #dial(address: string): Promise<void> {
    const { transport, peer, context } = this.#options;
    const attempt = new AbortController();
    this.#dialling = attempt;
    try {
      const connection = await transport.dial(address, peer, attempt.signal);
      if (this.#dialling === attempt) this.#dialling = undefined;
      this.#adopt(connection, 'us');
    } catch (error) {
      // A later attempt, to another address, has taken over.
      if (this.#dialling !== attempt) return;
      this.#dialling = undefined;
      if (!isPandoError(error)) context.report(error);
      this.#lastError = isPandoError(error)
        ? error
        : new PandoError('INTERNAL', `Dialling peer ${peer} at ${address} met an error; the log tells more.`);
      this.#wait();
    }
  }

  #wait(): void {
    if (this.#closed) return;
    this.#cancelWait?.();
    this.#cancelWait = this.#options.context.timers.after(this.#backOff.next(), () => this.retry());
    this.#settle();
  }

  /**
   * Of two connections, the one that the node with the smaller id dialled stays, so that both sides decide alike when they
   * dial at once. A second one of the same dialler replaces the first: its end of the first is gone.
   */
  #adopt(connection: Connection, dialler: Dialler): void {
    const { peer, context } = this.#options;
    if (this.#closed || (this.#current !== undefined && !this.#prefers(dialler, this.#current.dialler))) {
      connection.close(superseded(peer));
      return;
    }
    const previous = this.#current;
    const session = new Session(connection, context);
    const current = { session, dialler };
    this.#current = current;
    this.#cancelWait?.();
    this.#cancelWait = undefined;
    previous?.session.close(superseded(peer));
    void session.opened.then(() => this.#opened(current));
    void session.closed.then((reason) => this.#ended(current, reason));
  }

  #prefers(dialler: Dialler, present: Dialler): boolean {
    const { peer, context } = this.#options;
    const smaller: Dialler = context.history.node < peer ? 'us' : 'them';
    return dialler === present || dialler === smaller;
  }

  #opened(current: Current): void {
    if (current !== this.#current) return;
    const openedAt = this.#options.context.timers.now();
    void current.session.closed.then(() => {
      if (this.#options.context.timers.now() - openedAt >= RECONNECT_STABLE_MS) this.#backOff.reset();
    });
    this.#lastError = null;
    this.#settle();
    this.#options.connected(current.session);
  }

  #ended(current: Current, reason: PandoError): void {
    this.#bytes.sent += current.session.bytesSent;
    this.#bytes.received += current.session.bytesReceived;
    if (current === this.#current) {
      this.#current = undefined;
      this.#lastError = reason;
      if (this.#address === null) this.#settle();
      else this.#wait();
    }
    if (current.session.hello !== undefined) this.#options.disconnected(reason);
  }
}
