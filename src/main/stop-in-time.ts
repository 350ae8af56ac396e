export interface StopLimit {
  /** How long the stop may take, in ms. */
  readonly limitMs: number;
  /** Called when it takes longer. */
  readonly giveUp: () => void;
}

/**
 * Stops parts side by side, so that none that waits for another keeps that from stopping. Resolves once all have stopped, or rejects with the first
 * failure then.
 */
export async function stopInTime(
  stops: readonly (() => Promise<void>)[],
  { limitMs, giveUp }: StopLimit,
): Promise<void> {
  const limit = setTimeout(giveUp, limitMs);
  try {
    const running = stops.map((stop) => stop());
    await Promise.allSettled(running);
    await Promise.all(running);
  } finally {
    clearTimeout(limit);
  }
}
