import { Option } from 'commander';

/** What `--on` gave. */
export interface OnOption {
  readonly on?: string;
}

/** `--on`, for whatever changes a tree. */
export function onOption(): Option {
  return new Option('--on <peer>', 'have a peer do it, of which this node is an operator in that tree');
}

/** Behind what was done: where, unless here. */
export function onWhom({ on }: OnOption): string {
  return on === undefined ? '' : ` on "${on}"`;
}
