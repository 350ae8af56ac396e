import type { Command } from 'commander';
import type { Mirror } from '../../../core/admin.ts';
import { isReceive, type Plan } from '../../../core/plan/steps.ts';
import { chosenMirrors } from '../chosen-mirrors.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { describeConflict, describeContested, describeWaiting } from '../describe-conflict.ts';
import { describeRetained, describeStep } from '../describe-step.ts';
import { formatBytes, formatCount } from '../format.ts';

function showPlan({ output }: CommandContext, { tree, root }: Mirror, plan: Plan): void {
  const { steps, conflicts, waiting, retained, contested, estimatedBytes } = plan;
  if (steps.length === 0) output.line(`${tree}: nothing to do.`);
  else output.line(`${tree}: ${formatCount(steps.length, 'step')}, about ${formatBytes(estimatedBytes)}.`);
  for (const step of steps) {
    output.line(`  ${describeStep(tree, step)}${isReceive(step) ? `, ${formatBytes(step.estimatedBytes)}` : ''}`);
  }
  for (const conflict of conflicts) output.line(`  conflict: ${describeConflict(conflict, root)}`);
  for (const dataset of waiting) output.line(`  waiting: ${describeWaiting(dataset, root)}`);
  for (const one of contested) output.line(`  named: ${describeContested(tree, one)}`);
  for (const kept of retained) output.line(`  stays: ${describeRetained(tree, kept)}`);
}

export function addPlan(program: Command, run: Runner): void {
  program
    .command('plan')
    .description(
      'show what a sync would do by what is known of the peer now, what it would destroy and why, and how many bytes it would bring',
    )
    .argument('[tree]', 'the mirror; all without')
    .addHelpText('after', examples('pando plan', 'pando plan images --json'))
    .action(
      run(async (context, tree: string | undefined) => {
        const client = await context.client();
        for (const mirror of await chosenMirrors(context, client, tree === undefined ? [] : [tree])) {
          const plan = await client.plan(mirror.tree, mirror.from);
          if (context.json) context.output.json({ tree: mirror.tree, from: mirror.from, ...plan });
          else showPlan(context, mirror, plan);
        }
      }),
    );
}
