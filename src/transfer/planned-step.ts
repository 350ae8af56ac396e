import { isReceive, type ReceiveStep, type Step } from '../core/plan/steps.ts';
import { TRANSFER_BYTES_MAX, TRANSFER_STREAMS_MAX } from './protocol.ts';

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

/** Divides steps of streams into transfers, which follow one another: none has more than TRANSFER_STREAMS_MAX steps, nor another step beyond TRANSFER_BYTES_MAX. */
export function transfersOf(steps: readonly PlannedStep[]): PlannedStep[][] {
  const transfers: PlannedStep[][] = [];
  let bytes = TRANSFER_BYTES_MAX;
  for (const planned of steps) {
    const last = transfers.at(-1);
    if (last === undefined || last.length === TRANSFER_STREAMS_MAX || bytes >= TRANSFER_BYTES_MAX) {
      transfers.push([planned]);
      bytes = 0;
    } else last.push(planned);
    bytes += isReceive(planned.step) ? planned.step.estimatedBytes : 0;
  }
  return transfers;
}
