import type { Command } from 'commander';
import { PandoError } from '../../../core/errors.ts';
import { formatKeepRule } from '../../../core/keep.ts';
import { examples, type Runner } from '../command-context.ts';
import { parseGrace } from '../duration.ts';
import { formatGrace } from '../format.ts';

interface RuleOptions {
  readonly only?: string[];
  readonly except?: string[];
  readonly keep?: string;
  readonly grace?: string;
}

interface SetOptions extends RuleOptions {
  readonly from?: string;
}

interface AddOptions extends RuleOptions {
  readonly from: string;
  readonly into: string;
}

const WHICH = 'which mirror, by its peer, where the tree has several';

const KEEP_HELP = `What is kept:
  --keep all           all that the owner has (default); what it destroys goes after the grace period
  --keep last=3,daily=7
                       the newest 3, and the first of each of the newest 7 days that have any; also
                       hourly, weekly, monthly, yearly (UTC). The rest is destroyed here
  --grace 30d          what the owner has destroyed is destroyed here 30 days later (s, min, h, d, w, y);
                       "forever" (default) keeps it. With numbers in --keep it concerns whole datasets only
The newest snapshot always stays, and so does what has clones, is held, or is the newest in common with a peer.`;

function addRuleOptions(command: Command): Command {
  return command
    .option('--only <glob...>', 'take only datasets whose names in the tree match, and what they need')
    .option('--except <glob...>', 'leave out datasets whose names in the tree match')
    .option('--keep <rule>', 'which snapshots to keep: "all", or numbers such as last=3,daily=7')
    .option('--grace <duration>', 'how long to keep what the owner has destroyed: say 30d, or "forever"');
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
          ['TREE', 'FROM', 'INTO', 'ONLY', 'EXCEPT', 'KEEP', 'GRACE'],
          mirrors.map(({ tree, from, root, only, except, keep, graceMs }) => [
            tree,
            names.get(from) ?? from,
            root,
            only.join(',') || '-',
            except.join(',') || '-',
            formatKeepRule(keep),
            formatGrace(graceMs),
          ]),
        );
      }),
    );

  addRuleOptions(
    mirror
      .command('add')
      .description(
        "follow a peer's tree, or what a peer owns in a tree that is here already; nothing is ever received over a dataset that is no replica",
      )
      .argument('<tree>', 'name of the tree at the peer')
      .requiredOption('--from <peer>', 'name or id of the peer')
      .requiredOption('--into <dataset>', 'dataset to keep it in; the one above must exist'),
  )
    .addHelpText(
      'after',
      `\n${KEEP_HELP}\n${examples(
        'pando mirror add images --from build --into tank/mirror/images',
        'pando mirror add homes --from nas --into ssd/homes --only "anna/**" --except "**/cache" --keep last=1',
        'pando mirror add homes --from nas --into tank/backup/homes --keep hourly=24,daily=30 --grace 90d',
      )}`,
    )
    .action(
      run(async (context, tree: string, { from, into, only, except, keep, grace }: AddOptions) => {
        const rules = { only: only ?? [], except: except ?? [], keep: keep ?? 'all', graceMs: parseGrace(grace) };
        const added = { tree, from, root: into, ...rules };
        await (await context.client()).addMirror(added);
        context.done(`"${tree}" of ${from} is mirrored into ${into}.`, added);
      }),
    );

  addRuleOptions(
    mirror
      .command('set')
      .description('change what a mirror takes and keeps; what is not named stays as it is')
      .argument('<tree>', 'name of the tree')
      .option('--from <peer>', WHICH),
  )
    .addHelpText(
      'after',
      `\n${KEEP_HELP}\n${examples('pando mirror set homes --keep daily=30,monthly=12', 'pando mirror set images --grace forever')}`,
    )
    .action(
      run(async (context, tree: string, { from, grace, ...others }: SetOptions) => {
        const rules = { ...others, ...(grace === undefined ? {} : { graceMs: parseGrace(grace) }) };
        if (Object.keys(rules).length === 0) throw nothingToChange(tree);
        await (await context.client()).changeMirror(tree, from, rules);
        context.done(`The mirror of "${tree}" goes by the new rules from its next sync on.`, { tree, ...rules });
      }),
    );

  mirror
    .command('rm')
    .description('stop following a tree; what was received stays as it is')
    .argument('<tree>', 'name of the tree')
    .option('--from <peer>', WHICH)
    .action(
      run(async (context, tree: string, { from }: { readonly from?: string }) => {
        await (await context.client()).removeMirror(tree, from);
        context.done(`"${tree}" is not mirrored any more; what was received stays.`, { tree });
      }),
    );
}

function nothingToChange(tree: string): PandoError {
  return new PandoError(
    'ARGUMENT_INVALID',
    `Nothing to change in the mirror of "${tree}": name --only, --except, --keep or --grace.`,
    { tree },
  );
}
