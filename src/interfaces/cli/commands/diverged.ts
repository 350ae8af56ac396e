import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { formatAge, formatBytes } from '../format.ts';

export function addDiverged(program: Command, run: Runner): void {
  const diverged = program
    .command('diverged')
    .description('what this node had in mirrors and their owners had not: kept until you restore or drop it')
    .addHelpText('after', examples('pando diverged ls', 'pando diverged restore images web-0199… web-kept'));

  diverged
    .command('ls')
    .description('list what is kept')
    .argument('[tree...]', 'mirrors to look at; all without')
    .action(
      run(async (context, trees: string[]) => {
        const client = await context.client();
        const chosen = trees.length > 0 ? trees : (await client.mirrors()).map(({ tree }) => tree);
        const copies = (await Promise.all(chosen.map((tree) => client.diverged(tree)))).flat();
        if (context.json) return context.output.json(copies);
        const now = context.dependencies.now();
        context.output.table(
          ['TREE', 'COPY', 'WAS', 'KEPT', 'SIZE', 'SNAPSHOTS'],
          copies.map(({ tree, copy, from, keptAt, referenced, snapshots }) => [
            tree,
            copy,
            from,
            formatAge(keptAt, now),
            formatBytes(referenced),
            snapshots.join(' ') || '-',
          ]),
        );
      }),
    );

  diverged
    .command('restore')
    .description('give a copy a name in the tree again, as a dataset that belongs to this node')
    .argument('<tree>', 'name of the tree')
    .argument('<copy>', 'its name in "pando diverged ls"')
    .argument('<name>', 'new name in the tree, without the name of the tree')
    .addHelpText('after', examples('pando diverged restore images web-0199… web-kept'))
    .action(
      run(async (context, tree: string, copy: string, name: string) => {
        await (await context.client()).restoreDiverged(tree, copy, name);
        context.done(`Restored ${copy} as ${tree}/${name}.`, { tree, copy, name });
      }),
    );

  diverged
    .command('drop')
    .description('destroy a copy with its snapshots; there is no way back')
    .argument('<tree>', 'name of the tree')
    .argument('<copy>', 'its name in "pando diverged ls"')
    .action(
      run(async (context, tree: string, copy: string) => {
        await (await context.client()).dropDiverged(tree, copy);
        context.done(`Dropped ${copy} of ${tree}.`, { tree, copy });
      }),
    );
}
