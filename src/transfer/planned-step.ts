import { isReceive, type ReceiveStep, type Step } from '../core/plan/steps.ts';

/** A step with its place in the plan. */
export interface PlannedStep<Kind extends Step = Step> {
  readonly index: number;
  readonly step: Kind;
}

export function isReceivePlanned<Planned extends PlannedStep>(
  planned: Planned,
): planned is Planned & PlannedStep<ReceiveStep> {
  return isReceive(planned.step);
}

/** Whether the step makes a dataset that was not here before. */
export function isNew({ step }: PlannedStep): boolean {
  return step.kind === 'receive-full' || step.kind === 'receive-clone';
}
