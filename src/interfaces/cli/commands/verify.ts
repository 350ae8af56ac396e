import type { Command } from 'commander';
import type { TreeVerification } from '../../../features/verify/verifier.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { describeDifference } from '../describe-difference.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { formatCount } from '../format.ts';
import { failureOfTree } from '../tree-failure.ts';

function showVerdict({ output }: CommandContext, found: TreeVerification): void {
  const { tree, ok, datasets, snapshots, differences, logs, kept, unnoticed } = found;
  const faults = logs.flatMap(({ fault }) => (fault === null ? [] : [fault]));
  const notes = [
    datasets === null ? '' : formatCount(datasets, 'dataset'),
    snapshots === null ? '' : formatCount(snapshots, 'snapshot'),
    differences.length === 0 ? '' : formatCount(differences.length, 'difference'),
    faults.length === 0 ? '' : formatCount(faults.length, 'damaged log'),
    unnoticed === 0 ? '' : `${formatCount(unnoticed, 'change')} noticed just now`,
    kept.length === 0 ? '' : `${kept.length} kept beyond the owner's`,
  ].filter((note) => note !== '');
  output.line(`${tree}: ${ok ? 'ok' : 'NOT ok'} (${notes.join(', ')})`);
  for (const difference of differences) output.line(`  ${describeDifference(tree, difference)}`);
  for (const { stream, seq } of faults) output.line(`  the log of ${stream} is damaged at event ${seq}`);
}

async function verifyTrees(context: CommandContext, named: string[]): Promise<ExitCode> {
  const client = await context.client();
  const trees: readonly string[] = named.length > 0 ? named : (await client.trees()).map(({ tree }) => tree);
  if (trees.length === 0 && !context.json) context.output.line('This node keeps no tree.');
  return context.interruptible(async (signal) => {
    let code: ExitCode = EXIT.ok;
    for (const tree of trees) {
      try {
        const found = await client.verify(tree, signal);
        if (context.json) context.output.json(found);
        else showVerdict(context, found);
        if (!found.ok) code = EXIT.failed;
      } catch (error) {
        context.output.complain(failureOfTree(error, tree, 'verified'), context.json);
        code = EXIT.failed;
      }
    }
    return code;
  });
}

export function addVerify(program: Command, run: Runner): void {
  program
    .command('verify')
    .description('check log hashes, look at ZFS, and compare replicas with their owners guid by guid')
    .argument('[tree...]', 'trees to verify; all without')
    .addHelpText(
      'after',
      `${examples('pando verify', 'pando verify images --json')}\n\nEnds with 1 when a tree is not ok.`,
    )
    .action(run(verifyTrees));
}
