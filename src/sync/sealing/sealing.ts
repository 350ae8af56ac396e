/**
 * Streams that are sealed in processes of their own, so that none disturbs a control connection or another stream. The node keeps the order of things: it opens the connection, starts the process on it, and hands the other end to ZFS;
 * of the bytes it sees none.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { setPriority } from 'node:os';
import { PandoError } from '../../core/errors.ts';
import type { NodeId } from '../../core/ids.ts';
import { detachFromNode } from '../../zfs/handover.ts';
import type { StreamHead, Unreadable } from '../../zfs/zfs.ts';
import type { Identity } from '../identity.ts';
import { nodeOfCertificate } from '../tls.ts';
import type { Meets } from '../transport.ts';
import {
  CONNECTION_DESCRIPTOR,
  type Order,
  PAIR_DESCRIPTOR,
  type Report,
  type StartOrder,
  WINDOW_BYTES,
} from './conversation.ts';

/** Processes at one time, at about 90 MB each while they run: more streams than that gain nothing on the machines that have so little memory. */
const PROCESSES_MAX = 8;
/** Below the node (nice(1)): on a machine that is busy, a heartbeat goes before a stream. */
const NICENESS = 5;
/** How long the process of an incoming stream may take to end by itself once ZFS has all of it, in ms. */
const ENDS_AFTER_MS = 5_000;

export interface SealingOptions {
  readonly identity: Pick<Identity, 'privateKeyPem' | 'certificatePem'>;
  /** Path of the compiled `program.ts`. */
  readonly program: string;
}

export interface SealedStreamOptions {
  /** The connection to the peer, unread. It belongs to the process from then on. */
  readonly socket: Socket;
  readonly peer: NodeId;
  readonly meets: Meets;
  /** Resolves once so many bytes may pass; undefined where they may at once. */
  readonly passed: (bytes: number) => Promise<unknown> | undefined;
  readonly signal: AbortSignal;
}

/** A stream that is being sealed. */
export interface SealedStream {
  /** The end for ZFS. */
  readonly socket: Socket;
  /** What an incoming one begins with; null for an outgoing one. */
  readonly head: StreamHead | Unreadable | null;
  /** Bytes that have passed, as far as was reported. */
  readonly bytes: () => number;
  /** Resolves once all has passed, to null, or to why it ended early. */
  readonly ended: Promise<string | null>;
  /** The same for an incoming one that ZFS has all of: whatever the other end does, not much later. */
  readonly settled: () => Promise<string | null>;
  readonly destroy: () => void;
}

/** The processes that seal streams for one node. */
export class Sealing {
  readonly #options: SealingOptions;
  #running = 0;
  #started = 0;

  constructor(options: SealingOptions) {
    this.#options = options;
  }

  /** Processes since this node runs. */
  get started(): number {
    return this.#started;
  }

  /** Whether one more can be started now. */
  get hasRoom(): boolean {
    return this.#running < PROCESSES_MAX;
  }

  /** Takes a connection over which this node sends. Rejects with `PEER_UNREACHABLE` where the other end is not that peer, or hangs up. */
  send(options: SealedStreamOptions): Promise<SealedStream> {
    return this.#start('send', options);
  }

  /** The same for one over which it receives; resolves once the stream has begun. */
  receive(options: SealedStreamOptions): Promise<SealedStream> {
    return this.#start('receive', options);
  }

  async #start(role: 'send' | 'receive', options: SealedStreamOptions): Promise<SealedStream> {
    try {
      detachFromNode(options.socket);
      const child = forked(this.#options.program, options.socket);
      this.#running += 1;
      this.#started += 1;
      const { privateKeyPem, certificatePem } = this.#options.identity;
      const process = new SealingProcess(child, { say: 'start', role, privateKeyPem, certificatePem }, options);
      void process.ended.then(() => {
        this.#running -= 1;
      });
      return await process.begun;
    } finally {
      // The process has it; this end would only keep it open
      options.socket.destroy();
    }
  }
}

/** Starts the program on a connection. Throws where the system has no room for it. */
function forked(program: string, connection: Socket): ChildProcess {
  const stdio = Array.from({ length: PAIR_DESCRIPTOR + 1 }, (): 'ignore' | 'pipe' | 'ipc' | Socket => 'ignore');
  stdio[CONNECTION_DESCRIPTOR] = connection;
  stdio[CHANNEL_DESCRIPTOR] = 'ipc';
  stdio[PAIR_DESCRIPTOR] = 'pipe';
  const child = fork(program, [], { stdio, execArgv: [], env: {} });
  // Told by `ended`; without anybody who listens it would end the node
  child.on('error', () => undefined);
  if (child.pid === undefined) {
    throw new PandoError('TRANSFER_REFUSED', 'The system has no room for another process; try again later.');
  }
  return child;
}

/** Where Node puts its channel, between the standard streams and the pair. */
const CHANNEL_DESCRIPTOR = 3;

/** One process from its start to its end, and what is said with it. */
class SealingProcess {
  readonly begun: Promise<SealedStream>;
  /** Resolves once it is gone, and everything that it said was heard: to why it ended early, or null. */
  readonly ended: Promise<string | null>;
  readonly #child: ChildProcess;
  readonly #pair: Socket;
  readonly #options: SealedStreamOptions;
  readonly #role: StartOrder['role'];
  #bytes = 0;
  #why: string | undefined;

  constructor(child: ChildProcess, order: StartOrder, options: SealedStreamOptions) {
    this.#child = child;
    this.#pair = child.stdio[PAIR_DESCRIPTOR] as Socket;
    this.#options = options;
    this.#role = order.role;
    // Node begins to read from it at once, and it is ZFS that is to have the bytes
    detachFromNode(this.#pair);
    this.#pair.on('error', () => undefined);
    lower(child);
    this.ended = this.#untilGone();
    this.begun = new Promise((resolve, reject) => {
      child.on('message', (message) => this.#hear(message as Report, resolve));
      void this.ended.then((why) => reject(this.#failure(why ?? 'it ended before it began')));
    });
    this.begun.catch(() => this.#kill());
    const { signal } = options;
    const abort = (): void => this.#kill();
    signal.addEventListener('abort', abort, { once: true });
    void this.ended.then(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
    this.#tell(order);
  }

  async #untilGone(): Promise<string | null> {
    const child = this.#child;
    const code = await new Promise<number | null>((resolve) => void child.once('exit', resolve));
    // What it said last is read after that
    if (child.connected) await new Promise<void>((resolve) => void child.once('disconnect', resolve));
    this.#pair.destroy();
    return code === 0 ? null : (this.#why ?? 'it was cut off');
  }

  #kill(): void {
    this.#child.kill('SIGKILL');
  }

  #tell(order: Order): void {
    // One that has gone says so by its exit
    if (this.#child.connected) this.#child.send(order, () => undefined);
  }

  #hear(said: Report, begin: (stream: SealedStream) => void): void {
    switch (said.say) {
      case 'met':
        this.#why = this.#objection(said.certificate);
        if (this.#why !== undefined) this.#kill();
        else if (this.#role === 'send') this.#go(begin, null);
        return;
      case 'begin':
        this.#go(begin, said.head);
        return;
      case 'passed':
        this.#bytes += said.bytes;
        void this.#allow(said.bytes);
        return;
      case 'failed':
        this.#why = said.why;
        return;
    }
  }

  /** Why this is not whom the stream is with; undefined where it is. */
  #objection(certificate: string): string | undefined {
    const { peer, meets } = this.#options;
    const met = certificate === '' ? null : nodeOfCertificate(new X509Certificate(Buffer.from(certificate, 'base64')));
    if (met?.node !== peer) return `the other end is ${met?.node ?? 'no node'}`;
    return meets(met) ? undefined : 'it shows a key that it has replaced';
  }

  #go(begin: (stream: SealedStream) => void, head: StreamHead | Unreadable | null): void {
    this.#tell({ say: 'go', bytes: WINDOW_BYTES });
    begin({
      socket: this.#pair,
      head,
      bytes: () => this.#bytes,
      ended: this.ended,
      settled: () => this.#settled(),
      destroy: () => this.#kill(),
    });
  }

  async #allow(bytes: number): Promise<void> {
    await this.#options.passed(bytes);
    this.#tell({ say: 'go', bytes });
  }

  #failure(why: string): PandoError {
    const { peer } = this.#options;
    return new PandoError('PEER_UNREACHABLE', `The data connection to peer ${peer} was lost (${why}); sync again.`, {
      peer,
    });
  }

  async #settled(): Promise<string | null> {
    const timer = setTimeout(() => this.#kill(), ENDS_AFTER_MS);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Makes a process give way to the node. */
function lower({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) setPriority(pid, NICENESS);
  } catch {
    // It has ended already
  }
}
