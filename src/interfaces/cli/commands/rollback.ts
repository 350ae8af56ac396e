import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';

export function addRollback(program: Command, run: Runner): void {
  program
    .command('rollback')
    .description(
      'take a dataset back to a snapshot; what was written since is lost here, replicas keep what they have of it',
    )
    .argument('<place>', 'TREE/NAME@SNAP')
    .option('--destroy-newer', 'destroy the snapshots that are newer')
    .addHelpText('after', examples('pando rollback images/web@v1', 'pando rollback images/web@v1 --destroy-newer'))
    .action(
      run(async (context, snapshot: string, { destroyNewer = false }: { readonly destroyNewer?: boolean }) => {
        await (await context.client()).rollback(snapshot, { destroyNewer });
        context.done(`Rolled back to ${snapshot}.`, { snapshot });
      }),
    );
}
