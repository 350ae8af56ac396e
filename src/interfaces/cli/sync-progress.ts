/** Progress of one sync, from what its node tells of the steps. */
import { isReceive, type Plan } from '../../core/plan/steps.ts';
import type { TransferProgress } from '../../transfer/progress.ts';
import { describeStep } from './describe-step.ts';
import { formatBytes } from './format.ts';

const MS_PER_SECOND = 1000;

interface StepProgress {
  bytes: number;
  estimatedBytes: number;
}

export class SyncProgress {
  readonly #tree: string;
  readonly #plan: Plan;
  readonly #steps: StepProgress[];
  readonly #running = new Set<number>();
  #startedAt: number | undefined;
  #ended = 0;

  constructor(tree: string, plan: Plan) {
    this.#tree = tree;
    this.#plan = plan;
    this.#steps = plan.steps.map((step) => ({ bytes: 0, estimatedBytes: isReceive(step) ? step.estimatedBytes : 0 }));
  }

  /** Takes in what was told at `now` (Unix ms). */
  add(progress: TransferProgress, now: number): void {
    const step = this.#steps[progress.step];
    if (step === undefined) return;
    this.#startedAt ??= now;
    if (progress.kind === 'step-started') {
      this.#running.add(progress.step);
      step.estimatedBytes = progress.estimatedBytes;
    } else if (progress.kind === 'step-progress') {
      step.bytes = progress.bytes;
    } else {
      this.#running.delete(progress.step);
      this.#ended += 1;
      if (progress.outcome.result === 'done') step.bytes = progress.outcome.bytes ?? step.bytes;
    }
  }

  /** Bytes that came so far, of both ended and running steps. */
  get bytes(): number {
    return this.#steps.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Bytes that all steps will have brought, as far as is known: no less than what came. */
  get estimatedBytes(): number {
    return this.#steps.reduce((sum, { bytes, estimatedBytes }) => sum + Math.max(bytes, estimatedBytes), 0);
  }

  /** One line about where the sync stands at `now`. */
  line(now: number): string {
    const seconds = (now - (this.#startedAt ?? now)) / MS_PER_SECOND;
    const speed = seconds > 0 ? `, ${formatBytes(Math.round(this.bytes / seconds))}/s` : '';
    const volume = `${formatBytes(this.bytes)} of ${formatBytes(this.estimatedBytes)}`;
    return `${this.#tree}: ${this.#ended} of ${this.#steps.length} steps, ${volume}${speed}${this.#current()}`;
  }

  #current(): string {
    const [first] = this.#running;
    const step = first === undefined ? undefined : this.#plan.steps[first];
    if (step === undefined) return '';
    const others = this.#running.size > 1 ? ` and ${this.#running.size - 1} more` : '';
    return `: ${describeStep(this.#tree, step)}${others}`;
  }
}
