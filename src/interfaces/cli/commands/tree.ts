import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';

export function addTree(program: Command, run: Runner): void {
  const tree = program
    .command('tree')
    .description('trees that this node keeps: a dataset and all below it, shared under one name')
    .addHelpText('after', examples('pando tree add images tank/images', 'pando tree ls'));

  tree
    .command('ls')
    .description('list the trees, own ones and mirrors')
    .action(
      run(async (context) => {
        const trees = await (await context.client()).trees();
        if (context.json) return context.output.json(trees);
        for (const { error } of trees) if (error !== null) context.output.complain(error, context.json);
        context.output.table(
          ['TREE', 'KIND', 'DATASET', 'DATASETS', 'SNAPSHOTS'],
          trees.map(({ tree: name, kind, root, datasets, snapshots }) => [
            name,
            kind,
            root,
            String(datasets ?? '-'),
            String(snapshots ?? '-'),
          ]),
        );
      }),
    );

  tree
    .command('add')
    .description('share an existing dataset, and all below it, as a tree')
    .argument('<name>', 'name of the tree, the same on every node')
    .argument('<dataset>', 'full name of its root, say tank/images')
    .addHelpText('after', examples('pando tree add images tank/images'))
    .action(
      run(async (context, name: string, root: string) => {
        await (await context.client()).addTree({ tree: name, root });
        context.done(`Tree "${name}" is ${root} and all below it.`, { tree: name, root });
      }),
    );

  tree
    .command('rm')
    .description('stop sharing a tree; its datasets stay as they are')
    .argument('<name>', 'name of the tree')
    .action(
      run(async (context, name: string) => {
        await (await context.client()).removeTree(name);
        context.done(`Tree "${name}" is not shared any more; its datasets stay.`, { tree: name });
      }),
    );
}
