/** All sessions of this node: one for each known peer, dialled, accepted, kept up and ended. */
import { setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { isPandoError, PandoError } from '../core/errors.ts';
import { type NodeId, type StreamId, splitStreamId, type TreeName } from '../core/ids.ts';
import type { History } from '../log/history.ts';
import type { BareAccept } from './bare-connections.ts';
import type { CallHandler } from './calls.ts';
import { type LinkStatus, PeerLink } from './peer-link.ts';
import type { CaughtUp } from './questions.ts';
import type { Session, SessionContext } from './session.ts';
import type { Timers } from './timers.ts';
import type { Connection, Meets, MetNode, Transport } from './transport.ts';

/** How long {@link Hub.sync} waits for a connection before it gives up, in ms: a person is looking. */
export const CONNECT_WAIT_MS = 10_000;

/** The peers that this node knows, and what each may read. */
export interface PeerDirectory {
  /** `address` is where the peer listens, or null when it dials us. */
  peers(): readonly { readonly node: NodeId; readonly address: string | null }[];
  isKnown(node: NodeId): boolean;
  /** Told of a node that is not known and wanted to connect. */
  refused(node: NodeId): void;
  /** See {@link Meets}. */
  meets: Meets;
  /** Whether a key is one that a node has not replaced, as far as is known here. Unlike {@link meets}, this remembers nothing. */
  isCurrentKey(met: MetNode): boolean;
  shares(node: NodeId, tree: TreeName): boolean;
  /** Whether `node` may have what `author` says of a tree, handed on by this node. */
  handsOn(node: NodeId, author: NodeId, tree: TreeName): boolean;
  /** Whether what `author` says of a tree is of use here. */
  hears(author: NodeId, tree: TreeName): boolean;
  /** Has `listener` called after each change. Returns the way to end it. */
  onChange(listener: () => void): () => void;
}

/** What `pando status` tells of a peer. */
export interface HubLink extends LinkStatus {
  /** Connected peers that hand on what this one says, as long as it is not connected itself. */
  readonly heardThrough: readonly NodeId[];
}

/** Answers a node that proved its key and need not be known. Never rejects. */
export type IntroductionHandler = (node: NodeId, question: Uint8Array) => Promise<Uint8Array>;

/** Takes a data connection that `peer` opened with `ticket`, or answers null when it expects none such. */
export type DataHandler = (peer: NodeId, ticket: string) => ((stream: Duplex) => void) | null;

export interface HubOptions {
  readonly history: History;
  readonly transport: Transport;
  readonly directory: PeerDirectory;
  /** Version of this software, for people. */
  readonly software: string;
  readonly capabilities: readonly string[];
  /** Looks at ZFS now, at what this peer may read, and logs what it finds; run when the peer asks for it. */
  readonly refresh: (peer: NodeId) => Promise<void>;
  readonly timers: Timers;
  /** Wall clock in Unix ms. */
  readonly now: () => number;
  /** Numbers from 0 to below 1, for jitter. */
  readonly random: () => number;
  /** Takes errors that only this node's log should tell of. */
  readonly report: (error: unknown) => void;
}

export class Hub {
  readonly #options: HubOptions;
  readonly #context: SessionContext;
  readonly #handlers = new Map<string, CallHandler>();
  readonly #links = new Map<NodeId, PeerLink>();
  readonly #connectedListeners = new Set<(node: NodeId) => void>();
  readonly #disconnectedListeners = new Set<(node: NodeId, reason: PandoError) => void>();
  readonly #closing = new AbortController();
  #dataHandler: DataHandler = () => null;
  #bareHandler: BareAccept = () => null;
  #introductionHandler: IntroductionHandler = async () => new Uint8Array();
  #unsubscribe: () => void = () => undefined;

  constructor(options: HubOptions) {
    const { history, directory, software, capabilities, refresh, timers, report } = options;
    this.#options = options;
    // As many as wait for a connection at once listen to it
    setMaxListeners(0, this.#closing.signal);
    this.#context = {
      history,
      software,
      capabilities,
      shares: (peer, tree) => directory.shares(peer, tree),
      isCurrentKey: (met) => directory.isCurrentKey(met),
      handsOn: (peer, author, tree) => directory.handsOn(peer, author, tree),
      // Who is connected says it itself
      follows: (author, tree) => this.session(author) === undefined && directory.hears(author, tree),
      refresh,
      handlers: this.#handlers,
      timers,
      report,
    };
  }

  /** Listens, and dials every peer that has an address. Resolves to the address listened on. Rejects with `PORT_IN_USE`. */
  async start(): Promise<string> {
    const { transport, directory } = this.#options;
    const address = await transport.listen({
      admit: (peer) => this.#admits(peer),
      acceptBare: (ticket) => this.#bareHandler(ticket),
      meets: (met) => this.#options.directory.meets(met),
      accept: (connection) => this.#accept(connection),
      acceptData: (peer, ticket) => this.#dataHandler(peer, ticket),
      introduce: (node, question) => this.#introductionHandler(node, question),
    });
    this.#unsubscribe = directory.onChange(() => this.#followDirectory());
    this.#followDirectory();
    return address;
  }

  /** Answers calls of `method` from any peer. Throws `INTERNAL` when the method has a handler already. */
  handle(method: string, handler: CallHandler): void {
    if (this.#handlers.has(method)) throw new PandoError('INTERNAL', `The method "${method}" has two handlers.`);
    this.#handlers.set(method, handler);
  }

  /** Sets who takes data connections. */
  onDataConnection(handler: DataHandler): void {
    this.#dataHandler = handler;
  }

  /** Sets who takes bare data connections. */
  onBareConnection(handler: BareAccept): void {
    this.#bareHandler = handler;
  }

  /** Sets who answers introductions. */
  onIntroduction(handler: IntroductionHandler): void {
    this.#introductionHandler = handler;
  }

  /** Asks a node that need not be a peer. Rejects as `Transport.introduce` does. */
  introduce(address: string, node: NodeId, question: Uint8Array): Promise<Uint8Array> {
    return this.#options.transport.introduce(address, node, question, this.#closing.signal);
  }

  /** Ends the session with a peer, if there is one. It may come back, and then has what it may have by then. */
  disconnect(node: NodeId, reason: PandoError): void {
    this.#links.get(node)?.disconnect(reason);
  }

  /** Tells of each session that comes up. Returns the way to end it. */
  onConnected(listener: (node: NodeId) => void): () => void {
    this.#connectedListeners.add(listener);
    return () => this.#connectedListeners.delete(listener);
  }

  /** Tells of each session that ends. Returns the way to end it. */
  onDisconnected(listener: (node: NodeId, reason: PandoError) => void): () => void {
    this.#disconnectedListeners.add(listener);
    return () => this.#disconnectedListeners.delete(listener);
  }

  /** The session with a peer, or undefined while there is none. */
  session(node: NodeId): Session | undefined {
    return this.#links.get(node)?.session;
  }

  /** Peers that have a session. */
  connected(): NodeId[] {
    return Array.from(this.#links).flatMap(([node, link]) => (link.session === undefined ? [] : [node]));
  }

  status(): HubLink[] {
    const authorsOf = ({ session }: PeerLink) =>
      new Set(Array.from(session?.followed ?? [], (stream) => splitStreamId(stream).node));
    const brought = Array.from(this.#links, ([node, link]) => ({ node, authors: authorsOf(link) }));
    return Array.from(this.#links, ([author, link]) => ({
      ...link.status(),
      heardThrough: brought.flatMap(({ node, authors }) => (authors.has(author) ? [node] : [])),
    }));
  }

  /** How much of an own stream is on the peer's disk for certain, or null when that is not known (at present). */
  acknowledged(node: NodeId, stream: StreamId): { readonly incarnation: number; readonly seq: number } | null {
    return this.session(node)?.acknowledged(stream) ?? null;
  }

  /**
   * Brings what is known of a peer's streams up to date; with `refresh` the peer looks at its ZFS first. Waits up to CONNECT_WAIT_MS for a connection. Rejects with `PEER_UNKNOWN`,
   * `PEER_UNREACHABLE` (its cause is what happened last), or what made the peer's refresh fail.
   */
  async sync(node: NodeId, options: { readonly refresh?: boolean } = {}): Promise<CaughtUp> {
    for (;;) {
      const session = await this.reach(node);
      try {
        return await session.sync(options);
      } catch (error) {
        // Where both dialled, one connection gives way to the other, which may have yet to say hello
        const link = this.#links.get(node);
        const isReplaced = link?.isConnecting === true && link.session !== session;
        if (!isReplaced || !isPandoError(error, 'CONNECTION_CLOSED')) throw error;
      }
    }
  }

  /**
   * The session with a peer, as soon as there is one; dials at once rather than at the end of a wait.
   * Rejects with `PEER_UNKNOWN`, with `PEER_UNREACHABLE` after CONNECT_WAIT_MS, and with `CONNECTION_CLOSED` once this hub is closed.
   */
  async reach(node: NodeId): Promise<Session> {
    const link = this.#link(node);
    if (link.session !== undefined) return link.session;
    if (this.#closing.signal.aborted) throw this.#shutDown();
    link.retry();
    await this.#connectedInTime(node);
    if (link.session !== undefined) return link.session;
    if (this.#closing.signal.aborted) throw this.#shutDown();
    const { lastError, address } = link.status();
    throw new PandoError(
      'PEER_UNREACHABLE',
      lastError?.message ?? neverCame(node, address),
      { peer: node },
      { cause: lastError },
    );
  }

  /**
   * Opens a data connection to a peer. Rejects with `PEER_UNKNOWN`, `PEER_UNREACHABLE` (also when the peer has no
   * address: then it has to open the connection), `PEER_REFUSED`, and `CONNECTION_CLOSED` when `signal` is aborted.
   */
  async openData(node: NodeId, ticket: string, signal: AbortSignal): Promise<Duplex> {
    return this.#options.transport.openData(this.#addressOf(node), node, ticket, signal);
  }

  /** The same without TLS, which the caller begins; null where the peer does not take that, or nothing here can. Rejects as {@link openData}. */
  async openBare(node: NodeId, ticket: string, signal: AbortSignal): Promise<Socket | null> {
    const { bare } = this.#options.transport;
    return bare === null ? null : bare.open(this.#addressOf(node), ticket, signal);
  }

  /** Ends all sessions and stops listening; takes no longer than the peers may take to hear the goodbyes. */
  async close(): Promise<void> {
    this.#unsubscribe();
    this.#closing.abort();
    for (const link of this.#links.values()) link.close(this.#shutDown());
    await this.#options.transport.close();
  }

  #shutDown(): PandoError {
    return new PandoError('CONNECTION_CLOSED', `Node ${this.#options.history.node} shuts down.`);
  }

  #addressOf(node: NodeId): string {
    const { address } = this.#link(node);
    if (address !== null) return address;
    throw new PandoError('PEER_UNREACHABLE', `Peer ${node} has no address; it has to open the data connection.`, {
      peer: node,
    });
  }

  #link(node: NodeId): PeerLink {
    const link = this.#links.get(node);
    if (link !== undefined) return link;
    throw new PandoError('PEER_UNKNOWN', `There is no peer ${node}; "pando peer ls" lists them.`, { peer: node });
  }

  #admits(node: NodeId): boolean {
    const { directory } = this.#options;
    if (directory.isKnown(node)) return true;
    directory.refused(node);
    return false;
  }

  #accept(connection: Connection): void {
    const link = this.#links.get(connection.peer);
    if (link !== undefined) link.accept(connection);
    else connection.close(removed(connection.peer));
  }

  #followDirectory(): void {
    const wanted = new Map(this.#options.directory.peers().map(({ node, address }) => [node, address]));
    for (const [node, link] of this.#links) {
      if (wanted.has(node)) continue;
      this.#links.delete(node);
      link.close(removed(node));
    }
    for (const [node, address] of wanted) {
      const link = this.#links.get(node) ?? this.#addLink(node);
      link.setAddress(address);
      link.reconsider();
    }
  }

  #addLink(node: NodeId): PeerLink {
    const { transport, random, now } = this.#options;
    const link = new PeerLink({
      peer: node,
      transport,
      context: this.#context,
      random,
      wallClock: now,
      connected: () => {
        this.#reconsiderFollowed();
        for (const listener of this.#connectedListeners) listener(node);
      },
      disconnected: (reason) => {
        this.#reconsiderFollowed();
        for (const listener of this.#disconnectedListeners) listener(node, reason);
      },
    });
    this.#links.set(node, link);
    return link;
  }

  /** Who has come or gone may be heard through others, or need not be any more. */
  #reconsiderFollowed(): void {
    for (const link of this.#links.values()) link.session?.reconsiderFollowed();
  }

  /** Resolves when the peer is connected, or at the end of the wait, or of this hub. */
  #connectedInTime(node: NodeId): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        stop();
        cancel();
        this.#closing.signal.removeEventListener('abort', finish);
        resolve();
      };
      const stop = this.onConnected((other) => {
        if (other === node) finish();
      });
      const cancel = this.#options.timers.after(CONNECT_WAIT_MS, finish);
      this.#closing.signal.addEventListener('abort', finish);
    });
  }
}

function neverCame(peer: NodeId, address: string | null): string {
  const missing = address === null ? 'and has no address at which it could be dialled' : `nor answered at ${address}`;
  return `Peer ${peer} has not connected ${missing}; check that "pando serve" runs there.`;
}

function removed(peer: NodeId): PandoError {
  return new PandoError('PEER_REFUSED', `Node ${peer} is not a peer here any more.`, { peer });
}
