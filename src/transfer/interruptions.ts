/**
 * Receives that were cut short, and how they go on. What came stays in ZFS with a token that names it (`receive -s`), and the journal says where to look: an open
 * intent of type `receive.interrupted`. Before a mirror is brought up to date, what still fits its plan goes on from there and the rest is given up, so that
 * nothing of it is in the way (invariant 6).
 */
import type { ReceiveInterrupted } from '../core/events.ts';
import { type Graph, snapshotOf } from '../core/graph/graph.ts';
import { absoluteName, type DatasetName, ID_PROPERTY, type ResumeToken, type TreeName } from '../core/ids.ts';
import { isReceive, type Plan, type ReceiveStep } from '../core/plan/steps.ts';
import { chainOf, type StreamFlags } from '../core/stream-flags.ts';
import type { ListedDataset, ResumePoint, Zfs } from '../zfs/zfs.ts';
import type { TransferJournal } from './journal.ts';

/** How long what was cut short is kept for its mirror to go on with, in ms: over a weekend. */
export const PARTIAL_KEPT_MS = 3 * 24 * 60 * 60_000;

/** What a step goes on with. */
export interface Resumption {
  readonly token: ResumeToken;
  /** The chain that its first stream began. Null for one that goes on with the chain of its base. */
  readonly chain: StreamFlags | null;
}

/** Steps that go on where they were cut short, one snapshot each. */
export interface Interrupted {
  readonly plan: Plan;
  /** By index of the step. */
  readonly resumptions: ReadonlyMap<number, Resumption>;
  readonly intents: readonly ReceiveInterrupted[];
}

/** A mirror that is to be brought up to date. */
export interface InterruptedQuery {
  readonly tree: TreeName;
  readonly peer: ReceiveInterrupted['peer'];
  readonly root: DatasetName;
  readonly plan: Plan;
  /** All that the source has. */
  readonly source: Graph;
}

/**
 * Those of the datasets into which a receive was cut short that may have been Pando's: a dataset that its first stream was to make has an id from the beginning. Rejects as
 * ZFS does.
 */
export async function partialAmong(zfs: Zfs, names: readonly DatasetName[]): Promise<ListedDataset[]> {
  if (names.length === 0) return [];
  const listed = await zfs.listOnly(names);
  return listed.filter((one) => isBegun(one) || (one.resumeToken !== null && one.snapshots.length > 0));
}

/** Whether it is what came of Pando's first stream into a dataset, and no dataset yet. */
export function isBegun({ resumeToken, snapshots, properties }: ListedDataset): boolean {
  return resumeToken !== null && snapshots.length === 0 && properties[ID_PROPERTY] !== undefined;
}

/** Whether what a receive left there is a part of what the step brings, whoever began it. Rejects as ZFS does. */
export async function isPartOf(
  zfs: Zfs,
  { snapshots, properties, resumeToken }: ListedDataset,
  step: ReceiveStep,
): Promise<boolean> {
  if (snapshots.length === 0) return properties[ID_PROPERTY] === step.dataset;
  const point = resumeToken === null ? null : await zfs.readToken(resumeToken);
  const base = step.kind === 'receive-full' ? null : step.base.snapshot.guid;
  return point?.toGuid === step.first && point.fromGuid === base;
}

/**
 * Finds what can go on, and gives up what cannot: what nobody wants any more, what builds on something else than is planned, what is not of this mirror.
 * Null where nothing was cut short, which costs nothing to find out, or nothing of it can go on. Rejects as ZFS does.
 */
export async function findInterrupted(
  zfs: Zfs,
  journal: TransferJournal,
  { tree, peer, root, plan, source }: InterruptedQuery,
): Promise<Interrupted | null> {
  const intents = journal.interrupted().filter((one) => one.tree === tree && one.peer === peer);
  if (intents.length === 0) return null;
  const steps: ReceiveStep[] = [];
  const resumptions = new Map<number, Resumption>();
  for (const listed of await partialAmong(
    zfs,
    intents.flatMap(({ targets }) => targets),
  )) {
    const { name, resumeToken } = listed;
    const point = resumeToken === null ? null : await zfs.readToken(resumeToken);
    const planned = plan.steps.filter(isReceive).find((step) => absoluteName(root, step.name) === name);
    const step = planned === undefined || point === null ? undefined : continued(planned, listed, point, source);
    if (step === undefined || resumeToken === null) {
      await zfs.abandonReceive(name);
      continue;
    }
    const isFirst = step.kind === 'receive-full' || step.kind === 'receive-clone';
    resumptions.set(steps.length, { token: resumeToken, chain: isFirst ? chainOf(listed.properties) : null });
    steps.push(step);
  }
  if (steps.length > 0) return { plan: { ...plan, steps }, resumptions, intents };
  for (const { transfer } of intents) await over(journal, transfer);
  return null;
}

/** The step as far as what was cut short goes: one snapshot. Undefined where the two do not fit, or something must be done before. */
function continued(
  step: ReceiveStep,
  listed: ListedDataset,
  { toGuid, fromGuid }: ResumePoint,
  source: Graph,
): ReceiveStep | undefined {
  const base = step.kind === 'receive-full' ? null : step.base.snapshot.guid;
  if (step.first !== toGuid || base !== fromGuid || step.after.length > 0) return undefined;
  const isFirst = listed.snapshots.length === 0;
  if (isFirst !== (step.kind !== 'receive-incremental')) return undefined;
  if (isFirst && listed.properties[ID_PROPERTY] !== step.dataset) return undefined;
  if (step.kind === 'receive-full') return step.overPlaceholder ? undefined : step;
  const dataset = source.get(step.dataset);
  const to = step.to.guid === toGuid ? step.to : dataset && snapshotOf(dataset, toGuid);
  return to === undefined ? undefined : { ...step, to, snapshots: 1, intermediates: false };
}

/**
 * Settles what was to go on: gives up what could not, keeps what only was cut short once more (`isCut`), and says so in the journal. Where ZFS cannot be asked the
 * intents stay as they are.
 */
export async function settleInterrupted(
  zfs: Zfs,
  journal: TransferJournal,
  { intents }: Interrupted,
  isCut: boolean,
): Promise<void> {
  for (const intent of intents) {
    const partial = (await partialAmong(zfs, intent.targets)).map(({ name }) => name);
    if (!isCut) for (const name of partial) await zfs.abandonReceive(name);
    if (partial.length === 0 || !isCut) await over(journal, intent.transfer);
  }
}

/**
 * Gives up what was cut short too long ago, or for a mirror that is no more. True when the intent is over. Rejects as ZFS does.
 */
export async function giveUpInterrupted(zfs: Zfs, intent: ReceiveInterrupted, isWanted: boolean): Promise<boolean> {
  if (isWanted) return false;
  for (const { name } of await partialAmong(zfs, intent.targets)) await zfs.abandonReceive(name);
  return true;
}

async function over(journal: TransferJournal, transfer: ReceiveInterrupted['transfer']): Promise<void> {
  await journal.end({ type: 'transfer.ended', transfer, outcome: 'recovered', bytes: 0 });
}
