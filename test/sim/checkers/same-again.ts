import type { Snapshot } from '../../../src/core/events.ts';
import { absoluteName, type DatasetName, isHoldOfPando, relativeTo } from '../../../src/core/ids.ts';
import { wasWrittenTo } from '../../../src/transfer/giving-up.ts';
import type { PullReport } from '../../../src/transfer/progress.ts';
import type { Machine } from '../machine.ts';
import type { LastSync } from '../world.ts';
import type { Checker, Finding } from './checker.ts';

/**
 * Invariant 5, as far as a world at rest shows it: whatever was cut short was repeated to its end, so that nothing is left to do anywhere. What people hold or wrote to stays, as does
 * what they put a dataset of theirs into, and each sync says so again.
 */
export const sameAgain: Checker = {
  invariant: 5,
  async check(world) {
    const found: Finding[] = [];
    for (const { machine, mirror, report } of world.lastSyncs) {
      const { tree } = mirror;
      const isAwaited = world.isFromHostile(machine, tree);
      if (report instanceof Error) {
        found.push({ machine: machine.name, what: `${tree}: ${report.message}` });
        continue;
      }
      for (const done of report.steps) {
        if (await staysForItsPeople({ machine, mirror, isAwaited, report }, done)) continue;
        const { step, outcome } = done;
        const what = `${tree}: ${step.kind} ${step.name || 'the root'} was still to be done: ${outcome.result}`;
        found.push({ machine: machine.name, what });
      }
    }
    return found;
  },
};

/** A sync of a machine that is judged. */
interface Judged {
  readonly machine: Machine;
  readonly mirror: LastSync['mirror'];
  /** Whether a peer in wrong hands may have begun to send something that waits for it to go on. */
  readonly isAwaited: boolean;
  readonly report: PullReport;
}

async function staysForItsPeople(judged: Judged, { step, outcome }: PullReport['steps'][number]): Promise<boolean> {
  const { machine, mirror, report } = judged;
  const { tree, root } = mirror;
  if (outcome.result !== 'kept' || !('name' in step)) return false;
  const place = absoluteName(root, step.name);
  if (step.kind === 'destroy-snapshot') return isNeeded(judged, place, step.snapshot);
  if (step.kind !== 'destroy-dataset') return false;
  const [there] = await machine.zfs.listOnly([place]);
  if (there !== undefined && (await wasWrittenTo(machine.zfs, there))) return true;
  for (const snapshot of there?.snapshots ?? []) if (await isNeeded(judged, place, snapshot)) return true;
  for (const before of step.after) {
    const needed = report.steps[before];
    if (needed !== undefined && (await staysForItsPeople(judged, needed))) return true;
  }
  const known = machine.node?.trees.graph(tree);
  const below = (await machine.zfs.list(root)).filter(({ name }) => name.startsWith(`${place}/`));
  return below.some(({ name }) => known?.named(relativeTo(root, name) ?? step.name) === undefined);
}

/** Whether people hold a snapshot, or something hangs off it that waits for a peer in wrong hands. */
async function isNeeded(
  { machine: { zfs, name: pool }, isAwaited }: Judged,
  dataset: DatasetName,
  { guid, name: snapshot }: Pick<Snapshot, 'guid' | 'name'>,
): Promise<boolean> {
  const [tags = []] = await zfs.holds([{ dataset, snapshot }]);
  const clones = (await zfs.list(pool as DatasetName)).filter(({ origin }) => origin?.guid === guid);
  const isBegun = clones.some(({ resumeToken, snapshots }) => resumeToken !== null && snapshots.length === 0);
  return tags.some((tag) => !isHoldOfPando(tag)) || (isAwaited && isBegun);
}
