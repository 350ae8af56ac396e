import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { type OnOption, onOption, onWhom } from '../on-option.ts';

export function addPromote(program: Command, run: Runner): void {
  program
    .command('promote')
    .description('turn the edge between a clone and its origin round; replicas follow without data')
    .argument('<place>', 'TREE/NAME of the clone')
    .addOption(onOption())
    .addHelpText('after', examples('pando promote images/web'))
    .action(
      run(async (context, dataset: string, options: OnOption) => {
        await (await context.client()).promote({ dataset, on: options.on });
        context.done(`Promoted ${dataset}${onWhom(options)}.`, { dataset });
      }),
    );
}
