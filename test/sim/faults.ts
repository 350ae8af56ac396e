/** What goes wrong in a world: each world has some of these, each as often as its seed says. */
import { isPandoError } from '../../src/core/errors.ts';
import type { Machine } from './machine.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

export const FAULTS = [
  'crash',
  'stop',
  'cut',
  'interrupt',
  'stall',
  'slow',
  'duplicate',
  'skew',
  'export',
  'tear',
  'restore',
  'lose-log',
] as const;
export type Fault = (typeof FAULTS)[number];

/** Longest absence of a node, a link or a pool, in ms. */
const ABSENCE_MS_MAX = 45_000;
const YEAR_MS = 365 * 24 * 3_600_000;
/** By how much clocks are wrong at most, in ms. */
const SKEW_MS_MAX = 10 * YEAR_MS;
const SLOW_FACTOR_MAX = 400;

export class Faults {
  readonly #world: World;
  readonly #random: Random;
  /** What undoes what lasts, run when the world heals. */
  readonly #lasting = new Set<() => void>();

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
  }

  /** Lets something go wrong. What lasts ends by itself. */
  strike(fault: Fault): void {
    const { network } = this.#world;
    const machine = this.#random.pick(this.#world.machines);
    this.#world.trace.note(this.#world.scheduler.now(), machine.name, fault);
    switch (fault) {
      case 'crash':
        this.#crash(machine, async () => undefined);
        return;
      case 'stop':
        void machine.stop().then(() => this.#startLater(machine));
        return;
      case 'cut':
        this.#onLink((a, b) => {
          network.wires.cut(a.id, b.id);
          return () => network.wires.mend(a.id, b.id);
        });
        return;
      case 'interrupt':
        this.#onLink((a, b) => {
          network.interrupt(a.id, b.id);
          return () => undefined;
        });
        return;
      case 'stall':
        this.#onLink((a, b) => {
          network.wires.stall(a.id, b.id);
          return () => network.wires.mend(a.id, b.id);
        });
        return;
      case 'slow':
        this.#onLink((a, b) => {
          network.slowDown(a.id, b.id, this.#random.between(2, SLOW_FACTOR_MAX));
          return () => network.slowDown(a.id, b.id, 1);
        });
        return;
      case 'duplicate':
        network.duplicated = this.#random.fraction();
        return;
      case 'skew':
        machine.skewMs = this.#random.chance(0.3) ? 0 : this.#random.between(-SKEW_MS_MAX, SKEW_MS_MAX);
        return;
      case 'export':
        this.#exportPool(machine);
        return;
      case 'tear':
        this.#crash(machine, () => this.#loseWrites(machine, 1));
        return;
      case 'restore':
        this.#crash(machine, () => this.#loseWrites(machine, this.#random.below(machine.log.writes + 1)));
        return;
      case 'lose-log':
        this.#crash(machine, () => this.#loseWrites(machine, machine.log.writes));
    }
  }

  /** Ends everything that lasts, and brings all nodes back. */
  async heal(): Promise<void> {
    const { machines, network } = this.#world;
    for (const end of [...this.#lasting]) end();
    network.duplicated = 0;
    await Promise.all(machines.map((machine) => machine.start()));
  }

  #crash(machine: Machine, meanwhile: () => Promise<void>): void {
    machine.crash();
    void meanwhile().then(() => this.#startLater(machine));
  }

  #startLater(machine: Machine): void {
    this.#lastingly(() => void machine.start());
  }

  async #loseWrites(machine: Machine, count: number): Promise<void> {
    machine.hasForgotten = true;
    await machine.log.goBackTo(Math.max(0, machine.log.writes - count));
  }

  #onLink(begin: (a: Machine, b: Machine) => () => void): void {
    const links = this.#world.links();
    if (links.length === 0) return;
    const [a, b] = this.#random.pick(links);
    this.#lastingly(begin(a, b));
  }

  #exportPool({ name, zfs }: Machine): void {
    try {
      zfs.exportPool(name);
    } catch (error) {
      // A stream is running
      if (!isPandoError(error)) throw error;
      return;
    }
    this.#lastingly(() => zfs.importPool(name));
  }

  /** Has `end` run in a while, or when the world heals. */
  #lastingly(end: () => void): void {
    const endOnce = (): void => {
      if (this.#lasting.delete(endOnce)) end();
    };
    this.#lasting.add(endOnce);
    this.#world.scheduler.after(this.#random.between(0, ABSENCE_MS_MAX), endOnce);
  }
}
