/** One stream on its way in: from the ticket to what ZFS made of it, and why where it made nothing. */
import { isPandoError, PandoError } from '../core/errors.ts';
import { type Graph, snapshotOf } from '../core/graph/graph.ts';
import { absoluteName, type DatasetName, isLineage, type NodeId, type TransferId } from '../core/ids.ts';
import type { ReceiveStep } from '../core/plan/steps.ts';
import { PLAIN_STREAM, type StreamFlags } from '../core/stream-flags.ts';
import type { Timers } from '../sync/timers.ts';
import type { ExpectedStream, ReceiveRequest, SnapshotReference, Zfs } from '../zfs/zfs.ts';
import type { RateLimit } from './bandwidth.ts';
import type { LinkRates } from './compression/link-rates.ts';
import { type DataLinkOptions, openDataLink } from './data-links.ts';
import { ensureContainers } from './hidden-containers.ts';
import { PROGRESS_INTERVAL_MS } from './progress.ts';
import { OUTCOME, outcomeResultSchema, type Prepared } from './protocol.ts';
import { replicaProperties } from './replica-properties.ts';

export interface IncomingStreamsOptions {
  readonly zfs: Zfs;
  readonly links: DataLinkOptions;
  readonly rates: LinkRates;
  readonly timers: Timers;
  readonly peer: NodeId;
  /** How fast the streams of this sync may be; null for no limit of its own. */
  readonly limit: RateLimit | null;
  /** Where this node keeps its copy. */
  readonly root: DatasetName;
  /** What is here now. */
  readonly local: () => Graph;
  /** What the peer answers, or undefined where it does not, or not in time. */
  readonly ask: (method: string, params: unknown) => Promise<unknown>;
  /** Whoever asked has changed their mind. */
  readonly cancelled: AbortSignal;
  /** The peer is gone: a receive would wait for the rest of its stream for ever. */
  readonly lost: AbortSignal;
  /** Either of the two. */
  readonly signal: AbortSignal;
}

/** A stream that the peer has agreed to send. */
export interface IncomingStream {
  readonly step: ReceiveStep;
  readonly transfer: TransferId;
  readonly prepared: Prepared;
  /** Its place in the transfer. */
  readonly stream: number;
  /** Whether it goes on where it was cut short. */
  readonly isResumed: boolean;
  /** Whether the base of an increment is held in the target. */
  readonly isBaseHeld: boolean;
  /** Told the bytes so far, every PROGRESS_INTERVAL_MS. */
  readonly onBytes: (bytes: number) => void;
}

export class IncomingStreams {
  readonly #options: IncomingStreamsOptions;
  #containers: Promise<void> | undefined;

  constructor(options: IncomingStreamsOptions) {
    this.#options = options;
  }

  /**
   * Receives a stream, and resolves to its bytes where they could be counted. Rejects as {@link Zfs.receive} does, with `TRANSFER_FAILED` where the sending side says
   * why it broke off, with `CONNECTION_CLOSED` where the peer was lost, and with `TRANSFER_REFUSED` for what cannot take the place of its placeholder.
   */
  async receive(incoming: IncomingStream): Promise<number | null> {
    const { step, prepared, stream } = incoming;
    const { zfs, links, rates, timers, peer, signal, limit } = this.#options;
    if (isLineage(step.name)) await this.#ensureContainers(this.#name(step));
    const request = this.#request(incoming, prepared.flags[stream] ?? PLAIN_STREAM);
    const link = await openDataLink(links, {
      peer,
      prepared,
      ticket: prepared.tickets[stream] ?? '',
      estimatedBytes: step.estimatedBytes,
      compressed: prepared.compressed[stream] === true,
      limit,
      signal,
    });
    const stopTelling = this.#everyInterval(() => {
      const bytes = link.received();
      if (bytes !== null) incoming.onBytes(bytes);
    });
    try {
      const begun = timers.now();
      const result = await zfs.receive(request, link.source, signal);
      const bytes = (await link.finished()) ?? result.bytes;
      if (limit === null && bytes !== null) {
        rates.note(peer, { compressed: prepared.compressed[stream] === true, bytes, ms: timers.now() - begun });
      }
      return bytes;
    } catch (error) {
      link.destroy();
      throw await this.#explain(error, incoming);
    } finally {
      stopTelling();
      link.destroy();
    }
  }

  #request({ step, isResumed, isBaseHeld }: IncomingStream, flags: StreamFlags): ReceiveRequest {
    const overPlaceholder = step.kind === 'receive-full' && step.overPlaceholder;
    if (flags.raw && overPlaceholder) throw placeholderStays(step);
    const isNew = step.kind !== 'receive-incremental' && !isResumed;
    return {
      target: this.#name(step),
      overPlaceholder,
      create: isNew ? this.#creation(step, flags) : null,
      expected: expectedOf(step, flags),
      // A stand-in that is replaced stays what it is until all has come
      keepPartial: !overPlaceholder,
      baseHeld: isBaseHeld,
    };
  }

  #name(step: ReceiveStep): DatasetName {
    return absoluteName(this.#options.root, step.name);
  }

  /** Once for all lineage holders, which come side by side. */
  #ensureContainers(holder: DatasetName): Promise<void> {
    this.#containers ??= ensureContainers(this.#options.zfs, holder);
    return this.#containers;
  }

  #everyInterval(task: () => void): () => void {
    const { timers } = this.#options;
    let cancel = (): void => undefined;
    const wait = (): void => {
      cancel = timers.after(PROGRESS_INTERVAL_MS, () => {
        task();
        wait();
      });
    };
    wait();
    return () => cancel();
  }

  #creation(step: ReceiveStep, flags: StreamFlags): ReceiveRequest['create'] {
    const origin = step.kind === 'receive-clone' ? this.#originHere(step) : null;
    const snapshot = isLineage(step.name) ? step.to.name : null;
    return { origin, properties: replicaProperties(step.dataset, flags, step.datasetKind), snapshot };
  }

  /** Where the origin stands here: under its name at the source, unless it is here already under another. */
  #originHere({ base }: Extract<ReceiveStep, { kind: 'receive-clone' }>): SnapshotReference {
    const here = this.#options.local().get(base.dataset);
    const name = here?.name ?? base.name;
    const snapshot = (here === undefined ? undefined : snapshotOf(here, base.snapshot.guid)) ?? base.snapshot;
    return { dataset: absoluteName(this.#options.root, name), snapshot: snapshot.name };
  }

  /** A broken stream says little at this end; the sender may know why it broke. */
  async #explain(error: unknown, { step, transfer, stream }: IncomingStream): Promise<unknown> {
    const { peer, cancelled, lost, ask } = this.#options;
    if (lost.aborted && !cancelled.aborted) {
      return new PandoError(
        'CONNECTION_CLOSED',
        `The connection to the peer was lost while "${step.name}" was received; the next sync takes it up again.`,
        { dataset: step.dataset, peer },
        { cause: error },
      );
    }
    if (cancelled.aborted || !isPandoError(error, 'ZFS_STREAM_INVALID')) return error;
    const outcome = outcomeResultSchema.safeParse(await ask(OUTCOME, { transfer, stream }));
    if (!outcome.success || outcome.data.failure === null) return error;
    return new PandoError(
      'TRANSFER_FAILED',
      `The stream of "${step.name}" broke off at the sending side: ${outcome.data.failure}`,
      { dataset: step.dataset, peer },
      { cause: error },
    );
  }
}

/** Raw streams are those of what is encrypted (`chosenFlags`). */
function expectedOf(step: ReceiveStep, { raw }: StreamFlags): ExpectedStream {
  if (step.kind === 'receive-full') return { toGuid: step.first, fromGuid: null, raw, several: false };
  return { toGuid: step.first, fromGuid: step.base.snapshot.guid, raw, several: step.intermediates };
}

/** `zfs receive -F` puts nothing that is encrypted in the place of what is not. */
function placeholderStays({ dataset, name }: ReceiveStep): PandoError {
  return new PandoError(
    'TRANSFER_REFUSED',
    `"${name}" is encrypted, and cannot take the place of the empty dataset that stands in for it here; rename that and what is below it, and sync again.`,
    { dataset, name },
  );
}
