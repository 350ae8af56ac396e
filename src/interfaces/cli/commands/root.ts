import type { Command } from 'commander';
import { PandoError } from '../../../core/errors.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { type StoreOption, storeOption } from '../store-option.ts';
import { shortDigest } from './layers.ts';

interface CreateOptions extends StoreOption {
  readonly image?: string;
  readonly layer?: string;
}

interface CommitOptions extends StoreOption {
  readonly as: string;
  readonly freeze?: boolean;
}

export function addRoot(program: Command, run: Runner): void {
  const root = program
    .command('root')
    .description('container roots: clones of layers that programs run in')
    .addHelpText(
      'after',
      examples('pando root create web-1 --image team/web:v1', 'pando root commit web-1 --as team/web:v2'),
    );

  root
    .command('create')
    .description('clone the top layer of an image, in constant time; prints the directory of the new root')
    .argument('<id>', 'what to call it')
    .option('--image <name>', 'an image of "pando image ls"')
    .option('--layer <chainid>', 'a layer of "pando layers ls"')
    .addOption(storeOption())
    .addHelpText('after', examples('pando root create web-1 --image team/web:v1'))
    .action(run(create));

  root.command('ls').description('list container roots').addOption(storeOption()).action(run(list));

  root
    .command('commit')
    .description('make an image of what a root has; the root hangs below the new layer then')
    .argument('<id>', 'its id')
    .requiredOption('--as <name>', 'what to call the image')
    .option('--freeze', 'have programs that use it wait while its snapshot is taken')
    .addOption(storeOption())
    .addHelpText('after', examples('pando root commit web-1 --as team/web:v2'))
    .action(
      run(async (context, id: string, { as: image, freeze = false, store }: CommitOptions) => {
        const { layers } = await context.client();
        const committed = await context.interruptible((signal) =>
          layers.commitRoot(id, { store, image, freeze }, signal),
        );
        const what = committed.isReused ? 'which was here already' : 'which is new';
        context.done(`${image} has ${shortDigest(committed.layer)} on top, ${what}.`, committed);
      }),
    );

  root
    .command('rm')
    .description('destroy a container root with its snapshots')
    .argument('<id>', 'its id')
    .addOption(storeOption())
    .action(
      run(async (context, id: string, { store }: StoreOption) => {
        await (await context.client()).layers.removeRoot(id, store);
        context.done(`Container root ${id} is destroyed.`, { id });
      }),
    );
}

async function create(context: CommandContext, id: string, { image, layer, store }: CreateOptions): Promise<void> {
  if ((image === undefined) === (layer === undefined)) {
    throw new PandoError(
      'ARGUMENT_INVALID',
      'Say what the root is a clone of: either --image NAME or --layer CHAINID.',
    );
  }
  const { layers } = await context.client();
  // A layer that a peer has comes first
  const made = await context.interruptible((signal) => layers.createRoot({ store, id, image, layer }, signal));
  context.done(made.directory, made);
}

async function list(context: CommandContext, { store }: StoreOption): Promise<void> {
  const roots = await (await context.client()).layers.roots(store);
  if (context.json) return context.output.json(roots);
  context.output.table(
    ['ROOT', 'LAYER', 'IMAGE', 'DATASET'],
    roots.map(({ id, layer, image, name, isOwn }) => [
      isOwn ? id : `${id} (replica)`,
      layer === null ? '-' : shortDigest(layer),
      image ?? '-',
      name,
    ]),
  );
}
