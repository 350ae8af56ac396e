import { beforeEach, expect, test } from 'vitest';
import { ADMIN_TREE, type NodeId, type TreeName } from '../../src/core/ids.ts';
import { Refusals } from '../../src/features/peers/refusals.ts';
import { AdminJournal } from '../../src/log/admin-journal.ts';
import { History } from '../../src/log/history.ts';
import { MemoryLog } from '../../src/log/memory-log.ts';
import { signerOf } from '../log/identity.ts';

const HOUR_MS = 3_600_000;
const IMAGES = 'images' as TreeName;

let history: History;
let refusals: Refusals;
let now: number;

beforeEach(async () => {
  now = 0;
  history = await History.open({ log: new MemoryLog(), signer: signerOf(1), now: () => 0 });
  refusals = new Refusals(await AdminJournal.open(history), () => now);
});

async function told(): Promise<[NodeId | null, string, number][]> {
  await refusals.close();
  const found: [NodeId | null, string, number][] = [];
  for await (const events of history.events(history.ownStream(ADMIN_TREE), 1)) {
    for (const event of events)
      if (event.type === 'access.refused') found.push([event.peer, event.action, event.times]);
  }
  return found;
}

const peer = (number: number) => signerOf(number).node;
const read = (who: number, tree = IMAGES) => refusals.note({ peer: peer(who), action: 'read', tree });
const knock = (who: number) => refusals.note({ peer: peer(who), action: 'connect', tree: null });

test('the first refusal is told at once, those of the next hour together', async () => {
  for (let time = 0; time < 10; time += 1) read(2);
  now = HOUR_MS;
  read(2);
  expect(await told()).toEqual([
    [peer(2), 'read', 1],
    [peer(2), 'read', 9],
    [peer(2), 'read', 1],
  ]);
});

test('what was only counted is told when the node stops', async () => {
  for (let time = 0; time < 3; time += 1) read(2);
  expect(await told()).toEqual([
    [peer(2), 'read', 1],
    [peer(2), 'read', 2],
  ]);
});

test('a peer that asks for a thousand trees is told of by the first few, and all others together', async () => {
  for (let number = 0; number < 1_000; number += 1) read(2, `tree-${number}` as TreeName);
  const events = await told();
  expect(events.length).toBeLessThan(12);
  expect(events.reduce((sum, [, , times]) => sum + times, 0)).toBe(1_000);
});

test('a flood of strangers fills no log, and hides no peer', async () => {
  for (let number = 0; number < 200; number += 1) knock(10 + number);
  read(2);
  const events = await told();
  expect(events.length).toBeLessThan(40);
  expect(events.filter(([who]) => who === null).reduce((sum, [, , times]) => sum + times, 0)).toBe(200 - 32);
  expect(events).toContainEqual([peer(2), 'read', 1]);
});

test('strangers are told apart again once the others have been quiet for an hour', async () => {
  for (let time = 0; time < 2; time += 1) for (let number = 0; number < 50; number += 1) knock(10 + number);
  now = HOUR_MS;
  knock(500);
  expect((await told()).map(([who]) => who)).toContain(peer(500));
});
