/**
 * A node that fell into wrong hands. It has its key, its pool, and the trust that its peers put in it; it runs Pando, with everything in between that an
 * attacker would put there: what it says, what it sends and what it tells of its disk are not what they should be, and on its disk nothing stays as it was.
 */
import type { Signer } from '../../../src/core/codec/chain.ts';
import { isPandoError } from '../../../src/core/errors.ts';
import type { TreeEventBody } from '../../../src/core/events.ts';
import type { DatasetName } from '../../../src/core/ids.ts';
import type { Transport } from '../../../src/sync/transport.ts';
import type { Zfs } from '../../../src/zfs/zfs.ts';
import type { Action } from '../../core/forest.ts';
import { Gardener } from '../../suites/gardener.ts';
import type { Machine } from '../machine.ts';
import type { Random } from '../random.ts';
import { ForgedLogs } from './forged-logs.ts';
import { hostileTransport } from './hostile-connection.ts';
import { hostileZfs } from './hostile-zfs.ts';

/** What it does to datasets, and how often at a time. */
const WRECKING: readonly Action['kind'][] = [
  'destroy',
  'destroy-snapshot',
  'rename',
  'rename-snapshot',
  'promote',
  'rollback',
  'swap',
  'move',
  'clone',
  'snapshot',
];
const WRECKED_AT_ONCE = 20;
/** How much of what it does in the trades that it has is harm, from 0 to 1; and how often it has a trade: whom everybody hangs up on harms nobody. */
const HARM: Habits = { nonsense: 0.03, lies: 0.15, streams: 0.4, times: 0.3 };
const HAVING_HABIT = 0.6;
/** Numbers that pick what something is done to. */
const PICKS = 1_000;

/** How often it says something else than it should, tells a peer a history of its own, sends another stream, and forges the time of a snapshot. */
export interface Habits {
  readonly nonsense: number;
  readonly lies: number;
  readonly streams: number;
  readonly times: number;
}

export class Hostility {
  /** Chance for all that concerns it. */
  readonly random: Random;
  readonly #signer: Signer;
  readonly #habits: Habits;
  readonly #logs: ForgedLogs;

  constructor(random: Random, signer: Signer) {
    const rate = (most: number): number => (random.chance(HAVING_HABIT) ? most : 0);
    const { nonsense, lies, streams, times } = HARM;
    this.random = random;
    this.#signer = signer;
    this.#habits = { nonsense: rate(nonsense), lies: rate(lies), streams: rate(streams), times: rate(times) };
    this.#logs = new ForgedLogs(signer, random.fork(), this.#habits);
  }

  zfs(zfs: Zfs): Zfs {
    return hostileZfs(zfs, this.random.fork(), this.#habits);
  }

  transport(transport: Transport): Transport {
    const random = this.random.fork();
    return hostileTransport(transport, { signer: this.#signer, random, logs: this.#logs, habits: this.#habits });
  }

  /** Does harm to what the machine keeps, its own or not. */
  async act(machine: Machine): Promise<void> {
    const roots = [...machine.roots.values()];
    if (roots.length === 0) return;
    const root = this.random.pick(roots);
    try {
      if (this.random.chance(0.5)) await this.#claimAll(machine);
      else await this.#wreck(machine, root);
    } catch (error) {
      if (!isPandoError(error)) throw error;
    }
  }

  /** Says that all datasets of all its trees are its own, in whatever epoch. */
  async #claimAll({ node, id }: Machine): Promise<void> {
    for (const { tree } of node?.trees.list() ?? []) {
      const claims = Array.from(
        node?.trees.graph(tree).datasets.values() ?? [],
        ({ id: dataset, owner }): TreeEventBody => {
          return {
            type: 'ownership.claimed',
            dataset,
            owner: { node: id, epoch: owner.epoch + this.random.below(3) },
          };
        },
      );
      void node?.history.record(tree, 'command', claims).catch(() => undefined);
    }
  }

  async #wreck({ zfs }: Machine, root: DatasetName): Promise<void> {
    const history = Array.from({ length: WRECKED_AT_ONCE }, (): Action => {
      return { kind: this.random.pick(WRECKING), pick: this.random.below(PICKS), second: this.random.below(PICKS) };
    });
    const write = async (): Promise<void> => undefined;
    await new Gardener({ zfs, root, write }).live(history);
  }
}
