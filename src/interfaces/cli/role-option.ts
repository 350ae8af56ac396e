import { Option } from 'commander';
import { ROLES } from '../../core/grants.ts';

/** `--role`, for whatever gives a grant. */
export function roleOption(): Option {
  return new Option('--role <role>', 'what it may do there').choices(ROLES).default('reader');
}
