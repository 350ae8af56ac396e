/**
 * One simulated world from its seed to its end: it is built, people and faults have their way with it, it heals, comes to rest, and is judged. The
 * same seed and options give the same run, event by event.
 */
import { boundedMemory } from './checkers/bounded-memory.ts';
import type { Checker } from './checkers/checker.ts';
import { convergence } from './checkers/convergence.ts';
import { logIsTruth } from './checkers/log-is-truth.ts';
import { nothingLeft } from './checkers/nothing-left.ts';
import { nothingLost } from './checkers/nothing-lost.ts';
import { oneOwner } from './checkers/one-owner.ts';
import { sameAgain } from './checkers/same-again.ts';
import { FAULTS, type Fault, Faults } from './faults.ts';
import { People } from './people.ts';
import { Random } from './random.ts';
import { Trace } from './trace.ts';
import { type Hostile, TOPOLOGIES, type Violation, World } from './world.ts';

/** For a world at rest; those behind it for one in which everybody was asked once more. */
const AT_REST: readonly Checker[] = [nothingLost, logIsTruth, nothingLeft, boundedMemory];
const ASKED_AGAIN: readonly Checker[] = [sameAgain, convergence, oneOwner, nothingLost, nothingLeft];

export interface SimulationOptions {
  readonly seed: number;
  readonly nodes: number;
  /** Events, at least, while people and faults are at work; building and healing come on top. */
  readonly events: number;
  /** Takes a line for each event. */
  readonly say?: (line: string) => void;
}

export interface SimulationResult {
  readonly seed: number;
  readonly topology: string;
  readonly faults: readonly Fault[];
  /** The machine whose node fell into wrong hands, null where none did. */
  readonly hostile: string | null;
  /** Messages, timers, effects on a ZFS or a log, faults, and what people did: everything that the scheduler let happen. */
  readonly events: number;
  /** Events that were appended to logs, those of followed streams included. */
  readonly logEvents: number;
  readonly virtualMs: number;
  readonly digest: string;
  readonly violations: readonly Violation[];
}

/** On average between two things that one node's people do, in ms, and between two that go wrong with it. */
const ACT_EVERY_MS = 8_000;
const MEDDLE_EVERY_MS = 60_000;
const FAULT_EVERY_MS = 60_000;
/** On average between two counts of what a node has, in ms: what is gone by then must have been destroyed by hand. */
const COUNT_EVERY_MS = 15_000;
/** On average between two things that a node in wrong hands does to its disk and its log, in ms; and in how many worlds there is one. */
const HARM_EVERY_MS = 15_000;
const HOSTILE_SHARE = 0.25;
/** In how many worlds without such a node mirrors keep and take only a part, and what their chance begins with beside the seed. */
const RULES_SHARE = 0.3;
const RULES_SALT = 0x72756c65;
/** Of the kinds of faults, how many a world has; and how many worlds have people who meddle with replicas. */
const FAULTS_SHARE = 0.4;
const MEDDLING_SHARE = 0.3;
/** A world is at rest when nothing was written for this time, in ms: longer than any wait before something is tried again. */
const REST_MS = 75_000;
/** A world that has not come to rest after this time, in ms, never will. */
const RESTLESS_MS = 3_600_000;

export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { world, ...course } = await liveThrough(options);
  return {
    ...course,
    seed: options.seed,
    events: world.scheduler.events,
    logEvents: sum(world, ({ log }) => log.eventsAppended),
    hostile: world.hostile?.name ?? null,
    virtualMs: world.scheduler.now(),
    digest: world.trace.digest,
    violations: world.violations,
  };
}

/** The world as it is in the end, judged, for whoever wants to look around in it. */
export async function liveThrough({ seed, nodes, events, say }: SimulationOptions) {
  const random = new Random(seed);
  const trace = new Trace(say ?? null);
  const topology = random.pick(TOPOLOGIES);
  const hostile = pickHostile(new Random(~seed), nodes);
  const rules = pickRules(new Random(seed ^ RULES_SALT));
  const world = new World(random.fork(), trace, nodes, { hostile, rules: hostile === null ? rules : null });
  const faults = FAULTS.filter(() => random.chance(FAULTS_SHARE));
  const unwatch = watchProcess(world);
  try {
    await world.build(topology);
    await live(world, random, { events, faults, meddling: random.chance(MEDDLING_SHARE) });
    if (await comeToRest(world)) await judge(world);
  } finally {
    unwatch();
  }
  return { world, topology, faults };
}

/** From chance of its own, so that all else goes as it would without. */
function pickHostile(random: Random, nodes: number): Hostile | null {
  if (nodes < 2 || !random.chance(HOSTILE_SHARE)) return null;
  return { index: random.below(nodes), random };
}

/** From chance of its own as well. Where a node is in wrong hands, nobody lets it make others give up what they keep. */
function pickRules(random: Random): Random | null {
  return random.chance(RULES_SHARE) ? random : null;
}

/** Whatever nobody caught would have ended a real node (invariant 7). */
function watchProcess({ violations }: World): () => void {
  const accuse = (error: unknown): void => {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    violations.push({ invariant: 7, machine: 'some node', what });
  };
  process.on('unhandledRejection', accuse).on('uncaughtException', accuse).on('warning', accuse);
  return () => {
    process.off('unhandledRejection', accuse).off('uncaughtException', accuse).off('warning', accuse);
  };
}

/** People and faults do what they do until there were that many events, then all faults end. */
async function live(
  world: World,
  random: Random,
  plan: { readonly events: number; readonly faults: readonly Fault[]; readonly meddling: boolean },
): Promise<void> {
  const { scheduler } = world;
  const people = new People(world, random.fork());
  const faults = new Faults(world, random.fork());
  const chance = random.fork();
  let isOver = false;
  const failures: unknown[] = [];
  const again = (everyMs: number, act: () => void | Promise<void>): void => {
    scheduler.after((-Math.log(1 - chance.fraction()) * everyMs) / world.machines.length, () => {
      if (isOver) return;
      Promise.resolve(act()).catch((error: unknown) => failures.push(error));
      again(everyMs, act);
    });
  };
  again(ACT_EVERY_MS, () => people.work());
  again(COUNT_EVERY_MS, () => world.countGuids(chance.pick(world.machines)));
  if (plan.meddling) again(MEDDLE_EVERY_MS, () => people.meddle());
  const { hostile } = world;
  if (hostile !== undefined) {
    again(HARM_EVERY_MS * world.machines.length, () => hostile.hostility?.act(hostile));
  }
  if (plan.faults.length > 0) again(FAULT_EVERY_MS, () => faults.strike(chance.pick(plan.faults)));
  const end = scheduler.events + plan.events;
  await scheduler.run(() => scheduler.events >= end || failures.length > 0);
  isOver = true;
  if (failures.length > 0) throw failures[0];
  world.trace.note(scheduler.now(), 'world', 'heal');
  hostile?.retire();
  await scheduler.until(faults.heal());
  for (const machine of world.machines) await world.countGuids(machine);
}

/** Whether it did. */
async function comeToRest(world: World): Promise<boolean> {
  const { scheduler } = world;
  const begin = scheduler.now();
  let writes = -1;
  let since = begin;
  const look = (): boolean => {
    const now = sum(world, ({ log }) => log.writes);
    if (now !== writes) since = scheduler.now();
    writes = now;
    return scheduler.now() - since >= REST_MS;
  };
  let nextLook = begin;
  let isAtRest = false;
  await scheduler.run(() => {
    if (scheduler.now() >= nextLook) {
      nextLook = scheduler.now() + 1_000;
      isAtRest = look();
    }
    return isAtRest || scheduler.now() - begin > RESTLESS_MS;
  });
  if (!isAtRest) world.violations.push({ invariant: 3, machine: 'world', what: 'it does not come to rest' });
  return isAtRest;
}

async function judge(world: World): Promise<void> {
  await report(world, AT_REST);
  await world.syncAll();
  await report(world, ASKED_AGAIN);
}

async function report(world: World, checkers: readonly Checker[]): Promise<void> {
  for (const { invariant, check } of checkers) {
    for (const finding of await check(world)) world.violations.push({ invariant, ...finding });
  }
}

function sum(world: World, of: (machine: World['machines'][number]) => number): number {
  return world.machines.reduce((total, machine) => total + of(machine), 0);
}
