import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { type OnOption, onOption, onWhom } from '../on-option.ts';

export function addRename(program: Command, run: Runner): void {
  program
    .command('rename')
    .description('rename a dataset, and with it all below, or a snapshot')
    .argument('<place>', 'TREE/NAME or TREE/NAME@SNAP')
    .argument('<name>', 'new name in the tree, without the name of the tree; for a snapshot, what stands behind the @')
    .addOption(onOption())
    .addHelpText('after', examples('pando rename images/web shop', 'pando rename images/web@v2 release-2'))
    .action(
      run(async (context, from: string, to: string, options: OnOption) => {
        await (await context.client()).rename({ from, to, on: options.on });
        context.done(`Renamed ${from} to ${to}${onWhom(options)}.`, { from, to });
      }),
    );
}
