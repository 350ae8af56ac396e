/**
 * What follows on the streams of a transfer: what they brought is looked at, marked where it is new, and told to whoever keeps the log. Nothing that
 * came counts before (zfs-rules, "Identity and order").
 */
import type { PandoError } from '../core/errors.ts';
import type { DatasetName } from '../core/ids.ts';
import { isReceive, type Step } from '../core/plan/steps.ts';
import type { ListedDataset, ListedSnapshot, Zfs } from '../zfs/zfs.ts';
import { isNew, isReceivePlanned, type PlannedStep } from './planned-step.ts';
import { isMarked, markReplicas } from './replica-properties.ts';
import { arrivalFault, verifyReceived } from './verification.ts';

/** A step that was tried. */
export interface TriedStep extends PlannedStep {
  readonly done: boolean;
}

/** A snapshot that came into a dataset that was here before, as ZFS shows it. */
export interface ArrivedSnapshot {
  readonly dataset: DatasetName;
  readonly snapshot: ListedSnapshot;
}

/**
 * Takes what ZFS shows after a transfer: whole datasets, and single snapshots of others. `asked` are the names
 * that were looked for: what is not listed of them is gone for certain.
 */
export type Settle = (
  listed: readonly ListedDataset[],
  arrived: readonly ArrivedSnapshot[],
  asked?: readonly DatasetName[],
) => Promise<void>;

export interface CompletionOptions {
  readonly zfs: Zfs;
  readonly nameOf: (step: Step) => DatasetName;
  readonly settle: Settle;
}

/**
 * Completes a transfer. Resolves to the faults of what is not as it should be, by index of the step; rejects when ZFS cannot be asked
 * or the log not written.
 */
export async function complete(
  tried: readonly TriedStep[],
  { zfs, nameOf, settle }: CompletionOptions,
): Promise<Map<number, PandoError>> {
  const faults = new Map<number, PandoError>();
  const arrived = await arrivals(tried.filter(isArrival), { zfs, nameOf }, faults);
  const others = tried.filter((one) => !isArrival(one));
  const names = [...new Set(others.map(({ step }) => nameOf(step)))];
  const listed = withoutStrangers(await zfs.listOnly(names), others, nameOf);
  const marked = await mark(zfs, others, listed, nameOf);
  const done = others.filter((one) => one.done);
  for (const [index, fault] of verifyReceived(done.filter(isReceivePlanned), nameOf, listed)) faults.set(index, fault);
  await settle(marked ? await zfs.listOnly(listed.map(({ name }) => name)) : listed, arrived);
  return faults;
}

/** Whether the step can only have brought one snapshot, by name: most increments, for which listing the dataset would cost more than the stream. */
function isArrival({ step, done }: TriedStep): boolean {
  return done && step.kind === 'receive-incremental' && step.snapshots === 1;
}

async function arrivals(
  tried: readonly TriedStep[],
  { zfs, nameOf }: Pick<CompletionOptions, 'zfs' | 'nameOf'>,
  faults: Map<number, PandoError>,
): Promise<ArrivedSnapshot[]> {
  const steps = tried.filter(isReceivePlanned);
  const asked = steps.map(({ step }) => ({ dataset: nameOf(step), snapshot: step.to.name }));
  const listed = await zfs.listSnapshots(asked);
  return steps.flatMap(({ index, step }, position) => {
    const snapshot = listed[position] ?? null;
    const fault = arrivalFault(step, snapshot);
    if (fault !== undefined) faults.set(index, fault);
    return snapshot === null || fault !== undefined ? [] : [{ dataset: nameOf(step), snapshot }];
  });
}

/** Gives new replicas their properties where that could not be done while receiving. Tells whether there were any. */
async function mark(
  zfs: Zfs,
  tried: readonly TriedStep[],
  listed: readonly ListedDataset[],
  nameOf: (step: Step) => DatasetName,
): Promise<boolean> {
  const replicas = listed
    .filter((dataset) => !isMarked(dataset))
    .flatMap(({ name, kind }) => {
      const fresh = tried.find((one) => isNew(one) && nameOf(one.step) === name);
      return fresh === undefined ? [] : [{ name, kind, dataset: fresh.step.dataset }];
    });
  await markReplicas(zfs, replicas);
  return replicas.length > 0;
}

/** Leaves out datasets that stood in the way of a new replica: they are somebody else's. */
function withoutStrangers(
  listed: readonly ListedDataset[],
  tried: readonly TriedStep[],
  nameOf: (step: Step) => DatasetName,
): ListedDataset[] {
  const fresh = new Map(
    tried.flatMap((one) => (isReceive(one.step) && isNew(one) ? [[nameOf(one.step), one.step.first]] : [])),
  );
  return listed.filter(({ name, snapshots }) => {
    const first = fresh.get(name);
    return first === undefined || snapshots.some(({ guid }) => guid === first);
  });
}
