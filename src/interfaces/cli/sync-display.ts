import type { Mirror } from '../../core/admin.ts';
import type { Plan } from '../../core/plan/steps.ts';
import type { SyncReport } from '../../features/mirrors/mirror-syncs.ts';
import type { TransferProgress } from '../../transfer/progress.ts';
import type { CommandContext } from './command-context.ts';
import { describeConflict, describeContested, describeWaiting } from './describe-conflict.ts';
import { describeStep } from './describe-step.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import { SyncProgress } from './sync-progress.ts';

/** What is done sooner shows its result only (design §11), in ms. */
const QUIET_MS = 1000;

/**
 * Shows one sync: on a terminal a line of progress that gives way to the result; elsewhere a line for each step; for programs what the
 * node tells, line by line.
 */
export class SyncDisplay {
  readonly #context: CommandContext;
  readonly #mirror: Mirror;
  readonly #startedAt: number;
  #plan: Plan | undefined;
  #progress: SyncProgress | undefined;

  constructor(context: CommandContext, mirror: Mirror) {
    this.#context = context;
    this.#mirror = mirror;
    this.#startedAt = context.dependencies.now();
  }

  plan(plan: Plan): void {
    const { tree } = this.#mirror;
    this.#plan = plan;
    this.#progress = new SyncProgress(tree, plan);
    if (this.#context.json) this.#context.output.json({ type: 'plan', tree, plan });
  }

  progress(progress: TransferProgress): void {
    const { output, json, dependencies } = this.#context;
    const now = dependencies.now();
    this.#progress?.add(progress, now);
    if (json) output.json({ type: 'progress', tree: this.#mirror.tree, progress });
    else if (!output.isTTY) this.#stepLine(progress);
    else if (now - this.#startedAt >= QUIET_MS) output.progress(this.#progress?.line(now) ?? '');
  }

  report(report: SyncReport): void {
    const { output, json } = this.#context;
    if (json) {
      const { plan, ...rest } = report;
      output.json({
        type: 'result',
        ...rest,
        conflicts: plan.conflicts,
        waiting: plan.waiting,
        retained: plan.retained,
      });
      return;
    }
    output.line(this.#summary(report));
    if (output.isTTY) this.#failures(report);
    const { root } = this.#mirror;
    for (const conflict of report.plan.conflicts) output.line(`  conflict: ${describeConflict(conflict, root)}`);
    for (const one of report.plan.contested) output.line(`  named: ${describeContested(report.tree, one)}`);
    for (const waiting of report.plan.waiting) output.line(`  waiting: ${describeWaiting(waiting, root)}`);
  }

  #stepLine(progress: TransferProgress): void {
    const step = this.#plan?.steps[progress.step];
    if (progress.kind !== 'step-ended' || step === undefined) return;
    const { outcome } = progress;
    const what = describeStep(this.#mirror.tree, step);
    if (outcome.result === 'done') {
      this.#context.output.line(`done: ${what}${outcome.bytes === null ? '' : `, ${formatBytes(outcome.bytes)}`}`);
    } else if (outcome.result !== 'skipped') {
      this.#context.output.line(`${outcome.result}: ${what}: ${outcome.error.message}`);
    }
  }

  /** Elsewhere than on a terminal, each step has had its line. */
  #failures({ steps }: SyncReport): void {
    for (const { step, outcome } of steps) {
      if (outcome.result === 'done' || outcome.result === 'skipped') continue;
      this.#context.output.line(
        `  ${outcome.result}: ${describeStep(this.#mirror.tree, step)}: ${outcome.error.message}`,
      );
    }
  }

  #summary({ tree, steps, bytes, plan }: SyncReport): string {
    if (steps.length === 0) return plan.conflicts.length === 0 ? `${tree}: up to date.` : `${tree}: cannot go on.`;
    const count = (result: string) => steps.filter(({ outcome }) => outcome.result === result).length;
    const failed = count('failed');
    const kept = count('kept');
    const skipped = count('skipped');
    const parts = [
      `${formatCount(count('done'), 'step')} done`,
      ...(failed > 0 ? [`${failed} failed`] : []),
      ...(kept > 0 ? [`${kept} kept after all`] : []),
      ...(skipped > 0 ? [`${skipped} not tried`] : []),
      ...(plan.conflicts.length > 0 ? [formatCount(plan.conflicts.length, 'conflict')] : []),
    ];
    const took = formatDuration(this.#context.dependencies.now() - this.#startedAt);
    return `${tree}: ${parts.join(', ')}; ${formatBytes(bytes)} in ${took}.`;
  }
}
