/** One end of a connection within one process. */
import type { PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { closeCodeOf, closingError, linkBroken } from './close-codes.ts';
import { DrainWaiters } from './drain-waiters.ts';
import { type Connection, checkFrameSize } from './transport.ts';

/** What a connection asks of the network that it is part of. */
export interface Wire {
  /**
   * Runs something that travels between two nodes soon, never at once, and as often as it was handed in. What a connection hands in may run in any
   * order: each time it delivers what has waited longest.
   */
  schedule(task: () => void, from: NodeId, to: NodeId): void;
  /** Whether nothing arrives between two nodes at present. */
  isStalled(a: NodeId, b: NodeId): boolean;
}

type Delivery = { readonly frame: Uint8Array } | { readonly closeCode: number };

export class MemoryConnection implements Connection {
  readonly peer: NodeId;
  readonly #wire: Wire;
  readonly #self: NodeId;
  readonly #outgoing: Delivery[] = [];
  readonly #early: Uint8Array[] = [];
  readonly #waiters = new DrainWaiters();
  #other: MemoryConnection | undefined;
  #frameListener: ((frame: Uint8Array) => void) | undefined;
  #closeListener: ((reason: PandoError) => void) | undefined;
  #closed: PandoError | undefined;
  #bufferedBytes = 0;
  #bytesSent = 0;
  #bytesReceived = 0;

  constructor(wire: Wire, self: NodeId, peer: NodeId) {
    this.#wire = wire;
    this.#self = self;
    this.peer = peer;
  }

  static pair(wire: Wire, a: NodeId, b: NodeId): [MemoryConnection, MemoryConnection] {
    const one = new MemoryConnection(wire, a, b);
    const other = new MemoryConnection(wire, b, a);
    one.#other = other;
    other.#other = one;
    return [one, other];
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  get bytesSent(): number {
    return this.#bytesSent;
  }

  get bytesReceived(): number {
    return this.#bytesReceived;
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** The two nodes at its ends. */
  get nodes(): readonly [NodeId, NodeId] {
    return [this.#self, this.peer];
  }

  send(frame: Uint8Array): void {
    checkFrameSize(frame);
    if (this.#closed !== undefined) return;
    this.#bytesSent += frame.length;
    this.#bufferedBytes += frame.length;
    this.#outgoing.push({ frame });
    this.#scheduleDelivery();
  }

  drained(bytes: number): Promise<void> {
    return this.#closed !== undefined || this.#bufferedBytes <= bytes ? Promise.resolve() : this.#waiters.wait(bytes);
  }

  onFrame(listener: (frame: Uint8Array) => void): void {
    this.#frameListener = listener;
    for (const frame of this.#early.splice(0)) listener(frame);
  }

  onClose(listener: (reason: PandoError) => void): void {
    this.#closeListener = listener;
    const reason = this.#closed;
    if (reason !== undefined) queueMicrotask(() => listener(reason));
  }

  close(reason: PandoError): void {
    if (this.#closed !== undefined) return;
    this.#outgoing.push({ closeCode: closeCodeOf(reason) });
    this.#scheduleDelivery();
    this.end(reason);
  }

  /** Hands the oldest frame to the other side, unless the link is stalled. */
  deliver(): void {
    if (this.#wire.isStalled(this.#self, this.peer)) return;
    const delivery = this.#outgoing.shift();
    if (delivery === undefined) return;
    if ('closeCode' in delivery) {
      this.#other?.end(closingError(delivery.closeCode, this.#self));
      return;
    }
    this.#bufferedBytes -= delivery.frame.length;
    this.#waiters.settle(this.#bufferedBytes);
    this.#other?.receive(delivery.frame);
  }

  deliverAll(): void {
    for (let left = this.#outgoing.length; left > 0; left -= 1) this.#scheduleDelivery();
  }

  #scheduleDelivery(): void {
    this.#wire.schedule(() => this.deliver(), this.#self, this.peer);
  }

  receive(frame: Uint8Array): void {
    if (this.#closed !== undefined) return;
    this.#bytesReceived += frame.length;
    if (this.#frameListener === undefined) this.#early.push(frame);
    else this.#frameListener(frame);
  }

  end(reason: PandoError): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    this.#waiters.settle(0);
    this.#closeListener?.(reason);
  }

  /** The link is gone: what was on its way is lost. */
  break(): void {
    this.#outgoing.length = 0;
    this.end(linkBroken(this.peer));
  }
}
