/**
 * The taking end of transfers: executes a plan, decides nothing (design §8).
 *
 * 1. What is replayed as metadata and streams take turns, in the order of the plan. The former runs one by one; streams run in transfers of at most
 *    TRANSFER_STREAMS_MAX, each under a journaled intent.
 * 2. Streams run side by side as far as the plan's `after` and the queue's limits allow. A step whose need failed is skipped.
 * 3. What was received counts only once a listing has shown its guid and origin (zfs-rules, "Identity and order").
 * 4. However a transfer ends, its holds are released, its children gone, and the journal says so.
 */
import { describeError, isPandoError, PandoError } from '../core/errors.ts';
import type { TransferEnded } from '../core/events.ts';
import { type Graph, snapshotOf } from '../core/graph/graph.ts';
import {
  absoluteName,
  type DatasetName,
  holdTagOf,
  isLineage,
  type NodeId,
  poolOf,
  type TransferId,
  type TreeName,
} from '../core/ids.ts';
import { isReceive, type MetadataStep, type Plan, type ReceiveStep, type Step } from '../core/plan/steps.ts';
import { flagsBeyond, PLAIN_STREAM, type StreamFlags, writtenFlags } from '../core/stream-flags.ts';
import { type Timers, withinTime } from '../sync/timers.ts';
import type { ExpectedStream, SnapshotReference, Zfs } from '../zfs/zfs.ts';
import { chainHere, takenFlags } from './chains.ts';
import { complete, type Settle } from './completion.ts';
import { type DataLinkOptions, openDataLink } from './data-links.ts';
import { isGivingUp, REASONS_TO_KEEP } from './giving-up.ts';
import { ensureContainers } from './hidden-containers.ts';
import { distinct, type HeldSnapshot, journaledHolds, releaseHolds } from './holds.ts';
import {
  findInterrupted,
  type Interrupted,
  PARTIAL_KEPT_MS,
  partialAmong,
  settleInterrupted,
} from './interruptions.ts';
import type { TransferJournal } from './journal.ts';
import type { TransferQueue } from './limits.ts';
import { MetadataReplay } from './metadata.ts';
import type { PeerCalls } from './peer-calls.ts';
import { isNew, isReceivePlanned, type PlannedStep } from './planned-step.ts';
import { PROGRESS_INTERVAL_MS, type ProgressListener, type PullReport, type StepOutcome } from './progress.ts';
import {
  checked,
  FINISH,
  type LinkMode,
  OUTCOME,
  outcomeResultSchema,
  PREPARE,
  type Prepared,
  preparedSchema,
  TRANSFER_STREAMS_MAX,
} from './protocol.ts';
import type { TransferRecovery } from './recovery.ts';
import { replicaProperties } from './replica-properties.ts';

export interface PullerOptions {
  readonly node: NodeId;
  readonly zfs: Zfs;
  readonly journal: TransferJournal;
  readonly recovery: TransferRecovery;
  readonly calls: PeerCalls;
  readonly links: DataLinkOptions;
  readonly queue: TransferQueue;
  readonly timers: Timers;
  /** A fresh id for each transfer. */
  readonly mintTransferId: () => TransferId;
}

/** What is to be pulled, and where to. */
export interface PullRequest {
  readonly peer: NodeId;
  readonly tree: TreeName;
  /** Where this node keeps its copy. */
  readonly root: DatasetName;
  readonly plan: Plan;
  /** What is here now; asked again after renames. */
  readonly local: () => Graph;
  /** Whether the link to the peer is trusted on this side. */
  readonly mode: LinkMode;
  /** Told which datasets changed, once they are verified: whoever keeps the log looks at them. */
  readonly settle: Settle;
  readonly onProgress: ProgressListener;
  readonly signal: AbortSignal;
  /** What the steps of the plan go on with where they were cut short; none in a plan of its own. */
  readonly interrupted?: Interrupted;
}

/** Some of a plan's steps, under one intent. */
interface Transfer {
  readonly id: TransferId;
  readonly steps: readonly PlannedStep[];
  readonly receives: readonly PlannedStep<ReceiveStep>[];
  readonly held: readonly HeldSnapshot[];
}

/** How long a peer may take to answer when a transfer is over, in ms: less than a node has for its stop. */
const ANSWER_MS_MAX = 5_000;

export class Puller {
  readonly #options: PullerOptions;

  constructor(options: PullerOptions) {
    this.#options = options;
  }

  /** What was cut short of the mirror and can go on: to be pulled first, whereupon there is another plan. See {@link findInterrupted}. */
  async interrupted(request: PullRequest, source: Graph): Promise<Interrupted | null> {
    await this.#options.recovery.run();
    return findInterrupted(this.#options.zfs, this.#options.journal, { ...request, source });
  }

  /** Executes the plan. Failures of single steps are in the report; rejects only when nothing could be tried at all. */
  async pull(request: PullRequest): Promise<PullReport> {
    await this.#options.recovery.run();
    const lost = new AbortController();
    const stopListening = this.#options.calls.onDisconnected((peer) => {
      if (peer === request.peer) lost.abort();
    });
    try {
      return await new Pull(this.#options, request, lost.signal).run();
    } finally {
      stopListening();
    }
  }
}

/** One plan on its way. */
class Pull {
  readonly #options: PullerOptions;
  readonly #request: PullRequest;
  /** Whoever asked has changed their mind, or the peer is gone: a receive would wait for the rest of its stream for ever. */
  readonly #signal: AbortSignal;
  readonly #lost: AbortSignal;
  readonly #outcomes = new Map<number, StepOutcome>();
  readonly #running = new Map<number, Promise<StepOutcome>>();
  readonly #metadata: MetadataReplay;
  #containers: Promise<void> | undefined;
  /** What is held here for the current transfer, by step. */
  #heldBases: ReadonlyMap<number, HeldSnapshot> = new Map();

  constructor(options: PullerOptions, request: PullRequest, lost: AbortSignal) {
    this.#options = options;
    this.#request = request;
    const { zfs, journal, mintTransferId } = options;
    const { tree, root } = request;
    this.#metadata = new MetadataReplay({ zfs, journal, mintTransferId, tree, root });
    this.#lost = lost;
    this.#signal = AbortSignal.any([request.signal, lost]);
  }

  async run(): Promise<PullReport> {
    const steps = this.#request.plan.steps.map((step, index): PlannedStep => ({ index, step }));
    for (const group of groupsOf(steps)) {
      if (isReplayed(group[0])) await this.#replay(group);
      else await this.#streamAll(group);
    }
    await this.#settleInterrupted();
    return this.#report();
  }

  /** Whatever became of it, nothing that cannot go on is left behind. */
  async #settleInterrupted(): Promise<void> {
    const { interrupted } = this.#request;
    if (interrupted === undefined) return;
    const { zfs, journal } = this.#options;
    // Where ZFS cannot be asked, the intents stay for the recovery
    await settleInterrupted(zfs, journal, interrupted, this.#signal.aborted).catch(() => undefined);
  }

  async #streamAll(steps: readonly PlannedStep[]): Promise<void> {
    for (let start = 0; start < steps.length; start += TRANSFER_STREAMS_MAX) {
      const some = steps.slice(start, start + TRANSFER_STREAMS_MAX);
      await this.#options.queue.transfer(this.#request.peer, this.#signal, () => this.#transfer(some));
    }
  }

  #report(): PullReport {
    const steps = this.#request.plan.steps.map((step, index) => ({
      step,
      outcome: this.#outcomes.get(index) ?? ({ result: 'skipped' } as const),
    }));
    const bytes = steps.reduce((sum, { outcome }) => sum + (outcome.result === 'done' ? (outcome.bytes ?? 0) : 0), 0);
    return { steps, bytes };
  }

  #settled(index: number, outcome: StepOutcome): StepOutcome {
    this.#outcomes.set(index, outcome);
    this.#request.onProgress({ kind: 'step-ended', step: index, outcome });
    return outcome;
  }

  /** One by one, and looked at once, when all is done. */
  async #replay(steps: readonly PlannedStep[]): Promise<void> {
    for (const { index, step } of steps) {
      if (isReceive(step)) continue;
      if (!this.#mayRun(step)) {
        this.#settled(index, { result: 'skipped' });
        continue;
      }
      const done = (): StepOutcome => ({ result: 'done', bytes: null });
      this.#settled(index, await this.#metadata.execute(step).then(done, isGivingUp(step) ? kept : failed));
    }
    // What nobody could look at does not count; the next sync looks at it first
    await this.#lookAtChanged().catch((error: unknown) => this.#failed(steps, error));
  }

  async #lookAtChanged(): Promise<void> {
    const { changed, gone } = this.#metadata.takeChanged();
    if (changed.length === 0) return;
    const listed = await this.#options.zfs.listOnly(changed);
    // Whatever else is not where it was can have been renamed by somebody: only a look at the whole tree tells
    await this.#request.settle(listed, [], [...new Set([...listed.map(({ name }) => name), ...gone])]);
  }

  #name(step: Step): DatasetName {
    return absoluteName(this.#request.root, step.name);
  }

  #mayRun(step: Step): boolean {
    return !this.#signal.aborted && step.after.every((before) => this.#outcomes.get(before)?.result === 'done');
  }

  /** One transfer: intent, holds, streams, verification, and the way back from all of it. */
  async #transfer(steps: readonly PlannedStep[]): Promise<void> {
    const { journal, zfs } = this.#options;
    const { peer, tree } = this.#request;
    const receives = steps.filter(isReceivePlanned);
    const bases = this.#localBases(receives);
    const held = distinct(bases.values());
    // A ZFS that does not answer fails the steps, each in its turn
    const resumableReceive = await zfs.capabilities().then(
      (capabilities) => capabilities.resumableReceive,
      () => false,
    );
    // What goes on is in the journal already
    const mayBreak = resumableReceive && this.#request.interrupted === undefined ? receives : [];
    const resumable = mayBreak.map(({ step }) => this.#name(step));
    const transfer: Transfer = { id: this.#options.mintTransferId(), steps, receives, held };
    await journal.start({
      type: 'transfer.started',
      transfer: transfer.id,
      role: 'receiver',
      peer,
      tree,
      held: journaledHolds(held),
      targets: receives.filter(isNew).map(({ step }) => ({
        name: this.#name(step),
        dataset: step.dataset,
        snapshot: step.first,
      })),
      resumable,
    });
    const streamed = await this.#streamed(transfer, bases);
    // The listing goes first: side by side, reading waits for each transaction group that a release needs
    const isVerified = streamed ? await this.#verified(steps) : true;
    const cut = resumableReceive ? await this.#cutShort(receives) : [];
    const resumes = cut !== null && cut.length > 0;
    const [isReleased] = await Promise.all([this.#released(transfer), this.#tellFinished(transfer, resumes)]);
    const { outcome, bytes } = this.#result(receives);
    const isFresh = this.#request.interrupted === undefined;
    if (!isVerified || !isReleased || cut === null) journal.leave(transfer.id);
    else if (isFresh && resumes)
      await journal.interrupt({ transfer: transfer.id, peer, tree, targets: cut }, PARTIAL_KEPT_MS);
    else await journal.end({ type: 'transfer.ended', transfer: transfer.id, outcome, bytes });
  }

  /** Where something was left to go on with; null where nobody can tell. What went on already does so again only if it was cut, not refused. */
  async #cutShort(receives: readonly PlannedStep<ReceiveStep>[]): Promise<DatasetName[] | null> {
    if (this.#request.interrupted !== undefined && !this.#signal.aborted) return [];
    const failed = receives.filter(({ index }) => this.#outcomes.get(index)?.result === 'failed');
    try {
      const names = failed.map(({ step }) => this.#name(step));
      return (await partialAmong(this.#options.zfs, names)).map(({ name }) => name);
    } catch {
      return null;
    }
  }

  /** Holds, asks and streams. False when it never came to streams: then all steps have failed. */
  async #streamed(transfer: Transfer, bases: ReadonlyMap<number, HeldSnapshot>): Promise<boolean> {
    const { zfs, node } = this.#options;
    const { id, held, steps } = transfer;
    try {
      const holding = held.length === 0 ? undefined : zfs.hold(holdTagOf(node, id), held);
      const [prepared] = await bothSettled(this.#prepare(transfer), holding);
      this.#heldBases = bases;
      await this.#stream(transfer, prepared);
      return true;
    } catch (error) {
      this.#failed(steps, error);
      return false;
    }
  }

  /** False when nobody could look at what was received, so that nothing of it counts; the recovery marks it later. */
  async #verified(steps: readonly PlannedStep[]): Promise<boolean> {
    try {
      const tried = steps.flatMap((planned) => {
        const result = this.#outcomes.get(planned.index)?.result;
        return result === 'skipped' ? [] : [{ ...planned, done: result === 'done' }];
      });
      const nameOf = (step: Step): DatasetName => this.#name(step);
      const faults = await complete(tried, { zfs: this.#options.zfs, nameOf, settle: this.#request.settle });
      for (const [index, error] of faults) this.#settled(index, { result: 'failed', error });
      return true;
    } catch (error) {
      this.#failed(steps, error);
      return false;
    }
  }

  #failed(steps: readonly PlannedStep[], error: unknown): void {
    for (const { index } of steps) {
      const outcome = this.#outcomes.get(index)?.result;
      if (outcome === undefined || outcome === 'done') this.#settled(index, failed(error));
    }
  }

  /** Releases the holds here. False when ZFS refused; the recovery tries again. */
  #released({ id, held }: Transfer): Promise<boolean> {
    return releaseHolds(this.#options.zfs, holdTagOf(this.#options.node, id), held).then(
      () => true,
      () => false,
    );
  }

  /** Snapshots here that the streams build on; those that come with the transfer itself need no hold. */
  #localBases(receives: readonly PlannedStep<ReceiveStep>[]): Map<number, HeldSnapshot> {
    const local = this.#request.local();
    const bases = new Map<number, HeldSnapshot>();
    for (const { index, step } of receives) {
      const reference = this.#localBase(local, step);
      if (reference !== undefined) bases.set(index, reference);
    }
    return bases;
  }

  #localBase(local: Graph, step: ReceiveStep): HeldSnapshot | undefined {
    if (step.kind === 'receive-full') return undefined;
    const dataset = local.get(step.base.dataset);
    const snapshot = dataset === undefined ? undefined : snapshotOf(dataset, step.base.snapshot.guid);
    if (dataset === undefined || snapshot === undefined) return undefined;
    const { guid, name } = snapshot;
    return { dataset: absoluteName(this.#request.root, dataset.name), snapshot: name, guid };
  }

  async #stream({ id, steps, receives }: Transfer, prepared: Prepared | undefined): Promise<void> {
    const streams = new Map(receives.map((planned, stream) => [planned.index, stream]));
    for (const { index, step } of steps) {
      const task = (): Promise<StepOutcome> => {
        const stream = streams.get(index);
        if (isReceive(step) && prepared !== undefined && stream !== undefined) {
          return this.#receive({ index, step }, id, prepared, stream);
        }
        return isReceive(step) ? Promise.resolve({ result: 'skipped' }) : this.#createPlaceholder(step);
      };
      this.#running.set(index, this.#whenPossible(index, step, task));
    }
    await Promise.all(steps.map(({ index }) => this.#running.get(index)));
  }

  async #prepare({ id, receives }: Transfer): Promise<Prepared | undefined> {
    if (receives.length === 0) return undefined;
    const { peer, tree, mode } = this.#request;
    const streams = receives.map(({ step }) => ({
      snapshot: { dataset: step.dataset, guid: step.to.guid },
      base:
        step.kind === 'receive-full'
          ? null
          : { dataset: step.base.dataset, guid: step.base.snapshot.guid, intermediates: step.intermediates },
    }));
    const local = this.#request.local();
    const resumptions = receives.map(({ index }) => this.#request.interrupted?.resumptions.get(index));
    const chains = receives.map(({ step }, index) => resumptions[index]?.chain ?? chainHere(local, step));
    const capabilities = await this.#options.zfs.capabilities();
    const takes = takenFlags(capabilities);
    const request = {
      transfer: id,
      tree,
      streams: streams.map((stream, index) => ({
        ...stream,
        flags: written(chains[index] ?? null),
        resume: resumptions[index]?.token ?? null,
      })),
      mode,
      takes: writtenFlags(takes),
      resumable: capabilities.resumableReceive,
    };
    const answer = await this.#options.calls.call(peer, PREPARE, request, this.#signal);
    const prepared = checked(preparedSchema, answer, PREPARE);
    this.#checkOffer(prepared, chains, takes);
    return prepared;
  }

  /** Refuses, before a byte has come, what was not asked for. */
  #checkOffer(prepared: Prepared, chains: readonly (StreamFlags | null)[], takes: StreamFlags): void {
    const { peer, tree, mode } = this.#request;
    if (prepared.mode === 'direct' && mode !== 'direct') {
      throw new PandoError(
        'TRANSFER_REFUSED',
        'The peer wants to send outside TLS, but this node does not trust the link to it; look at "peer ls" on both sides.',
        { peer, tree },
      );
    }
    if (prepared.tickets.length !== chains.length || prepared.flags.length !== chains.length) {
      throw new PandoError(
        'TRANSFER_REFUSED',
        `The peer offers ${prepared.tickets.length} streams where ${chains.length} were asked for; sync again.`,
        { peer, tree },
      );
    }
    const isMixed = prepared.flags.some((flags, index) => {
      const chain = chains[index] ?? null;
      return chain === null ? flagsBeyond(flags, takes) !== '' : writtenFlags(flags) !== writtenFlags(chain);
    });
    if (!isMixed) return;
    throw new PandoError(
      'TRANSFER_REFUSED',
      'The peer offers streams that are made in another way than those before; update Pando there, and sync again.',
      { peer, tree },
    );
  }

  /** Runs a step once all that it waits for is done and the queue has room. */
  async #whenPossible(index: number, step: Step, task: () => Promise<StepOutcome>): Promise<StepOutcome> {
    await Promise.all(step.after.map((before) => this.#running.get(before)));
    const queued = this.#options.queue.run(this.#request.peer, poolOf(this.#request.root), async () => {
      if (!this.#mayRun(step)) return { result: 'skipped' } as const;
      const estimatedBytes = isReceive(step) ? step.estimatedBytes : 0;
      this.#request.onProgress({ kind: 'step-started', step: index, estimatedBytes });
      return task();
    });
    return this.#settled(index, await queued.catch(failed));
  }

  async #createPlaceholder(step: MetadataStep): Promise<StepOutcome> {
    await this.#metadata.execute(step);
    return { result: 'done', bytes: null };
  }

  async #receive(
    { index, step }: PlannedStep<ReceiveStep>,
    transfer: TransferId,
    prepared: Prepared,
    stream: number,
  ): Promise<StepOutcome> {
    const { peer, signal, onProgress } = this.#request;
    if (isLineage(step.name)) await this.#ensureContainers(this.#name(step));
    const flags = prepared.flags[stream] ?? PLAIN_STREAM;
    if (flags.raw && step.kind === 'receive-full' && step.overPlaceholder) throw placeholderStays(step);
    const overPlaceholder = step.kind === 'receive-full' && step.overPlaceholder;
    const isResumed = this.#request.interrupted?.resumptions.has(index) === true;
    const ticket = prepared.tickets[stream] ?? '';
    const link = await openDataLink(this.#options.links, peer, prepared, ticket, signal);
    const stopTelling = this.#everyInterval(() => {
      const bytes = link.received();
      if (bytes !== null) onProgress({ kind: 'step-progress', step: index, bytes });
    });
    try {
      const { bytes } = await this.#options.zfs.receive(
        {
          target: this.#name(step),
          overPlaceholder,
          create: step.kind === 'receive-incremental' || isResumed ? null : this.#creation(step, flags),
          expected: expectedOf(step, flags),
          // A stand-in that is replaced stays what it is until all has come
          keepPartial: !overPlaceholder,
          baseHeld: step.kind === 'receive-incremental' && this.#heldBases.get(index)?.dataset === this.#name(step),
        },
        link.source,
        this.#signal,
      );
      return { result: 'done', bytes };
    } catch (error) {
      link.destroy();
      throw await this.#explain(error, transfer, stream, step);
    } finally {
      stopTelling();
      link.destroy();
    }
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

  #creation(step: ReceiveStep, flags: StreamFlags) {
    const origin = step.kind === 'receive-clone' ? this.#originHere(step) : null;
    const snapshot = isLineage(step.name) ? step.to.name : null;
    return { origin, properties: replicaProperties(step.dataset, flags), snapshot };
  }

  /** Where the origin stands here: under its name at the source, unless it is here already under another. */
  #originHere({ base }: Extract<ReceiveStep, { kind: 'receive-clone' }>): SnapshotReference {
    const here = this.#request.local().get(base.dataset);
    const name = here?.name ?? base.name;
    const snapshot = (here === undefined ? undefined : snapshotOf(here, base.snapshot.guid)) ?? base.snapshot;
    return { dataset: absoluteName(this.#request.root, name), snapshot: snapshot.name };
  }

  /** A broken stream says little at this end; the sender may know why it broke. */
  async #explain(error: unknown, transfer: TransferId, stream: number, step: ReceiveStep): Promise<unknown> {
    const { peer, signal } = this.#request;
    if (this.#lost.aborted && !signal.aborted) {
      return new PandoError(
        'CONNECTION_CLOSED',
        `The connection to the peer was lost while "${step.name}" was received; the next sync takes it up again.`,
        { dataset: step.dataset, peer },
        { cause: error },
      );
    }
    if (signal.aborted || !isPandoError(error, 'ZFS_STREAM_INVALID')) return error;
    const answer = await this.#askInTime(OUTCOME, { transfer, stream }, this.#signal);
    const outcome = outcomeResultSchema.safeParse(answer);
    if (!outcome.success || outcome.data.failure === null) return error;
    return new PandoError(
      'TRANSFER_FAILED',
      `The stream of "${step.name}" broke off at the sending side: ${outcome.data.failure}`,
      { dataset: step.dataset, peer },
      { cause: error },
    );
  }

  #result(receives: readonly PlannedStep[]): Pick<TransferEnded, 'outcome' | 'bytes'> {
    const outcomes = receives.map(({ index }) => this.#outcomes.get(index));
    const bytes = outcomes.reduce((sum, one) => sum + (one?.result === 'done' ? (one.bytes ?? 0) : 0), 0);
    if (outcomes.every((one) => one?.result === 'done')) return { outcome: 'completed', bytes };
    return { outcome: this.#signal.aborted ? 'cancelled' : 'failed', bytes };
  }

  /** A sender that cannot be told any more notices the lost connection and clears up by itself. */
  async #tellFinished({ id, receives }: Transfer, resumes: boolean): Promise<void> {
    if (receives.length === 0) return;
    await this.#askInTime(FINISH, { transfer: id, ...this.#result(receives), resumes });
  }

  /** What the peer answers, or undefined where it does not, or not in time. */
  #askInTime(method: string, params: unknown, ...signals: AbortSignal[]): Promise<unknown> {
    const { calls, timers } = this.#options;
    const { peer } = this.#request;
    return withinTime(timers, { ms: ANSWER_MS_MAX, reason: () => noAnswer(peer) }, (limit) =>
      calls.call(peer, method, params, AbortSignal.any([...signals, limit])),
    ).catch(() => undefined);
  }
}

/**
 * Steps that are replayed and steps of streams, in turns: whatever came must be verified and marked before it is renamed. Placeholders go with the streams, that
 * wait for them and for which they wait.
 */
function groupsOf(steps: readonly PlannedStep[]): PlannedStep[][] {
  const groups: PlannedStep[][] = [];
  for (const planned of steps) {
    const last = groups.at(-1);
    if (last !== undefined && isReplayed(last[0]) === isReplayed(planned)) last.push(planned);
    else groups.push([planned]);
  }
  return groups;
}

function isReplayed(planned: PlannedStep | undefined): boolean {
  return planned !== undefined && !isReceive(planned.step) && planned.step.kind !== 'create-placeholder';
}

/** Raw streams are those of what is encrypted (`chosenFlags`). */
function expectedOf(step: ReceiveStep, { raw }: StreamFlags): ExpectedStream {
  return {
    toGuid: step.first,
    fromGuid: step.kind === 'receive-full' ? null : step.base.snapshot.guid,
    raw,
  };
}

function written(chain: StreamFlags | null): string | null {
  return chain === null ? null : writtenFlags(chain);
}

/** `zfs receive -F` puts nothing that is encrypted in the place of what is not. */
function placeholderStays({ dataset, name }: ReceiveStep): PandoError {
  return new PandoError(
    'TRANSFER_REFUSED',
    `"${name}" is encrypted, and cannot take the place of the empty dataset that stands in for it here; rename that and what is below it, and sync again.`,
    { dataset, name },
  );
}

/** Both results once both have settled, or the first failure: nothing goes on behind the back of whoever clears up. */
async function bothSettled<A, B>(a: Promise<A>, b: Promise<B> | undefined): Promise<[A, B | undefined]> {
  await Promise.allSettled([a, b]);
  return Promise.all([a, b]);
}

/** What ZFS will not destroy is needed by somebody, and stays. */
function kept(error: unknown): StepOutcome {
  return isPandoError(error, ...REASONS_TO_KEEP) ? { result: 'kept', error } : failed(error);
}

function noAnswer(peer: NodeId): PandoError {
  return new PandoError('PROTOCOL_TIMEOUT', `Peer ${peer} did not answer in time.`, { peer });
}

function failed(error: unknown): StepOutcome {
  if (error instanceof PandoError) return { result: 'failed', error };
  return { result: 'failed', error: new PandoError('INTERNAL', describeError(error), {}, { cause: error }) };
}
