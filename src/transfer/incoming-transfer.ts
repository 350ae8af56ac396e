/** One transfer on its way in: some of a plan's steps, under one intent and one request to the peer. */
import { isPandoError, PandoError } from '../core/errors.ts';
import type { TransferEnded, TransferStarted } from '../core/events.ts';
import { type Graph, snapshotOf } from '../core/graph/graph.ts';
import { absoluteName, type DatasetName, holdTagOf, type NodeId, poolOf, type TransferId } from '../core/ids.ts';
import { isReceive, type MetadataStep, type ReceiveStep, type Step } from '../core/plan/steps.ts';
import { withinTime } from '../sync/timers.ts';
import { complete } from './completion.ts';
import { heldTogether } from './held-together.ts';
import { type HeldSnapshot, type Holds, journaledHolds, missingAmong, placeHolds, releaseHolds } from './holds.ts';
import { IncomingStreams } from './incoming-streams.ts';
import { isPartOf, PARTIAL_KEPT_MS, partialAmong } from './interruptions.ts';
import type { MetadataReplay } from './metadata.ts';
import { failed, type Outcomes } from './outcomes.ts';
import { isNew, isReceivePlanned, type PlannedStep } from './planned-step.ts';
import { prepareStreams } from './preparation.ts';
import type { StepOutcome } from './progress.ts';
import { FINISH, type Prepared } from './protocol.ts';
import type { PullerOptions, PullRequest } from './pull.ts';

/** How long a peer may take to answer when a transfer is over, in ms: less than a node has for its stop. */
const ANSWER_MS_MAX = 5_000;

/** The plan that the transfer is a part of. */
export interface PullOnItsWay {
  readonly request: PullRequest;
  readonly outcomes: Outcomes;
  readonly metadata: MetadataReplay;
  /** The peer is gone: a receive would wait for the rest of its stream for ever. */
  readonly lost: AbortSignal;
  /** Whoever asked has changed their mind, or the peer is gone. */
  readonly signal: AbortSignal;
}

export class IncomingTransfer {
  readonly #options: PullerOptions;
  readonly #plan: PullOnItsWay;
  readonly #request: PullRequest;
  readonly #id: TransferId;
  readonly #steps: readonly PlannedStep[];
  readonly #receives: readonly PlannedStep<ReceiveStep>[];
  /** What is held here, by index of the step that builds on it. */
  readonly #bases: ReadonlyMap<number, HeldSnapshot>;
  readonly #holds: Holds;
  /** Those of the bases that were gone when they were to be held. */
  #missing: ReadonlySet<HeldSnapshot> = new Set();
  readonly #running = new Map<number, Promise<StepOutcome>>();
  readonly #streams: IncomingStreams;
  readonly #signal: AbortSignal;

  constructor(options: PullerOptions, plan: PullOnItsWay, steps: readonly PlannedStep[]) {
    const { request, lost } = plan;
    this.#options = options;
    this.#plan = plan;
    this.#request = request;
    this.#id = options.mintTransferId();
    this.#steps = steps;
    this.#receives = steps.filter(isReceivePlanned);
    this.#bases = localBases(request, this.#receives);
    this.#holds = heldTogether(Array.from(this.#bases.values()), { graph: request.local(), root: request.root });
    this.#signal = plan.signal;
    this.#streams = new IncomingStreams({
      ...options,
      peer: request.peer,
      limit: request.limit,
      root: request.root,
      local: request.local,
      ask: (method, params) => this.#askInTime(method, params, this.#signal),
      cancelled: request.signal,
      lost,
      signal: plan.signal,
    });
  }

  /** Intent, holds, streams, verification, and the way back from all of it. Rejects where the journal does. */
  async run(): Promise<void> {
    const { journal, zfs } = this.#options;
    // A ZFS that does not answer fails the steps, each in its turn
    const resumableReceive = await zfs.capabilities().then(
      (capabilities) => capabilities.resumableReceive,
      () => false,
    );
    await journal.start(this.#intent(resumableReceive));
    const streamed = await this.#streamed();
    // The listing goes first: side by side, reading waits for each transaction group that a release needs
    const isVerified = streamed ? await this.#verified() : true;
    const cut = resumableReceive ? await this.#cutShort() : [];
    const resumes = cut !== null && cut.length > 0;
    const [isReleased] = await Promise.all([this.#released(), this.#tellFinished(resumes)]);
    if (!isVerified || !isReleased || cut === null) journal.leave(this.#id);
    else await this.#close(cut);
  }

  /** What goes on already is in the journal as cut short, and stays there until the whole plan has ended. */
  async #close(cut: readonly DatasetName[]): Promise<void> {
    const { journal } = this.#options;
    const { peer, tree, interrupted } = this.#request;
    if (interrupted === undefined && cut.length > 0) {
      await journal.interrupt({ transfer: this.#id, peer, tree, targets: cut }, PARTIAL_KEPT_MS);
    } else await journal.end({ type: 'transfer.ended', transfer: this.#id, ...this.#result() });
  }

  #intent(resumableReceive: boolean): TransferStarted {
    const { peer, tree, interrupted } = this.#request;
    const mayBreak = resumableReceive && interrupted === undefined ? this.#receives : [];
    return {
      type: 'transfer.started',
      transfer: this.#id,
      role: 'receiver',
      peer,
      tree,
      ...journaledHolds(this.#holds),
      targets: this.#receives.filter(isNew).map(({ step }) => ({
        name: this.#name(step),
        dataset: step.dataset,
        snapshot: step.first,
      })),
      resumable: mayBreak.map(({ step }) => this.#name(step)),
    };
  }

  #name(step: Step): DatasetName {
    return absoluteName(this.#request.root, step.name);
  }

  /** Where something was left to go on with; null where nobody can tell. What went on already does so again only if it was cut, not refused. */
  async #cutShort(): Promise<DatasetName[] | null> {
    if (this.#request.interrupted !== undefined && !this.#signal.aborted) return [];
    const broken = this.#receives.filter(({ index }) => this.#plan.outcomes.get(index)?.result === 'failed');
    const byName = new Map(broken.map((planned) => [this.#name(planned.step), planned]));
    const { zfs } = this.#options;
    try {
      const cut: DatasetName[] = [];
      for (const listed of await partialAmong(zfs, [...byName.keys()])) {
        const planned = byName.get(listed.name);
        if (planned === undefined) continue;
        const isLeft = wasLetIn(this.#plan.outcomes.get(planned.index));
        if (isLeft || (await isPartOf(zfs, listed, planned.step))) cut.push(listed.name);
      }
      return cut;
    } catch {
      return null;
    }
  }

  /** Holds, asks and streams. False when it never came to streams: then all steps have failed. */
  async #streamed(): Promise<boolean> {
    try {
      const [prepared] = await bothSettled(this.#prepare(), this.#hold());
      await this.#stream(prepared);
      return true;
    } catch (error) {
      this.#plan.outcomes.fail(this.#steps, error);
      return false;
    }
  }

  async #hold(): Promise<void> {
    const { zfs, node } = this.#options;
    await placeHolds(zfs, holdTagOf(node, this.#id), this.#holds);
    this.#missing = await missingAmong(zfs, this.#holds, Array.from(this.#bases.values()));
  }

  /** False when nobody could look at what was received, so that nothing of it counts; the recovery marks it later. */
  async #verified(): Promise<boolean> {
    try {
      const tried = this.#steps.flatMap((planned) => {
        const result = this.#plan.outcomes.get(planned.index)?.result;
        return result === 'skipped' ? [] : [{ ...planned, done: result === 'done' }];
      });
      const nameOf = (step: Step): DatasetName => this.#name(step);
      const faults = await complete(tried, { zfs: this.#options.zfs, nameOf, settle: this.#request.settle });
      for (const [index, error] of faults) this.#plan.outcomes.settle(index, { result: 'failed', error });
      return true;
    } catch (error) {
      this.#plan.outcomes.fail(this.#steps, error);
      return false;
    }
  }

  /** Releases the holds here. False when ZFS refused; the recovery tries again. */
  #released(): Promise<boolean> {
    return releaseHolds(this.#options.zfs, holdTagOf(this.#options.node, this.#id), this.#holds).then(
      () => true,
      () => false,
    );
  }

  async #stream(prepared: Prepared | undefined): Promise<void> {
    const streams = new Map(this.#receives.map((planned, stream) => [planned.index, stream]));
    for (const { index, step } of this.#steps) {
      const task = (): Promise<StepOutcome> => {
        const stream = streams.get(index);
        if (isReceive(step) && prepared !== undefined && stream !== undefined) {
          return this.#receive({ index, step }, prepared, stream);
        }
        return isReceive(step) ? Promise.resolve({ result: 'skipped' }) : this.#createPlaceholder(step);
      };
      this.#running.set(index, this.#whenPossible(index, step, task));
    }
    await Promise.all(this.#steps.map(({ index }) => this.#running.get(index)));
  }

  #prepare(): Promise<Prepared> | undefined {
    if (this.#receives.length === 0) return undefined;
    const { peer, tree, mode, local, interrupted } = this.#request;
    const streams = this.#receives.map(({ index, step }) => ({
      step,
      resumption: interrupted?.resumptions.get(index),
    }));
    const preparation = { transfer: this.#id, peer, tree, mode, local: local(), streams };
    return this.#shouldCompress(peer).then((compress) =>
      prepareStreams(this.#options, { ...preparation, compress }, this.#signal),
    );
  }

  async #shouldCompress(peer: NodeId): Promise<boolean> {
    const { rates, links } = this.#options;
    return rates.prefersCompressed(peer) && (await links.compressor.isAvailable());
  }

  /** Runs a step once all that it waits for is done and the queue has room. */
  async #whenPossible(index: number, step: Step, task: () => Promise<StepOutcome>): Promise<StepOutcome> {
    await Promise.all(step.after.map((before) => this.#running.get(before)));
    const estimatedBytes = isReceive(step) ? step.estimatedBytes : 0;
    const { peer, root } = this.#request;
    const queued = this.#options.queue.run({ peer, pool: poolOf(root), bytes: estimatedBytes }, async () => {
      if (this.#signal.aborted || !this.#plan.outcomes.allowsFor(step)) return { result: 'skipped' } as const;
      this.#request.onProgress({ kind: 'step-started', step: index, estimatedBytes });
      return task();
    });
    return this.#plan.outcomes.settle(index, await queued.catch(failed));
  }

  async #createPlaceholder(step: MetadataStep): Promise<StepOutcome> {
    await this.#plan.metadata.execute(step);
    return { result: 'done', bytes: null };
  }

  async #receive({ index, step }: PlannedStep<ReceiveStep>, prepared: Prepared, stream: number): Promise<StepOutcome> {
    const { onProgress, interrupted } = this.#request;
    const bytes = await this.#streams.receive({
      step,
      transfer: this.#id,
      prepared,
      stream,
      isResumed: interrupted?.resumptions.has(index) === true,
      isBaseHeld: this.#isBaseHeld(index, step),
      onBytes: (soFar) => onProgress({ kind: 'step-progress', step: index, bytes: soFar }),
    });
    return { result: 'done', bytes };
  }

  #isBaseHeld(index: number, step: ReceiveStep): boolean {
    const base = this.#bases.get(index);
    return step.kind === 'receive-incremental' && base?.dataset === this.#name(step) && !this.#missing.has(base);
  }

  #result(): Pick<TransferEnded, 'outcome' | 'bytes'> {
    const { outcomes } = this.#plan;
    const bytes = outcomes.bytes(this.#receives);
    if (this.#receives.every(({ index }) => outcomes.get(index)?.result === 'done'))
      return { outcome: 'completed', bytes };
    return { outcome: this.#signal.aborted ? 'cancelled' : 'failed', bytes };
  }

  /** A sender that cannot be told any more notices the lost connection and clears up by itself. */
  async #tellFinished(resumes: boolean): Promise<void> {
    if (this.#receives.length === 0) return;
    const isDone = ({ index }: PlannedStep) => this.#plan.outcomes.get(index)?.result === 'done';
    const received = this.#receives.flatMap((planned, stream) => (isDone(planned) ? [stream] : []));
    await this.#askInTime(FINISH, { transfer: this.#id, ...this.#result(), received, resumes });
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

/** Whether a stream that failed can have left something: one that something else was in the way of has not. */
function wasLetIn(outcome: StepOutcome | undefined): boolean {
  return outcome?.result === 'failed' && !isPandoError(outcome.error, 'ZFS_BUSY', 'ZFS_DATASET_EXISTS');
}

/** Snapshots here that the streams build on; those that come with the transfer itself need no hold. */
function localBases(
  { root, local }: PullRequest,
  receives: readonly PlannedStep<ReceiveStep>[],
): Map<number, HeldSnapshot> {
  const graph = local();
  return new Map(
    receives.flatMap(({ index, step }) => {
      const base = localBase(root, graph, step);
      return base === undefined ? [] : [[index, base] as const];
    }),
  );
}

function localBase(root: DatasetName, local: Graph, step: ReceiveStep): HeldSnapshot | undefined {
  if (step.kind === 'receive-full') return undefined;
  const dataset = local.get(step.base.dataset);
  const snapshot = dataset === undefined ? undefined : snapshotOf(dataset, step.base.snapshot.guid);
  if (dataset === undefined || snapshot === undefined) return undefined;
  return { dataset: absoluteName(root, dataset.name), snapshot: snapshot.name, guid: snapshot.guid };
}

/** Both results once both have settled, or the first failure: nothing goes on behind the back of whoever clears up. */
async function bothSettled<A, B>(
  a: Promise<A> | undefined,
  b: Promise<B> | undefined,
): Promise<[A | undefined, B | undefined]> {
  await Promise.allSettled([a, b]);
  return Promise.all([a, b]);
}

function noAnswer(peer: NodeId): PandoError {
  return new PandoError('PROTOCOL_TIMEOUT', `Peer ${peer} did not answer in time.`, { peer });
}
