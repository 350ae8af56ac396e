/**
 * The taking end of transfers: executes a plan, decides nothing (design §8).
 *
 * 1. What is replayed as metadata and streams take turns, in the order of the plan. The former runs one by one; streams run in transfers of at most
 *    TRANSFER_STREAMS_MAX (less where they are large), each under a journaled intent.
 * 2. Streams run side by side as far as the plan's `after` and the queue's limits allow. A step whose need failed is skipped.
 * 3. What was received counts only once a listing has shown its guid and origin (zfs-rules, "Identity and order").
 * 4. However a transfer ends, its holds are released, its children gone, and the journal says so.
 */
import { setMaxListeners } from 'node:events';
import type { Graph } from '../core/graph/graph.ts';
import { isReceive } from '../core/plan/steps.ts';
import { isGivingUp } from './giving-up.ts';
import { IncomingTransfer, type PullOnItsWay } from './incoming-transfer.ts';
import { findInterrupted, type Interrupted, settleInterrupted } from './interruptions.ts';
import { MetadataReplay } from './metadata.ts';
import { failed, kept, Outcomes } from './outcomes.ts';
import { type PlannedStep, transfersOf } from './planned-step.ts';
import type { PullReport, StepOutcome } from './progress.ts';
import type { PullerOptions, PullRequest } from './pull.ts';

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
  readonly #plan: PullOnItsWay;
  readonly #outcomes: Outcomes;
  readonly #metadata: MetadataReplay;

  constructor(options: PullerOptions, request: PullRequest, lost: AbortSignal) {
    this.#options = options;
    this.#request = request;
    this.#outcomes = new Outcomes(request.onProgress);
    this.#metadata = new MetadataReplay({ ...options, tree: request.tree, root: request.root });
    this.#signal = AbortSignal.any([request.signal, lost]);
    // As many streams as run at once listen to it
    setMaxListeners(0, this.#signal);
    this.#plan = { request, outcomes: this.#outcomes, metadata: this.#metadata, lost, signal: this.#signal };
  }

  async run(): Promise<PullReport> {
    const steps = this.#request.plan.steps.map((step, index): PlannedStep => ({ index, step }));
    for (const group of groupsOf(steps)) {
      if (isReplayed(group[0])) await this.#replay(group);
      else await this.#streamAll(group);
    }
    await this.#settleInterrupted();
    return this.#outcomes.report(this.#request.plan.steps);
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
    for (const some of transfersOf(steps)) {
      await this.#options.queue.transfer(this.#request.peer, this.#signal, () =>
        new IncomingTransfer(this.#options, this.#plan, some).run(),
      );
    }
  }

  /** One by one, and looked at once, when all is done. */
  async #replay(steps: readonly PlannedStep[]): Promise<void> {
    for (const { index, step } of steps) {
      if (isReceive(step)) continue;
      if (this.#signal.aborted || !this.#outcomes.allowsFor(step)) {
        this.#outcomes.settle(index, { result: 'skipped' });
        continue;
      }
      const done = (): StepOutcome => ({ result: 'done', bytes: null });
      this.#outcomes.settle(index, await this.#metadata.execute(step).then(done, isGivingUp(step) ? kept : failed));
    }
    // What nobody could look at does not count; the next sync looks at it first
    await this.#lookAtChanged().catch((error: unknown) => this.#outcomes.fail(steps, error));
  }

  async #lookAtChanged(): Promise<void> {
    const { changed, gone } = this.#metadata.takeChanged();
    if (changed.length === 0) return;
    const listed = await this.#options.zfs.listOnly(changed);
    // Whatever else is not where it was can have been renamed by somebody: only a look at the whole tree tells
    await this.#request.settle(listed, [], [...new Set([...listed.map(({ name }) => name), ...gone])]);
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
