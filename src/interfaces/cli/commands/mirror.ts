import { type Command, Option } from 'commander';
import { SNAPSHOT_RULES, type SnapshotRule } from '../../../core/events.ts';
import { examples, type Runner } from '../command-context.ts';

interface AddOptions {
  readonly from: string;
  readonly into: string;
  readonly only?: string[];
  readonly except?: string[];
  readonly snapshots: SnapshotRule;
}

export function addMirror(program: Command, run: Runner): void {
  const mirror = program
    .command('mirror')
    .description('trees of peers that this node follows')
    .addHelpText(
      'after',
      examples('pando mirror add images --from build --into tank/mirror/images', 'pando mirror ls'),
    );

  mirror
    .command('ls')
    .description('list the mirrors')
    .action(
      run(async (context) => {
        const client = await context.client();
        const mirrors = await client.mirrors();
        if (context.json) return context.output.json(mirrors);
        const names = new Map((await client.peers()).map(({ peer, name }) => [peer, name]));
        context.output.table(
          ['TREE', 'FROM', 'INTO', 'ONLY', 'EXCEPT', 'SNAPSHOTS'],
          mirrors.map(({ tree, from, root, only, except, snapshots }) => [
            tree,
            names.get(from) ?? from,
            root,
            only.join(',') || '-',
            except.join(',') || '-',
            snapshots,
          ]),
        );
      }),
    );

  mirror
    .command('add')
    .description("follow a peer's tree; nothing is ever received over a dataset that is no replica")
    .argument('<tree>', 'name of the tree at the peer')
    .requiredOption('--from <peer>', 'name or id of the peer')
    .requiredOption('--into <dataset>', 'dataset to keep it in; the one above must exist')
    .option('--only <glob...>', 'take only datasets whose names in the tree match, and what they need')
    .option('--except <glob...>', 'leave out datasets whose names in the tree match')
    .addOption(new Option('--snapshots <rule>', 'which snapshots to take').choices(SNAPSHOT_RULES).default('all'))
    .addHelpText(
      'after',
      examples(
        'pando mirror add images --from build --into tank/mirror/images',
        'pando mirror add homes --from nas --into ssd/homes --only "anna/**" --except "**/cache" --snapshots newest',
      ),
    )
    .action(
      run(async (context, tree: string, { from, into, only, except, snapshots }: AddOptions) => {
        const added = { tree, from, root: into, only: only ?? [], except: except ?? [], snapshots };
        await (await context.client()).addMirror(added);
        context.done(`"${tree}" of ${from} is mirrored into ${into}.`, added);
      }),
    );

  mirror
    .command('rm')
    .description('stop following a tree; what was received stays as it is')
    .argument('<tree>', 'name of the tree')
    .action(
      run(async (context, tree: string) => {
        await (await context.client()).removeMirror(tree);
        context.done(`"${tree}" is not mirrored any more; what was received stays.`, { tree });
      }),
    );
}
