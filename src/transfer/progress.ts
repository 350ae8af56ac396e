import type { PandoError } from '../core/errors.ts';
import type { Step } from '../core/plan/steps.ts';

/** What became of one step. */
export type StepOutcome =
  | { readonly result: 'done'; readonly bytes: number | null }
  | { readonly result: 'failed'; readonly error: PandoError }
  /** Not destroyed, since ZFS refused or it was not what had been planned for: it stays, and nothing is wrong. */
  | { readonly result: 'kept'; readonly error: PandoError }
  /** Not tried, since a step that it needs failed or the whole was cancelled. */
  | { readonly result: 'skipped' };

/** Told while a plan is being executed; `step` is the index in the plan. */
export type TransferProgress =
  | { readonly kind: 'step-started'; readonly step: number; readonly estimatedBytes: number }
  | { readonly kind: 'step-progress'; readonly step: number; readonly bytes: number }
  | { readonly kind: 'step-ended'; readonly step: number; readonly outcome: StepOutcome };

export type ProgressListener = (progress: TransferProgress) => void;

/** How often a running stream tells its bytes, in ms: often enough for a bar to move, seldom enough to cost nothing. */
export const PROGRESS_INTERVAL_MS = 200;

/** One executed plan. */
export interface PullReport {
  readonly steps: readonly { readonly step: Step; readonly outcome: StepOutcome }[];
  /** Bytes of all streams that were received; those of direct links are known to three digits only. */
  readonly bytes: number;
}
