import type { Checker } from './checker.ts';

/** What may wait to be sent to one peer, in bytes: as in sync/session.ts, with the frame that went over it. */
const BUFFERED_BYTES_MAX = 25 * 1024 * 1024;

/** Invariant 8: what waits for a peer is bounded. The network keeps the largest amount that it saw. */
export const boundedMemory: Checker = {
  invariant: 8,
  async check({ network: { bufferedBytesMax } }) {
    if (bufferedBytesMax <= BUFFERED_BYTES_MAX) return [];
    return [{ machine: 'the network', what: `${bufferedBytesMax} bytes waited for one peer` }];
  },
};
