import { PandoError } from '../core/errors.ts';
import type { DatasetName } from '../core/ids.ts';
import type { ReceiveStep } from '../core/plan/steps.ts';
import type { ListedDataset, ListedSnapshot } from '../zfs/zfs.ts';
import type { PlannedStep } from './planned-step.ts';

function wrongly(step: ReceiveStep, what: string): PandoError {
  return new PandoError(
    'TRANSFER_VERIFICATION_FAILED',
    `"${step.name}" was received, but ${what}; look at it with "zfs list" before you sync again.`,
    { dataset: step.dataset, name: step.name, snapshot: step.to.guid },
  );
}

/** Holds the one snapshot of an increment, as ZFS lists it, against the one that was to come. Gives the error, or undefined. */
export function arrivalFault(step: ReceiveStep, listed: ListedSnapshot | null): PandoError | undefined {
  if (listed?.guid === step.to.guid) return undefined;
  return wrongly(step, `snapshot "${step.to.name}" with guid ${step.to.guid} is not in it`);
}

function fault(step: ReceiveStep, dataset: ListedDataset | undefined): PandoError | undefined {
  const wrong = (what: string): PandoError => wrongly(step, what);
  if (dataset === undefined) return wrong('the dataset is not there');
  if (!dataset.snapshots.some(({ guid }) => guid === step.to.guid)) {
    return wrong(`snapshot "${step.to.name}" with guid ${step.to.guid} is not in it`);
  }
  if (step.kind === 'receive-clone' && dataset.origin?.guid !== step.base.snapshot.guid) {
    return wrong(
      `it hangs off ${dataset.origin?.reference.snapshot ?? 'no origin'} instead of ${step.base.snapshot.name}`,
    );
  }
  return undefined;
}

/**
 * Holds what a listing shows against what was to be received: the guid of the last snapshot and, for clones, of the origin, since
 * ZFS may bind a clone to a duplicate (zfs-rules, "Identity and order"). Gives the error of each step that did not come out right.
 */
export function verifyReceived(
  received: readonly PlannedStep<ReceiveStep>[],
  nameOf: (step: ReceiveStep) => DatasetName,
  listed: readonly ListedDataset[],
): Map<number, PandoError> {
  const byName = new Map(listed.map((dataset) => [dataset.name, dataset]));
  const faults = new Map<number, PandoError>();
  for (const { index, step } of received) {
    const error = fault(step, byName.get(nameOf(step)));
    if (error !== undefined) faults.set(index, error);
  }
  return faults;
}
