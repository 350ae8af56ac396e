import { unreachable } from '../../core/errors.ts';
import type { Step } from '../../core/plan/steps.ts';
import { formatCount, formatPlace } from './format.ts';

function snapshotsOf(count: number): string {
  return count === 1 ? '' : ` (${formatCount(count, 'snapshot')})`;
}

/** What a step of a tree's plan does, as an order: `receive images/web@v3, follows on @v2`. */
export function describeStep(tree: string, step: Step): string {
  const place = formatPlace(tree, step.name);
  switch (step.kind) {
    case 'rename':
      return `rename ${formatPlace(tree, step.from)} to ${place}`;
    case 'create-placeholder':
      return `create ${place}, empty until its owner takes a snapshot`;
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
