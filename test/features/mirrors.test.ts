import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import { DEFAULT_ALLOWANCE } from '../../src/core/plan/allowance.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { DepartureJournal } from '../../src/features/mirrors/departure-journal.ts';
import { Mirrors } from '../../src/features/mirrors/mirrors.ts';
import { AdminJournal } from '../../src/log/admin-journal.ts';
import { systemTimers } from '../../src/sync/timers.ts';
import {
  at,
  codeOf,
  dataset,
  gate,
  IMAGES,
  introduce,
  MemoryWorld,
  syncImages,
  type WorldNode,
} from '../main/memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
/** Runs before each command of beta's ZFS. */
let onCommand: (command: readonly string[]) => void | Promise<void>;

beforeEach(async () => {
  onCommand = () => undefined;
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta', undefined, { onCommand: (command) => onCommand(command) });
  await introduce(alpha, beta);
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/base'));
  await alpha.zfs.snapshot([at('alpha/images', '1'), at('alpha/images/base', '1')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await beta.node.mirrors.add(mirror());
});

afterEach(() => world.stop());

function mirror() {
  return { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING };
}

function copy() {
  return beta.node.trees.graph(IMAGES).sorted();
}

/** A few turns of the event loop: enough for whatever is not kept from it to go on. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe('a mirror that is removed and added again', () => {
  it('knows its replica at once, with its ids and owners, whatever ZFS told before', async () => {
    await syncImages(beta);
    await beta.node.verifier.verify(IMAGES);
    await beta.node.verifier.verify(IMAGES);
    const before = copy();
    await beta.node.mirrors.remove(IMAGES);
    await beta.node.mirrors.add(mirror());
    expect(copy()).toEqual(before);
    expect((await syncImages(beta)).steps).toEqual([]);
  });

  it('takes its replica for the peer’s also where nothing is known of the peer any more', async () => {
    await syncImages(beta);
    await beta.node.mirrors.remove(IMAGES);
    await alpha.node.stop();
    await beta.node.history.forget(`${alpha.node.id}/${IMAGES}` as never);
    await beta.node.mirrors.add(mirror());
    expect(new Set(copy().map(({ owner }) => owner.node))).toEqual(new Set([alpha.node.id]));
  });

  it('is not synced before it was looked at, by whoever hears of it first', async () => {
    await syncImages(beta);
    await beta.node.mirrors.remove(IMAGES);
    let early: ReturnType<typeof syncImages> | undefined;
    onCommand = async (command) => {
      if (early !== undefined || !command.includes('snapshots_changed')) return;
      early = syncImages(beta);
      await turns();
    };
    await beta.node.mirrors.add(mirror());
    expect((await early)?.steps).toEqual([]);
  });
});

describe('adding a mirror that there is', () => {
  it('is refused at once, though it is being synced', async () => {
    const [reached, go] = [gate(), gate()];
    onCommand = async (command) => {
      if (!command.includes('receive')) return;
      reached.open();
      await go.opened;
    };
    const running = syncImages(beta);
    await reached.opened;
    expect(await codeOf(beta.node.mirrors.add(mirror()))).toBe('MIRROR_EXISTS');
    go.open();
    await running;
  });
});

describe('removing a mirror', () => {
  it('ends the sync that runs and those that wait, and runs none of them later', async () => {
    const [reached, go] = [gate(), gate()];
    let receives = 0;
    onCommand = async (command) => {
      if (!command.includes('receive')) return;
      receives += 1;
      reached.open();
      await go.opened;
    };
    const running = syncImages(beta);
    await reached.opened;
    const waiting = codeOf(syncImages(beta));
    const removed = beta.node.mirrors.remove(IMAGES);
    go.open();
    await removed;
    const { steps } = await running;
    expect(steps.map(({ outcome }) => outcome.result)).not.toContain('done');
    expect(['TRANSFER_CANCELLED', 'MIRROR_UNKNOWN']).toContain(await waiting);
    expect(receives).toBe(1);
    expect(await beta.zfs.listOnly([dataset('beta/copy')])).toEqual([]);
  });
});

describe('a peer that is connected but does not answer', () => {
  it('ends a sync with PROTOCOL_TIMEOUT, and the next one is not kept from asking', async () => {
    let asked = 0;
    const { history } = beta.node;
    const mirrors = new Mirrors({
      history,
      admin: await AdminJournal.open(history),
      departures: await DepartureJournal.open(history, systemTimers),
      zfs: beta.zfs,
      allowance: DEFAULT_ALLOWANCE,
      onLimited: () => undefined,
      onRefused: () => undefined,
      announce: async () => undefined,
      retract: async () => undefined,
      catchUp: () => {
        asked += 1;
        return new Promise(() => undefined);
      },
      timers: systemTimers,
      answerMsMax: 1,
      interrupted: async () => null,
      pull: async () => ({ steps: [], bytes: 0 }),
      linkMode: () => 'sealed',
      look: async () => undefined,
      settle: async () => undefined,
    });
    const quiet = { refresh: false, onPlan: () => undefined, onProgress: () => undefined };
    const { signal } = new AbortController();
    expect(await codeOf(mirrors.sync(IMAGES, { ...quiet, signal }))).toBe('PROTOCOL_TIMEOUT');
    expect(await codeOf(mirrors.sync(IMAGES, { ...quiet, signal }))).toBe('PROTOCOL_TIMEOUT');
    expect(asked).toBe(2);
  });
});

describe('a cancelled sync', () => {
  it('says why, where whoever cancelled it did', async () => {
    const cancel = new AbortController();
    cancel.abort(new PandoError('DAEMON_UNREACHABLE', 'The node was told to stop.'));
    expect(await codeOf(syncImages(beta, { signal: cancel.signal }))).toBe('DAEMON_UNREACHABLE');
  });
});

describe('a look that does not find something', () => {
  it('is no proof that the replica is gone while its root is there', async () => {
    await syncImages(beta);
    await alpha.zfs.snapshot([at('alpha/images/base', '2')]);
    const before = copy();
    const watched = {
      tree: IMAGES,
      root: dataset('beta/copy'),
      ownerOf: () => ({ node: alpha.node.id, epoch: 1 }),
      saidOwnerOf: () => undefined,
      claims: () => () => undefined,
      atOwner: () => new Set<never>(),
      heard: () => null,
      mayBeAbsent: true,
    };
    beta.zfs.list = async () => {
      throw new PandoError('ZFS_NOT_FOUND', 'beta/copy/base: dataset does not exist');
    };
    expect(await codeOf(beta.node.observer.look(watched))).toBe('ZFS_NOT_FOUND');
    expect(copy()).toEqual(before);
  });
});
