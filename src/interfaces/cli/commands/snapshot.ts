import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { type OnOption, onOption, onWhom } from '../on-option.ts';

export function addSnapshot(program: Command, run: Runner): void {
  program
    .command('snapshot')
    .description('take a snapshot of a dataset in a tree')
    .argument('<snapshot>', 'TREE@SNAP or TREE/NAME@SNAP')
    .option('-r, --recursive', 'take one of each dataset below as well, at the same moment')
    .addOption(onOption())
    .addHelpText(
      'after',
      examples(
        'pando snapshot images/web@v2',
        'pando snapshot images@nightly -r',
        'pando snapshot images/web@v2 --on build',
      ),
    )
    .action(
      run(async (context, snapshot: string, options: OnOption & { readonly recursive?: boolean }) => {
        const recursive = options.recursive === true;
        await (await context.client()).snapshot({ snapshot, recursive, on: options.on });
        context.done(`Took ${snapshot}${recursive ? ', and one of each dataset below' : ''}${onWhom(options)}.`, {
          snapshot,
          recursive,
        });
      }),
    );
}
