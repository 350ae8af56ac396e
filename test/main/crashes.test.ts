/**
 * A node is gone between any two effects on its ZFS or its log, at either end, in the middle of following whatever happened: the next start ends in the old
 * state or the new one, and the syncs after it bring the rest (invariants 1, 5 and 6).
 */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isPandoError, PandoError } from '../../src/core/errors.ts';
import type { SnapshotGuid } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { isPlaceholder } from '../../src/core/plan/steps.ts';
import type { SyncReport } from '../../src/features/mirrors/mirror-syncs.ts';
import { TransferJournal } from '../../src/transfer/journal.ts';
import type { ReceiveSource, SendTarget } from '../../src/zfs/zfs.ts';
import { type Action, arbitraryHistory } from '../core/forest.ts';
import { Gardener } from '../suites/gardener.ts';
import { heldByPando } from '../suites/held.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

/** Runs of the property; PANDO_TEST_RUNS asks for more. */
const RUNS = Number(process.env.PANDO_TEST_RUNS ?? 20);
/** A run that takes longer, in ms, hangs: it usually takes a hundredth of that. */
const HANGS_AFTER_MS = 20_000;
/** What fails is told of after this time, in ms, however far it has shrunk: before the test itself runs out of time, with no seed to see. */
const TOLD_AFTER_MS = 60_000;
/** Methods that change nothing: a crash before or after one is the same. */
const READING = new Set([
  ...['list', 'listOnly', 'listSnapshots', 'changeToken', 'capabilities', 'pools', 'holds'],
  ...['streams', 'head', 'read', 'checkpoint', 'oldest', 'verify', 'faults'],
]);

const COPY = dataset('beta/copy');
/** Connections that may end before one stands. */
const CONNECTIONS_MAX = 5;

/** When a node is gone: at which of its effects, and whether that one still happened. */
interface Crash {
  readonly who: 'alpha' | 'beta';
  readonly effect: number;
  readonly happened: boolean;
}

/** Counts effects, and lets none happen any more from the one on at which the node is gone. */
class Fate {
  readonly #crash: Crash;
  #effects = 0;

  constructor(crash: Crash) {
    this.#crash = crash;
  }

  over<Adapter extends object>(adapter: Adapter): Adapter {
    return new Proxy(adapter, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        if (READING.has(String(name)) || name === 'close') return value.bind(target);
        return (...given: unknown[]) => {
          const done = this.#effect(() => Reflect.apply(value, target, given));
          // With a node its connections go
          return done instanceof Promise ? done.catch((error: unknown) => breakOff(given, error)) : done;
        };
      },
    });
  }

  #effect(act: () => unknown): unknown {
    this.#effects += 1;
    if (this.#effects < this.#crash.effect) return act();
    if (this.#effects > this.#crash.effect || !this.#crash.happened) return Promise.reject(gone());
    return Promise.resolve(act()).then(() => Promise.reject(gone()));
  }
}

function breakOff(given: readonly unknown[], error: unknown): never {
  for (const end of given as readonly (Partial<SendTarget & ReceiveSource> | undefined)[]) {
    if (end?.kind === 'stream') end.stream?.destroy();
  }
  throw error;
}

function gone(): PandoError {
  return new PandoError('ZFS_UNAVAILABLE', 'This node is gone.');
}

const crashes: fc.Arbitrary<Crash> = fc.record({
  who: fc.constantFrom('alpha', 'beta', 'beta'),
  effect: fc.integer({ min: 1, max: 40 }),
  happened: fc.boolean(),
});

describe('a crash', () => {
  let world: MemoryWorld;
  let nodes: { alpha: WorldNode; beta: WorldNode };

  const begin = async () => {
    world = new MemoryWorld();
    nodes = { alpha: await world.start('alpha'), beta: await world.start('beta') };
    const { alpha, beta } = nodes;
    await alpha.zfs.create(dataset('alpha/images'));
    await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
    await introduce(alpha, beta);
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: COPY, ...EVERYTHING });
  };

  beforeEach(begin);
  afterEach(() => world.stop());

  /** The node with a fate, and then again without. */
  async function restart(who: Crash['who'], healthy: WorldNode, fate: Fate | null): Promise<void> {
    await nodes[who].node.stop().catch(() => undefined);
    const { zfs, log } = healthy;
    const adapters = fate === null ? { zfs, log } : { zfs: fate.over(zfs), log: fate.over(log) };
    nodes[who] = await world.start(who, { ...healthy, ...adapters });
  }

  /** The connection that the node had before it was gone may still be on its way out. */
  async function syncOnceConnected(): Promise<SyncReport> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await syncImages(nodes.beta);
      } catch (error) {
        if (!isPandoError(error, 'CONNECTION_CLOSED') || attempt === CONNECTIONS_MAX) throw error;
      }
    }
  }

  async function guidsOf(who: Crash['who']): Promise<Set<SnapshotGuid>> {
    const listed = await nodes[who].zfs.list(dataset(who));
    return new Set(listed.flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid)));
  }

  async function expectNothingLeft(): Promise<void> {
    for (const who of ['alpha', 'beta'] as const) {
      const { zfs, node } = nodes[who];
      const listed = await zfs.list(dataset(who));
      expect(listed.filter(({ name }) => /\/(successor|pando)-/.test(name))).toEqual([]);
      expect(await heldByPando(zfs, listed)).toEqual([]);
      expect((await TransferJournal.open(node.history, () => undefined)).unfinished()).toEqual([]);
    }
  }

  /** Somebody writes to the root of the replica, which has to be kept, and its owner goes on with that. */
  async function meddle(round: number): Promise<void> {
    const { alpha, beta } = nodes;
    const [root] = await beta.zfs.listOnly([COPY]);
    if (root === undefined || isPlaceholder(root)) return;
    await beta.zfs.setProperties([COPY], { readonly: 'off' });
    beta.zfs.write(COPY, 'mine', `round ${round}`);
    if (round % 2 === 0) await beta.zfs.snapshot([at(COPY, `mine-${round}`)]);
    await alpha.zfs.snapshot([at('alpha/images', `after-${round}`)]);
  }

  async function survives(rounds: readonly (readonly [Action[], Crash, boolean])[]): Promise<void> {
    for (const [round, [history, crash, isMeddled]] of rounds.entries()) {
      if (isMeddled) await meddle(round);
      const write = async (name: string, path: string, text: string) => nodes.alpha.zfs.write(name, path, text);
      await new Gardener({ zfs: nodes.alpha.zfs, root: dataset('alpha/images'), write }).live(history);
      const before = await guidsOf('beta');
      const healthy = nodes[crash.who];
      // A node that is gone before it has started is none of this
      const started = await restart(crash.who, healthy, new Fate(crash)).then(
        () => true,
        () => false,
      );
      if (started) await syncImages(nodes.beta).catch(() => undefined);
      await restart(crash.who, healthy, null);
      for (let round = 1; round <= 2; round += 1) await syncOnceConnected();
      const { plan, steps } = await syncOnceConnected();
      expect(steps.filter(({ outcome }) => outcome.result !== 'done')).toEqual([]);
      expect(plan.conflicts.filter(({ reason }) => reason === 'root-diverged')).toEqual([]);
      const excused = new Set([...plan.conflicts, ...plan.waiting].map((one) => one.dataset));
      const differences = nodes.beta.node.mirrors.compare(IMAGES).filter((found) => {
        const isCopy = found.kind === 'origin' && found.actual === null;
        return !isCopy && !found.kind.endsWith('-extra') && !excused.has(found.dataset);
      });
      expect(differences).toEqual([]);
      const after = await guidsOf('beta');
      expect(
        [...before].filter((guid) => !after.has(guid)),
        'invariant 1: nothing is lost',
      ).toEqual([]);
      await expectNothingLeft();
    }
  }

  it('at any effect, at either end, costs nothing', async () => {
    await fc.assert(
      fc
        .asyncProperty(
          fc.array(fc.tuple(arbitraryHistory(20), crashes, fc.boolean()), { minLength: 1, maxLength: 3 }),
          survives,
        )
        .beforeEach(begin)
        .afterEach(() => world.stop()),
      { numRuns: RUNS, timeout: HANGS_AFTER_MS, interruptAfterTimeLimit: TOLD_AFTER_MS },
    );
  });
});
