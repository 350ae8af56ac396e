import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';

export function addPromote(program: Command, run: Runner): void {
  program
    .command('promote')
    .description('turn the edge between a clone and its origin round; replicas follow without data')
    .argument('<place>', 'TREE/NAME of the clone')
    .addHelpText('after', examples('pando promote images/web'))
    .action(
      run(async (context, dataset: string) => {
        await (await context.client()).promote(dataset);
        context.done(`Promoted ${dataset}.`, { dataset });
      }),
    );
}
