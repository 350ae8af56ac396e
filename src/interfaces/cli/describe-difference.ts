import { unreachable } from '../../core/errors.ts';
import type { Difference } from '../../core/graph/difference.ts';
import { formatPlace } from './format.ts';

/** In what a replica differs from what its owner shares: one line. */
export function describeDifference(tree: string, difference: Difference): string {
  const place = formatPlace(tree, difference.name);
  switch (difference.kind) {
    case 'dataset-missing':
      return `${place} is missing`;
    case 'dataset-extra':
      return `${place} is here only`;
    case 'dataset-name':
      return `${place} is called ${formatPlace(tree, difference.actual)} here`;
    case 'origin':
      return `${place} grew from snapshot ${difference.actual ?? 'none'} instead of ${difference.expected ?? 'none'}`;
    case 'snapshot-missing':
      return `${place}@${difference.snapshot} is missing`;
    case 'snapshot-extra':
      return `${place}@${difference.snapshot} is here only`;
    case 'snapshot-name':
      return `${place}@${difference.snapshot} has another name here`;
    case 'snapshot-order':
      return `${place}@${difference.snapshot} stands in another order here`;
    default:
      return unreachable(difference);
  }
}
