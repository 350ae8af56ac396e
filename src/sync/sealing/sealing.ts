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
import { CONNECTION_DESCRIPTOR, type Order, PAIR_DESCRIPTOR, type Report, WINDOW_BYTES } from './conversation.ts';

/** Processes at one time, at about 50 MB each: more streams than that gain nothing on the machines that have so little memory. */
const PROCESSES_MAX = 8;
/** Below the node (nice(1)): on a machine that is busy, a heartbeat goes before a stream. */
const NICENESS = 5;
/** How long a process may take to end by itself once its stream has, in ms. */
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
  /** Resolves to why it ended early, or null when all has passed. */
  readonly ended: Promise<string | null>;
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
    const { socket, signal } = options;
    detachFromNode(socket);
    const stdio = Array.from({ length: PAIR_DESCRIPTOR + 1 }, (): 'ignore' | 'pipe' | 'ipc' | Socket => 'ignore');
    stdio[CONNECTION_DESCRIPTOR] = socket;
    stdio[CHANNEL_DESCRIPTOR] = 'ipc';
    stdio[PAIR_DESCRIPTOR] = 'pipe';
    this.#running += 1;
    this.#started += 1;
    const child = fork(this.#options.program, [], { stdio, execArgv: [], env: {} });
    if (child.pid !== undefined) setPriority(child.pid, NICENESS);
    // Node begins to read from it at once, and it is ZFS that is to have the bytes
    detachFromNode(child.stdio[PAIR_DESCRIPTOR] as Socket);
    child.once('exit', () => {
      this.#running -= 1;
    });
    // The process has it; this end would only keep it open
    socket.destroy();
    const abort = (): void => void child.kill('SIGKILL');
    signal.addEventListener('abort', abort, { once: true });
    child.once('exit', () => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
    const { privateKeyPem, certificatePem } = this.#options.identity;
    tell(child, { say: 'start', role, privateKeyPem, certificatePem });
    return new Conversation(child, role, options).begun;
  }
}

/** Where Node puts its channel, between the standard streams and the pair. */
const CHANNEL_DESCRIPTOR = 3;

function tell(child: ChildProcess, order: Order): void {
  // One that has gone says so by its exit
  if (child.connected) child.send(order, () => undefined);
}

/** What is said about one stream. */
class Conversation {
  readonly begun: Promise<SealedStream>;
  readonly #child: ChildProcess;
  readonly #options: SealedStreamOptions;
  readonly #role: 'send' | 'receive';
  readonly #ended: Promise<string | null>;
  #bytes = 0;
  #why: string | undefined;

  constructor(child: ChildProcess, role: 'send' | 'receive', options: SealedStreamOptions) {
    this.#child = child;
    this.#role = role;
    this.#options = options;
    this.#ended = new Promise((resolve) => {
      child.once('exit', (code) => resolve(code === 0 ? null : (this.#why ?? 'it was cut off')));
      child.once('error', (error) => resolve(error.message));
    });
    this.begun = new Promise((resolve, reject) => {
      child.on('message', (message) => this.#hear(message as Report, resolve));
      void this.#ended.then((why) => reject(this.#failure(why ?? 'it ended before it began')));
    });
    this.begun.catch(() => child.kill('SIGKILL'));
  }

  #hear(said: Report, begin: (stream: SealedStream) => void): void {
    switch (said.say) {
      case 'met':
        this.#why = this.#objection(said.certificate);
        if (this.#why !== undefined) {
          this.#child.kill('SIGKILL');
          return;
        }
        if (this.#role === 'send') this.#go(begin, null);
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
    tell(this.#child, { say: 'go', bytes: WINDOW_BYTES });
    begin({
      socket: this.#child.stdio[PAIR_DESCRIPTOR] as Socket,
      head,
      bytes: () => this.#bytes,
      ended: this.#ended,
      destroy: () => this.#child.kill('SIGKILL'),
    });
  }

  async #allow(bytes: number): Promise<void> {
    await this.#options.passed(bytes);
    tell(this.#child, { say: 'go', bytes });
  }

  #failure(why: string): PandoError {
    const { peer } = this.#options;
    return new PandoError('PEER_UNREACHABLE', `The data connection to peer ${peer} was lost (${why}); sync again.`, {
      peer,
    });
  }
}

/** Waits until the process is gone, so that all it had to report is known, but not for long: the stream itself is over. */
export async function settled({ ended, destroy }: SealedStream): Promise<string | null> {
  const timer = setTimeout(destroy, ENDS_AFTER_MS);
  try {
    return await ended;
  } finally {
    clearTimeout(timer);
  }
}
