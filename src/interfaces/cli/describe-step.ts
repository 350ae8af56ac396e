import { unreachable } from '../../core/errors.ts';
import { isLineage, ROOT_STAND_IN } from '../../core/ids.ts';
import type { DestroyDatasetStep, PreserveStep, Retained, Step } from '../../core/plan/steps.ts';
import { formatCount, formatPlace, formatTime } from './format.ts';

function snapshotsOf(count: number): string {
  return count === 1 ? '' : ` (${formatCount(count, 'snapshot')})`;
}

function describeKept(place: string, { localOnly }: PreserveStep): string {
  const what = localOnly.length === 0 ? 'was written to it here' : 'only this node has';
  return `keep what ${what}${localOnly.length === 0 ? '' : ` (${localOnly.map((name) => `@${name}`).join(', ')})`} of ${place} under .pando/diverged`;
}

function whyDestroyed({ name, dataset }: DestroyDatasetStep): string {
  if (dataset === ROOT_STAND_IN) return 'it only stood in for the root';
  return isLineage(name) ? 'no clone needs it any more' : 'its owner destroyed it';
}

/** What a step of a tree's plan does, as an order: `receive images/web@v3, follows on @v2`. */
export function describeStep(tree: string, step: Step): string {
  const place = formatPlace(tree, step.name);
  switch (step.kind) {
    case 'rename':
      return `rename ${formatPlace(tree, step.from)} to ${place}`;
    case 'promote':
      return `promote ${place} over ${formatPlace(tree, step.over)}`;
    case 'clone':
      return `clone ${formatPlace(tree, step.origin.name)}@${step.origin.snapshot.name} to ${place}`;
    case 'rename-snapshot':
      return `rename ${place}@${step.from} to @${step.to}`;
    case 'preserve':
      return `${describeKept(place, step)}, and ${step.lastCommon === null ? 'receive it anew' : `go on from @${step.lastCommon.name}`}`;
    case 'destroy-snapshot': {
      const why = step.because === 'not-kept' ? 'the rule does not keep it' : 'its owner destroyed it';
      return `destroy ${place}@${step.snapshot.name}: ${why}`;
    }
    case 'destroy-dataset':
      return `destroy ${place}${snapshotsOf(step.snapshots.length)}: ${whyDestroyed(step)}`;
    case 'take-root':
      return `make ${formatPlace(tree, step.from)} the root, in the place of what becomes ${formatPlace(tree, step.former.name)}`;
    case 'create-placeholder':
      return `create ${place}, empty until ${step.dataset === ROOT_STAND_IN ? 'what it is a clone of is here' : 'its owner takes a snapshot'}`;
    case 'receive-full':
      return `receive ${place}@${step.to.name} in full`;
    case 'receive-incremental':
      return `receive ${place}@${step.to.name} from @${step.base.snapshot.name}${snapshotsOf(step.snapshots)}`;
    case 'receive-clone': {
      const origin = `${formatPlace(tree, step.base.name)}@${step.base.snapshot.name}`;
      return `receive ${place}@${step.to.name} as a clone of ${origin}${snapshotsOf(step.snapshots)}`;
    }
    default:
      return unreachable(step);
  }
}

/** Why something stays that the mirror need not keep: `images/web@v1 stays until …: its owner destroyed it`. */
export function describeRetained(tree: string, retained: Retained): string {
  const { name, snapshot } = retained;
  const what = `${formatPlace(tree, name)}${snapshot === null ? '' : `@${snapshot}`}`;
  switch (retained.reason) {
    case 'grace':
      return `${what} until ${formatTime(retained.until)}: its owner destroyed it`;
    case 'depended-on':
      return `${what}: clones or datasets below it need it`;
    case 'in-common':
      return `${what}: it is what this node and a peer have in common`;
    case 'taken-here':
      return `${what}: this node has snapshots of it that its owner never had`;
    default:
      return unreachable(retained);
  }
}
