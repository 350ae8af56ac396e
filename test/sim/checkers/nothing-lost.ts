import type { DatasetName, SnapshotGuid } from '../../../src/core/ids.ts';
import type { Machine } from '../machine.ts';
import type { Checker, Finding } from './checker.ts';

/** Invariant 1: no snapshot is gone from a machine that was not destroyed there by hand, and each has the same files wherever it is. */
export const nothingLost: Checker = {
  invariant: 1,
  async check({ honest }) {
    const found: Finding[] = [];
    const files = new Map<SnapshotGuid, { readonly text: string; readonly machine: string }>();
    for (const machine of honest) {
      for (const guid of await machine.guids.missing()) {
        found.push({ machine: machine.name, what: `snapshot ${guid} is gone` });
      }
      for (const { guid, name, text } of await contentsOf(machine)) {
        const first = files.get(guid);
        if (first === undefined) files.set(guid, { text, machine: machine.name });
        else if (first.text !== text) {
          found.push({
            machine: machine.name,
            what: `${name} has other files than the same snapshot on ${first.machine}`,
          });
        }
      }
    }
    return found;
  },
};

async function contentsOf({ zfs, name: pool }: Machine) {
  const listed = await zfs.list(pool as DatasetName);
  return listed.flatMap(({ name: dataset, snapshots }) =>
    snapshots.map(({ guid, name: snapshot }) => ({
      guid,
      name: `${dataset}@${snapshot}`,
      text: JSON.stringify(Object.entries(zfs.contentsOf({ dataset, snapshot })).sort()),
    })),
  );
}
