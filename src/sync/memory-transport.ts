/** Nodes in one process, connected by a network that tests and the simulator can cut, stall and mend. */
import { type Duplex, duplexPair } from 'node:stream';
import type { KeyProof } from '../core/codec/key-proof.ts';
import { PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { closingError } from './close-codes.ts';
import { MemoryConnection, type Wire } from './memory-connection.ts';
import { type Connection, dialFailure, type ListenOptions, type MetNode, type Transport } from './transport.ts';

/** Of a node whose keys do not matter. */
const NO_KEYS: KeyProof = new Uint8Array();

interface Listener {
  readonly self: MetNode;
  readonly options: ListenOptions;
}

/** The wires between transports of one process. */
export class MemoryNetwork implements Wire {
  readonly #schedule: Wire['schedule'];
  readonly #listeners = new Map<string, Listener>();
  readonly #connections = new Set<MemoryConnection>();
  readonly #streams = new Set<{ readonly pair: readonly Duplex[]; readonly nodes: readonly NodeId[] }>();
  readonly #cut = new Set<string>();
  readonly #stalled = new Set<string>();

  /** `schedule` decides when something arrives; the simulator brings its own. */
  constructor(options: { readonly schedule?: Wire['schedule'] } = {}) {
    this.#schedule = options.schedule ?? ((task) => setImmediate(task));
  }

  schedule(task: () => void, from: NodeId, to: NodeId): void {
    this.#schedule(task, from, to);
  }

  /** How many ends of connections, and how many data connections, are open. */
  get open(): { readonly ends: number; readonly streams: number } {
    this.#forgetClosed();
    return { ends: this.#connections.size, streams: this.#streams.size };
  }

  /** A transport for `node`, reachable at `address` once it listens. Keys are taken at their word here: that they prove something is for TLS to see. */
  transport(node: NodeId, address: string, keyProof: KeyProof = NO_KEYS): Transport {
    return new MemoryTransport(this, { node, keyProof }, address);
  }

  /** Breaks all connections between two nodes, and keeps them from connecting until {@link mend}. */
  cut(a: NodeId, b: NodeId): void {
    this.#cut.add(linkOf(a, b));
    for (const connection of [...this.#connections])
      if (linkOf(...connection.nodes) === linkOf(a, b)) this.#break(connection);
    this.#breakStreams((nodes) => nodes.includes(a) && nodes.includes(b));
  }

  /** From now on nothing arrives between two nodes, though neither notices: a half-open link, or a peer that stopped reading. */
  stall(a: NodeId, b: NodeId): void {
    this.#stalled.add(linkOf(a, b));
  }

  /** Undoes {@link cut} and {@link stall}; what was stalled arrives. */
  mend(a: NodeId, b: NodeId): void {
    this.#cut.delete(linkOf(a, b));
    this.#stalled.delete(linkOf(a, b));
    for (const connection of this.#connections)
      if (linkOf(...connection.nodes) === linkOf(a, b)) connection.deliverAll();
  }

  isStalled(a: NodeId, b: NodeId): boolean {
    return this.#stalled.has(linkOf(a, b));
  }

  listen(address: string, listener: Listener): void {
    if (this.#listeners.has(address)) {
      throw new PandoError('PORT_IN_USE', `The address ${address} is taken; choose another with "listen".`, {
        address,
      });
    }
    this.#listeners.set(address, listener);
  }

  connect(self: MetNode, address: string, peer: NodeId): MemoryConnection {
    const { options } = this.#reach(self, address, peer);
    const [near, far] = MemoryConnection.pair(this, self.node, peer);
    for (const end of [near, far]) this.#connections.add(end);
    options.accept(far);
    this.#forgetClosed();
    return near;
  }

  openData(self: MetNode, address: string, peer: NodeId, ticket: string): Duplex {
    const { options } = this.#reach(self, address, peer);
    const take = options.acceptData(self.node, ticket);
    if (take === null) throw dialFailure.ticketUnknown(peer, address);
    const [near, far] = duplexPair();
    cutTogether(near, far);
    cutTogether(far, near);
    const entry = { pair: [near, far], nodes: [self.node, peer] };
    this.#streams.add(entry);
    far.once('close', () => this.#streams.delete(entry));
    take(far);
    return near;
  }

  /** Takes a node off the network. */
  remove(node: NodeId, address: string): void {
    if (this.#listeners.get(address)?.self.node === node) this.#listeners.delete(address);
    for (const connection of this.#connections) {
      if (connection.nodes[0] === node) connection.close(closingError(1001, connection.peer));
    }
    this.#breakStreams((nodes) => nodes.includes(node));
  }

  /** A node is gone without a word, as when its machine loses power: what it had open breaks, and nobody listens there any more. */
  unplug(node: NodeId, address: string): void {
    if (this.#listeners.get(address)?.self.node === node) this.#listeners.delete(address);
    for (const connection of [...this.#connections]) if (connection.nodes.includes(node)) this.#break(connection);
    this.#breakStreams((nodes) => nodes.includes(node));
  }

  introduce(self: MetNode, address: string, peer: NodeId, question: Uint8Array): Promise<Uint8Array> {
    return this.#find(self, address, peer).options.introduce(self.node, question);
  }

  #reach(self: MetNode, address: string, peer: NodeId): Listener {
    const listener = this.#find(self, address, peer);
    if (!listener.options.admit(self.node)) throw dialFailure.refused(peer, address, self.node);
    return listener;
  }

  #find(self: MetNode, address: string, peer: NodeId): Listener {
    const listener = this.#listeners.get(address);
    if (listener === undefined) throw dialFailure.unreachable(peer, address, 'nobody listens');
    if (this.#cut.has(linkOf(self.node, listener.self.node)))
      throw dialFailure.unreachable(peer, address, 'no route to host');
    if (listener.self.node !== peer) throw dialFailure.someoneElse(peer, address, listener.self.node);
    const meets = this.#listening(self.node)?.options.meets ?? (() => true);
    if (!meets(listener.self)) throw dialFailure.formerKey(peer, address);
    if (!listener.options.meets(self)) throw dialFailure.refused(peer, address, self.node);
    return listener;
  }

  #listening(node: NodeId): Listener | undefined {
    return Array.from(this.#listeners.values()).find(({ self }) => self.node === node);
  }

  #break(connection: MemoryConnection): void {
    this.#connections.delete(connection);
    connection.break();
  }

  #breakStreams(concerns: (nodes: readonly NodeId[]) => boolean): void {
    for (const entry of [...this.#streams]) {
      if (!concerns(entry.nodes)) continue;
      this.#streams.delete(entry);
      for (const stream of entry.pair) stream.destroy();
    }
  }

  #forgetClosed(): void {
    for (const connection of this.#connections) if (connection.closed) this.#connections.delete(connection);
  }
}

function linkOf(a: NodeId, b: NodeId): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

class MemoryTransport implements Transport {
  readonly bare = null;
  readonly #network: MemoryNetwork;
  readonly #self: MetNode;
  readonly #address: string;

  constructor(network: MemoryNetwork, self: MetNode, address: string) {
    this.#network = network;
    this.#self = self;
    this.#address = address;
  }

  async listen(options: ListenOptions): Promise<string> {
    this.#network.listen(this.#address, { self: this.#self, options });
    return this.#address;
  }

  dial(address: string, peer: NodeId, signal: AbortSignal): Promise<Connection> {
    return this.#soon(address, peer, signal, () => this.#network.connect(this.#self, address, peer));
  }

  openData(address: string, peer: NodeId, ticket: string, signal: AbortSignal): Promise<Duplex> {
    return this.#soon(address, peer, signal, () => this.#network.openData(this.#self, address, peer, ticket));
  }

  introduce(address: string, peer: NodeId, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return this.#soon(address, peer, signal, () => this.#network.introduce(this.#self, address, peer, question));
  }

  async close(): Promise<void> {
    this.#network.remove(this.#self.node, this.#address);
  }

  #soon<T>(address: string, peer: NodeId, signal: AbortSignal, connect: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const attempt = (): void => {
        try {
          if (signal.aborted) throw dialFailure.givenUp(peer, address, signal);
          resolve(connect());
        } catch (error) {
          reject(error);
        }
      };
      this.#network.schedule(attempt, this.#self.node, peer);
    });
  }
}

/** As with a socket: an end that is destroyed before it has said all cuts the other one off. */
function cutTogether(one: Duplex, other: Duplex): void {
  one.once('close', () => {
    if (!one.writableFinished) other.destroy();
  });
}
