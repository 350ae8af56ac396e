import type { DatasetName } from '../../../src/core/ids.ts';
import { TransferJournal } from '../../../src/transfer/journal.ts';
import { heldByPando } from '../../suites/held.ts';
import type { Machine } from '../machine.ts';
import type { Checker, Finding } from './checker.ts';

/** Invariant 6: no hold, no temporary dataset, no running stream and no open intent outlives what it was for. */
export const nothingLeft: Checker = {
  invariant: 6,
  async check({ machines }) {
    const found: Finding[] = [];
    for (const machine of machines) {
      const left = [...(await onDisk(machine)), ...streams(machine), ...(await inJournal(machine))];
      found.push(...left.map((what) => ({ machine: machine.name, what })));
    }
    return found;
  },
};

async function onDisk({ zfs, name: pool }: Machine): Promise<string[]> {
  const listed = await zfs.list(pool as DatasetName);
  const temporary = listed.filter(({ name }) => /\/(successor|pando)-/.test(name)).map(({ name }) => `${name} is left`);
  return [...temporary, ...(await heldByPando(zfs, listed)).map((hold) => `${hold} is left`)];
}

/** A pool with a running stream cannot be exported. */
function streams({ zfs, name }: Machine): string[] {
  try {
    zfs.exportPool(name);
  } catch {
    return ['a stream still runs'];
  }
  zfs.importPool(name);
  return [];
}

async function inJournal({ node }: Machine): Promise<string[]> {
  if (node === null) return [];
  const journal = await TransferJournal.open(node.history, () => undefined);
  return journal.unfinished().map(({ type, transfer }) => `${type} ${transfer} has no end`);
}
