/** Runs one simulation after the other in a process of its own, as it is told by the one that forked it. */
import { type SimulationOptions, type SimulationResult, simulate } from './simulation.ts';

export type WorkerMessage =
  | { readonly result: SimulationResult; readonly seconds: number }
  | { readonly seed: number; readonly failure: string };

process.on('message', (options: SimulationOptions) => {
  const begin = performance.now();
  simulate(options).then(
    (result) => tell({ result, seconds: (performance.now() - begin) / 1000 }),
    (error: unknown) => tell({ seed: options.seed, failure: error instanceof Error ? `${error.stack}` : `${error}` }),
  );
});

function tell(message: WorkerMessage): void {
  process.send?.(message);
}
