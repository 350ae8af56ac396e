import { Option } from 'commander';

export interface StoreOption {
  readonly store?: string;
}

/** Which layer store a command means. */
export function storeOption(): Option {
  return new Option('--store <tree>', 'tree of the layer store, where this node has several');
}
