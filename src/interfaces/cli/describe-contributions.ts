import type { ContributionLimits } from '../../core/admin.ts';
import { formatCount } from './format.ts';

/** How much a peer may bring, in words. */
export function describeContributions({ filesystems, snapshots }: ContributionLimits): string {
  const told = (count: number | null, what: string): string =>
    count === null ? `as many ${what}s as the configuration says` : formatCount(count, what);
  return `${told(filesystems, 'dataset')} and ${told(snapshots, 'snapshot')}`;
}
