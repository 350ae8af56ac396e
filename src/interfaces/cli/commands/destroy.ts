import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { type OnOption, onOption, onWhom } from '../on-option.ts';

export function addDestroy(program: Command, run: Runner): void {
  program
    .command('destroy')
    .description('destroy a dataset with its snapshots, or one snapshot; refused while others depend on it')
    .argument('<place>', 'TREE/NAME or TREE/NAME@SNAP')
    .addOption(onOption())
    .addHelpText('after', examples('pando destroy images/web@v1', 'pando destroy images/web'))
    .action(
      run(async (context, target: string, options: OnOption) => {
        await (await context.client()).destroy({ target, on: options.on });
        context.done(`Destroyed ${target}${onWhom(options)}.`, { target });
      }),
    );
}
