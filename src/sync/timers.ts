/** Time as sessions and the hub need it; tests bring their own. */
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
