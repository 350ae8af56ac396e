import type { PandoError } from '../core/errors.ts';

/** Time as everything that waits needs it; tests bring their own. */
export interface Timers {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  /** Runs `task` once in `ms` milliseconds, unless the function that comes back is called before. */
  after(ms: number, task: () => void): () => void;
}

export const systemTimers: Timers = {
  now: () => performance.now(),
  after: (ms, task) => {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};

/** Runs a task with a signal that is aborted, with `reason`, once it has taken `ms` milliseconds. */
export async function withinTime<Result>(
  timers: Timers,
  { ms, reason }: { readonly ms: number; readonly reason: () => PandoError },
  task: (limit: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const limit = new AbortController();
  const cancel = timers.after(ms, () => limit.abort(reason()));
  try {
    return await task(limit.signal);
  } finally {
    cancel();
  }
}
