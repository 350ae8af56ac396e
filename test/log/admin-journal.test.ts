import { expect, it, onTestFinished, vi } from 'vitest';
import type { AdminEventBody } from '../../src/core/events.ts';
import { AdminJournal } from '../../src/log/admin-journal.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { signerOf } from './identity.ts';

it('tells all listeners of a change, and whoever made it that it was made, though a listener throws', async () => {
  const warning = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  onTestFinished(() => warning.mockRestore());
  const history = await History.open({ log: new MemoryLog(), signer: signerOf(1), now: () => 1_800_000_000_000 });
  const journal = await AdminJournal.open(history);
  const failure = new Error('a listener failed');
  journal.onChange(() => {
    throw failure;
  });
  const listener = vi.fn();
  journal.onChange(listener);
  const peer = signerOf(2).node;
  const removed: AdminEventBody = { type: 'peer.removed', peer };
  await journal.change(() => [removed]);
  expect(listener).toHaveBeenCalledExactlyOnceWith(journal.state);
  expect(warning).toHaveBeenCalledExactlyOnceWith(failure);
});
