import type { Command } from 'commander';
import { unixMsOf } from '../../../core/clock.ts';
import type { Event } from '../../../core/events.ts';
import { isAboutTrust } from '../../../core/trust-events.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { DatasetNames, describeEvent } from '../describe-event.ts';
import { formatTime } from '../format.ts';
import { readEvents, withTime } from '../reading-events.ts';

interface AuditOptions {
  readonly follow?: boolean;
}

function writeEvent({ json, output }: CommandContext, event: Event): void {
  if (!isAboutTrust(event)) return;
  if (json) output.json(withTime(event));
  else output.line(`${formatTime(unixMsOf(event.at))}  ${describeEvent(event, new DatasetNames('', undefined))}`);
}

export function addAudit(program: Command, run: Runner): void {
  program
    .command('audit')
    .description('show whom this node has trusted with what, and whom it has refused')
    .option('-f, --follow', 'go on with what happens from now, until Ctrl-C')
    .addHelpText('after', examples('pando audit', 'pando audit --follow --json'))
    .action(
      run((context, { follow = false }: AuditOptions) => {
        const settings = { tree: undefined, node: undefined, from: undefined, follow };
        return readEvents(context, settings, (event) => writeEvent(context, event));
      }),
    );
}
