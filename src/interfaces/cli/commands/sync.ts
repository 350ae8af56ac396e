import type { Command } from 'commander';
import type { Mirror } from '../../../core/admin.ts';
import { parseRate } from '../../../core/rate.ts';
import type { SyncReport } from '../../../features/mirrors/mirror-syncs.ts';
import { chosenMirrors } from '../chosen-mirrors.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import type { DaemonClient } from '../daemon-client.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { SyncDisplay } from '../sync-display.ts';
import { failureOfTree } from '../tree-failure.ts';

function isComplete({ steps, plan }: SyncReport): boolean {
  const isFine = (result: string): boolean => result === 'done' || result === 'kept';
  return plan.conflicts.length === 0 && steps.every(({ outcome }) => isFine(outcome.result));
}

async function syncOne(
  context: CommandContext,
  client: DaemonClient,
  mirror: Mirror,
  options: { readonly refresh: boolean; readonly bytesPerSecond: number | undefined; readonly signal: AbortSignal },
): Promise<ExitCode> {
  const display = new SyncDisplay(context, mirror);
  try {
    const report = await client.sync(mirror.tree, {
      ...options,
      from: mirror.from,
      onPlan: (plan) => display.plan(plan),
      onProgress: (progress) => display.progress(progress),
    });
    display.report(report);
    return isComplete(report) ? EXIT.ok : EXIT.failed;
  } catch (error) {
    context.output.complain(failureOfTree(error, mirror.tree, 'synced'), context.json);
    return EXIT.failed;
  }
}

async function sync(
  context: CommandContext,
  trees: string[],
  { refresh, limit }: { readonly refresh: boolean; readonly limit?: string },
): Promise<ExitCode> {
  const bytesPerSecond = limit === undefined ? undefined : parseRate(limit);
  const client = await context.client();
  const mirrors = await chosenMirrors(context, client, trees);
  return context.interruptible(async (signal) => {
    let code: ExitCode = EXIT.ok;
    for (const mirror of mirrors) {
      const one = await syncOne(context, client, mirror, { refresh, bytesPerSecond, signal });
      if (one !== EXIT.ok) code = one;
    }
    return code;
  });
}

export function addSync(program: Command, run: Runner): void {
  program
    .command('sync')
    .description('bring mirrors up to date now, with progress; Ctrl-C cancels and leaves nothing half done')
    .argument('[tree...]', 'mirrors to sync; all without')
    .option('--no-refresh', 'take what the peer last noticed, instead of letting it look at its ZFS first')
    .option('--limit <rate>', 'how fast its streams may be: 512K, 20M, 1G bytes a second ("pando limit" for all)')
    .addHelpText(
      'after',
      `${examples('pando sync', 'pando sync images --limit 20M', 'pando sync images --no-refresh', 'pando sync --json')}\n\nEnds with 1 when a step failed or a conflict remains.`,
    )
    .action(run(sync));
}
