/**
 * The network of a simulated world. Messages take their time, each link its own; connections break, stall and come twice.
 *
 * Pando's transport is ordered and reliable, as TLS over TCP is. What a network does to packets shows there like this: a packet that is late
 * delays what is behind it on the same connection, one that is lost for good breaks the connection, and one that comes twice is noticed by
 * nobody, except where it opened the connection: then the far end sees a second one, on which nothing ever comes.
 */
import type { Duplex } from 'node:stream';
import { PandoError } from '../../src/core/errors.ts';
import type { NodeId } from '../../src/core/ids.ts';
import { MemoryNetwork } from '../../src/sync/memory-transport.ts';
import type { Connection, ListenOptions, Transport } from '../../src/sync/transport.ts';
import type { Life } from './life.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** Usual time of a message on its way, in ms. */
const MESSAGE_MS = 5;
/** Longest time of a message, in ms: what takes longer to open a connection is given up by real transports, and what stalls is a fault of its own. */
const MESSAGE_MS_MAX = 8_000;
/** How long a second connection that nobody wanted stays open at most, in ms. */
const GHOST_MS_MAX = 20_000;

export interface NetworkOptions {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly trace: Trace;
  readonly nameOf: (node: NodeId) => string;
}

export class SimulatedNetwork {
  readonly wires: MemoryNetwork;
  readonly #options: NetworkOptions;
  readonly #slow = new Map<string, number>();
  /** The most that ever waited to be sent on one connection, in bytes. */
  bufferedBytesMax = 0;
  /** How many of the connections are opened twice, from 0 to 1. */
  duplicated = 0;

  constructor(options: NetworkOptions) {
    const { scheduler, random, trace, nameOf } = options;
    this.#options = options;
    this.wires = new MemoryNetwork({
      schedule: (task, from, to) => {
        const factor = this.#slow.size === 0 ? 1 : (this.#slow.get(linkOf(from, to)) ?? 1);
        scheduler.after(Math.min(factor * random.wait(MESSAGE_MS), MESSAGE_MS_MAX), () => {
          trace.note(scheduler.now(), nameOf(to), nameOf(from));
          task();
        });
      },
    });
  }

  transport(node: NodeId, address: string, life: Life): Transport {
    return new SimulatedTransport(this, this.wires.transport(node, address), life);
  }

  /** From now on messages between two nodes take that many times as long; 1 is as usual. */
  slowDown(a: NodeId, b: NodeId, factor: number): void {
    for (const link of [linkOf(a, b), linkOf(b, a)]) {
      if (factor === 1) this.#slow.delete(link);
      else this.#slow.set(link, factor);
    }
  }

  /** A packet is lost for good: what is open between two nodes breaks. */
  interrupt(a: NodeId, b: NodeId): void {
    this.wires.cut(a, b);
    this.wires.mend(a, b);
  }

  /** Keeps an eye on how much waits to be sent. */
  watch(connection: Connection): Connection {
    const send = connection.send.bind(connection);
    connection.send = (frame) => {
      send(frame);
      this.bufferedBytesMax = Math.max(this.bufferedBytesMax, connection.bufferedBytes);
    };
    return connection;
  }

  /** Now and then opens the connection once more, for nothing. */
  async haunt(open: () => Promise<Connection>): Promise<void> {
    const { scheduler, random } = this.#options;
    if (!random.chance(this.duplicated)) return;
    const ghost = await open().catch(() => null);
    if (ghost === null) return;
    ghost.onClose(() => undefined);
    const reason = new PandoError('CONNECTION_CLOSED', 'Nobody wanted this connection.');
    scheduler.after(random.between(0, GHOST_MS_MAX), () => ghost.close(reason));
  }
}

function linkOf(from: NodeId, to: NodeId): string {
  return `${from} ${to}`;
}

/** What one run of a node has of the network. */
class SimulatedTransport implements Transport {
  readonly bare = null;
  readonly #network: SimulatedNetwork;
  readonly #transport: Transport;
  readonly #life: Life;

  constructor(network: SimulatedNetwork, transport: Transport, life: Life) {
    this.#network = network;
    this.#transport = transport;
    this.#life = life;
  }

  listen({ accept, ...options }: ListenOptions): Promise<string> {
    return this.#transport.listen({
      ...options,
      accept: (connection) => {
        if (!this.#life.isOver) accept(this.#network.watch(connection));
      },
    });
  }

  async dial(address: string, peer: NodeId, signal: AbortSignal): Promise<Connection> {
    const alive = AbortSignal.any([signal, this.#life.signal]);
    const connection = await this.#transport.dial(address, peer, alive);
    void this.#network.haunt(() => this.#transport.dial(address, peer, alive));
    return this.#network.watch(connection);
  }

  openData(address: string, peer: NodeId, ticket: string, signal: AbortSignal): Promise<Duplex> {
    return this.#transport.openData(address, peer, ticket, AbortSignal.any([signal, this.#life.signal]));
  }

  introduce(address: string, peer: NodeId, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return this.#transport.introduce(address, peer, question, AbortSignal.any([signal, this.#life.signal]));
  }

  async close(): Promise<void> {
    if (!this.#life.isOver) await this.#transport.close();
  }
}
