import { describe, expect, it } from 'vitest';
import { transfersOf } from '../../src/transfer/planned-step.ts';
import { TRANSFER_BYTES_MAX, TRANSFER_STREAMS_MAX } from '../../src/transfer/protocol.ts';

function streams(count: number, estimatedBytes: number): Parameters<typeof transfersOf>[0] {
  return Array.from({ length: count }, (_, index) => ({
    index,
    step: { kind: 'receive-incremental', estimatedBytes } as never,
  }));
}

describe('the steps of a plan', () => {
  it('share transfers as long as there is room in them, in their order', () => {
    const steps = streams(2 * TRANSFER_STREAMS_MAX + 3, 1000);
    const transfers = transfersOf(steps);
    expect(transfers.map(({ length }) => length)).toEqual([TRANSFER_STREAMS_MAX, TRANSFER_STREAMS_MAX, 3]);
    expect(transfers.flat()).toEqual(steps);
  });

  it('do not wait for each other to be acknowledged where they are large', () => {
    expect(transfersOf(streams(4, TRANSFER_BYTES_MAX)).map(({ length }) => length)).toEqual([1, 1, 1, 1]);
    expect(transfersOf(streams(5, TRANSFER_BYTES_MAX / 2)).map(({ length }) => length)).toEqual([2, 2, 1]);
  });

  it('need no transfer where there are none', () => {
    expect(transfersOf([])).toEqual([]);
  });
});
