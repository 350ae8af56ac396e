import { type DatasetName, type HoldTag, holdTagOf } from '../../../src/core/ids.ts';
import { TransferJournal } from '../../../src/transfer/journal.ts';
import { heldByPando } from '../../suites/held.ts';
import type { Machine } from '../machine.ts';
import type { World } from '../world.ts';
import type { Checker, Finding } from './checker.ts';

/**
 * Invariant 6: no hold, no temporary dataset, no running stream and no open intent outlives what it was for. What a peer in wrong hands left in the middle waits
 * for it to go on: one transfer of each tree to it, with its holds, and whatever of its streams was cut short.
 */
export const nothingLeft: Checker = {
  invariant: 6,
  async check(world) {
    const found: Finding[] = [];
    for (const machine of world.honest) {
      const { left, awaited } = await inJournal(machine, world);
      const all = [...(await onDisk(machine, awaited)), ...streams(machine), ...left];
      found.push(...all.map((what) => ({ machine: machine.name, what })));
    }
    return found;
  },
};

async function onDisk({ zfs, name: pool }: Machine, awaited: ReadonlySet<HoldTag>): Promise<string[]> {
  const listed = await zfs.list(pool as DatasetName);
  const temporary = listed.filter(({ name }) => /\/pando-|-successor$/.test(name));
  const held = (await heldByPando(zfs, listed)).filter(({ tag }) => !awaited.has(tag));
  return [
    ...temporary.map(({ name }) => `${name} is left`),
    ...held.map(({ snapshot, tag }) => `${snapshot} is held under ${tag}`),
  ];
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

async function inJournal({ node, id }: Machine, { hostile }: World) {
  const left: string[] = [];
  const awaited = new Set<HoldTag>();
  const kept = new Set<string>();
  const journal = node === null ? null : await TransferJournal.open(node.history, () => undefined);
  for (const intent of journal?.unfinished() ?? []) {
    const isHostiles = 'peer' in intent && intent.peer === hostile?.id;
    const isKept = intent.type === 'transfer.started' && intent.role === 'sender' && !kept.has(intent.tree);
    if (isHostiles && (isKept || intent.type === 'receive.interrupted')) awaited.add(holdTagOf(id, intent.transfer));
    else left.push(`${intent.type} ${intent.transfer} has no end`);
    if (isHostiles && isKept) kept.add(intent.tree);
  }
  return { left, awaited };
}
