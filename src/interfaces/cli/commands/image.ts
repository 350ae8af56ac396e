import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { ExtractionProgress, ExtractionResult } from '../../../features/layers/extraction.ts';
import type { CataloguedImage } from '../../../features/layers/image-catalog.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { formatAge, formatBytes, formatCount } from '../format.ts';
import { type StoreOption, storeOption } from '../store-option.ts';
import { shortDigest } from './layers.ts';

interface ExtractOptions extends StoreOption {
  readonly name?: string;
  readonly insecure?: boolean;
}

export function addImage(program: Command, run: Runner): void {
  const image = program
    .command('image')
    .description('images of the team: names for stacks of layers')
    .addHelpText(
      'after',
      examples(
        'pando image extract docker://registry.example/team/web:v1',
        'pando image ls',
        'pando image export web:v1 web.tar',
      ),
    );

  image
    .command('extract')
    .description('unpack the layers of an image that are not here, and give it a name')
    .argument('<source>', 'docker://HOST/NAME:TAG, oci:DIRECTORY, oci-archive:FILE, docker-archive:FILE or a path')
    .option('--name <name>', 'what to call it; without, as the source does')
    .option('--insecure', 'ask the registry without TLS, or with what nobody vouches for')
    .addOption(storeOption())
    .addHelpText('after', examples('pando image extract oci:./web --name team/web:v1'))
    .action(run(extract));

  image
    .command('ls')
    .description('list images, whoever of the team named them, and how much of each is here')
    .addOption(storeOption())
    .action(run(list));

  image
    .command('export')
    .description('write an image as an OCI layout: a directory, or an archive where the name ends in .tar')
    .argument('<image>', 'its name')
    .argument('<target>', 'what to write; must not be there')
    .addOption(storeOption())
    .addHelpText('after', examples('pando image export team/web:v1 web.tar'))
    .action(
      run(async (context, name: string, target: string, { store }: StoreOption) => {
        const client = await context.client();
        const { manifest } = await context.interruptible((signal) =>
          client.layers.exportImage({ store, image: name, target: resolve(target) }, signal),
        );
        context.done(`Wrote ${name} to ${target} (manifest ${manifest}).`, { image: name, target, manifest });
      }),
    );

  image
    .command('rm')
    .description('take its name from an image; "pando layers gc" destroys layers that nothing needs then')
    .argument('<image>', 'its name')
    .addOption(storeOption())
    .action(
      run(async (context, name: string, { store }: StoreOption) => {
        await (await context.client()).layers.untag(name, store);
        context.done(`Nothing is called ${name} here any more; its layers stay until "pando layers gc".`, {
          image: name,
        });
      }),
    );
}

async function extract(context: CommandContext, source: string, options: ExtractOptions): Promise<void> {
  const { name, insecure = false, store } = options;
  const client = await context.client();
  const absolute = absoluteSource(source);
  const onProgress = (progress: ExtractionProgress): void => context.output.progress(describeProgress(progress));
  const result = await context.interruptible((signal) =>
    client.layers.extract({ store, source: absolute, name: name ?? null, insecure }, { onProgress, signal }),
  );
  context.done(describeResult(result), result);
}

/** Paths are the shell's, and the node has another working directory. */
function absoluteSource(source: string): string {
  if (source.startsWith('docker://')) return source;
  const [, transport = '', path = source] = /^((?:oci|oci-archive|docker-archive):)?(.*)$/s.exec(source) ?? [];
  const [file = '', ...name] = transport === '' ? [path] : path.split(':');
  return [`${transport}${resolve(file)}`, ...name].join(':');
}

function describeProgress({ layer, layers, bytes }: ExtractionProgress): string {
  return `Layer ${layer} of ${layers}: ${formatBytes(bytes)} unpacked`;
}

function describeResult({ image, layers }: ExtractionResult): string {
  const count = (how: string): number => layers.filter((layer) => layer.how === how).length;
  const fetched = count('fetched') === 0 ? '' : `, ${count('fetched')} from peers`;
  return `${image} has ${formatCount(layers.length, 'layer')}: ${count('unpacked')} unpacked${fetched}, ${count('here')} here before.`;
}

async function list(context: CommandContext, { store }: StoreOption): Promise<void> {
  const client = await context.client();
  const images = await client.layers.images(store);
  if (context.json) return context.output.json(images);
  const { node } = await client.identity();
  const peers = new Map((await client.peers()).map(({ peer, name }) => [peer, name]));
  const now = context.dependencies.now();
  context.output.table(
    ['IMAGE', 'BY', 'LAYERS', 'STATE', 'TOP', 'NAMED'],
    images.map((one) => [
      one.name,
      one.node === node ? 'this node' : (peers.get(one.node) ?? one.node),
      String(one.chain.length),
      describeState(one),
      shortDigest(one.chain.at(-1)?.layer ?? '-'),
      formatAge(one.taggedAt, now),
    ]),
  );
}

function describeState({ chain }: CataloguedImage): string {
  const count = (state: string): number => chain.filter((layer) => layer.state === state).length;
  if (count('here') === chain.length) return 'here';
  const parts = (['here', 'coming', 'elsewhere', 'missing'] as const)
    .filter((state) => count(state) > 0)
    .map((state) => `${count(state)} ${state}`);
  return parts.join(', ');
}
