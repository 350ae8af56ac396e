/**
 * The giving end of transfers: a peer asks for streams, gets a ticket for each, and brings it on a data connection of its own.
 *
 * What this module believes:
 *
 * 1. Only what lies in a tree that the peer may read is sent, with the origins that its clones grew from, and only snapshots that are known by dataset and
 *    guid; a peer never hands in a name.
 * 2. Both ends of an increment are held from before the first ticket until the peer has finished or is gone (design §8). What was cut short stays held for a peer that
 *    can go on with it, until it asks again, HOLDS_KEPT_MS at most.
 * 3. The intent is in the journal before the first hold, so that neither a crash nor a pool that is away leaves a hold behind (invariant 6).
 * 4. A ticket is good once, for one stream, for the peer that asked.
 */
import { timingSafeEqual } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex, Writable } from 'node:stream';
import { describeError, PandoError } from '../core/errors.ts';
import type { TransferEnded, TransferStarted } from '../core/events.ts';
import { noTreeFor } from '../core/grants.ts';
import { type HoldTag, holdTagOf, type NodeId, type TransferId, type TreeName } from '../core/ids.ts';
import { writtenFlags } from '../core/stream-flags.ts';
import type { History } from '../log/history.ts';
import type { Timers } from '../sync/timers.ts';
import type { SendRequest, SendTarget, Zfs } from '../zfs/zfs.ts';
import { type Bandwidth, passed, throttledInto } from './bandwidth.ts';
import type { Compressor } from './compression/compressor.ts';
import type { Cursors } from './cursors.ts';
import type { ApartLinks } from './data-links.ts';
import { EncryptionMemory } from './encryption.ts';
import { heldTogether } from './held-together.ts';
import { type Holds, journaledHolds, placeHolds, releaseHolds } from './holds.ts';
import type { TransferJournal } from './journal.ts';
import type { LinkUses } from './link-uses.ts';
import { findOrigins, type Shared } from './offers.ts';
import type { PeerCalls } from './peer-calls.ts';
import {
  checked,
  FINISH,
  finishSchema,
  type LinkMode,
  OUTCOME,
  type Outcome,
  outcomeSchema,
  PREPARE,
  type Prepare,
  type PreparedAnswer,
  prepareSchema,
  TRANSFERS_PER_PEER_MAX,
} from './protocol.ts';
import type { TransferRecovery } from './recovery.ts';
import { type RequestedStream, requestedStreams } from './requested-streams.ts';

const TICKET_BYTES = 32;
/** How long the snapshots of streams that were cut short stay held, in ms, for a peer that can go on: a link that flaps, a daemon that restarts. */
const HOLDS_KEPT_MS = 15 * 60_000;

/** What seals streams in processes of their own. */
type Apart = Pick<ApartLinks, 'sealing' | 'meets'>;

export interface TransferSenderOptions {
  readonly history: History;
  readonly zfs: Zfs;
  readonly journal: TransferJournal;
  readonly recovery: TransferRecovery;
  readonly timers: Timers;
  readonly cursors: Cursors;
  readonly calls: PeerCalls;
  /** Whether the peer may read the tree. */
  readonly shares: (peer: NodeId, tree: TreeName) => boolean;
  /** Told of a peer that asked for a tree which it may not read. */
  readonly onRefused: (peer: NodeId, tree: TreeName) => void;
  readonly bandwidth: Bandwidth;
  /** Null where all streams go through this process. */
  readonly apart: Apart | null;
  readonly compressor: Compressor;
  readonly uses: LinkUses;
  /** Whether streams to this peer may go outside TLS. */
  readonly isTrustedLink: (peer: NodeId) => boolean;
  /** That many bytes that nobody can guess. */
  readonly randomBytes: (count: number) => Uint8Array;
  /** Port for direct data connections, or null when there is none. */
  readonly directPort: () => number | null;
}

/** The same with its ticket. */
interface OfferedStream extends RequestedStream {
  /** Whether it is compressed on its way. */
  readonly compressed: boolean;
  readonly ticket: Buffer;
  /** Whether the ticket was shown. */
  claimed: boolean;
  /** Set once the stream has begun; never rejects. */
  running: Promise<Outcome> | undefined;
}

/** A peer's request while it is being served. */
interface OpenTransfer {
  readonly id: TransferId;
  readonly peer: NodeId;
  readonly tree: TreeName;
  readonly mode: LinkMode;
  readonly tag: HoldTag;
  readonly holds: Holds;
  readonly streams: readonly OfferedStream[];
  readonly abort: AbortController;
  /** Whether the peer can go on with what is cut short. */
  readonly resumable: boolean;
  /** Settles once intent and holds are written, or could not be. */
  holding: Promise<void>;
}

/** A ticket that was shown, and what it is good for. */
interface Claim {
  readonly transfer: OpenTransfer;
  readonly offered: OfferedStream;
}

export class TransferSender {
  readonly #options: TransferSenderOptions;
  readonly #open = new Map<TransferId, OpenTransfer>();
  /** Transfers that were cut short and whose holds are kept: one for each peer and tree at most. */
  readonly #kept = new Map<string, { readonly transfer: OpenTransfer; readonly cancel: () => void }>();
  readonly #ending = new Set<Promise<void>>();
  readonly #encryption: EncryptionMemory;
  #closed = false;

  constructor(options: TransferSenderOptions) {
    this.#options = options;
    this.#encryption = new EncryptionMemory(options.zfs);
    options.calls.handle(PREPARE, (peer, params, signal) =>
      this.#prepare(peer, checked(prepareSchema, params, PREPARE), signal),
    );
    options.calls.handle(OUTCOME, (peer, params) => this.#outcome(peer, params));
    options.calls.handle(FINISH, (peer, params) => this.#finish(peer, params));
    options.calls.onDisconnected((peer) => this.#abandon(peer));
  }

  /** Who takes a data connection inside TLS that `peer` opened with this ticket; null when it was not given it. */
  acceptSealed(peer: NodeId, ticket: string): ((stream: Duplex) => void) | null {
    const claim = this.#claim('sealed', ticket, peer);
    if (claim === null) return null;
    return (connection) => {
      const throttled = throttledInto(connection, this.#options.bandwidth.limits(peer, 'out'));
      this.#beginStream(claim, throttled);
    };
  }

  /** Who takes a bare data connection that showed this ticket, to seal it in a process of its own; null when nobody was given it, or it goes through this process. */
  acceptBare(ticket: string): ((socket: Socket) => void) | null {
    const { apart } = this.#options;
    if (apart === null || !apart.sealing.hasRoom) return null;
    const isFit = (one: Claim): boolean =>
      !one.offered.compressed && !this.#options.bandwidth.isLimited(one.transfer.peer);
    const claim = this.#claim('sealed', ticket, undefined, isFit);
    if (claim === null) return null;
    return (socket) => {
      claim.offered.running = this.#sendApart(apart, claim, socket);
    };
  }

  /** Who takes a direct data connection that showed this ticket; null when nobody was given it. */
  acceptDirect(ticket: string): ((socket: Socket) => void) | null {
    const claim = this.#claim('direct', ticket, undefined);
    if (claim === null) return null;
    return (socket) => {
      if (claim.offered.compressed) this.#beginStream(claim, socket);
      else this.#begin(claim, { kind: 'socket', socket }, socket);
    };
  }

  /** Ends all transfers and resolves once their children are gone and their holds released. Whoever asks from now on is refused. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const transfer of this.#open.values()) this.#endLater(transfer, 'cancelled', 0);
    await Promise.all(this.#ending);
    await Promise.all(Array.from(this.#kept.keys(), (key) => this.#endKept(key).catch(() => undefined)));
  }

  /** Clears up what reminds of a peer that is none any more. */
  forget(peer: NodeId): void {
    this.#later(this.#options.cursors.forget(peer));
  }

  /** Ends the transfers of trees that the peer may not read any more. */
  endUnshared(peer: NodeId): void {
    const isUnshared = (transfer: OpenTransfer): boolean =>
      transfer.peer === peer && !this.#options.shares(peer, transfer.tree);
    for (const transfer of this.#open.values()) {
      if (isUnshared(transfer)) this.#later(this.#end(transfer, 'cancelled', 0, false));
    }
    for (const [key, { transfer }] of this.#kept) if (isUnshared(transfer)) this.#later(this.#endKept(key));
  }

  async #prepare(peer: NodeId, wanted: Prepare, signal: AbortSignal): Promise<PreparedAnswer> {
    const { zfs, recovery } = this.#options;
    await recovery.run();
    const { graph, root } = this.#shared(peer, wanted.tree);
    const origins = await findOrigins({ graph, root }, wanted.streams, zfs);
    const requests = await requestedStreams(zfs, this.#encryption, wanted, { graph, root, origins });
    this.#checkLimits(peer, wanted.transfer);
    const canCompress = wanted.compress && (await this.#options.compressor.isAvailable());
    const transfer = this.#offer(peer, wanted, requests, { graph, root }, canCompress);
    this.#open.set(transfer.id, transfer);
    transfer.holding = this.#hold(transfer);
    try {
      await transfer.holding;
      // From now on what is needed is held anew
      await this.#endKept(keyOf(transfer));
      signal.throwIfAborted();
    } catch (error) {
      await this.#end(transfer, 'failed', 0);
      throw error;
    }
    return {
      mode: transfer.mode,
      directPort: transfer.mode === 'direct' ? this.#options.directPort() : null,
      tickets: transfer.streams.map(({ ticket }) => ticket.toString('base64url')),
      flags: transfer.streams.map(({ request }) => writtenFlags(request.flags)),
      compressed: transfer.streams.map(({ compressed }) => compressed),
    };
  }

  async #hold(transfer: OpenTransfer): Promise<void> {
    await this.#options.journal.start(intentOf(transfer));
    await placeHolds(this.#options.zfs, transfer.tag, transfer.holds);
  }

  #checkLimits(peer: NodeId, id: TransferId): void {
    if (this.#closed) throw new PandoError('TRANSFER_REFUSED', 'This node is stopping; sync again when it is back.');
    if (this.#open.has(id)) {
      throw new PandoError('TRANSFER_REFUSED', `Transfer ${id} is open already; ask with a new id.`, { transfer: id });
    }
    const open = Array.from(this.#open.values()).filter((transfer) => transfer.peer === peer).length;
    if (open < TRANSFERS_PER_PEER_MAX) return;
    throw new PandoError(
      'TRANSFER_REFUSED',
      `A peer may have ${TRANSFERS_PER_PEER_MAX} transfers open here; finish one first.`,
      { peer, open },
    );
  }

  #shared(peer: NodeId, tree: TreeName): Omit<Shared, 'origins'> {
    const { history, shares, onRefused } = this.#options;
    const stream = history.ownStream(tree);
    const graph = shares(peer, tree) && history.head(stream) !== null ? history.graph(stream) : undefined;
    const root = graph?.root;
    if (graph !== undefined && root != null) return { graph, root };
    if (!shares(peer, tree)) onRefused(peer, tree);
    throw noTreeFor(tree);
  }

  #offer(
    peer: NodeId,
    wanted: Prepare,
    requests: readonly RequestedStream[],
    shared: Omit<Shared, 'origins'>,
    canCompress: boolean,
  ): OpenTransfer {
    const { history, isTrustedLink, directPort, randomBytes } = this.#options;
    const streams = requests.map((one) => ({
      ticket: Buffer.from(randomBytes(TICKET_BYTES)),
      ...one,
      compressed: canCompress && !one.request.flags.compressed && !one.request.flags.raw,
      claimed: false,
      running: undefined,
    }));
    const abort = new AbortController();
    // As many streams as run at once listen to it
    setMaxListeners(0, abort.signal);
    const direct = wanted.mode === 'direct' && isTrustedLink(peer) && directPort() !== null;
    return {
      id: wanted.transfer,
      peer,
      tree: wanted.tree,
      mode: direct ? 'direct' : 'sealed',
      tag: holdTagOf(history.node, wanted.transfer),
      holds: heldTogether(
        streams.flatMap(({ ends }) => ends),
        shared,
      ),
      streams,
      abort,
      resumable: wanted.resumable,
      holding: Promise.resolve(),
    };
  }

  /** Uses a ticket up. */
  #claim(
    mode: LinkMode,
    ticket: string,
    peer: NodeId | undefined,
    isFit: (claim: Claim) => boolean = () => true,
  ): Claim | null {
    const shown = Buffer.from(ticket, 'base64url');
    for (const transfer of this.#open.values()) {
      if (transfer.mode !== mode || (peer !== undefined && transfer.peer !== peer)) continue;
      const offered = transfer.streams.find((one) => sameTicket(one.ticket, shown));
      if (offered === undefined || offered.claimed || transfer.abort.signal.aborted) continue;
      if (!isFit({ transfer, offered })) continue;
      offered.claimed = true;
      return { transfer, offered };
    }
    return null;
  }

  /** Through this process, and compressed where that was agreed on. */
  #beginStream(claim: Claim, connection: Writable): void {
    const stream = claim.offered.compressed ? this.#options.compressor.compressInto(connection) : connection;
    this.#begin(claim, { kind: 'stream', stream }, stream);
  }

  #begin({ transfer, offered }: Claim, target: SendTarget, connection: Writable): void {
    const { peer, mode } = transfer;
    this.#options.uses.note(peer, { mode, compressed: offered.compressed, apart: false });
    offered.running = this.#send(offered.request, target, connection, transfer.abort.signal);
  }

  async #send(request: SendRequest, target: SendTarget, connection: Writable, signal: AbortSignal): Promise<Outcome> {
    try {
      const { bytes } = await this.#options.zfs.send(request, target, signal);
      connection.end();
      return { bytes, failure: null };
    } catch (error) {
      // Cut, not ended: the receiving ZFS must see a stream that stops short.
      connection.destroy();
      return { bytes: null, failure: describeError(error) };
    }
  }

  async #sendApart({ sealing, meets }: Apart, { transfer, offered }: Claim, socket: Socket): Promise<Outcome> {
    const { peer, abort } = transfer;
    this.#options.uses.note(peer, { mode: 'sealed', compressed: false, apart: true });
    try {
      const limits = this.#options.bandwidth.limits(peer, 'out');
      const stream = await sealing.send({
        socket,
        peer,
        meets,
        passed: (bytes) => passed(limits, bytes),
        signal: abort.signal,
      });
      const { failure } = await this.#send(
        offered.request,
        { kind: 'socket', socket: stream.socket },
        stream.socket,
        abort.signal,
      );
      if (failure !== null) stream.destroy();
      const cut = await stream.ended;
      return failure === null && cut === null
        ? { bytes: stream.bytes(), failure: null }
        : { bytes: null, failure: failure ?? cut };
    } catch (error) {
      return { bytes: null, failure: describeError(error) };
    }
  }

  async #outcome(peer: NodeId, params: unknown): Promise<Outcome> {
    const { transfer: id, stream } = checked(outcomeSchema, params, OUTCOME);
    const offered = this.#transferOf(peer, id).streams[stream];
    if (offered?.running === undefined) return { bytes: null, failure: 'The stream was never begun.' };
    return offered.running;
  }

  async #finish(peer: NodeId, params: unknown): Promise<null> {
    const { transfer: id, outcome, bytes, received, resumes } = checked(finishSchema, params, FINISH);
    const transfer = this.#transferOf(peer, id);
    await this.#end(transfer, outcome, bytes, resumes);
    this.#later(this.#advanceCursors(transfer, received));
    return null;
  }

  #transferOf(peer: NodeId, id: TransferId): OpenTransfer {
    const transfer = this.#open.get(id);
    if (transfer === undefined || transfer.peer !== peer) {
      throw new PandoError('TRANSFER_REFUSED', `Transfer ${id} is not open here; start it again.`, { transfer: id });
    }
    return transfer;
  }

  #abandon(peer: NodeId): void {
    for (const transfer of this.#open.values()) {
      if (transfer.peer === peer) this.#endLater(transfer, 'failed', 0);
    }
  }

  /** What nobody waits for: the peer has all that it asked for. */
  #advanceCursors({ peer, tree, streams }: OpenTransfer, received: readonly number[]): Promise<void> {
    const delivered = received.flatMap((stream) => streams[stream]?.to ?? []);
    return this.#options.cursors.advance(peer, tree, delivered);
  }

  #endLater(transfer: OpenTransfer, outcome: TransferEnded['outcome'], bytes: number): void {
    this.#later(this.#end(transfer, outcome, bytes));
  }

  /** What fails is put right by the recovery, or the next transfer. */
  #later(work: Promise<void>): void {
    const ending = work.catch(() => undefined).finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  /** Where ZFS or the journal fails, the intent stays open for the recovery. */
  async #end(
    transfer: OpenTransfer,
    outcome: TransferEnded['outcome'],
    bytes: number,
    resumes = transfer.resumable,
  ): Promise<void> {
    if (!this.#open.delete(transfer.id)) return;
    transfer.abort.abort();
    const isHeld = await transfer.holding.then(
      () => true,
      () => false,
    );
    const ends = await Promise.all(transfer.streams.map(({ running }) => running));
    const isCut = outcome !== 'completed' && ends.some((end) => end !== undefined && end.failure !== null);
    if (resumes && isHeld && isCut && !this.#closed) await this.#keep(transfer);
    else await this.#release(transfer, outcome, bytes);
  }

  /** Keeps the holds of what was cut short until the peer asks again, or has had its time. */
  async #keep(transfer: OpenTransfer): Promise<void> {
    await this.#endKept(keyOf(transfer)).catch(() => undefined);
    const end = (): void => void this.#endKept(keyOf(transfer)).catch(() => undefined);
    this.#kept.set(keyOf(transfer), { transfer, cancel: this.#options.timers.after(HOLDS_KEPT_MS, end) });
  }

  async #endKept(key: string): Promise<void> {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    this.#kept.delete(key);
    kept.cancel();
    await this.#release(kept.transfer, 'failed', 0);
  }

  async #release(transfer: OpenTransfer, outcome: TransferEnded['outcome'], bytes: number): Promise<void> {
    const { journal, zfs } = this.#options;
    try {
      await releaseHolds(zfs, transfer.tag, transfer.holds);
      await journal.end({ type: 'transfer.ended', transfer: transfer.id, outcome, bytes });
    } finally {
      journal.leave(transfer.id);
    }
  }
}

function intentOf(transfer: OpenTransfer): TransferStarted {
  return {
    type: 'transfer.started',
    transfer: transfer.id,
    role: 'sender',
    peer: transfer.peer,
    tree: transfer.tree,
    ...journaledHolds(transfer.holds),
    targets: [],
    resumable: [],
  };
}

function keyOf({ peer, tree }: Pick<OpenTransfer, 'peer' | 'tree'>): string {
  return `${peer} ${tree}`;
}

function sameTicket(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
