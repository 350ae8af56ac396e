/** `npm run sim`: simulates many worlds, each from a seed, and tells which invariants were violated and how to see that again. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { type SimulationOptions, type SimulationResult, simulate } from './simulation.ts';
import type { WorkerMessage } from './worker-process.ts';

const WORKER_PROCESS = fileURLToPath(new URL('./worker-process.js', import.meta.url));
/** Seeds are 32-bit numbers. */
const SEED_VALUES = 2 ** 32;
/** How often it is told how far things are, in ms. */
const PROGRESS_MS = 10_000;
/** A simulation that takes longer, in ms, hangs: it usually takes a hundredth of that. */
const HANGS_AFTER_MS = 120_000;
/**
 * How V8 runs in a worker: on one core, since compiling and collecting beside it costs more in all, and other cores have workers of their own; with
 * 64 MiB for what is new, since most of it is dropped within a few events.
 */
const WORKER_FLAGS: readonly string[] = ['--single-threaded', '--min-semi-space-size=64', '--max-semi-space-size=64'];
/** Worlds in which things go wrong are full of errors. Whoever replays one seed sees where each was made. */
const WITHOUT_STACKS = '--stack-trace-limit=0';
/** Violations of one seed that are printed. */
const VIOLATIONS_SHOWN = 10;

interface Options {
  readonly seeds: number;
  readonly nodes: number;
  readonly seed: number;
  readonly events: number;
  readonly jobs: number;
  readonly trace: boolean;
}

function count(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError('It has to be a whole number from 1 on.');
}

function seedNumber(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 0 && value < SEED_VALUES) return value;
  throw new InvalidArgumentError(`It has to be a whole number from 0 to ${SEED_VALUES - 1}.`);
}

function parseOptions(): Options {
  return new Command('npm run sim --')
    .description('Simulates worlds of nodes in which everything goes wrong, and checks the invariants of the design.')
    .option('--seeds <number>', 'worlds to simulate, with one seed after the other', count, 100)
    .option('--nodes <number>', 'nodes in each world', count, 10)
    .option('--seed <number>', 'the first seed; by default any', seedNumber, randomInt(SEED_VALUES))
    .option('--events <number>', 'events in each world, at least, while things go wrong', count, 2_000)
    .option('--jobs <number>', 'processes that simulate side by side', count, 1)
    .option('--trace', 'print every event of the first seed instead', false)
    .parse()
    .opts<Options>();
}

/** What came of all seeds. */
class Tally {
  readonly #options: Options;
  readonly #begin = performance.now();
  readonly #failed: number[] = [];
  #seeds = 0;
  #events = 0;
  #logEvents = 0;
  #cpuSeconds = 0;

  constructor(options: Options) {
    this.#options = options;
  }

  get hasFailed(): boolean {
    return this.#failed.length > 0;
  }

  add(message: WorkerMessage): void {
    this.#seeds += 1;
    if ('failure' in message) {
      this.#fail(message.seed, [message.failure]);
      return;
    }
    const { result, cpuSeconds } = message;
    this.#events += result.events;
    this.#logEvents += result.logEvents;
    this.#cpuSeconds += cpuSeconds;
    if (result.violations.length > 0) this.#fail(result.seed, describe(result));
  }

  progress(): string {
    const { seeds } = this.#options;
    const speed = Math.round(this.#events / Math.max(this.#cpuSeconds, 1e-3));
    return `${this.#seeds} of ${seeds} seeds, ${this.#failed.length} failed, ${speed} events for each second of processor time`;
  }

  summary(): string {
    const seconds = (performance.now() - this.#begin) / 1000;
    return [
      `${this.progress()}: ${this.#events} events (beside ${this.#logEvents} in logs) with ${this.#options.nodes} nodes each in ${seconds.toFixed(1)} s`,
      ...this.#failed.map((seed) => `  failed: ${replay(this.#options, seed)}`),
    ].join('\n');
  }

  #fail(seed: number, what: readonly string[]): void {
    this.#failed.push(seed);
    const more = what.length - VIOLATIONS_SHOWN;
    const shown = [...what.slice(0, VIOLATIONS_SHOWN), ...(more > 0 ? [`… and ${more} more`] : [])];
    say([`Seed ${seed}:`, ...shown.map((line) => `  ${line}`), `  again: ${replay(this.#options, seed)}`].join('\n'));
  }
}

function describe({ violations, topology, faults, hostile, digest }: SimulationResult): string[] {
  const harm = hostile === null ? '' : `, ${hostile} in wrong hands`;
  return [
    `a ${topology} with ${faults.join(', ') || 'no faults'}${harm}; digest ${digest}`,
    ...violations.map(({ invariant, machine, what }) => `invariant ${invariant} on ${machine}: ${what}`),
  ];
}

function replay({ nodes, events }: Options, seed: number): string {
  return `npm run sim -- --seeds 1 --seed ${seed} --nodes ${nodes} --events ${events}`;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Has workers simulate side by side, each one seed at a time, until all are done. */
async function simulateAll({ seeds, seed: first, nodes, events, jobs }: Options, tally: Tally): Promise<void> {
  const left = function* (): Generator<SimulationOptions> {
    for (let index = 0; index < seeds; index += 1) yield { seed: (first + index) % SEED_VALUES, nodes, events };
  };
  const tasks = left();
  const flags = seeds === 1 ? WORKER_FLAGS : [...WORKER_FLAGS, WITHOUT_STACKS];
  await Promise.all(Array.from({ length: Math.min(jobs, seeds) }, () => work(tasks, flags, tally)));
}

/** One worker after the other: whoever hangs is ended, and another goes on with the next seed. */
async function work(tasks: Iterator<SimulationOptions>, execArgv: readonly string[], tally: Tally): Promise<void> {
  let worker: ChildProcess | null = null;
  for (let task = tasks.next(); task.done !== true; task = tasks.next()) {
    worker ??= fork(WORKER_PROCESS, { execArgv: [...execArgv] });
    const message = await answerOf(worker, task.value);
    tally.add(message);
    if ('failure' in message) {
      worker.kill('SIGKILL');
      worker = null;
    }
  }
  worker?.disconnect();
}

function answerOf(worker: ChildProcess, task: SimulationOptions): Promise<WorkerMessage> {
  const { seed } = task;
  return new Promise((resolve) => {
    const fail = (failure: string): void => settle({ seed, failure });
    const hangs = setTimeout(
      () => fail(`It still runs after ${HANGS_AFTER_MS / 1000} s: a node hangs.`),
      HANGS_AFTER_MS,
    );
    const exit = (code: number | null): void => fail(`The process ended with ${code}.`);
    const settle = (message: WorkerMessage): void => {
      clearTimeout(hangs);
      worker.off('message', settle).off('exit', exit);
      resolve(message);
    };
    worker.once('message', settle).once('exit', exit);
    worker.send(task);
  });
}

const options = parseOptions();
if (options.trace) {
  const { seed, nodes, events } = options;
  const result = await simulate({ seed, nodes, events, say });
  say(describe(result).join('\n'));
  process.exitCode = result.violations.length > 0 ? 1 : 0;
} else {
  const { seeds, seed, nodes } = options;
  say(`Simulating ${seeds} worlds of ${nodes} nodes from seed ${seed} on`);
  const tally = new Tally(options);
  const progress = setInterval(() => process.stderr.write(`${tally.progress()}\n`), PROGRESS_MS);
  await simulateAll(options, tally);
  clearInterval(progress);
  say(tally.summary());
  if (tally.hasFailed) process.exitCode = 1;
}
