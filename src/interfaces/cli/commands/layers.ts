import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { describeError, PandoError } from '../../../core/errors.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { formatBytes, formatCount, formatPlace } from '../format.ts';
import { type StoreOption, storeOption } from '../store-option.ts';

/** Where a layer goes whose tar is written to standard output. */
const STANDARD_OUTPUT = '-';

export function addLayers(program: Command, run: Runner): void {
  const layers = program
    .command('layers')
    .alias('layer')
    .description('layers of images, each a clone of the one below it')
    .addHelpText('after', examples('pando layers init tank/images', 'pando layers ls', 'pando layers gc --dry-run'));

  layers
    .command('init')
    .description('keep layers and container roots below a dataset of a tree; again, it changes nothing')
    .argument('<dataset>', 'full name, or TREE, or TREE/NAME')
    .addHelpText('after', examples('pando layers init tank/images', 'pando layers init images'))
    .action(
      run(async (context, dataset: string) => {
        const store = await (await context.client()).layers.init(dataset);
        context.done(`Layers are kept in ${formatPlace(store.tree, store.base)}.`, store);
      }),
    );

  layers
    .command('ls')
    .description('list the layers that are here, each behind the one below it')
    .addOption(storeOption())
    .action(run(list));

  layers
    .command('gc')
    .description(
      'destroy the layers of this node that nothing needs: no image, clone, hold, snapshot of containerd or replica',
    )
    .option('--dry-run', 'only tell which')
    .addOption(storeOption())
    .action(
      run(async (context, { store, dryRun = false }: StoreOption & { readonly dryRun?: boolean }) => {
        const gone = await (await context.client()).layers.collectGarbage({ store, dryRun });
        if (context.json) return context.output.json(gone);
        for (const { layer, bytes } of gone)
          context.output.line(`${layer}  ${bytes === null ? '-' : formatBytes(bytes)}`);
        context.output.line(`${formatCount(gone.length, 'layer')} ${dryRun ? 'would go' : 'destroyed'}.`);
      }),
    );

  layers
    .command('export')
    .description('write what a layer changes of the one below as an OCI layer, the same bytes on every host')
    .argument('<layer>', 'ChainID')
    .argument('<file>', 'where to; - for standard output')
    .addOption(storeOption())
    .addHelpText('after', examples('pando layers export sha256:2c26… base.tar'))
    .action(run(exportLayer));
}

async function list(context: CommandContext, { store }: StoreOption): Promise<void> {
  const layers = await (await context.client()).layers.list(store);
  if (context.json) return context.output.json(layers);
  context.output.table(
    ['LAYER', 'OVER', 'SIZE', 'IMAGES'],
    layers.map(({ layer, parent, referenced, images }) => [
      layer,
      parent === null ? '-' : shortDigest(parent),
      formatBytes(referenced),
      images.length === 0 ? '-' : images.join(', '),
    ]),
  );
}

/** As much of a digest as tells layers apart for people. */
export function shortDigest(digest: string): string {
  return digest.slice(0, 'sha256:'.length + 12);
}

async function exportLayer(
  context: CommandContext,
  layer: string,
  file: string,
  { store }: StoreOption,
): Promise<void> {
  const { layers } = await context.client();
  await context.interruptible(async (signal) => {
    const tar = layers.tarOf(layer, store, signal);
    if (file === STANDARD_OUTPUT) return pipeline(tar, context.dependencies.stdout, { end: false });
    const partial = `${file}.partial`;
    try {
      await pipeline(tar, createWriteStream(partial));
      await rename(partial, file);
    } catch (error) {
      await rm(partial, { force: true });
      throw error instanceof PandoError ? error : unwritable(file, error);
    }
    context.done(`Wrote ${layer} to ${file}.`, { layer, file });
  });
}

function unwritable(file: string, cause: unknown): PandoError {
  return new PandoError(
    'ARGUMENT_INVALID',
    `"${file}" cannot be written: ${describeError(cause)}.`,
    { file },
    { cause },
  );
}
