import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { type OnOption, onOption, onWhom } from '../on-option.ts';

export function addClone(program: Command, run: Runner): void {
  program
    .command('clone')
    .description('clone a snapshot to a new dataset in the same tree')
    .argument('<snapshot>', 'TREE/NAME@SNAP')
    .argument('<name>', 'name of the new dataset in the tree, without the name of the tree')
    .addOption(onOption())
    .addHelpText('after', examples('pando clone images/base@v1 web', 'pando clone images/base@v1 teams/web'))
    .action(
      run(async (context, snapshot: string, name: string, options: OnOption) => {
        await (await context.client()).clone({ snapshot, name, on: options.on });
        context.done(`Cloned ${snapshot} to ${name}${onWhom(options)}.`, { snapshot, name });
      }),
    );
}
