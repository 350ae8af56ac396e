import { describeError, isPandoError, PandoError } from '../core/errors.ts';
import type { Step } from '../core/plan/steps.ts';
import { isGivingUp, REASONS_TO_KEEP } from './giving-up.ts';
import type { PlannedStep } from './planned-step.ts';
import type { ProgressListener, PullReport, StepOutcome } from './progress.ts';

/** What became of the steps of one plan, by their index in it. */
export class Outcomes {
  readonly #outcomes = new Map<number, StepOutcome>();
  readonly #onProgress: ProgressListener;

  constructor(onProgress: ProgressListener) {
    this.#onProgress = onProgress;
  }

  get(index: number): StepOutcome | undefined {
    return this.#outcomes.get(index);
  }

  /** Remembers, and tells, what became of a step. */
  settle(index: number, outcome: StepOutcome): StepOutcome {
    this.#outcomes.set(index, outcome);
    this.#onProgress({ kind: 'step-ended', step: index, outcome });
    return outcome;
  }

  /** What none of these had as its end yet, or only seemed to have, has failed. */
  fail(steps: readonly PlannedStep[], error: unknown): void {
    for (const { index } of steps) {
      const outcome = this.#outcomes.get(index)?.result;
      if (outcome === undefined || outcome === 'done') this.settle(index, failed(error));
    }
  }

  /** Whether all that the step needs is done. What is to be destroyed behind something that was kept is for ZFS to refuse: then it is kept as well, and nothing is left to be tried again. */
  allowsFor(step: Step): boolean {
    return step.after.every((before) => {
      const result = this.#outcomes.get(before)?.result;
      return result === 'done' || (result === 'kept' && isGivingUp(step));
    });
  }

  /** Steps without an end were not tried. */
  report(steps: readonly Step[]): PullReport {
    const all = steps.map((step, index) => ({ step, outcome: this.get(index) ?? ({ result: 'skipped' } as const) }));
    return { steps: all, bytes: all.reduce((sum, { outcome }) => sum + bytesOf(outcome), 0) };
  }

  /** Bytes that were received in these steps. */
  bytes(steps: readonly PlannedStep[]): number {
    return steps.reduce((sum, { index }) => sum + bytesOf(this.get(index)), 0);
  }
}

function bytesOf(outcome: StepOutcome | undefined): number {
  return outcome?.result === 'done' ? (outcome.bytes ?? 0) : 0;
}

/** What ZFS will not destroy is needed by somebody, and stays. */
export function kept(error: unknown): StepOutcome {
  return isPandoError(error, ...REASONS_TO_KEEP) ? { result: 'kept', error } : failed(error);
}

export function failed(error: unknown): StepOutcome {
  if (error instanceof PandoError) return { result: 'failed', error };
  return { result: 'failed', error: new PandoError('INTERNAL', describeError(error), {}, { cause: error }) };
}
