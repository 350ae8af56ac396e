/** What a node tells its operator, in the log of the daemon. */
import { describeError, isPandoError, PandoError } from '../../core/errors.ts';
import type { TreeName } from '../../core/ids.ts';
import type { SyncReport } from '../../features/mirrors/mirror-syncs.ts';

/** Where a node tells what only its operator should know. */
export interface NodeReporter {
  info(message: string, facts?: object): void;
  warn(message: string, facts?: object): void;
}

/** Tells of what went wrong with a peer; of what nobody foresaw also where, since its message alone says little. */
export function reportFailure(reporter: NodeReporter, error: unknown): void {
  if (isPandoError(error)) reporter.warn(error.message, { code: error.code, ...error.evidence });
  else
    reporter.warn(describeError(error), {
      code: 'INTERNAL',
      stack: error instanceof Error ? error.stack : undefined,
    });
}

/** Tells of a mirror that followed its peer by itself, where that did something or could not. */
export function reportSync(reporter: NodeReporter, tree: TreeName, result: SyncReport | PandoError): void {
  if (result instanceof PandoError) {
    // As often as the peer tells anything; the refusals count it
    if (result.code === 'GRANT_MISSING') return;
    reporter.warn(`Mirror "${tree}" was not brought up to date: ${result.message}`, { tree, code: result.code });
    return;
  }
  const failures = result.steps.filter(({ outcome }) => outcome.result === 'failed').length;
  if (result.steps.length === 0 && result.plan.conflicts.length === 0) return;
  reporter.info(`Mirror "${tree}" synced`, {
    tree,
    steps: result.steps.length,
    failures,
    conflicts: result.plan.conflicts.length,
    bytes: result.bytes,
  });
}
