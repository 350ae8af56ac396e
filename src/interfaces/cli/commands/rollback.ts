import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { type OnOption, onOption, onWhom } from '../on-option.ts';

export function addRollback(program: Command, run: Runner): void {
  program
    .command('rollback')
    .description(
      'take a dataset back to a snapshot; what was written since is lost here, replicas keep what they have of it',
    )
    .argument('<place>', 'TREE/NAME@SNAP')
    .option('--destroy-newer', 'destroy the snapshots that are newer')
    .addOption(onOption())
    .addHelpText('after', examples('pando rollback images/web@v1', 'pando rollback images/web@v1 --destroy-newer'))
    .action(
      run(async (context, snapshot: string, options: OnOption & { readonly destroyNewer?: boolean }) => {
        const { destroyNewer = false, on } = options;
        await (await context.client()).rollback({ snapshot, destroyNewer, on });
        context.done(`Rolled back to ${snapshot}${onWhom(options)}.`, { snapshot });
      }),
    );
}
