/** Runs one simulation after the other in a process of its own, as it is told by the one that forked it. */
import { type SimulationOptions, type SimulationResult, simulate } from './simulation.ts';

export type WorkerMessage =
  | { readonly result: SimulationResult; readonly cpuSeconds: number }
  | { readonly seed: number; readonly failure: string };

const MICROSECONDS_PER_SECOND = 1e6;

process.on('message', (options: SimulationOptions) => {
  const begin = process.cpuUsage();
  simulate(options).then(
    (result) => tell({ result, cpuSeconds: cpuSecondsSince(begin) }),
    (error: unknown) => tell({ seed: options.seed, failure: error instanceof Error ? `${error.stack}` : `${error}` }),
  );
});

function cpuSecondsSince(begin: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / MICROSECONDS_PER_SECOND;
}

function tell(message: WorkerMessage): void {
  process.send?.(message);
}
