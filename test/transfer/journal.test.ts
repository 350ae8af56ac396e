import { describe, expect, it, vi } from 'vitest';
import type { TransferStarted } from '../../src/core/events.ts';
import { parseTransferId, streamIdOf, TRANSFER_TREE, type TreeName, uuidFrom } from '../../src/core/ids.ts';
import { History } from '../../src/log/history.ts';
import type { Log } from '../../src/log/log.ts';
import { corrupt } from '../../src/log/log-errors.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { TransferJournal } from '../../src/transfer/journal.ts';
import { smallTree } from '../log/bodies.ts';
import { signerOf } from '../log/identity.ts';
import { damaged } from '../main/damaged-log.ts';

const signer = signerOf(1);
const stream = streamIdOf(signer.node, TRANSFER_TREE);
const none = { warn: () => expect.fail('there is nothing to warn of') };

function intentOf(number: number): TransferStarted {
  const transfer = parseTransferId(uuidFrom(number, new Uint8Array(16)));
  const tree = 'images' as TreeName;
  return {
    type: 'transfer.started',
    transfer,
    role: 'sender',
    peer: signerOf(2).node,
    tree,
    held: [],
    heldBelow: [],
    targets: [],
    resumable: [],
  };
}

const opened = (log: Log) => History.open({ log, signer, now: () => 1_800_000_000_000 });

/** A log whose journal holds three open intents. */
async function journalLog(): Promise<Log> {
  const log = new MemoryLog();
  const journal = await TransferJournal.open(await opened(log), none.warn);
  for (const number of [1, 2, 3]) await journal.start(intentOf(number));
  return log;
}

describe('A journal of transfers', () => {
  it('knows after a crash what was open', async () => {
    const journal = await TransferJournal.open(await opened(await journalLog()), none.warn);
    expect(journal.unfinished()).toMatchObject([intentOf(1), intentOf(2), intentOf(3)]);
  });

  it('reads what an earlier version wrote, which had fewer fields', async () => {
    const log = new MemoryLog();
    const { heldBelow: _heldBelow, resumable: _resumable, ...earlier } = intentOf(1);
    await (await opened(log)).record(TRANSFER_TREE, 'command', [earlier as TransferStarted]);
    const journal = await TransferJournal.open(await opened(log), none.warn);
    expect(journal.unfinished()).toMatchObject([{ ...intentOf(1), heldBelow: [], resumable: [] }]);
  });

  it.each([2, 'head'] as const)('begins anew when it is damaged (%s), and says what may be left', async (at) => {
    const history = await opened(damaged(await journalLog(), stream, at));
    const warn = vi.fn();
    const journal = await TransferJournal.open(history, warn);
    expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringContaining(`"pando:${signer.node}:"`));
    expect(history.faults()).toEqual([]);
    expect(journal.unfinished()).toEqual([]);
    await journal.start(intentOf(4));
    const again = await TransferJournal.open(history, none.warn);
    expect(again.unfinished()).toMatchObject([intentOf(4)]);
  });

  it('that cannot begin anew refuses transfers, and keeps nothing else from going on', async () => {
    const log = damaged(await journalLog(), stream, 2);
    const refuse = async () => {
      throw corrupt({ stream, seq: 0, expected: 'rows as they were written', found: 'something else' });
    };
    const unmendable = new Proxy(log, {
      get: (target, name: keyof Log) => (name === 'reset' ? refuse : target[name].bind(target)),
    });
    const history = await opened(unmendable);
    const journal = await TransferJournal.open(history, none.warn);
    expect(history.faults()).toMatchObject([{ stream }]);
    await expect(journal.start(intentOf(4))).rejects.toMatchObject({ code: 'LOG_CORRUPT' });
    await history.record('images' as TreeName, 'command', smallTree(1));
  });
});
