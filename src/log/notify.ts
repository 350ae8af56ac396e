/**
 * Tells all listeners of a change that is on disk. What one of them throws is its own fault, and becomes a process warning: the others are told
 * all the same, and whoever made the change is not told that it failed.
 */
export function notify<Change>(listeners: Iterable<(change: Change) => void>, change: Change): void {
  for (const listener of listeners) {
    try {
      listener(change);
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : String(error));
    }
  }
}
